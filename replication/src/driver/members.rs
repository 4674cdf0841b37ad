//! The members of a cluster, as a node notes them beside its log: in the user cell of the superblock.
//!
//! Owns the bytes: magic (4 bytes), count (4), then node (8) and incarnation (16) of each, numbers lowest byte first.
//! That the cell is whole is the superblock's to say.
//!
//! Invariants
//!  C1. What is encoded decodes to itself, and nothing else does.            test `cells_come_back`

use std::collections::BTreeMap;

use crate::protocol::node_id::NodeId;

const MAGIC: [u8; 4] = *b"CLmb";
const MEMBER_BYTES: usize = 24;

/// Members as a cell.
#[must_use]
pub fn encode(members: &BTreeMap<NodeId, u128>) -> Vec<u8> {
    let mut cell = MAGIC.to_vec();
    let count = u32::try_from(members.len()).expect("at most MEMBERS_MAX");
    cell.extend_from_slice(&count.to_le_bytes());
    for (node, incarnation) in members {
        cell.extend_from_slice(&node.get().to_le_bytes());
        cell.extend_from_slice(&incarnation.to_le_bytes());
    }
    cell
}

/// A cell as members: none when the cell is empty, and `None` when it holds something else.
#[must_use]
pub fn decode(cell: &[u8]) -> Option<BTreeMap<NodeId, u128>> {
    if cell.is_empty() {
        return Some(BTreeMap::new());
    }
    let (magic, rest) = cell.split_first_chunk::<4>()?;
    let (count, rest) = rest.split_first_chunk::<4>()?;
    let count = usize::try_from(u32::from_le_bytes(*count)).ok()?;
    if *magic != MAGIC || Some(rest.len()) != count.checked_mul(MEMBER_BYTES) {
        return None;
    }
    let mut members = BTreeMap::new();
    for member in rest.chunks_exact(MEMBER_BYTES) {
        let (node, incarnation) = member.split_first_chunk::<8>()?;
        let node = NodeId::new(u64::from_le_bytes(*node))?;
        members.insert(node, u128::from_le_bytes(*incarnation.first_chunk::<16>()?));
    }
    (members.len() == count).then_some(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_come_back() {
        let node = |number| NodeId::new(number).expect("not 0");
        let members = BTreeMap::from([(node(1), u128::MAX), (node(7), 3)]);
        let cell = encode(&members);
        assert_eq!(decode(&cell), Some(members));
        assert_eq!(decode(&[]), Some(BTreeMap::new()));
        for end in 1..cell.len() {
            assert_eq!(decode(&cell[..end]), None);
        }
        assert_eq!(decode(b"somebody else's"), None);
    }
}
