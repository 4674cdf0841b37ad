//! Load on a target: writers that append one record after the other for a while.
//!
//! Owns the threads, the clock and the counting. Does not open targets or repeat runs (`measure`,
//! `run`).
//!
//! Each writer waits for its append before the next (a closed loop), so a latency is the time from
//! one return to the next: one look at the clock per append. The elapsed time runs from the first
//! writer's start to the last one's end, and every append that returned is counted.
//!
//! Threads: one OS thread per writer, let go together by a barrier and ended by a flag; the
//! caller's thread ticks meanwhile.
//! Bounds: `SAMPLES_MAX` latencies over all writers.

use std::collections::VecDeque;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::latency::{Latencies, Recorder};
use crate::target::{Target, Writer};
use crate::{Result, approximate};

/// Latencies kept over all writers of a run, 4 bytes each.
pub const SAMPLES_MAX: usize = 8 << 20;

const TICK: Duration = Duration::from_millis(10);

/// How records reach a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// So many threads, each with one durable append at a time.
    Durable {
        /// Number of threads.
        writers: usize,
    },
    /// So many threads, each with one append at a time that is not durable when it returns.
    Buffered {
        /// Number of threads.
        writers: usize,
    },
    /// One thread with so many durable appends on their way.
    InFlight {
        /// Number of appends.
        depth: usize,
    },
}

impl Load {
    fn threads(self) -> usize {
        match self {
            Self::Durable { writers } | Self::Buffered { writers } => writers,
            Self::InFlight { .. } => 1,
        }
    }
}

/// What a load did.
#[derive(Debug)]
pub struct Outcome {
    /// Appends that returned.
    pub appends: u64,
    /// From the start of the first of them to the end of the last.
    pub elapsed: Duration,
    /// Their latencies.
    pub latencies: Latencies,
}

impl Outcome {
    fn of(shares: Vec<Share>) -> Self {
        let began = shares.iter().map(|share| share.began).min();
        let ended = shares.iter().map(|share| share.ended).max();
        let elapsed = began.zip(ended).map(|(began, ended)| ended - began);
        Self {
            appends: shares.iter().map(|share| share.appends).sum(),
            elapsed: elapsed.expect("a load has at least one thread"),
            latencies: Latencies::merge(shares.into_iter().map(|share| share.recorder).collect()),
        }
    }

    /// Appends in a second.
    #[must_use]
    pub fn appends_per_second(&self) -> f64 {
        approximate(self.appends) / self.elapsed.as_secs_f64()
    }
}

/// What one thread did.
struct Share {
    appends: u64,
    began: Instant,
    ended: Instant,
    recorder: Recorder,
}

/// A record that no compression makes smaller: some peers compress by default, and a disk may.
#[must_use]
pub fn record_of(record_bytes: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next_byte = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[4]
    };
    (0..record_bytes).map(|_| next_byte()).collect()
}

/// Runs `load` on `target` for `duration`, keeping `samples_max` latencies, calling `tick` every
/// few milliseconds.
pub fn drive(
    target: &dyn Target,
    load: Load,
    record: &[u8],
    duration: Duration,
    samples_max: usize,
    tick: &mut dyn FnMut(),
) -> Result<Outcome> {
    let start_line = Barrier::new(load.threads() + 1);
    let stop = AtomicBool::new(false);
    let lane = Lane {
        target,
        load,
        record,
        start_line: &start_line,
        stop: &stop,
        samples_max: samples_max / load.threads(),
    };
    thread::scope(|scope| {
        let lane = &lane;
        let writers: Vec<_> = (0..load.threads())
            .map(|writer_index| scope.spawn(move || lane.run(writer_index)))
            .collect();
        start_line.wait();
        let released = Instant::now();
        while released.elapsed() < duration && !stop.load(Ordering::Relaxed) {
            thread::sleep(TICK.min(duration));
            tick();
        }
        stop.store(true, Ordering::Relaxed);
        let joined: Vec<_> = writers.into_iter().map(thread::ScopedJoinHandle::join).collect();
        let shares = joined.into_iter().map(|share| share.map_err(|_| "a writer panicked")?);
        Ok(Outcome::of(shares.collect::<Result<_>>()?))
    })
}

/// What every writer of a run shares.
struct Lane<'a> {
    target: &'a dyn Target,
    load: Load,
    record: &'a [u8],
    start_line: &'a Barrier,
    stop: &'a AtomicBool,
    samples_max: usize,
}

impl Lane<'_> {
    fn run(&self, writer_index: usize) -> Result<Share> {
        let outcome = match self.load {
            Load::Durable { .. } => self.one_by_one(|| self.target.durable(writer_index)),
            Load::Buffered { .. } => self.one_by_one(|| self.target.buffered(writer_index)),
            Load::InFlight { depth } => self.in_flight(depth),
        };
        if outcome.is_err() {
            // Nobody needs the rest of a run that failed.
            self.stop.store(true, Ordering::Relaxed);
        }
        outcome
    }

    fn one_by_one<'t>(&self, open: impl FnOnce() -> Result<Box<dyn Writer + 't>>) -> Result<Share> {
        let mut recorder = Recorder::new(self.samples_max);
        let opened = open();
        // The barrier counts this thread, whether it can write or not.
        self.start_line.wait();
        let mut writer = opened?;
        let mut appends = 0;
        let began = Instant::now();
        let mut previous = began;
        while !self.stop.load(Ordering::Relaxed) {
            writer.append(self.record)?;
            let returned = Instant::now();
            recorder.record((returned - previous).as_nanos());
            previous = returned;
            appends += 1;
        }
        Ok(Share { appends, began, ended: previous, recorder })
    }

    fn in_flight(&self, depth: usize) -> Result<Share> {
        let mut recorder = Recorder::new(self.samples_max);
        let opened = self.target.pipeline();
        self.start_line.wait();
        let mut pipeline = opened?;
        let mut submitted = VecDeque::with_capacity(depth);
        let mut appends = 0;
        let began = Instant::now();
        loop {
            let stopping = self.stop.load(Ordering::Relaxed);
            while !stopping && submitted.len() < depth {
                submitted.push_back(Instant::now());
                pipeline.submit(self.record)?;
            }
            let Some(since) = submitted.pop_front() else {
                return Ok(Share { appends, began, ended: Instant::now(), recorder });
            };
            pipeline.wait_oldest()?;
            recorder.record(since.elapsed().as_nanos());
            appends += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Counting;

    impl Writer for Counting {
        fn append(&mut self, _record: &[u8]) -> Result<()> {
            thread::sleep(Duration::from_micros(100));
            Ok(())
        }
    }

    impl Target for Counting {
        fn durable(&self, writer_index: usize) -> Result<Box<dyn Writer + '_>> {
            if writer_index == 3 { Err("no fourth writer".into()) } else { Ok(Box::new(Self)) }
        }
    }

    fn drive_for_a_moment(writers: usize) -> Result<Outcome> {
        let load = Load::Durable { writers };
        drive(&Counting, load, &[0; 8], Duration::from_millis(20), 1024, &mut || ())
    }

    #[test]
    fn counts_what_the_writers_did() {
        let outcome = drive_for_a_moment(2).expect("two writers work");
        assert!(outcome.appends > 2);
        assert!(outcome.elapsed >= Duration::from_millis(20));
        assert!(outcome.latencies.percentile_ns(50) >= Some(100_000));
    }

    #[test]
    fn a_writer_that_fails_ends_the_run_with_its_error() {
        let error = drive_for_a_moment(4).expect_err("the fourth writer fails");
        assert_eq!(error.to_string(), "no fourth writer");
    }

    #[test]
    fn a_record_has_its_length_and_is_not_constant() {
        let record = record_of(1024);
        assert_eq!(record.len(), 1024);
        let distinct: std::collections::HashSet<_> = record.iter().collect();
        assert!(distinct.len() > 200, "compressible: {} distinct bytes", distinct.len());
    }
}
