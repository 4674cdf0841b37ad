//! Operations on a log, with power cuts and faults, against a model.
//!
//! Properties
//!  O1. What was acknowledged is there after any power cut and any fault, at its LSN, as it was.
//!  O2. What is there is a prefix of what was appended; nothing is damaged or lost to recovery.
//!  O3. Everything below `durable_lsn` can be read, unless a read was made to fail.
//!  O4. What was trimmed stays trimmed, and what was truncated is gone, all of it or, when that was cut
//!      short, nothing; the cell is what was set last, or what was being set.
//!  O5. A ticket ends well only for its own records. A record that was given up is reported: as the error
//!      of its ticket, or, for a buffered one, by the next `sync`.
//!  O6. Readers never see damage, whatever is recycled under them.
//!
//! Bounds: [`OPERATIONS_MAX`] operations; records up to 20 KiB.

mod appends;
mod reads;
mod world;

use arbitrary::{Arbitrary, Unstructured};

use self::world::World;

const OPERATIONS_MAX: usize = 64;

/// What is done, on a disk with a seed.
#[derive(Debug)]
pub struct Case {
    seed: u16,
    queue_depth: u8,
    operations: Vec<Operation>,
}

impl<'a> Arbitrary<'a> for Case {
    fn arbitrary(u: &mut Unstructured<'a>) -> arbitrary::Result<Case> {
        let (seed, queue_depth) = u.arbitrary()?;
        let mut operations = Vec::new();
        while !u.is_empty() && operations.len() < OPERATIONS_MAX {
            operations.push(u.arbitrary()?);
        }
        Ok(Case { seed, queue_depth, operations })
    }
}

#[derive(Arbitrary, Clone, Debug)]
enum Operation {
    Append {
        bytes: u16,
    },
    AppendBatch {
        bytes: u16,
        records: u8,
    },
    Submit {
        bytes: u16,
    },
    SubmitAs {
        producer: u8,
        bytes: u16,
        records: u8,
    },
    Buffer {
        bytes: u16,
    },
    /// Waits for the oldest ticket.
    Wait,
    WaitForAll,
    Sync,
    Read {
        record: u16,
    },
    ReadAll,
    AtTime {
        record: u16,
    },
    NextSequence {
        producer: u8,
    },
    Trim {
        record: u16,
    },
    SetCell {
        bytes: u8,
    },
    /// A reader of the open log starts, and is kept.
    Iterate {
        record: u16,
    },
    /// A reader beside the log starts, and is kept.
    Look {
        record: u16,
    },
    /// Both readers go on.
    GoOn {
        records: u8,
    },
    Close,
    /// The power goes during an operation to come.
    CutPower {
        operations: u8,
    },
    Fail {
        kind: u8,
        nth: u8,
        full: bool,
    },
    /// Leaves so much room on the disk, in KiB; 255 for any.
    SetRoom {
        kib: u8,
    },
    SetClock {
        ms: u32,
    },
    /// Gives up the records from one on, when all are durable.
    Truncate {
        record: u16,
    },
}

/// Holds O1 to O6 against one sequence of operations.
pub fn check(case: &Case) {
    let mut world = World::new(u64::from(case.seed), usize::from(case.queue_depth % 4) + 1);
    for operation in &case.operations {
        world.run(operation);
    }
    world.end();
}
