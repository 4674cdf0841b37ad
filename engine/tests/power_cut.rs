//! The power goes out during every single operation of a workload, and recovery is held to the
//! promises:
//!  P1 every record that was acknowledged is there;
//!  P2 what is there is exactly a prefix of what was appended, byte for byte;
//!  P3 and P4 a torn write damages nothing acknowledged, and is cut off without anybody's help.
//!
//! The disk is simulated: at a cut every unsynced sector may be kept, lost or torn on its own.

use std::sync::Arc;

use cairnlog_engine::disk::sim::{OperationKind, SimDisk};
use cairnlog_engine::{Config, Log, Lsn, Verdict};

mod common;

use common::{Model, config};

/// How often the outcome of one cut is drawn: nothing unsynced survives, all of it does, and so many
/// seeded mixtures. `CAIRNLOG_OUTCOMES` asks for more.
fn outcomes() -> u64 {
    let asked = std::env::var("CAIRNLOG_OUTCOMES").ok().and_then(|text| text.parse().ok());
    asked.unwrap_or(4)
}

fn operations_of_workload(config: &Config, depth: usize) -> u64 {
    let disk = SimDisk::new(1);
    disk.set_queue_depth(depth);
    Model::default().run(&disk, config).expect("nothing fails without a cut");
    disk.operations()
}

fn cut_everywhere(depth: usize) {
    let config = config();
    let operations = operations_of_workload(&config, depth);
    assert!(operations > 300, "the workload is worth cutting: {operations}");
    let (mut torn, mut rolled) = (0, 0);
    for cut in 1..=operations {
        for outcome in 0..outcomes() {
            let disk = SimDisk::new(1);
            disk.set_queue_depth(depth);
            disk.cut_at(cut);
            let mut model = Model::default();
            let ended = model.run(&disk, &config);
            assert!(ended.is_err() || cut == operations, "cut {cut} was not felt");
            match outcome {
                0 => disk.restart_losing_all(),
                1 => disk.restart_keeping_all(),
                seed => disk.restart(seed * 7919 + cut),
            }
            disk.set_queue_depth(depth);
            let report = model.check(&disk, &config);
            torn += u64::from(matches!(report.verdict, Verdict::TornTail { .. }));
            rolled += u64::from(report.segments > 1);
        }
    }
    let states = operations * outcomes();
    println!("{states} power cuts, {torn} torn tails, {rolled} with several segments");
    assert!(torn > 20 && rolled > states / 4, "the interesting states were reached");
}

#[test]
fn every_cut_point_with_several_writes_on_their_way() {
    cut_everywhere(4);
}

#[test]
fn every_cut_point_with_one_write_at_a_time() {
    cut_everywhere(1);
}

/// C8. The power goes out again during each operation of the recovery from a first cut, twice.
#[test]
fn crash_during_recovery() {
    let config = config();
    let operations = operations_of_workload(&config, 4);
    for cut in (10..operations).step_by(7) {
        let mut second = 1;
        loop {
            let disk = SimDisk::new(1);
            disk.cut_at(cut);
            let mut model = Model::default();
            let _ = model.run(&disk, &config);
            disk.restart(cut);
            disk.cut_at(disk.operations() + second);
            let recovered = Log::open_on(Arc::new(disk.clone()), config.clone());
            let was_cut = match recovered {
                Ok((log, _)) => log.close().is_err(),
                Err(_) => true,
            };
            disk.restart(cut + second);
            model.check(&disk, &config);
            if !was_cut {
                break;
            }
            second += 1;
        }
    }
}

/// A process dies after a write that nobody synced, and the next one finds its bytes: what it appends
/// behind them must not stand on bytes that a power cut then takes away.
fn stands_on_what_was_found(direct_reads: bool) {
    let mut kept = 0;
    for seed in 0..40 {
        let disk = SimDisk::new(seed);
        disk.set_direct_reads(direct_reads);
        let (log, _) = Log::open_on(Arc::new(disk.clone()), config()).expect("an empty disk");
        log.append(b"acknowledged").expect("nothing fails yet");
        disk.fail_nth(OperationKind::Write, 1, std::io::ErrorKind::Other);
        assert!(log.append(b"in doubt").is_err());
        // Poisoned, so that it writes nothing any more.
        drop(log);
        let (log, report) = Log::open_on(Arc::new(disk.clone()), config()).expect("it recovers");
        kept += u64::from(report.end_lsn > Lsn::new(2));
        let last = log.append(b"on top of it").expect("a repaired log takes records");
        std::mem::forget(log);
        disk.restart_losing_all();
        let (log, report) = Log::open_on(Arc::new(disk.clone()), config()).expect("it recovers");
        assert_eq!(report.end_lsn, last.next(), "seed {seed}");
        assert_eq!(log.read(last).expect("acknowledged").bytes(), b"on top of it");
    }
    assert!(kept > 5, "the case that matters was reached: {kept}");
}

#[test]
fn what_was_found_is_synced_before_anything_stands_on_it() {
    stands_on_what_was_found(true);
}

/// The same where no read goes past the page cache, which after the failed write-back shows bytes that
/// are nowhere else and that no sync writes any more.
#[test]
fn what_only_the_cache_shows_is_written_again() {
    stands_on_what_was_found(false);
}

/// A disk on which a process died with several writes on their way: a batch that only the cache shows,
/// and behind it, with most seeds, a hole and another batch.
fn left_torn_in_the_cache(seed: u64) -> (SimDisk, Model) {
    let (disk, mut model) = (SimDisk::new(seed), Model::default());
    disk.set_direct_reads(false);
    disk.set_queue_depth(4);
    let log = model.open(&disk, &config()).expect("an empty disk");
    model.append(&log).expect("nothing fails yet");
    disk.fail_nth(OperationKind::Write, 1, std::io::ErrorKind::Other);
    disk.shorten_nth_write(3, 512);
    assert!(model.submit_four(&log).is_err());
    drop(log);
    (disk, model)
}

/// A process dies, or the power goes, while it cuts off what another one left; and the power goes at
/// every operation of the next, which finds the unfinished cut. The cut does not make durable what only
/// the cache shows, or showed.
#[test]
fn an_unfinished_cut_is_no_evidence() {
    let open = |disk: &SimDisk| Log::open_on(Arc::new(disk.clone()), config());
    let is_torn = |seed: &u64| {
        let opened = open(&left_torn_in_the_cache(*seed).0);
        opened.is_ok_and(|(_, report)| matches!(report.verdict, Verdict::TornTail { .. }))
    };
    for seed in (0..).filter(is_torn).take(3) {
        for (first, cut) in (1..30).step_by(2).flat_map(|first| (1..40).map(move |c| (first, c))) {
            let (disk, mut model) = left_torn_in_the_cache(seed);
            let first = disk.operations() + first;
            if cut % 2 == 0 {
                disk.kill_at(first);
                let _ = open(&disk);
                disk.kill_process();
            } else {
                disk.cut_at(first);
                let _ = open(&disk);
                disk.restart_losing_all();
            }
            disk.cut_at(disk.operations() + cut);
            let _ = open(&disk);
            disk.restart_losing_all();
            model.check(&disk, &config());
        }
    }
}

/// The power goes at every operation of an open that writes the end of the log again.
#[test]
fn a_power_cut_while_the_tail_is_renewed() {
    let config = config();
    let operations = operations_of_workload(&config, 4);
    for cut in (10..operations).step_by(29) {
        for second in 1.. {
            let disk = SimDisk::new(1);
            disk.set_direct_reads(false);
            disk.cut_at(cut);
            let mut model = Model::default();
            let _ = model.run(&disk, &config);
            disk.restart(cut);
            disk.cut_at(disk.operations() + second);
            let was_cut = Log::open_on(Arc::new(disk.clone()), config.clone()).is_err();
            disk.restart(cut + second);
            model.check(&disk, &config);
            if !was_cut {
                break;
            }
        }
    }
}
