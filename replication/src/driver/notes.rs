//! What a node notes of its cluster beside its log: in the user cell of the superblock.
//!
//! Owns the bytes: magic (4 bytes), count (4), then of each member node (8), incarnation (16), and what it has shown:
//! start counter (8), nonce (16), promised epoch (8), the last epoch in which it acknowledged something (8), and up to
//! where (segment 8, offset 8); numbers lowest byte first, zeros where nothing was shown. That the cell is whole is
//! the superblock's to say.
//!
//! Invariants
//!  C1. What is encoded decodes to itself, and nothing else does.            test `cells_come_back`
//!
//! Bounds: as many members as the cell has room for, which is more than
//! [`MEMBERS_MAX`](crate::wire::frame::MEMBERS_MAX).                         test `the_largest_cluster_fits`

use crate::protocol::node_id::NodeId;
use crate::protocol::shown::{Notes, Shown};
use crate::wire::bytes::{Decoder, Encoder};
use crate::wire::frame::{Fault, SHOWN_BYTES, decode_shown, encode_shown};

const MAGIC: u32 = u32::from_le_bytes(*b"CLnt");
const MEMBER_BYTES: usize = 24 + SHOWN_BYTES;

/// Notes as a cell.
#[must_use]
pub fn encode(notes: &Notes) -> Vec<u8> {
    let mut e = Encoder::default();
    e.u32(MAGIC);
    e.u32(u32::try_from(notes.members.len()).expect("at most MEMBERS_MAX"));
    for (node, incarnation) in &notes.members {
        let shown = notes.shown.get(node).copied().unwrap_or_default();
        e.u64(node.get());
        e.u128(*incarnation);
        encode_shown(&mut e, &shown);
    }
    e.0
}

/// A cell as notes: none when the cell is empty, and `None` when it holds something else.
#[must_use]
pub fn decode(cell: &[u8]) -> Option<Notes> {
    if cell.is_empty() { Some(Notes::default()) } else { decode_all(cell).ok() }
}

fn decode_all(cell: &[u8]) -> Result<Notes, Fault> {
    let mut d = Decoder::new(cell);
    if d.u32()? != MAGIC {
        return Err(Fault::Field);
    }
    let count = usize::try_from(d.u32()?).unwrap_or(usize::MAX);
    if Some(d.left()) != count.checked_mul(MEMBER_BYTES) {
        return Err(Fault::Short);
    }
    let mut notes = Notes::default();
    for _ in 0..count {
        let node = NodeId::new(d.u64()?).ok_or(Fault::Field)?;
        if notes.members.insert(node, d.u128()?).is_some() {
            return Err(Fault::Field);
        }
        let shown = decode_shown(&mut d)?;
        if shown != Shown::default() {
            notes.shown.insert(node, shown);
        }
    }
    Ok(notes)
}

#[cfg(test)]
mod tests {
    use cairnlog_engine::Epoch;

    use super::*;
    use crate::wire::frame::MEMBERS_MAX;

    fn node(number: u64) -> NodeId {
        NodeId::new(number).expect("not 0")
    }

    #[test]
    fn cells_come_back() {
        let shown = Shown {
            start_counter: 1,
            nonce: u128::MAX - 1,
            promised: Epoch::new(2),
            acked_epoch: Epoch::new(3),
            acked: (4, u64::MAX),
        };
        let members = [(node(1), u128::MAX), (node(7), 3)].into();
        let notes = Notes { members, shown: [(node(7), shown)].into() };
        let cell = encode(&notes);
        assert_eq!(decode(&cell), Some(notes));
        assert_eq!(decode(&[]), Some(Notes::default()));
        for end in 1..cell.len() {
            assert_eq!(decode(&cell[..end]), None);
        }
        assert_eq!(decode(b"somebody else's"), None);
    }

    /// A cell has 1024 bytes.
    #[test]
    fn the_largest_cluster_fits() {
        let members = (1..=MEMBERS_MAX as u64).map(|number| (node(number), 1));
        let notes = Notes { members: members.collect(), ..Notes::default() };
        assert!(encode(&notes).len() <= 1024);
    }
}
