//! The hand-over of the group commit under a model checker: who waits, who leads, who is woken.
//!
//! Owns how the checker is run, and what counts as found: a panic (asserts of the engine among them), a
//! deadlock, which is how a lost wake-up shows, or a run without end. The code under it is the engine's
//! own, by way of `crate::sync`. Two kinds of search:
//!  - `words`: every interleaving of the small parts, by depth first;
//!  - `scenarios`: whole logs on a simulated disk, drawn at random and by priorities (PCT), from a fixed
//!    seed that is printed.
//!
//! What is held: M1 to M3 of `committer`, C1 to C3 of `commit`, and that nobody waits for ever.
//!
//! Bounds: `CAIRNLOG_SCHEDULES` schedules of each scenario and each way of drawing.
//! Not looked at: orders that only weak memory allows, see `sync::model`.
//!
//! Run by `RUSTFLAGS="--cfg shuttle" cargo test -p cairnlog-engine --lib interleavings`. A failure prints
//! its schedule, for `shuttle::replay`.

mod bounded;
mod scenarios;
mod words;

use std::time::Instant;

use bounded::{Bounded, Cost};
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, Runner};

/// Schedules of one scenario, unless the environment says otherwise.
const SCHEDULES: usize = 300;
/// A scenario with many bytes takes so many times as long.
const SLOWER: usize = 20;
const SEED: u64 = 0x6361_6972_6e6c_6f67;
/// How often the priorities change in one run.
const PRIORITY_CHANGES: usize = 4;
/// No search by depth is larger; one that is has to be cut down, not left half done.
const EVERY_MAX: usize = 200_000;
/// The engine goes deeper than the checker expects.
const STACK_BYTES: usize = 256 << 10;

fn run(name: &str, scheduler: impl Scheduler + 'static, test: fn()) -> usize {
    let mut config = Config::new();
    config.stack_size = STACK_BYTES;
    // That atomics are sequentially consistent here is said above.
    config.silence_warnings = true;
    let start = Instant::now();
    let runs = Runner::new(scheduler, config).run(test);
    println!("{name}: {runs} schedules, {} ms", start.elapsed().as_millis());
    runs
}

/// Runs every interleaving that a bound allows.
fn every(name: &str, cost: Cost, spent_max: u32, test: fn()) {
    let name = format!("{name}, {spent_max} of {cost:?}");
    let runs = run(&name, Bounded::new(cost, spent_max, EVERY_MAX), test);
    assert!(runs > 1 && runs < EVERY_MAX, "{name}: the search did not end");
}

/// Runs interleavings drawn from a seed: uniformly, and by priorities that change seldom, which is how
/// a thread comes to stand still for long.
fn many(name: &str, test: fn()) {
    drawn(name, schedules(), test);
}

/// The same for a scenario with many bytes, which takes longer.
fn some(name: &str, test: fn()) {
    drawn(name, schedules().div_ceil(SLOWER), test);
}

fn schedules() -> usize {
    let asked = std::env::var("CAIRNLOG_SCHEDULES").ok().and_then(|text| text.parse().ok());
    asked.unwrap_or(SCHEDULES)
}

fn drawn(name: &str, schedules: usize, test: fn()) {
    println!("{name}: seed {SEED:#x}");
    run(name, RandomScheduler::new_from_seed(SEED, schedules), test);
    run(name, PctScheduler::new_from_seed(SEED, PRIORITY_CHANGES, schedules), test);
}
