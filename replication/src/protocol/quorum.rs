//! How many replicas it takes.
//!
//! Owns the sizes of quorums and the commit point of a set of replicas. A function of its arguments.
//!
//! Invariants
//!  Q1. A commit quorum and a seal quorum of one set have a replica in common, and so have two commit
//!      quorums.                                                 test `quorums_meet`

use cairnlog_engine::{Epoch, Place};

/// Replicas on which a record must be durable to be committed, in a set of `n`.
#[must_use]
pub const fn commit_quorum(n: usize) -> usize {
    n / 2 + 1
}

/// Replicas that must have promised a new epoch before its leader may know what was committed, in a set of
/// `n`.
#[must_use]
pub const fn seal_quorum(n: usize) -> usize {
    n - commit_quorum(n) + 1
}

/// Where a place is in the log.
pub(super) fn position(place: &Place) -> (u64, u64) {
    (place.segment, place.offset)
}

/// The farthest place up to which a quorum of the set has the log durable, when that commits anything: only
/// a batch of the leader's own epoch does, and everything in front of it with it (Raft, section 5.4.2: a
/// batch of an earlier epoch that is on a majority may still be replaced by a leader that has not heard of
/// it).
///
/// `durable` holds what each replica of the set is known to have, the leader's own included; one that nothing
/// is known of has [`Place::START`]. Places of replicas that do not follow this leader must not be in it.
#[must_use]
pub fn commit_place(durable: &[Place], own_epoch: Epoch) -> Option<Place> {
    let mut places = durable.to_vec();
    places.sort_by_key(|place| std::cmp::Reverse(position(place)));
    let place = *places.get(commit_quorum(places.len()) - 1)?;
    (place.epoch == own_epoch).then_some(place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairnlog_engine::Lsn;

    fn place(offset: u64, epoch: u64) -> Place {
        let (lsn, epoch) = (Lsn::new(offset / 512), Epoch::new(epoch));
        Place { segment: 1, offset, lsn, epoch, link: 0 }
    }

    /// P7.
    #[test]
    fn quorums_meet() {
        for n in 1..=9 {
            let (commit, seal) = (commit_quorum(n), seal_quorum(n));
            assert!(commit + seal > n && 2 * commit > n && seal >= 1);
        }
        let sizes = |n| (commit_quorum(n), seal_quorum(n));
        assert_eq!([1, 2, 3, 4, 5].map(sizes), [(1, 1), (2, 1), (2, 2), (3, 2), (3, 3)]);
    }

    #[test]
    fn a_quorum_commits_what_all_of_it_has() {
        let epoch = Epoch::new(2);
        let commit = |places: &[Place]| commit_place(places, epoch).map(|place| place.offset);
        let (far, near) = (place(4096, 2), place(1024, 2));
        assert_eq!(commit(&[far]), Some(4096));
        assert_eq!(commit(&[far, near]), Some(1024));
        assert_eq!(commit(&[far, near, far]), Some(4096));
        assert_eq!(commit(&[far, near, Place::START]), Some(1024));
        assert_eq!(commit(&[far, Place::START, Place::START]), None);
        // Of an earlier epoch: it is on a quorum, and still not committed.
        assert_eq!(commit(&[far, place(2048, 1), place(2048, 1)]), None);
        assert_eq!(commit(&[]), None);
    }
}
