//! What a node wants done, and what it tells those who look.
//!
//! Owns the values. Who carries them out, and says when that is done, is a driver; in the order in which they came.

use cairnlog_engine::{Epoch, Lsn, Place, Promise};

use super::message::Message;
use super::node_id::NodeId;
use super::shown::Notes;

/// What has to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "nearly all of them are messages")]
pub enum Action {
    /// Send a message.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        message: Message,
    },
    /// Make a promise durable, with everything that was appended before; then [`Node::handle_promised`](super::node::Node::handle_promised).
    Promise(Promise),
    /// Give up what stands behind a place; then [`Node::handle_cut`](super::node::Node::handle_cut).
    Cut {
        /// Tells its end from that of others.
        number: u64,
        /// The place.
        at: Place,
    },
    /// Append pieces of another replica's log; [`Node::handle_durable`](super::node::Node::handle_durable) when they are.
    Append {
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// Look for the place where a batch ends there; then [`Node::handle_place`](super::node::Node::handle_place).
    FindPlace {
        /// For whom.
        peer: NodeId,
        /// Tells its answer from others.
        number: u64,
        /// Segment and offset.
        at: (u64, u64),
    },
    /// Read what comes behind a place and send it as [`Message::Batches`]; then [`Node::handle_sent`](super::node::Node::handle_sent).
    Read {
        /// To whom.
        peer: NodeId,
        /// In which stream.
        stream: u64,
        /// From where.
        from: Place,
        /// At most so many bytes, or one piece.
        bytes_max: u64,
        /// What to say is committed.
        commit_lsn: Lsn,
    },
    /// Begin the epoch that was promised to this replica; then [`Node::handle_began`](super::node::Node::handle_began).
    Begin(Promise),
    /// Take no more records.
    StopLeading,
    /// Note this durably; then [`Node::handle_noted`](super::node::Node::handle_noted).
    Note(Notes),
    /// So much is committed.
    Commit(Lsn),
    /// Somebody may want to know.
    Notice(Notice),
}

/// Something that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// This node leads.
    Leads(Epoch),
    /// It does not any more.
    StoppedLeading(Epoch),
    /// It follows another.
    Follows(NodeId, Epoch),
    /// It stood, and does not lead.
    DidNotLead(Epoch, Reason),
    /// A peer's log and this one cannot be joined by batches: they have no place in common that this one still
    /// has.
    TooFarBehind(NodeId),
    /// A peer's directory has forgotten something: it does not count any more.
    CameWithLess(NodeId),
    /// A peer said something that no node says.
    Misbehaves(NodeId),
}

/// Why a candidate does not lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// Too few promised in time.
    TooFewPromises,
    /// Another promise stands.
    Fenced(Promise),
    /// The log that holds everything could not be had.
    NotFetched,
    /// This replica does not count: its directory has forgotten something.
    NoMember,
}
