//! One log being sent to one replica.
//!
//! Owns what was sent and not acknowledged yet. Does not read the log: it says from where, and how much.
//!
//! Invariants
//!  O1. At most `window_bytes` are on their way, and one piece more.              asserted in `handle_sent`
//!  O2. An ack counts only for a place at which something that was sent ends, with the link that it had: what
//!      the other one has durable is then this log.                        test `only_what_was_sent_is_acked`
//!
//! Bounds: one place for each piece on its way, of which the window bounds the bytes.

use std::collections::VecDeque;

use cairnlog_engine::Place;

/// Where a stream stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The other one gives up what it has behind the start.
    Beginning,
    /// Pieces go out.
    Sending,
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Outbound {
    /// Its number on the connection.
    pub(super) stream: u64,
    state: State,
    window_bytes: u64,
    /// The end of what was sent.
    sent: Place,
    /// The end of what is durable over there.
    acked: Place,
    /// Ends of pieces on their way, with their lengths.
    on_the_way: VecDeque<(Place, u64)>,
    bytes: u64,
    /// Whether a read was asked for that has not been answered.
    reads: bool,
    /// Whether there has come more since it was asked for.
    again: bool,
    /// Whether there was nothing behind what was sent.
    is_at_end: bool,
    /// Where the stream ends, when it is not of a leader.
    until: Option<Place>,
}

impl Outbound {
    /// A stream that begins at a place, and goes on for ever unless there is an end.
    pub(super) fn new(stream: u64, at: Place, until: Option<Place>, window_bytes: u64) -> Outbound {
        Outbound {
            stream,
            state: State::Beginning,
            window_bytes,
            sent: at,
            acked: at,
            on_the_way: VecDeque::new(),
            bytes: 0,
            reads: false,
            again: false,
            is_at_end: false,
            until,
        }
    }

    /// What is durable over there and the same as here; `None` while that is not known.
    pub(super) fn acked(&self) -> Option<Place> {
        (self.state == State::Sending).then_some(self.acked)
    }

    pub(super) fn handle_ready(&mut self) {
        self.state = State::Sending;
    }

    /// The next read: from which place, and how many bytes at most. Asked for once until it is answered with
    /// [`Outbound::handle_sent`].
    pub(super) fn poll_read(&mut self) -> Option<(Place, u64)> {
        let room = self.window_bytes.saturating_sub(self.bytes);
        let is_over = self.until.is_some_and(|until| self.sent == until);
        let may_read = self.state == State::Sending && !self.reads && !self.is_at_end;
        if !may_read || room == 0 || is_over {
            return None;
        }
        (self.reads, self.again) = (true, false);
        Some((self.sent, room))
    }

    /// Pieces up to `end`, of so many bytes, went out; none when there was nothing behind the place yet.
    pub(super) fn handle_sent(&mut self, sent: Option<(Place, u64)>) {
        assert!(self.reads, "a read was asked for");
        self.reads = false;
        let Some((end, bytes)) = sent else {
            // What came since the read was asked for it may not have seen.
            self.is_at_end = !self.again;
            return;
        };
        self.on_the_way.push_back((end, bytes));
        self.bytes += bytes;
        self.sent = end;
        assert!(self.bytes - bytes <= self.window_bytes, "O1: {} bytes", self.bytes);
    }

    /// There is more in the log than before.
    pub(super) fn handle_more(&mut self) {
        self.is_at_end = false;
        self.again = true;
    }

    /// Takes an ack; false when nothing that was sent ends there.
    pub(super) fn handle_ack(&mut self, durable: Place) -> bool {
        if durable == self.acked {
            return true;
        }
        let Some(found) = self.on_the_way.iter().position(|(end, _)| *end == durable) else {
            return false;
        };
        for (_, bytes) in self.on_the_way.drain(..=found) {
            self.bytes -= bytes;
        }
        self.acked = durable;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairnlog_engine::{Epoch, Lsn};

    fn place(offset: u64) -> Place {
        Place { segment: 1, offset, lsn: Lsn::new(offset), epoch: Epoch::new(1), link: 5 }
    }

    #[test]
    fn only_what_was_sent_is_acked() {
        let mut stream = Outbound::new(1, place(512), Some(place(4096)), 1000);
        assert_eq!((stream.poll_read(), stream.acked()), (None, None), "it has not begun");
        stream.handle_ready();
        assert_eq!(stream.poll_read(), Some((place(512), 1000)));
        assert_eq!(stream.poll_read(), None, "one read at a time");
        stream.handle_sent(Some((place(1024), 512)));
        assert_eq!(stream.poll_read(), Some((place(1024), 488)));
        stream.handle_sent(None);
        assert_eq!(stream.poll_read(), None, "nothing is there");
        stream.handle_more();
        assert_eq!(stream.poll_read(), Some((place(1024), 488)));
        stream.handle_sent(Some((place(1500), 476)));
        for unknown in [place(1100), place(2048), Place { link: 6, ..place(1500) }] {
            assert!(!stream.handle_ack(unknown));
        }
        assert_eq!(stream.acked(), Some(place(512)));
        assert!(stream.handle_ack(place(1500)), "which covers what was sent before");
        assert!(stream.handle_ack(place(1500)));
        assert!(!stream.handle_ack(place(1024)), "it does not go back");
        assert_eq!((stream.acked(), stream.bytes), (Some(place(1500)), 0));
        assert_eq!(stream.poll_read(), Some((place(1500), 1000)));
        // What comes while a read is on its way is read next, though that read has not seen it.
        stream.handle_more();
        stream.handle_sent(None);
        assert_eq!(stream.poll_read(), Some((place(1500), 1000)));
        // A piece may be larger than the window.
        stream.handle_sent(Some((place(4096), 2596)));
        assert!(stream.handle_ack(place(4096)));
        assert_eq!(stream.poll_read(), None, "it has ended");
    }
}
