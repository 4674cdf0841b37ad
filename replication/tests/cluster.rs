//! Simulated clusters: many seeds, each a run of half a minute with power cuts, kills, pauses, disks that are slow,
//! full or wiped, and a network that parts.
//!
//! `CAIRNLOG_SEEDS` says how many, `CAIRNLOG_SEED` names one to be run alone, `CAIRNLOG_TRACE=1` prints what happens
//! in it, `CAIRNLOG_OLDER_COPIES=1` also puts directories back as they were before. A failure names its
//! seed. A run has one thread; several runs go on at once, and what is printed is the same for any
//! number of them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use cairnlog_replication::sim::{Report, World};

fn asked(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

fn nodes_of(seed: u64) -> u64 {
    [3, 3, 5, 2][usize::try_from(seed % 4).expect("below 4")]
}

fn world(seed: u64) -> World {
    let world = World::new(seed, nodes_of(seed));
    if asked("CAIRNLOG_OLDER_COPIES").is_some() { world.with_older_copies() } else { world }
}

fn run_of(seed: u64, world: World) -> Report {
    let run = world.run();
    run.unwrap_or_else(|broken| panic!("seed {seed}: {broken}; CAIRNLOG_SEED={seed} runs it again"))
}

fn run(seed: u64) -> Report {
    run_of(seed, world(seed))
}

fn run_told(seed: u64) -> Report {
    let is_told = asked("CAIRNLOG_TRACE").is_some();
    let world = world(seed);
    run_of(seed, if is_told { world.with_listener(|line| println!("{line}")) } else { world })
}

/// Seeds from 1 on, as many at once as there are processors, summed up; or the lowest that failed.
fn run_all(seeds: u64) -> Report {
    let (next, failed) = (AtomicU64::new(1), AtomicU64::new(u64::MAX));
    let all = Mutex::new(Report::default());
    let work = || {
        // All below one that failed were begun, and are finished.
        while failed.load(Ordering::Relaxed) == u64::MAX {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed > seeds {
                return;
            }
            match catch_unwind(AssertUnwindSafe(|| run(seed))) {
                Ok(report) => all.lock().expect("nobody panics with it").add(&report),
                Err(_) => _ = failed.fetch_min(seed, Ordering::Relaxed),
            }
        }
    };
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let failed = failed.into_inner();
    assert_eq!(failed, u64::MAX, "CAIRNLOG_SEED={failed} is the lowest that failed");
    all.into_inner().expect("nobody panicked with it")
}

/// P1, P6, P7.
#[test]
fn no_promise_is_broken() {
    if let Some(seed) = asked("CAIRNLOG_SEED") {
        println!("{:?}", run_told(seed));
        return;
    }
    let seeds = asked("CAIRNLOG_SEEDS").unwrap_or(if cfg!(debug_assertions) { 12 } else { 200 });
    let all = run_all(seeds);
    println!("{seeds} seeds: {all:?}");
    assert!(all.acknowledged > seeds * 20 && all.epochs > seeds, "the clusters worked: {all:?}");
}

/// W1.
#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in [3, 4, 6] {
        assert_eq!(run(seed), run(seed));
    }
}
