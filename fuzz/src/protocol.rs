//! Whatever other nodes say, and whatever becomes of the own disk, to one node.
//!
//! The own side is honest: operations end in their order, well or refused, and lookups answer what the log holds, late or
//! never. The others say anything that a frame can carry.
//!
//! Properties
//!  R1. Nothing makes the node panic.
//!  R2. What is promised never goes back, and what is said of it is on the disk before (N1).
//!  R3. From a stream something is taken only for the promise that stands, and a follower takes it only from the
//!      leader that this names (N1, N2).
//!  R4. What is committed never goes back (N3); a leader commits only what its members and its own disk have, as far as
//!      they said so of what was sent to them.
//!  R5. A replica is ready only when the cut is done, and acknowledges only ends of what it took, which are durable.
//!  R6. An epoch begins only when a seal quorum of members has promised it, and this log has all that the first of them
//!      had (S1).
//!
//! Bounds: [`INPUTS_MAX`] inputs; five nodes.

mod disk;
mod says;
mod world;

use arbitrary::{Arbitrary, Unstructured};

use self::says::Says;
use self::world::World;

const INPUTS_MAX: usize = 96;

/// A node, and what happens to it.
#[derive(Debug)]
pub struct Case {
    /// How many members it knows; itself, or not, is the first.
    members: u8,
    is_member: bool,
    inputs: Vec<Input>,
}

impl<'a> Arbitrary<'a> for Case {
    fn arbitrary(u: &mut Unstructured<'a>) -> arbitrary::Result<Case> {
        let (members, is_member) = u.arbitrary()?;
        let mut inputs = Vec::new();
        while !u.is_empty() && inputs.len() < INPUTS_MAX {
            inputs.push(u.arbitrary()?);
        }
        Ok(Case { members, is_member, inputs })
    }
}

#[derive(Arbitrary, Clone, Debug)]
enum Input {
    Connect {
        peer: u8,
    },
    Disconnect {
        peer: u8,
    },
    Message {
        from: u8,
        says: Says,
    },
    /// The oldest operation ends.
    End {
        refused: bool,
    },
    /// The oldest lookup is answered.
    Answer {
        fails: bool,
    },
    /// Whoever leads takes records.
    Grow {
        records: u8,
    },
    /// What was taken is durable.
    Sync,
    Stand,
    Pass {
        ms: u16,
    },
    Join {
        members: u8,
    },
}

/// Holds R1 to R6 against one sequence of inputs.
pub fn check(case: &Case) {
    let mut world = World::new(case.members, case.is_member);
    for input in &case.inputs {
        world.apply(input);
    }
}
