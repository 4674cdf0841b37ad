//! Every operation of a workload fails once: the first of its kind, then the second, and so on, until a
//! run meets no failure. Where one failure is like the other, every third.
//!
//! Owns the loop. After each failure the fault goes away, and then the process starts again (odd runs), or
//! the power is cut first (even runs): nothing that was acknowledged is lost, the log opens, verifies
//! clean, and takes appends.

use cairnlog_engine::Verdict;
use cairnlog_engine::disk::{BackendChoice, DurableWrite};
use fuser::Errno;

use crate::common::Random;
use crate::faults::{Effect, Operation};
use crate::filesystem::Way;
use crate::mount::{Mount, under_both_drivers};
use crate::store::{Lost, Store};
use crate::workload::{Model, Stop, config};

/// More operations of one kind than the workload has.
const OPERATIONS_MAX: u64 = 1000;
const EIO: Effect = Effect::Fail(Errno::EIO);
const ENOSPC: Effect = Effect::Fail(Errno::ENOSPC);
const WAYS: [Way; 2] = [Way::Cached, Way::Direct];
const DURABLE_WRITES: [DurableWrite; 2] = [DurableWrite::WriteThenSync, DurableWrite::Dsync];

/// A run without a fault may be one whose way of writing needs fewer operations: so many in a row end it.
const UNTOUCHED_MAX: u64 = 4;

/// What fails, and where. The runs take turns with the ways.
#[derive(Clone, Copy, Debug)]
struct Each {
    operation: Operation,
    effect: Effect,
    backend: BackendChoice,
    ways: [Way; 2],
    durable_writes: [DurableWrite; 2],
    /// Every so many of them; 1 for the first, the second, and so on. Odd, so that all turns are met.
    step: usize,
}

/// How the runs of a loop ended.
#[derive(Debug, Default)]
struct Ends {
    struck: u64,
    done: u64,
    not_opened: u64,
    poisoned: u64,
    refused: u64,
    torn: u64,
}

impl Each {
    fn new(operation: Operation, effect: Effect, backend: BackendChoice) -> Each {
        let (ways, durable_writes) = (WAYS, DURABLE_WRITES);
        Each { operation, effect, backend, ways, durable_writes, step: 1 }
    }

    fn run(self) -> Ends {
        let mut random = Random::new();
        let mut ends = Ends::default();
        let mut untouched = 0;
        for nth in (1..OPERATIONS_MAX).step_by(self.step) {
            let struck = self.run_one(nth, &mut random, &mut ends);
            untouched = if struck { 0 } else { untouched + 1 };
            ends.struck += u64::from(struck);
            if untouched == UNTOUCHED_MAX {
                println!("{:?} {:?} {:?}: {ends:?}", self.operation, self.effect, self.backend);
                return ends;
            }
        }
        panic!("there is no end of them");
    }

    /// False when there was no n-th operation.
    fn run_one(self, nth: u64, random: &mut Random, ends: &mut Ends) -> bool {
        let turn = |bit: u32| usize::from(nth >> bit & 1 == 1);
        let mut mount = Mount::new(Store::default(), self.ways[turn(1)]);
        let mut model = Model::default();
        let config = config(self.backend, self.durable_writes[turn(2)]);
        mount.device.faults(|faults| faults.arm(self.operation, "", nth, self.effect, false));
        let ended = model.run(&mount.log(), &config);
        match ended {
            Ok(()) => ends.done += 1,
            Err(Stop::Open(_)) => ends.not_opened += 1,
            Err(Stop::Poisoned) => ends.poisoned += 1,
        }
        ends.refused += u64::from(model.refused() > 0);
        let struck = mount.device.faults(|faults| {
            faults.lift();
            faults.hits() > 0
        });
        assert!(struck || ended.is_ok(), "without a fault: {ended:?}");
        if turn(0) == 0 || self.effect == Effect::PowerOff {
            let lost = [Lost::All, Lost::Some][turn(1) ^ turn(2) ^ turn(3)];
            mount = mount.after_power_cut(lost, random);
        }
        println!("{self:?}, {nth}");
        let verdict = model.check(&mount.log(), &config);
        ends.torn += u64::from(matches!(verdict, Verdict::TornTail { .. }));
        struck
    }
}

fn fail_each(operation: Operation, effect: Effect) {
    under_both_drivers(|backend| {
        assert!(Each::new(operation, effect, backend).run().struck > 0);
    });
}

#[test]
fn d2_each_write_fails() {
    under_both_drivers(|backend| {
        let ends = Each::new(Operation::Write, EIO, backend).run();
        assert!(ends.poisoned > 20 && ends.torn > 0, "{ends:?}");
    });
}

#[test]
fn d5_writes_find_no_room() {
    under_both_drivers(|backend| {
        let mut each = Each::new(Operation::Write, ENOSPC, backend);
        each.step = 3;
        each.run();
    });
}

/// Under io_uring only one at a time, and without `FOPEN_DIRECT_IO`, because the kernel itself goes wrong
/// otherwise (Linux 6.18): io_uring completes a short write to FUSE, at the offset of its beginning with
/// `FOPEN_DIRECT_IO`, and with a piece left out when the rest, through the page cache, is short again. It
/// reports all of it as written, so that no program could know.
#[test]
fn d1_short_writes_are_completed() {
    under_both_drivers(|backend| {
        let mut each = Each::new(Operation::Write, Effect::Short, backend);
        each.step = 3;
        if backend == BackendChoice::Uring {
            each.ways = [Way::Cached; 2];
        }
        let ends = each.run();
        assert_eq!((ends.not_opened, ends.poisoned, ends.refused), (0, 0, 0), "{ends:?}");
    });
}

#[test]
fn d3_each_sync_fails() {
    under_both_drivers(|backend| {
        let mut each = Each::new(Operation::Sync, EIO, backend);
        each.durable_writes = [DurableWrite::WriteThenSync; 2];
        let ends = each.run();
        assert!(ends.poisoned > 20, "{ends:?}");
    });
}

#[test]
fn d3_c7_each_sync_of_the_directory_fails() {
    fail_each(Operation::SyncDirectory, EIO);
}

#[test]
fn d4_reads_fail() {
    under_both_drivers(|backend| {
        let mut each = Each::new(Operation::Read, EIO, backend);
        each.step = 3;
        assert!(each.run().struck > 5);
    });
}

#[test]
fn d4_opens_fail() {
    under_both_drivers(|backend| {
        let mut each = Each::new(Operation::Open, EIO, backend);
        each.step = 3;
        assert!(each.run().struck > 5);
    });
}

#[test]
fn d4_each_listing_fails() {
    fail_each(Operation::List, EIO);
}

#[test]
fn d5_each_allocation_finds_no_room() {
    fail_each(Operation::Allocate, ENOSPC);
}

#[test]
fn d5_each_create_finds_no_room() {
    fail_each(Operation::Create, ENOSPC);
}

#[test]
fn d5_each_rename_finds_no_room() {
    fail_each(Operation::Rename, ENOSPC);
}

#[test]
fn d2_each_rename_fails() {
    fail_each(Operation::Rename, EIO);
}

#[test]
fn d2_each_unlink_fails() {
    fail_each(Operation::Unlink, EIO);
}

#[test]
fn c2_c4_the_power_goes_in_each_write() {
    under_both_drivers(|backend| {
        let ends = Each::new(Operation::Write, Effect::PowerOff, backend).run();
        assert!(ends.torn > 0, "{ends:?}");
    });
}

/// C6.
#[test]
fn c2_c3_the_power_goes_in_syncs() {
    under_both_drivers(|backend| {
        let mut each = Each::new(Operation::Sync, Effect::PowerOff, backend);
        each.step = 3;
        each.durable_writes = [DurableWrite::WriteThenSync; 2];
        each.run();
    });
}

#[test]
fn c5_c7_c9_the_power_goes_in_each_change_of_names() {
    under_both_drivers(|backend| {
        for operation in [
            Operation::Create,
            Operation::Rename,
            Operation::Unlink,
            Operation::SyncDirectory,
            Operation::Allocate,
        ] {
            Each::new(operation, Effect::PowerOff, backend).run();
        }
    });
}
