//! What the log writes, while it is being written, for whoever sends it to other nodes.
//!
//! Owns the newest pieces of the log in the order in which they stand there: headers of segments and
//! batches, durable or not. Whoever falls behind its bound reads segments instead.
//!
//! Invariants
//!  F1. Pieces follow each other without a gap.                                  asserted in `push`
//!
//! Bounds: `bytes_max` bytes of pieces; what readers still hold of dropped ones is theirs.
//! Threads: the writer pushes, any read.

use std::collections::VecDeque;
use std::sync::OnceLock;

use super::place::Place;
use crate::disk::Shared;
use crate::sync::{Mutex, MutexGuard, PoisonError};

/// A piece of a segment: its header block, or whole batches.
#[derive(Clone, Debug)]
pub struct FedPiece {
    /// The place that it continues.
    pub(crate) after: Place,
    /// The place behind it.
    pub end: Place,
    /// The bytes, as they are on disk.
    pub bytes: Shared,
}

/// What a feed has behind a place.
#[derive(Debug)]
pub enum Fed {
    /// These pieces come next.
    Pieces(Vec<FedPiece>),
    /// Nothing yet.
    AtEnd,
    /// What comes next is not in memory.
    Gone,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Feed {
    bytes_max: usize,
    state: Mutex<State>,
    notify: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

#[derive(Default)]
struct State {
    pieces: VecDeque<FedPiece>,
    bytes: usize,
    end: Place,
}

impl Feed {
    /// An empty feed at `end`; it keeps nothing when `bytes_max` is 0.
    pub(crate) fn new(bytes_max: usize, end: Place) -> Feed {
        let state = State { end, ..State::default() };
        Feed { bytes_max, state: Mutex::new(state), notify: OnceLock::new() }
    }

    /// Has `notify` called after every piece, and by [`Feed::notify`]; by the thread that appends, so it must
    /// be quick. Once.
    pub(crate) fn set_notify(&self, notify: Box<dyn Fn() + Send + Sync>) -> bool {
        self.notify.set(notify).is_ok()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn push(&self, end: Place, bytes: &Shared) {
        if self.bytes_max == 0 {
            return;
        }
        let mut state = self.lock();
        let after = std::mem::replace(&mut state.end, end);
        let is_next = (end.segment, end.offset) > (after.segment, after.offset);
        assert!(is_next, "F1: {end:?} behind {after:?}");
        state.bytes += bytes.len();
        state.pieces.push_back(FedPiece { after, end, bytes: bytes.clone() });
        while state.bytes > self.bytes_max {
            let Some(dropped) = state.pieces.pop_front() else { break };
            state.bytes -= dropped.bytes.len();
        }
        drop(state);
        self.notify();
    }

    /// Something that readers of the feed want to know has changed: what is durable, or that nothing will be.
    pub(crate) fn notify(&self) {
        if let Some(notify) = self.notify.get() {
            notify();
        }
    }

    /// Forgets everything; the log ends at `end` now.
    pub(crate) fn restart(&self, end: Place) {
        let mut state = self.lock();
        *state = State { end, ..State::default() };
    }

    /// What comes behind a place: at least one piece, and no more than `bytes_max` bytes of several.
    pub(crate) fn read(&self, from: (u64, u64), bytes_max: usize) -> Fed {
        let state = self.lock();
        if from == (state.end.segment, state.end.offset) {
            return Fed::AtEnd;
        }
        let place = |piece: &FedPiece| (piece.after.segment, piece.after.offset);
        let Ok(first) = state.pieces.binary_search_by_key(&from, place) else { return Fed::Gone };
        let mut pieces = Vec::new();
        let mut bytes = 0;
        for piece in state.pieces.range(first..) {
            bytes += piece.bytes.len();
            if !pieces.is_empty() && bytes > bytes_max {
                break;
            }
            pieces.push(piece.clone());
        }
        Fed::Pieces(pieces)
    }
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feed").field("bytes_max", &self.bytes_max).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Appendable;
    use crate::{Epoch, Lsn};

    fn place(segment: u64, offset: u64) -> Place {
        Place { segment, offset, lsn: Lsn::new(offset / 512), epoch: Epoch::new(1), link: 7 }
    }

    #[test]
    fn the_newest_pieces_follow_each_other() {
        let feed = Feed::new(3 * 512, Place::default());
        let mut buffer = Appendable::alone(5 * 512);
        let places = [(1, 512), (1, 1024), (1, 1536), (2, 512), (2, 1024)];
        for (segment, offset) in places {
            buffer.pad_to(512);
            feed.push(place(segment, offset), &buffer.freeze());
        }
        assert!(matches!(feed.read((0, 0), 9000), Fed::Gone));
        assert!(matches!(feed.read((1, 700), 9000), Fed::Gone));
        assert!(matches!(feed.read((2, 1024), 9000), Fed::AtEnd));
        let Fed::Pieces(pieces) = feed.read((1, 1024), 1024) else { panic!("they are there") };
        assert_eq!(pieces.iter().map(|p| p.end.offset).collect::<Vec<_>>(), [1536, 512]);
        assert_eq!(pieces[1].after, place(1, 1536));
        feed.restart(place(1, 512));
        assert!(matches!(feed.read((1, 512), 1), Fed::AtEnd));
        assert!(matches!(feed.read((2, 512), 1), Fed::Gone));
    }
}
