//! Simulated clusters: many seeds, each a run of half a minute with power cuts, kills, pauses and a network that
//! parts.
//!
//! `CAIRNLOG_SEEDS` says how many, `CAIRNLOG_SEED` names one to be run alone. A failure names its seed.

use cairnlog_replication::sim::{Report, World};

fn asked(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

fn nodes_of(seed: u64) -> u64 {
    [3, 3, 5, 2][usize::try_from(seed % 4).expect("below 4")]
}

fn run(seed: u64) -> Report {
    let run = World::new(seed, nodes_of(seed)).run();
    run.unwrap_or_else(|broken| panic!("seed {seed}: {broken}; CAIRNLOG_SEED={seed} runs it again"))
}

/// P1, P6, P7.
#[test]
fn no_promise_is_broken() {
    if let Some(seed) = asked("CAIRNLOG_SEED") {
        println!("{:?}", run(seed));
        return;
    }
    let seeds = asked("CAIRNLOG_SEEDS").unwrap_or(if cfg!(debug_assertions) { 12 } else { 200 });
    let mut all = Report::default();
    for seed in 1..=seeds {
        let report = run(seed);
        all.milliseconds += report.milliseconds;
        all.events += report.events;
        all.faults += report.faults;
        all.epochs += report.epochs;
        all.acknowledged += report.acknowledged;
    }
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
