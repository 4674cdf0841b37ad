//! A log being received from one node.
//!
//! Owns which pieces were taken and not acknowledged yet. Looks at no byte of them: whether they continue the
//! log is the log's to say.
//!
//! Invariants
//!  I1. A piece is taken only if it continues what was taken before.        test `only_what_continues`
//!  I2. An ack names an end of what was sent, and everything in front of it is durable. same test
//!
//! Bounds: one place for each piece that is not durable; the sender's window bounds their bytes.

use std::collections::VecDeque;

use cairnlog_engine::{Lsn, Place, Promise};

use super::node_id::NodeId;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// What stands behind the start is being given up, by the cut with this number.
    Cutting(u64),
    Receiving,
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Inbound {
    pub(super) from: NodeId,
    pub(super) stream: u64,
    /// For which epoch.
    pub(super) promised: Promise,
    state: State,
    at: Place,
    /// The end of what was taken.
    taken: Place,
    /// Ends of pieces that are not durable.
    ends: VecDeque<Place>,
    /// What the leader said last of what is committed.
    commit_lsn: Lsn,
}

impl Inbound {
    /// `cut` is the number of the cut in front of it.
    pub(super) fn new(
        (from, stream): (NodeId, u64),
        promised: Promise,
        at: Place,
        cut: u64,
    ) -> Inbound {
        Inbound {
            from,
            stream,
            promised,
            state: State::Cutting(cut),
            at,
            taken: at,
            ends: VecDeque::new(),
            commit_lsn: Lsn::NONE,
        }
    }

    /// The log ends at the start of the stream now.
    pub(super) fn handle_cut(&mut self) {
        assert!(!self.is_receiving(), "a stream is begun once");
        self.state = State::Receiving;
    }

    pub(super) fn waits_for(&self, cut: u64) -> bool {
        self.state == State::Cutting(cut)
    }

    pub(super) fn is_receiving(&self) -> bool {
        self.state == State::Receiving
    }

    /// Where the stream began.
    pub(super) fn at(&self) -> Place {
        self.at
    }

    /// Whether a piece comes next; it is taken then.
    pub(super) fn take(&mut self, after: (u64, u64), end: Place) -> bool {
        let goes_on = (end.segment, end.offset) > after;
        let is_next = after == (self.taken.segment, self.taken.offset) && goes_on;
        if is_next && self.is_receiving() {
            self.taken = end;
            self.ends.push_back(end);
            return true;
        }
        false
    }

    /// The log is durable up to here: what is to be acknowledged, if anything is.
    pub(super) fn handle_durable(&mut self, durable: Place) -> Option<Place> {
        let reached = |end: &Place| (end.segment, end.offset) <= (durable.segment, durable.offset);
        let count = self.ends.iter().take_while(|end| reached(end)).count();
        self.ends.drain(..count).next_back()
    }

    /// What of this log is committed, when the leader says so of its own: what was taken from it is the same.
    pub(super) fn commit(&mut self, commit_lsn: Lsn) -> Option<Lsn> {
        if !self.is_receiving() {
            return None;
        }
        self.commit_lsn = self.commit_lsn.max(commit_lsn);
        Some(self.commit_lsn.min(self.taken.lsn))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairnlog_engine::Epoch;

    fn place(offset: u64) -> Place {
        Place { segment: 1, offset, lsn: Lsn::new(offset), epoch: Epoch::new(1), link: 5 }
    }

    #[test]
    fn only_what_continues() {
        let from = NodeId::new(1).expect("not 0");
        let mut stream = Inbound::new((from, 1), Promise::default(), place(512), 7);
        assert!(stream.waits_for(7) && !stream.waits_for(1));
        assert!(!stream.take((1, 512), place(1024)), "it is not cut yet");
        assert_eq!(stream.commit(Lsn::new(9999)), None);
        stream.handle_cut();
        assert!(!stream.take((1, 511), place(1024)));
        assert!(!stream.take((1, 512), place(512)));
        assert!(stream.take((1, 512), place(1024)));
        assert!(!stream.take((1, 512), place(1024)), "it was taken");
        assert!(stream.take((1, 1024), place(2048)));
        assert_eq!(stream.commit(Lsn::new(9999)), Some(Lsn::new(2048)), "no more than it has");
        assert_eq!(stream.commit(Lsn::new(600)), Some(Lsn::new(2048)));
        assert_eq!(stream.handle_durable(place(800)), None);
        assert_eq!(stream.handle_durable(place(1500)), Some(place(1024)));
        assert_eq!(stream.handle_durable(place(2048)), Some(place(2048)));
        assert_eq!(stream.handle_durable(place(2048)), None);
    }
}
