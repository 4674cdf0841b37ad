//! Every interleaving up to a bound: the search by depth, cut where it would not end.
//!
//! Owns the choice of the next thread. Whoever runs goes on until it waits, ends or yields, and then the
//! next one does, in a circle; a run may depart from that at most so often. With [`Cost::Preemption`] only
//! a thread that could have gone on costs: the others are all tried after one that waits. With
//! [`Cost::Departure`] that costs as well, for scenarios in which threads wait too often. The checker's
//! own search by depth has no bound, and three threads of ten steps have more interleavings than there is
//! time for; almost all that goes wrong does so with two or three departures.
//!
//! Invariants
//!  - No schedule is tried twice, and all within the bound are: without a bound it finds as many as the
//!    checker's own search.                                                            test below
//!
//! Bounds: memory as long as one run. Threads: one.

use shuttle::scheduler::{Schedule, Scheduler, Task, TaskId};

/// What counts against the bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cost {
    /// Stopping a thread that could go on.
    Preemption,
    /// Any choice but the first.
    Departure,
}

/// A choice of the run that is repeated.
#[derive(Debug)]
struct Level {
    chosen: TaskId,
    left: Vec<TaskId>,
    /// Of each that is left, and of the one chosen.
    costs: u32,
    spends: u32,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Bounded {
    cost: Cost,
    spent_max: u32,
    schedules_max: usize,
    schedules: usize,
    levels: Vec<Level>,
    step: usize,
    spent: u32,
}

impl Bounded {
    /// Stops after `schedules_max`, if there are more.
    pub(super) fn new(cost: Cost, spent_max: u32, schedules_max: usize) -> Bounded {
        let levels = Vec::new();
        Bounded { cost, spent_max, schedules_max, schedules: 0, levels, step: 0, spent: 0 }
    }

    /// A choice that was not met before. `goes_on` is who ran, if it still can and wants to.
    fn choose(&self, runnable: &[&Task], current: Option<TaskId>, goes_on: bool) -> Level {
        let mut left: Vec<TaskId> = runnable.iter().map(|task| task.id()).collect();
        if let Some(current) = current {
            let place = left.iter().position(|id| *id >= current).unwrap_or(0);
            left.rotate_left(place);
            if left[0] == current && !goes_on {
                left.rotate_left(1);
            }
        }
        let chosen = left.remove(0);
        left.reverse();
        let costs = u32::from(goes_on || self.cost == Cost::Departure);
        if self.spent + costs > self.spent_max {
            left.clear();
        }
        Level { chosen, left, costs, spends: 0 }
    }
}

impl Scheduler for Bounded {
    fn new_execution(&mut self) -> Option<Schedule> {
        if self.schedules > 0 {
            while self.levels.last()?.left.is_empty() {
                self.levels.pop();
            }
            let level = self.levels.last_mut()?;
            (level.chosen, level.spends) = (level.left.pop()?, level.costs);
        }
        if self.schedules == self.schedules_max {
            return None;
        }
        self.schedules += 1;
        (self.step, self.spent) = (0, 0);
        Some(Schedule::new(0))
    }

    fn next_task(
        &mut self,
        runnable: &[&Task],
        current: Option<TaskId>,
        is_yielding: bool,
    ) -> Option<TaskId> {
        if self.step == self.levels.len() {
            let is_runnable = runnable.iter().any(|task| Some(task.id()) == current);
            self.levels.push(self.choose(runnable, current, is_runnable && !is_yielding));
        }
        let level = &self.levels[self.step];
        self.step += 1;
        self.spent += level.spends;
        Some(level.chosen)
    }

    fn next_u64(&mut self) -> u64 {
        unreachable!("nothing here is drawn")
    }
}

mod tests {
    use super::super::run;
    use super::{Bounded, Cost};
    use crate::sync::atomic::{AtomicU32, Ordering};
    use crate::sync::{Arc, thread};
    use shuttle::scheduler::DfsScheduler;

    fn two_threads() {
        let word: Arc<AtomicU32> = Arc::default();
        let threads = [(); 2].map(|()| {
            let word = Arc::clone(&word);
            thread::spawn(move || {
                for _ in 0..3 {
                    word.fetch_add(1, Ordering::SeqCst);
                }
            })
        });
        for thread in threads {
            thread.join().expect("nobody panics");
        }
    }

    #[test]
    fn without_a_bound_it_finds_as_many_as_the_search_by_depth() {
        let all = run("all", DfsScheduler::new(None, false), two_threads);
        let unbounded =
            run("unbounded", Bounded::new(Cost::Preemption, 100, usize::MAX), two_threads);
        let bounded = [0, 1, 2]
            .map(|max| run("bounded", Bounded::new(Cost::Preemption, max, all), two_threads));
        let departing =
            run("departing", Bounded::new(Cost::Departure, 100, usize::MAX), two_threads);
        assert_eq!((unbounded, departing), (all, all));
        assert!(bounded[0] < bounded[1] && bounded[1] < bounded[2] && bounded[2] < all);
    }
}
