//! The laboratory on the engine itself: seeded workloads, the power cut at every operation, many
//! outcomes of each cut, and the promises P1 to P4 checked in each state (see `common`).
//!
//! Every test prints its seeds, the trace of each, and how many distinct states it saw. A failure names
//! the environment variable that replays it. `CAIRNLOG_STATES` asks the longest test for more states,
//! `CAIRNLOG_STRIDE` the others for cuts at every so many operations.

use std::sync::Arc;

use cairnlog_engine::Verdict;
use cairnlog_engine::format::batch::BatchHeader;
use cairnlog_engine::format::segment::{SegmentHeader, parse_file_name};
use cairnlog_engine::format::superblock::{COPY_BYTES, Superblock};
use cairnlog_engine::sim::{Explorer, OperationKind, Report, Scenario, SimDisk};
use cairnlog_engine::{Config, Log, RecoveryReport, verify_on};

mod common;

use common::{Model, Random, Stopped, config, config_of};

fn explorer(test: &str) -> Explorer {
    let options = if cfg!(debug_assertions) { "" } else { "--release " };
    let command = format!("cargo test {options}-p cairnlog-engine --test explorer -- {test}");
    Explorer::new(&command)
}

fn explored(explorer: &Explorer, scenario: &impl Scenario) -> Report {
    let report = explorer.explore(scenario).unwrap_or_else(|failure| panic!("{failure}"));
    println!("{report}");
    report
}

/// The least number of distinct states of the longest test.
fn states_wanted() -> u64 {
    let asked = std::env::var("CAIRNLOG_STATES").ok().and_then(|text| text.parse().ok());
    asked.unwrap_or(if cfg!(debug_assertions) { 600 } else { 5000 })
}

/// Every so many operations the power goes: at each in an optimized test, and at fewer otherwise, unless
/// `CAIRNLOG_STRIDE` says how many.
fn stride(in_debug: u64) -> u64 {
    let asked = std::env::var("CAIRNLOG_STRIDE").ok().and_then(|text| text.parse().ok());
    asked.unwrap_or(if cfg!(debug_assertions) { in_debug } else { 1 })
}

/// Whether only one state is looked at, so that nothing can be said about their number.
fn replays() -> bool {
    std::env::var_os(cairnlog_engine::sim::REPLAY_VARIABLE).is_some()
}

/// What every check does: the log opens, keeps its promises, is on disk as FORMAT.md says, takes
/// records, and keeps these too when a process fails on top of it and the power goes again.
fn check(disk: &SimDisk, model: Model) -> Result<(), String> {
    check_with(&config(), disk, model)
}

fn check_with(config: &Config, disk: &SimDisk, mut model: Model) -> Result<(), String> {
    check_headers(disk)?;
    let (log, report) = model.check_open(disk, config);
    check_roots(disk, &report)?;
    check_cut(disk, &report)?;
    for again in 0..2 {
        let works = |stopped: Stopped| format!("a repaired log takes records: {stopped:?}");
        model.append(&log).map_err(works)?;
        model.submit(&log, 3).map_err(works)?;
        if again == 0 {
            model.check_records(&log);
        }
    }
    disk.fail_nth(OperationKind::Write, 2, std::io::ErrorKind::Other);
    if model.submit_four(&log).is_ok() {
        return Err("a failed write was acknowledged".to_owned());
    }
    disk.restart(disk.fingerprint());
    drop(log);
    let (log, report) = model.check_open(disk, config);
    check_roots(disk, &report)?;
    model.close(log).map_err(|_| "a repaired log closes")?;
    let verified = verify_on(disk, &mut |_, _| {}).map_err(|error| error.to_string())?;
    if verified.is_whole() { Ok(()) } else { Err(format!("{:?}", verified.damage)) }
}

/// FORMAT.md, section 5: both copies of the superblock are the same after an open, and say what it did.
fn check_roots(disk: &SimDisk, report: &RecoveryReport) -> Result<(), String> {
    let bytes = disk.read_file("superblock");
    let copies: Vec<_> = bytes.chunks(COPY_BYTES).map(Superblock::decode).collect();
    let [Ok(one), Ok(other)] = &copies[..] else { return Err(format!("{copies:?}")) };
    if one != other || one.promised_epoch != report.epoch {
        return Err(format!("{one:?} beside {other:?}"));
    }
    if one.cut.is_pending() { Err(format!("unfinished: {:?}", one.cut)) } else { Ok(()) }
}

/// FORMAT.md, section 7, truncate: behind a cut no block starts like one of the log as it was. An open
/// that finishes a truncation has appended records there, in its own epoch.
fn check_cut(disk: &SimDisk, report: &RecoveryReport) -> Result<(), String> {
    let Verdict::TornTail { segment, offset, .. } = report.verdict else { return Ok(()) };
    for name in disk.files() {
        let Some(number) = parse_file_name(&name) else { continue };
        let bytes = disk.read_file(&name);
        for (block, at) in bytes.chunks(512).zip((0..).step_by(512)) {
            let batch = BatchHeader::decode(block).ok();
            let batch = batch
                .is_some_and(|b| (b.segment, b.offset) == (number, at) && b.epoch < report.epoch);
            let header = if at == 0 { SegmentHeader::decode(&bytes).ok() } else { None };
            let header = header.is_some_and(|h| h.segment == number && h.epoch < report.epoch);
            if (number, at) >= (segment, offset) && (batch || header) {
                return Err(format!("{name} still has a block of the log at {at}"));
            }
        }
    }
    Ok(())
}

/// FORMAT.md, section 7, append: a file has the name of a segment only after its header block is zero,
/// or the segment's own.
fn check_headers(disk: &SimDisk) -> Result<(), String> {
    for name in disk.files() {
        let Some(number) = parse_file_name(&name) else { continue };
        let bytes = disk.read_file(&name);
        let Some(block) = bytes.get(..512) else { return Err(format!("{name} is short")) };
        let own = SegmentHeader::decode(&bytes).is_ok_and(|header| header.segment == number);
        if !own && block.iter().any(|byte| *byte != 0) {
            return Err(format!("{name} has another segment's header"));
        }
    }
    Ok(())
}

/// Opens the log and closes it again.
fn come_up(disk: &SimDisk) {
    if let Ok((log, _)) = Log::open_on(Arc::new(disk.clone()), config()) {
        let _ = log.close();
    }
}

/// Everything that a log does, in an order and with settings that follow from the seed.
struct Everything;

impl Everything {
    fn config(seed: u64) -> Config {
        let mut config = config_of(if seed % 4 == 1 { 128 << 10 } else { 64 << 10 });
        match seed % 4 {
            2 => {
                config.spare_segments_max = 0;
                config.hot_bytes_max = 0;
            }
            3 => {
                config.block_bytes = 4096;
                config.retain_bytes = Some(200 << 10);
            }
            _ => {}
        }
        config
    }

    fn live(
        model: &mut Model,
        disk: &SimDisk,
        config: &Config,
        random: &mut Random,
    ) -> Result<(), Stopped> {
        disk.set_queue_depth([1, 2, 4, 8][usize::try_from(random.below(4)).expect("below 4")]);
        if random.below(3) == 0 {
            disk.kill_at(disk.operations() + 1 + random.below(60));
        }
        let log = model.open(disk, config)?;
        for _ in 0..4 + random.below(4) {
            match random.below(10) {
                0 => model.append(&log)?,
                1 => model.append_batch(&log)?,
                2 | 3 => model.submit(&log, 2 + random.below(6))?,
                4 => {
                    model.append_buffered(&log)?;
                    model.append_buffered(&log)?;
                }
                5 => model.sync(&log)?,
                6 => model.trim(&log, 3 + random.below(6))?,
                7 => model.checkpoint(&log)?,
                8 => model.truncate_somewhere(&log, random)?,
                _ => model.set_cell(&log)?,
            }
        }
        match random.below(3) {
            0 => model.close(log),
            1 => {
                disk.kill_process();
                drop(log);
                Ok(())
            }
            _ => {
                die_writing(model, disk, &log, random);
                Ok(())
            }
        }
    }
}

/// A write fails while several are on their way, and the process ends: what it leaves is torn.
fn die_writing(model: &mut Model, disk: &SimDisk, log: &Log, random: &mut Random) {
    disk.fail_nth(OperationKind::Write, 1 + random.below(3), std::io::ErrorKind::Other);
    // The fault may also wait for a later write: a new process is as good a place for it.
    let _ = model.submit_four(log);
    disk.kill_process();
}

impl Scenario for Everything {
    type Evidence = (Config, Model);

    fn run(&self, disk: &SimDisk, seed: u64) -> (Config, Model) {
        let (mut model, mut random) = (Model::default(), Random(seed));
        let config = Everything::config(seed);
        model.retains = config.retain_bytes.is_some();
        // One file system for all lives: what it shows does not change with the process.
        disk.set_direct_reads(random.below(4) > 0);
        for _ in 0..4 {
            if Everything::live(&mut model, disk, &config, &mut random).is_err() {
                // A process that was killed, or has a poisoned log, is followed by another one;
                // without power that fails too.
                disk.kill_process();
            }
        }
        (config, model)
    }

    fn recover(&self, disk: &SimDisk) {
        come_up(disk);
    }

    fn check(&self, disk: &SimDisk, (config, model): &(Config, Model)) -> Result<(), String> {
        check_with(config, disk, model.clone())
    }
}

/// C3. C2.
#[test]
fn everything_at_every_operation() {
    let explorer = explorer("everything_at_every_operation").seeds(1..10_000).outcomes(20);
    let explorer = explorer.second_cuts(2).states_wanted(states_wanted());
    // In a short test the cuts are spread over several seeds.
    let spread = if states_wanted() < 50_000 { 7 } else { 1 };
    let report = explored(&explorer.cut_every(spread), &Everything);
    assert!(report.distinct_states >= states_wanted() || replays());
}

#[test]
fn the_same_seed_leaves_the_same_trace() {
    let explorer = explorer("the_same_seed_leaves_the_same_trace");
    let explorer = explorer.seeds(1..4).cut_every(40).outcomes(2);
    let one = explored(&explorer, &Everything);
    let other = explored(&explorer.threads(1), &Everything);
    assert_eq!(one, other);
    assert!(one.seeds.iter().all(|s| s.trace != one.seeds[0].trace || s.seed == 1) || replays());
}

/// Torn tails in each life, each on top of the one before.
struct TornTails;

impl TornTails {
    fn live(model: &mut Model, disk: &SimDisk, random: &mut Random) -> Result<(), Stopped> {
        disk.set_queue_depth(4);
        let log = model.open(disk, &config())?;
        model.append(&log)?;
        die_writing(model, disk, &log, random);
        Ok(())
    }
}

impl Scenario for TornTails {
    type Evidence = Model;

    fn run(&self, disk: &SimDisk, seed: u64) -> Model {
        let (mut model, mut random) = (Model::default(), Random(seed));
        for _ in 0..5 {
            let _ = TornTails::live(&mut model, disk, &mut random);
            disk.kill_process();
        }
        model
    }

    fn recover(&self, disk: &SimDisk) {
        come_up(disk);
    }

    fn check(&self, disk: &SimDisk, model: &Model) -> Result<(), String> {
        check(disk, model.clone())
    }
}

/// C4.
#[test]
fn torn_tails_at_every_operation() {
    let seeds = if cfg!(debug_assertions) { 1..3 } else { 1..9 };
    let explorer = explorer("torn_tails_at_every_operation").seeds(seeds).outcomes(6);
    explored(&explorer.second_cuts(2).cut_every(stride(4)), &TornTails);
}

/// Syncs that fail once and are not believed to have worked afterwards: of the tail that an earlier
/// process left, and of the directory.
struct FailedSyncs;

impl FailedSyncs {
    fn of_a_tail(model: &mut Model, disk: &SimDisk, seed: u64) -> Result<(), Stopped> {
        let mut random = Random(seed);
        let log = model.open(disk, &config())?;
        model.append(&log)?;
        die_writing(model, disk, &log, &mut random);
        drop(log);
        disk.fail_nth(OperationKind::Sync, 1 + random.below(2), std::io::ErrorKind::Other);
        let log = match model.open(disk, &config()) {
            Ok(log) => log,
            // What could not be synced is gone when the power goes, and recovery has to say so.
            Err(Stopped) => {
                disk.restart(seed);
                model.open(disk, &config())?
            }
        };
        model.append_batch(&log)?;
        model.close(log)
    }

    /// No successor could know of it: only a power cut ends this.
    fn of_the_directory(model: &mut Model, disk: &SimDisk, seed: u64) -> Result<(), Stopped> {
        let log = model.open(disk, &config())?;
        disk.fail_nth(OperationKind::SyncDirectory, 1 + seed % 4, std::io::ErrorKind::Other);
        model.append_large(&log, 20)?;
        model.close(log)
    }
}

impl Scenario for FailedSyncs {
    type Evidence = Model;

    fn run(&self, disk: &SimDisk, seed: u64) -> Model {
        let mut model = Model::default();
        let _ = if seed.is_multiple_of(2) {
            FailedSyncs::of_a_tail(&mut model, disk, seed / 2)
        } else {
            FailedSyncs::of_the_directory(&mut model, disk, seed / 2)
        };
        model
    }

    fn check(&self, disk: &SimDisk, model: &Model) -> Result<(), String> {
        check(disk, model.clone())
    }
}

#[test]
fn failed_syncs_at_every_operation() {
    let explorer = explorer("failed_syncs_at_every_operation").seeds(1..17).outcomes(4);
    explored(&explorer.cut_every(stride(8)), &FailedSyncs);
}

/// A process that is killed between two operations, which the seed says, and its successor.
struct Killed;

impl Killed {
    fn append(model: &mut Model, disk: &SimDisk, count: u64) -> Result<(), Stopped> {
        let log = model.open(disk, &config())?;
        model.append_large(&log, count)?;
        model.close(log)
    }
}

impl Scenario for Killed {
    type Evidence = Model;

    fn run(&self, disk: &SimDisk, seed: u64) -> Model {
        let mut model = Model::default();
        disk.kill_at(seed);
        let _ = Killed::append(&mut model, disk, 7);
        disk.kill_process();
        let _ = Killed::append(&mut model, disk, 9);
        model
    }

    fn check(&self, disk: &SimDisk, model: &Model) -> Result<(), String> {
        check(disk, model.clone())
    }
}

#[test]
fn a_successor_of_a_killed_process_at_every_operation() {
    let explorer = explorer("a_successor_of_a_killed_process_at_every_operation");
    explored(&explorer.seeds(1..60).outcomes(2).cut_every(stride(12)), &Killed);
}

/// A log that goes round in few files: each is soon a dropped one that is used again.
struct Recycled;

impl Recycled {
    fn config() -> Config {
        config_of(128 << 10)
    }

    fn live(model: &mut Model, disk: &SimDisk) -> Result<(), Stopped> {
        let log = model.open(disk, &Recycled::config())?;
        for _ in 0..2 {
            model.append_large(&log, 21)?;
            model.trim(&log, 8)?;
        }
        assert!(log.stats().segments_recycled > 0, "a dropped file was used again");
        model.append(&log)?;
        model.close(log)
    }
}

impl Scenario for Recycled {
    type Evidence = Model;

    fn run(&self, disk: &SimDisk, _seed: u64) -> Model {
        let mut model = Model::default();
        for _ in 0..2 {
            let _ = Recycled::live(&mut model, disk);
        }
        model
    }

    fn recover(&self, disk: &SimDisk) {
        if let Ok((log, _)) = Log::open_on(Arc::new(disk.clone()), Recycled::config()) {
            let _ = log.close();
        }
    }

    fn check(&self, disk: &SimDisk, model: &Model) -> Result<(), String> {
        check_with(&Recycled::config(), disk, model.clone())
    }
}

/// C11.
#[test]
fn recycled_files_at_every_operation() {
    let explorer = explorer("recycled_files_at_every_operation").outcomes(8).second_cuts(1);
    explored(&explorer.seeds(1..3).cut_every(stride(12)), &Recycled);
}

/// Two batches on their way at once and nothing more, so that every legal outcome can be looked at.
struct TwoTickets;

impl Scenario for TwoTickets {
    type Evidence = Model;

    fn run(&self, disk: &SimDisk, _seed: u64) -> Model {
        let mut model = Model::default();
        disk.set_queue_depth(2);
        let _ = TwoTickets::work(&mut model, disk);
        model
    }

    fn check(&self, disk: &SimDisk, model: &Model) -> Result<(), String> {
        check(disk, model.clone())
    }
}

impl TwoTickets {
    fn work(model: &mut Model, disk: &SimDisk) -> Result<(), Stopped> {
        let mut config = config();
        // One name less that may or may not be there.
        config.fork_reserve_bytes = 0;
        let log = model.open(disk, &config)?;
        model.submit_two(&log)?;
        model.set_cell(&log)?;
        model.close(log)
    }
}

#[test]
fn every_outcome_of_two_tickets() {
    let bound = if cfg!(debug_assertions) { 40 } else { 20_000 };
    let explorer = explorer("every_outcome_of_two_tickets").every_outcome(bound).outcomes(4);
    let report = explored(&explorer, &TwoTickets);
    assert!(report.cuts_exhausted > report.cuts_over_bound || replays());
}
