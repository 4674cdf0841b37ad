//! `bench`: how fast records become durable here.
//!
//! Owns the threads that append to a directory (connections to a server: `bench::server`), and what is
//! counted. Latencies are kept in `bench::histogram`.
//!
//! Invariants
//!  B1. Records of others are dropped only when the user says how much to retain.
//!                                                       test `bench_drops_nothing_of_others`
//!
//! Bounds: `--writers` times `--in-flight` tickets.

mod histogram;
mod server;

use std::collections::VecDeque;
use std::fmt::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use cairnlog_engine::{AppendError, Config, Log, LogReader, Lsn, OpenError, Ticket};
use serde_json::json;

use super::opening;
use crate::args::{Ack, BenchArgs, Format, LocalAck, Place, config_for};
use crate::exit::{Exit, Failure};
use crate::output::{self, talk};
use histogram::Histogram;

const RETAIN_BYTES: u64 = 256 << 20;
const WARM_UP: Duration = Duration::from_millis(500);
/// Filling the log up to what is retained ends after so long in any case.
const FILL_MAX: Duration = Duration::from_secs(10);
const FILL_RECORD_BYTES: usize = 256 << 10;
const FILL_IN_FLIGHT: usize = 16;
const STACK_BYTES: usize = 256 << 10;
/// In the durable cell of a log that holds nothing but records of this command.
const MARK: &[u8] = b"cairnlog bench";

pub(crate) fn run(args: &BenchArgs) -> Result<Exit, Failure> {
    match &args.place {
        Place::Directory(directory) => run_on_directory(args, directory),
        Place::Servers(cluster) => server::run(args, cluster),
    }
}

fn run_on_directory(args: &BenchArgs, directory: &Path) -> Result<Exit, Failure> {
    let ack = Ack::of_directory(args.ack)?;
    let mut config = config_for(args.segment_bytes);
    config.backend = args.driver.choice();
    let record_bytes = usize::try_from(args.record_bytes).unwrap_or(usize::MAX);
    if record_bytes > config.record_bytes_max {
        let (bytes, bytes_max) = (record_bytes, config.record_bytes_max);
        return Err(AppendError::RecordTooLarge { bytes, bytes_max }.into());
    }
    let fill_bytes = FILL_RECORD_BYTES.min(config.record_bytes_max);
    let (log, recycles) = open(args, directory, config)?;
    let backend = log.stats().backend;
    let filled = fill(&log, recycles, fill_bytes);
    let result = filled.and_then(|()| measure(&log, args, ack, record_bytes));
    let closed = log.close();
    let measured = result?;
    closed?;
    show(args, &measured, ack.name(), backend)?;
    Ok(Exit::Done)
}

/// What was measured.
struct Measured {
    latencies: Histogram,
    elapsed: Duration,
}

/// Opens the log so that it drops old segments, unless they may be somebody else's; whether it does.
fn open(args: &BenchArgs, directory: &Path, mut config: Config) -> Result<(Log, bool), Failure> {
    let may_drop = args.retain_bytes.is_some() || holds_only_ours(directory, &config)?;
    if may_drop {
        config.retain_bytes = Some(args.retain_bytes.unwrap_or(RETAIN_BYTES));
    } else {
        talk("this log holds records of others: nothing is dropped, and the log grows");
    }
    let (log, report) = opening::open(directory, config)?;
    if report.end_lsn == Lsn::FIRST {
        log.set_cell(MARK)?;
    }
    Ok((log, may_drop))
}

/// Whether there is nothing in the directory yet, or only what this command wrote. A new log has no
/// records; one that has some says in its cell whose they are.
fn holds_only_ours(directory: &Path, config: &Config) -> Result<bool, Failure> {
    match LogReader::open(directory) {
        Err(OpenError::NotFound(_)) => return Ok(true),
        Ok(reader) if reader.range().end == Lsn::FIRST => return Ok(true),
        // Whatever it is, the next open says it.
        _ => {}
    }
    let opened = Log::open(directory, config.clone());
    let (log, _) = opened.map_err(|error| Failure::open(directory, &error))?;
    let ours = log.cell() == MARK;
    log.close()?;
    Ok(ours)
}

/// Appends until segments are recycled, so that what is measured is not the making of new ones.
fn fill(log: &Log, recycles: bool, record_bytes: usize) -> Result<(), Failure> {
    let start = Instant::now();
    let record = random_bytes(record_bytes, 0);
    let mut tickets = VecDeque::new();
    while recycles && log.stats().segments_recycled == 0 && start.elapsed() < FILL_MAX {
        tickets.push_back(log.submit(&record)?);
        if tickets.len() > FILL_IN_FLIGHT {
            tickets.pop_front().map_or(Ok(Lsn::NONE), Ticket::wait)?;
        }
    }
    for ticket in tickets {
        ticket.wait()?;
    }
    Ok(())
}

/// What the threads are told.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    WarmUp,
    Measure,
    Stop,
}

fn measure(
    log: &Log,
    args: &BenchArgs,
    ack: LocalAck,
    record_bytes: usize,
) -> Result<Measured, Failure> {
    let phase = AtomicU8::new(Phase::WarmUp as u8);
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for number in 0..args.writers {
            let writer = Writer {
                log,
                phase: &phase,
                record: random_bytes(record_bytes, u64::from(number) + 1),
                in_flight: usize::try_from(args.in_flight).unwrap_or(1),
                latencies: Histogram::new(),
            };
            let builder = std::thread::Builder::new().stack_size(STACK_BYTES);
            match builder.spawn_scoped(scope, move || writer.run(ack)) {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    phase.store(Phase::Stop as u8, Ordering::SeqCst);
                    return Err(Failure::io(&format!("start {} threads", args.writers), &error));
                }
            }
        }
        std::thread::sleep(WARM_UP);
        phase.store(Phase::Measure as u8, Ordering::SeqCst);
        let start = Instant::now();
        std::thread::sleep(Duration::from_secs_f64(args.seconds));
        let elapsed = start.elapsed();
        phase.store(Phase::Stop as u8, Ordering::SeqCst);
        let mut latencies = Histogram::new();
        for thread in threads {
            let written = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            latencies.add(&written?);
        }
        Ok(Measured { latencies, elapsed })
    })
}

/// One thread that appends.
struct Writer<'a> {
    log: &'a Log,
    phase: &'a AtomicU8,
    record: Vec<u8>,
    in_flight: usize,
    latencies: Histogram,
}

impl Writer<'_> {
    /// Appends until told to stop, and ends when everything is acknowledged.
    fn run(mut self, ack: LocalAck) -> Result<Histogram, AppendError> {
        match ack {
            LocalAck::Buffered => self.run_buffered()?,
            LocalAck::Local if self.in_flight == 1 => self.run_one_by_one()?,
            LocalAck::Local => self.run_in_flight()?,
        }
        Ok(self.latencies)
    }

    fn is_over(&self) -> bool {
        self.phase.load(Ordering::Relaxed) == Phase::Stop as u8
    }

    fn note(&mut self, start: Instant) {
        if self.phase.load(Ordering::Relaxed) == Phase::Measure as u8 {
            self.latencies.record(start.elapsed());
        }
    }

    fn run_buffered(&mut self) -> Result<(), AppendError> {
        while !self.is_over() {
            let start = Instant::now();
            self.log.append_buffered(&self.record)?;
            self.note(start);
        }
        Ok(())
    }

    fn run_one_by_one(&mut self) -> Result<(), AppendError> {
        while !self.is_over() {
            let start = Instant::now();
            self.log.append(&self.record)?;
            self.note(start);
        }
        Ok(())
    }

    fn run_in_flight(&mut self) -> Result<(), AppendError> {
        let mut tickets: VecDeque<(Instant, Ticket)> = VecDeque::with_capacity(self.in_flight);
        loop {
            let is_over = self.is_over();
            if !is_over && tickets.len() < self.in_flight {
                let start = Instant::now();
                tickets.push_back((start, self.log.submit(&self.record)?));
                continue;
            }
            let Some((start, ticket)) = tickets.pop_front() else { return Ok(()) };
            ticket.wait()?;
            self.note(start);
        }
    }
}

/// Bytes that do not compress, so that no layer below takes a short cut.
fn random_bytes(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        // SplitMix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    };
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend_from_slice(&next().to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn show(args: &BenchArgs, measured: &Measured, ack: &str, backend: &str) -> Result<(), Failure> {
    let latencies = &measured.latencies;
    // Exact up to 2^53, which no run reaches.
    let appends_per_second = latencies.count() as f64 / measured.elapsed.as_secs_f64();
    let mb_per_second = appends_per_second * args.record_bytes as f64 / 1e6;
    let us = |ns: u64| ns as f64 / 1000.0;
    let [p50, p99, p999] = [500, 990, 999].map(|rank| us(latencies.percentile_ns(rank)));
    let max = us(latencies.max_ns());
    let (writers, in_flight, bytes) = (args.writers, args.in_flight, args.record_bytes);
    if args.format == Format::Json {
        return output::print_json(&json!({
            "appends_per_second": rounded(appends_per_second),
            "mb_per_second": rounded(mb_per_second),
            "p50_us": p50,
            "p99_us": p99,
            "p999_us": p999,
            "max_us": max,
            "writers": writers,
            "in_flight": in_flight,
            "record_bytes": bytes,
            "ack": ack,
            "backend": backend,
        }));
    }
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = writeln!(
        text,
        "{writers} writers, {in_flight} in flight each, records of {bytes} bytes, ack {ack}, {backend}\n\
         appends/s  {appends_per_second:>12.0}\n\
         MB/s       {mb_per_second:>12.1}\n\
         p50 µs     {p50:>12.1}\n\
         p99 µs     {p99:>12.1}\n\
         p99.9 µs   {p999:>12.1}\n\
         max µs     {max:>12.1}"
    );
    output::print(&text)
}

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
