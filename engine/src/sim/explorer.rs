//! Cutting the power of a scenario at every operation, and looking at what is left.
//!
//! Owns which cuts and outcomes are tried, in what order, and the counts. What a cut may leave is the
//! disk's to know; what must be true afterwards is the scenario's.
//!
//! Invariants
//!  L1. The same settings and code look at the same states and name the same failure first, whatever
//!      the number of threads.                         test `threads_change_nothing`
//!  L2. A replay looks at exactly the state that was named.  test `a_failure_is_replayed_exactly`
//!  L3. A scenario that does not repeat itself is refused.   test `a_scenario_that_varies_is_refused`
//!
//! Bounds: memory for one hash of 8 bytes for each state, and one disk for each thread.

use std::any::Any;
use std::collections::HashSet;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::replay::{Chosen, Cut, REPLAY_VARIABLE, Replay, drawn, scattered};
use super::{Failure, Report, Scenario, SeedReport, SimDisk};

/// Runs a scenario, cuts the power, restarts and checks, as often as it is told to.
///
/// The default tries one seed, every operation, and 8 outcomes of each cut, on all cores.
#[derive(Clone, Debug)]
pub struct Explorer {
    command: String,
    seeds: Range<u64>,
    states_wanted: u64,
    cut_every: u64,
    outcomes: u64,
    walk_bound: u64,
    second_cuts: u64,
    threads: usize,
}

/// What one worker found.
#[derive(Default)]
struct Found {
    cuts: u64,
    states: u64,
    cuts_exhausted: u64,
    cuts_over_bound: u64,
    fingerprints: HashSet<u64>,
}

impl Found {
    fn add(&mut self, other: Found) {
        self.cuts += other.cuts;
        self.states += other.states;
        self.cuts_exhausted += other.cuts_exhausted;
        self.cuts_over_bound += other.cuts_over_bound;
        self.fingerprints.extend(other.fingerprints);
    }
}

impl Explorer {
    /// An explorer whose failures are replayed by `command`, such as `cargo test --test NAME`: run with
    /// the environment variable [`REPLAY_VARIABLE`] it must come to [`Explorer::explore`] with the same
    /// scenario again.
    #[must_use]
    pub fn new(command: &str) -> Explorer {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Explorer {
            command: command.to_owned(),
            seeds: 1..2,
            states_wanted: u64::MAX,
            cut_every: 1,
            outcomes: 8,
            walk_bound: 0,
            second_cuts: 0,
            threads,
        }
    }

    /// Which seeds are explored.
    #[must_use]
    pub fn seeds(mut self, seeds: Range<u64>) -> Explorer {
        self.seeds = seeds;
        self
    }

    /// Ends after the seed with which so many distinct states were seen.
    #[must_use]
    pub fn states_wanted(mut self, states: u64) -> Explorer {
        self.states_wanted = states;
        self
    }

    /// Cuts at every `stride`-th operation only; where it starts follows from the seed.
    #[must_use]
    pub fn cut_every(mut self, stride: u64) -> Explorer {
        self.cut_every = stride.max(1);
        self
    }

    /// How many outcomes of each cut are drawn. The first loses all that was not durable, the second
    /// keeps all of it.
    #[must_use]
    pub fn outcomes(mut self, outcomes: u64) -> Explorer {
        self.outcomes = outcomes;
        self
    }

    /// Looks at every legal outcome of each cut instead of draws, for short work: their number doubles
    /// with every sector that is not durable. A cut that has more than `states_max` of them is counted
    /// as such in the [`Report`], and then draws are looked at too.
    #[must_use]
    pub fn every_outcome(mut self, states_max: u64) -> Explorer {
        self.walk_bound = states_max;
        self
    }

    /// How often, for each cut, the power also goes out during [`Scenario::recover`].
    #[must_use]
    pub fn second_cuts(mut self, second_cuts: u64) -> Explorer {
        self.second_cuts = second_cuts;
        self
    }

    /// How many threads explore; each run still uses one.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Explorer {
        self.threads = threads.max(1);
        self
    }

    /// Explores. With [`REPLAY_VARIABLE`] set in the environment, only the state that it names.
    ///
    /// # Errors
    /// The failure at the earliest operation of the first seed that has one.
    pub fn explore<S: Scenario>(&self, scenario: &S) -> Result<Report, Failure> {
        match std::env::var(REPLAY_VARIABLE) {
            Ok(replay) => self.replay(scenario, &replay),
            Err(_) => self.explore_seeds(scenario),
        }
    }

    fn explore_seeds<S: Scenario>(&self, scenario: &S) -> Result<Report, Failure> {
        let (mut report, mut found) = (Report::default(), Found::default());
        for seed in self.seeds.clone() {
            let rehearsed = self.rehearse(scenario, seed)?;
            found.add(self.explore_seed(scenario, &rehearsed)?);
            report.seeds.push(rehearsed);
            if count(found.fingerprints.len()) >= self.states_wanted {
                break;
            }
        }
        report.cuts = found.cuts;
        report.states = found.states;
        report.distinct_states = count(found.fingerprints.len());
        report.cuts_exhausted = found.cuts_exhausted;
        report.cuts_over_bound = found.cuts_over_bound;
        Ok(report)
    }

    /// Looks at one state, named as in [`Failure::replay`].
    ///
    /// # Errors
    /// The failure, or that there is no such state.
    pub fn replay<S: Scenario>(&self, scenario: &S, replay: &str) -> Result<Report, Failure> {
        let parsed: Replay = replay.parse().map_err(|message| self.failure(replay, message))?;
        let rehearsed = self.rehearse(scenario, parsed.seed)?;
        let attempt = Attempt { explorer: self, scenario, seed: parsed.seed };
        let (disk, evidence) = attempt.run(parsed.cut.operation)?;
        let missing = || self.failure(replay, "there is no such state".to_owned());
        let mut state = attempt.state(&disk, parsed.cut).ok_or_else(missing)?;
        if let Some(second) = parsed.second {
            attempt.recover(&state, second.operation, &parsed)?;
            state = attempt.state(&state, second).ok_or_else(missing)?;
        }
        let distinct_states = 1;
        attempt.check(&state, &evidence, &parsed)?;
        let seeds = vec![rehearsed];
        Ok(Report { seeds, cuts: 1, states: 1, distinct_states, ..Report::default() })
    }

    /// Runs the work twice without a cut.
    fn rehearse<S: Scenario>(&self, scenario: &S, seed: u64) -> Result<SeedReport, Failure> {
        let attempt = Attempt { explorer: self, scenario, seed };
        let once = || -> Result<SeedReport, Failure> {
            let (disk, _) = attempt.run(u64::MAX)?;
            Ok(SeedReport { seed, operations: disk.operations(), trace: disk.trace() })
        };
        let (one, other) = (once()?, once()?);
        if one == other {
            return Ok(one);
        }
        let message = format!("the scenario does not repeat itself: {one:?}, then {other:?}");
        Err(self.failure(&seed.to_string(), message))
    }

    fn explore_seed<S: Scenario>(
        &self,
        scenario: &S,
        rehearsed: &SeedReport,
    ) -> Result<Found, Failure> {
        let seed = rehearsed.seed;
        let first = 1 + scattered(seed, 0, 0) % self.cut_every;
        let behind = rehearsed.operations + 1;
        // The one behind the last operation is always among them.
        let cuts = behind.saturating_sub(first).div_ceil(self.cut_every);
        let next = AtomicU64::new(0);
        let failed: Mutex<Option<(u64, Failure)>> = Mutex::new(None);
        let failed_at = AtomicU64::new(u64::MAX);
        let work = || {
            let (mut found, attempt) =
                (Found::default(), Attempt { explorer: self, scenario, seed });
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let cut = if number < cuts { first + number * self.cut_every } else { behind };
                // Every cut before one that fails is looked at, so that the earliest failure is named.
                if number > cuts || cut > failed_at.load(Ordering::Relaxed) {
                    return found;
                }
                if let Err(failure) = attempt.explore_cut(cut, &mut found) {
                    failed_at.fetch_min(cut, Ordering::Relaxed);
                    let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                    if failed.as_ref().is_none_or(|(earlier, _)| cut < *earlier) {
                        *failed = Some((cut, failure));
                    }
                }
            }
        };
        let mut found = Found::default();
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..self.threads).map(|_| scope.spawn(work)).collect();
            for worker in workers {
                // What panics in a scenario is caught in `guarded`.
                found.add(worker.join().unwrap_or_default());
            }
        });
        match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some((_, failure)) => Err(failure),
            None => Ok(found),
        }
    }

    fn failure(&self, replay: &str, message: String) -> Failure {
        Failure { message, replay: replay.to_owned(), command: self.command.clone() }
    }
}

/// The runs of one seed.
struct Attempt<'a, S> {
    explorer: &'a Explorer,
    scenario: &'a S,
    seed: u64,
}

impl<S: Scenario> Attempt<'_, S> {
    fn run(&self, cut: u64) -> Result<(SimDisk, S::Evidence), Failure> {
        let disk = SimDisk::new(self.seed);
        disk.cut_at(cut);
        let evidence = guarded(|| self.scenario.run(&disk, self.seed)).map_err(|message| {
            let name = Cut { operation: cut, chosen: Chosen::Drawn(0) };
            let replay = Replay { seed: self.seed, cut: name, second: None };
            self.explorer.failure(&replay.to_string(), format!("the work itself: {message}"))
        })?;
        Ok((disk, evidence))
    }

    fn explore_cut(&self, operation: u64, found: &mut Found) -> Result<(), Failure> {
        let (disk, evidence) = self.run(operation)?;
        found.cuts += 1;
        // What was seen after this cut already was checked against the same evidence.
        let mut seen = HashSet::new();
        let mut look = |state: &SimDisk, replay: &Replay, found: &mut Found| {
            found.states += 1;
            let fingerprint = state.fingerprint();
            if !seen.insert(fingerprint) {
                return Ok(());
            }
            found.fingerprints.insert(fingerprint);
            self.check(state, &evidence, replay)
        };
        let name =
            |chosen| Replay { seed: self.seed, cut: Cut { operation, chosen }, second: None };
        let mut draws = self.explorer.outcomes;
        if self.explorer.walk_bound > 0 {
            let mut is_over = false;
            for (number, state) in (0..).zip(disk.every_outcome()) {
                is_over = number == self.explorer.walk_bound;
                if is_over {
                    break;
                }
                look(&state, &name(Chosen::Walked(number)), found)?;
            }
            if is_over {
                found.cuts_over_bound += 1;
            } else {
                found.cuts_exhausted += 1;
                draws = 0;
            }
        }
        for number in 0..draws {
            let chosen = Chosen::Drawn(number);
            look(&disk.after(drawn(self.seed, operation, number)), &name(chosen), found)?;
        }
        for number in 0..self.explorer.second_cuts {
            let first = Cut { operation, chosen: Chosen::Drawn(2 + number) };
            let Some((state, cut)) = self.cut_again(&disk, first)? else { continue };
            found.cuts += 1;
            for number in 0..self.explorer.outcomes.clamp(1, 3) {
                let second = Some(Cut { operation: cut, chosen: Chosen::Drawn(number) });
                let replay = Replay { seed: self.seed, cut: first, second };
                look(&state.after(drawn(self.seed, cut, number)), &replay, found)?;
            }
        }
        Ok(())
    }

    /// Cuts the power during one operation of a recovery: the disk without power, and the operation.
    fn cut_again(&self, disk: &SimDisk, first: Cut) -> Result<Option<(SimDisk, u64)>, Failure> {
        let Some(rehearsal) = self.state(disk, first) else { return Ok(None) };
        let name = Replay { seed: self.seed, cut: first, second: None };
        let before = rehearsal.operations();
        self.recover(&rehearsal, u64::MAX, &name)?;
        let operations = rehearsal.operations() - before;
        if operations == 0 {
            return Ok(None);
        }
        let Some(state) = self.state(disk, first) else { return Ok(None) };
        let chosen = scattered(self.seed, first.operation, before) % operations;
        let second = 1 + chosen;
        let chosen = Chosen::Drawn(0);
        let name = Replay { second: Some(Cut { operation: second, chosen }), ..name };
        self.recover(&state, second, &name)?;
        Ok(Some((state, second)))
    }

    fn state(&self, disk: &SimDisk, cut: Cut) -> Option<SimDisk> {
        match cut.chosen {
            Chosen::Drawn(number) => Some(disk.after(drawn(self.seed, cut.operation, number))),
            Chosen::Walked(number) => disk.every_outcome().nth(usize_of(number)),
        }
    }

    /// Lets the scenario come up, and the power go out at its `cut`-th operation.
    fn recover(&self, disk: &SimDisk, cut: u64, name: &Replay) -> Result<(), Failure> {
        disk.cut_at(disk.operations().saturating_add(cut));
        guarded(|| self.scenario.recover(disk))
            .map_err(|message| self.explorer.failure(&name.to_string(), message))
    }

    fn check(&self, disk: &SimDisk, evidence: &S::Evidence, name: &Replay) -> Result<(), Failure> {
        guarded(|| self.scenario.check(disk, evidence))
            .and_then(|checked| checked)
            .map_err(|message| self.explorer.failure(&name.to_string(), message))
    }
}

/// What a call gives, or what it said when it panicked.
fn guarded<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|panic| format!("panicked: {}", said(&*panic)))
}

fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message")
}

fn count(length: usize) -> u64 {
    u64::try_from(length).expect("64-bit targets")
}

fn usize_of(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
