//! Processes that are killed, and power that is cut, at moments that nobody chose; in the middle of
//! recovery; and right behind an acknowledgement.

use std::time::Duration;

use cairnlog_engine::Log;
use cairnlog_engine::disk::{BackendChoice, DurableWrite};

use crate::common::Random;
use crate::faults::{Effect, Operation};
use crate::filesystem::Way;
use crate::mount::{Mount, under_both_drivers};
use crate::program::{Writer, line, lines_in};
use crate::store::{Lost, Store};
use crate::workload::{Model, config};

const ROUNDS: u64 = 9;

/// What is known of a log that the binary writes to, round after round.
struct Known {
    /// As it was after the last round.
    lines: Vec<String>,
    /// So many of them were acknowledged.
    acknowledged: usize,
}

impl Known {
    /// Holds the log against what is known: what was acknowledged, perhaps some of what was not, and then
    /// the lines of the round, from its first one on.
    fn look(&mut self, mount: &Mount, round: u64, printed: &[usize]) {
        if !mount.log().join("superblock").exists() {
            assert_eq!((printed, self.acknowledged), (&[][..], 0), "the log is gone");
            return;
        }
        let lines = lines_in(&mount.log());
        let of_round = format!("{round} ");
        let start = lines.iter().position(|line| line.starts_with(&of_round));
        let start = start.unwrap_or(lines.len());
        assert!(start >= self.acknowledged, "round {round}: an acknowledged line is lost");
        assert_eq!(lines[..start], self.lines[..start], "round {round}: not what it was");
        for (number, shown) in (0..).zip(&lines[start..]) {
            assert_eq!(*shown, line(round, number), "round {round}: not what was appended");
        }
        let end = start + printed.len();
        assert_eq!(printed, (start + 1..=end).collect::<Vec<_>>(), "LSNs are dense");
        assert!(lines.len() >= end, "round {round}: {end} is lost, there are {}", lines.len());
        if !printed.is_empty() {
            self.acknowledged = end;
        }
        self.lines = lines;
    }
}

/// Writes in rounds, each of which ends with a kill, and with a power cut when `cut` says so.
fn rounds(backend: BackendChoice, cut: fn(u64) -> Option<Lost>) {
    let mut random = Random::new();
    let mut mount = Mount::new(Store::default(), Way::Cached);
    let mut known = Known { lines: Vec::new(), acknowledged: 0 };
    let mut acknowledged_rounds = 0;
    for round in 0..ROUNDS {
        let writer = Writer::start(&mount.log(), backend, round, 1 + random.below(100));
        // Most rounds are ended while they append, some while they open.
        if random.below(4) > 0 {
            writer.wait_for_first_lsn();
        }
        std::thread::sleep(Duration::from_micros(random.below(40_000)));
        let lost = cut(round);
        if lost.is_some() {
            mount.device.cut();
        }
        let printed = writer.kill();
        if let Some(lost) = lost {
            mount = mount.after_power_cut(lost, &mut random);
        }
        known.look(&mount, round, &printed);
        acknowledged_rounds += u32::from(!printed.is_empty());
    }
    assert!(acknowledged_rounds > 2, "{acknowledged_rounds} rounds got that far");
}

#[test]
fn c1_kill_9_loses_nothing_acknowledged() {
    under_both_drivers(|backend| rounds(backend, |_| None));
}

#[test]
fn c2_power_cut_loses_only_what_was_not_acknowledged() {
    under_both_drivers(|backend| rounds(backend, |_| Some(Lost::All)));
}

#[test]
fn c3_power_cut_keeps_any_sectors_and_kills_come_between() {
    under_both_drivers(|backend| {
        rounds(backend, |round| (!round.is_multiple_of(3)).then_some(Lost::Some));
    });
}

#[test]
fn c7_directory_sync_before_ack() {
    under_both_drivers(|backend| {
        for way in [Way::Cached, Way::Direct] {
            let mut random = Random::new();
            let mount = Mount::new(Store::default(), way);
            let config = config(backend, DurableWrite::Dsync);
            let (log, _) = Log::open(mount.log(), config.clone()).unwrap();
            let mut model = Model::default();
            let mut segments = 0;
            for _ in 0..30 {
                model.append(&log).unwrap();
                if std::mem::replace(&mut segments, log.stats().segments) == segments {
                    continue;
                }
                // The first acknowledgement that depends on the name of this segment.
                let left = Mount::new(mount.device.left(Lost::All, &mut random), way);
                let (log, _) = Log::open(left.log(), config.clone()).unwrap();
                model.check_open(&log);
            }
            assert!(segments > 2, "{segments} segments");
        }
    });
}

/// Leaves a log behind in the middle of a write.
fn torn(backend: BackendChoice, nth: u64, random: &mut Random, model: &mut Model) -> Mount {
    let mount = Mount::new(Store::default(), Way::Cached);
    mount.device.faults(|f| f.arm(Operation::Write, "", nth, Effect::PowerOff, false));
    let ended = model.run(&mount.log(), &config(backend, DurableWrite::WriteThenSync));
    assert!(ended.is_err());
    mount.after_power_cut(Lost::Some, random)
}

#[test]
fn c8_power_cuts_during_recovery() {
    under_both_drivers(|backend| {
        let mut random = Random::new();
        let config = config(backend, DurableWrite::WriteThenSync);
        for (turn, operation) in
            [Operation::Write, Operation::Sync, Operation::SyncDirectory, Operation::Unlink]
                .into_iter()
                .enumerate()
        {
            let mut model = Model::default();
            let nth = [15, 25, 35, 45][turn];
            let mut mount = torn(backend, nth, &mut random, &mut model);
            // Each recovery gets one operation farther than the one before.
            for nth in 1.. {
                mount.device.faults(|f| f.arm(operation, "", nth, Effect::PowerOff, false));
                let opened = Log::open(mount.log(), config.clone());
                let struck = mount.device.faults(|faults| faults.hits() > 0);
                assert!(struck || opened.is_ok(), "{opened:?}");
                drop(opened);
                let lost = if nth % 2 == 0 { Lost::All } else { Lost::Some };
                mount = mount.after_power_cut(lost, &mut random);
                if !struck {
                    break;
                }
            }
            model.check(&mount.log(), &config);
        }
    });
}
