//! The laboratory itself: it finds a planted bug, names it, and repeats itself.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Explorer, Failure, Report, SECTOR_BYTES, Scenario, SimDisk};
use crate::disk::{Access, Aligned, Disk};

/// Numbers from 1 on in the sectors of a file, each acknowledged when it was written.
struct Numbers {
    /// Whether a number is durable before it is acknowledged.
    durable: bool,
    /// Panics instead of saying what is wrong.
    panics: bool,
    varies: Option<AtomicU64>,
}

const HONEST: Numbers = Numbers { durable: true, panics: false, varies: None };
const HASTY: Numbers = Numbers { durable: false, ..HONEST };

const NUMBERS: u8 = 5;

impl Numbers {
    fn append_all(&self, disk: &SimDisk, acknowledged: &mut u8) -> io::Result<()> {
        let file = disk.create("numbers", 8 * 512)?;
        file.sync()?;
        disk.sync_directory()?;
        let extra = self.varies.as_ref().map_or(0, |count| count.fetch_add(1, Ordering::Relaxed));
        for number in 1..=NUMBERS {
            let mut sector = Aligned::zeroed(SECTOR_BYTES);
            sector.fill(number);
            let offset = 512 * u64::from(number - 1);
            if self.durable {
                file.write_durable_at(&sector, offset)?;
            } else {
                file.write_at(&sector, offset)?;
            }
            *acknowledged = number;
        }
        for _ in 0..extra {
            file.sync()?;
        }
        Ok(())
    }
}

impl Scenario for Numbers {
    type Evidence = u8;

    fn run(&self, disk: &SimDisk, _seed: u64) -> u8 {
        let mut acknowledged = 0;
        let _ = self.append_all(disk, &mut acknowledged);
        acknowledged
    }

    fn recover(&self, disk: &SimDisk) {
        if let Ok(file) = disk.open("numbers", Access::Write) {
            let _ = file.sync();
            let _ = disk.sync_directory();
        }
    }

    fn check(&self, disk: &SimDisk, acknowledged: &u8) -> Result<(), String> {
        for number in 1..=*acknowledged {
            let at = usize::from(number - 1) * SECTOR_BYTES;
            let there =
                disk.read_file("numbers")[at..at + SECTOR_BYTES].iter().all(|b| *b == number);
            assert!(there || !self.panics, "{number} is not there");
            if !there {
                return Err(format!("{number} is not there"));
            }
        }
        Ok(())
    }
}

fn explorer() -> Explorer {
    Explorer::new("the command").seeds(1..3)
}

fn explored(explorer: &Explorer, scenario: &Numbers) -> Report {
    explorer.explore(scenario).unwrap_or_else(|failure| panic!("{failure}"))
}

fn failed(explorer: &Explorer, scenario: &Numbers) -> Failure {
    explorer.explore(scenario).expect_err("there is a bug")
}

#[test]
fn what_is_right_passes_and_is_counted() {
    let report = explored(&explorer().second_cuts(1), &HONEST);
    assert_eq!(report.seeds.len(), 2);
    let operations = report.seeds[0].operations;
    assert_eq!(operations, 3 + u64::from(NUMBERS));
    assert!(report.cuts > 2 * (operations + 1), "{report}");
    assert!(report.states >= 8 * 2 * (operations + 1), "{report}");
    assert!(report.distinct_states >= 6 && report.distinct_states < report.states, "{report}");
    let text = report.to_string();
    assert!(text.contains("seed 2: 8 operations, trace "), "{text}");
}

#[test]
fn a_planted_bug_is_found_and_named() {
    let failure = failed(&explorer(), &HASTY);
    assert_eq!(failure.message, "1 is not there");
    let text = failure.to_string();
    let line = format!("replay with: CAIRNLOG_REPLAY={} the command", failure.replay);
    assert!(text.ends_with(&line), "{text}");
}

#[test]
fn a_failure_is_replayed_exactly() {
    let explorer = explorer();
    for found in [failed(&explorer, &HASTY), failed(&explorer.clone().every_outcome(100), &HASTY)] {
        let replayed = explorer.replay(&HASTY, &found.replay).expect_err("the same state");
        assert_eq!(replayed, found);
        let right = explorer.replay(&HONEST, &found.replay).expect("no bug, no failure");
        assert_eq!(right.states, 1);
    }
}

#[test]
fn a_cut_in_recovery_is_replayed() {
    let report = explorer().replay(&HONEST, "1:5:3:1:0").expect("it recovers");
    assert_eq!(report.states, 1);
    assert!(explorer().replay(&HASTY, "1:6:0:1:0").is_err());
}

#[test]
fn every_outcome_is_every_outcome() {
    let report = explored(&explorer().every_outcome(1000), &HONEST);
    assert_eq!((report.cuts_exhausted, report.cuts_over_bound), (report.cuts, 0), "{report}");
    let report = explored(&explorer().every_outcome(4), &HONEST);
    assert!(report.cuts_exhausted > 0 && report.cuts_over_bound > 0, "{report}");
    assert!(report.to_string().contains("were over the bound"), "{report}");
}

#[test]
fn threads_change_nothing() {
    let (one, four) = (explorer().threads(1), explorer().threads(4));
    assert_eq!(explored(&one, &HONEST), explored(&four, &HONEST));
    assert_eq!(failed(&one, &HASTY), failed(&four, &HASTY));
}

#[test]
fn fewer_cuts_when_asked() {
    let all = explored(&explorer(), &HONEST);
    let some = explored(&explorer().cut_every(3), &HONEST);
    assert!(some.cuts <= all.cuts / 3 + 2 && some.cuts > 0);
    let enough = explored(&explorer().seeds(1..100).states_wanted(8), &HONEST);
    assert!(enough.seeds.len() < 99 && enough.distinct_states >= 8);
}

#[test]
fn a_panic_is_a_failure() {
    let failure = failed(&explorer(), &Numbers { panics: true, ..HASTY });
    assert!(failure.message.contains("1 is not there"), "{failure}");
}

#[test]
fn a_scenario_that_varies_is_refused() {
    let failure = failed(&explorer(), &Numbers { varies: Some(AtomicU64::new(0)), ..HONEST });
    assert!(failure.message.contains("does not repeat itself"), "{failure}");
}

#[test]
fn nonsense_is_not_replayed() {
    for text in ["", "1", "1:2", "1:2:x", "1:2:3:4", "a:1:1", "1:1:1:1:1:1", "1:99999:x4000000"] {
        assert!(explorer().replay(&HONEST, text).is_err(), "{text}");
    }
}
