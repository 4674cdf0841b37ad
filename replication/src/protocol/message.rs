//! What nodes say to each other.
//!
//! Owns the messages as values; their bytes are `wire`'s. What must be durable before a message may be sent
//! stands on the message.

use std::collections::BTreeSet;

use cairnlog_engine::{Epoch, Lsn, Place, Promise};

use super::history::Summary;
use super::lease::Heard;
use super::node_id::NodeId;

/// A message from one node to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// The first one in each direction of a connection, and whenever a leader wants to know.
    ///
    /// Durable before: everything in the summary.
    Hello {
        /// Who speaks, and what it has.
        summary: Summary,
        /// Whether the other one is to say the same.
        asks: bool,
    },
    /// I have no log yet. The other one answers with its hello, or has none either.
    Empty {
        /// The nodes of the cluster that is to be made, as its operator gave them.
        configured: BTreeSet<NodeId>,
    },
    /// A cluster is made: the one to whom this is said has no log yet, and makes one with these names.
    Found {
        /// Of the log.
        log_id: u128,
        /// Of its line of succession.
        lineage_id: u128,
    },
    /// Promise this epoch to its leader, and say what you have.
    ///
    /// The candidate's own promise is durable before it asks.
    Seal(Promise),
    /// What this replica has promised; if that is what was asked for, also what it has: it takes nothing of an
    /// earlier epoch any more.
    ///
    /// Durable before: the promise, and everything in the summary.
    Sealed {
        /// The greatest promise given: the one that was asked for, or what stands against it.
        promised: Promise,
        /// Its log, behind which nothing of an earlier epoch comes.
        summary: Summary,
        /// The leader that it heard last, and for how many milliseconds from now on that may hold a lease.
        heard: Option<Heard>,
    },
    /// Send what you have behind a place up to the end that you sealed.
    Fetch {
        /// The promise that the sealed replica gave to this candidate.
        promised: Promise,
        /// Segment and offset: where both logs part.
        from: (u64, u64),
    },
    /// Batches come from this place on. Give up whatever you have behind it.
    ///
    /// Durable before: everything in front of the place.
    Stream {
        /// Numbers the streams of a connection, so that nothing is taken for part of another.
        stream: u64,
        /// The epoch for which they are sent, and its leader.
        promised: Promise,
        /// Where they begin.
        at: Place,
    },
    /// The log ends at the place where the stream begins.
    ///
    /// Durable before: the promise that came with the stream, the cut, everything in front of the place.
    Ready {
        /// The stream.
        stream: u64,
    },
    /// The stream cannot begin there: this log does not go through the place, or may not be cut there.
    Unready {
        /// The stream.
        stream: u64,
    },
    /// Pieces of the log, byte for byte.
    Batches {
        /// The stream.
        stream: u64,
        /// The place that they continue: segment and offset.
        after: (u64, u64),
        /// The place behind them.
        end: Place,
        /// What the leader knows to be committed.
        commit_lsn: Lsn,
        /// Whole headers and batches.
        bytes: Vec<u8>,
    },
    /// Up to where the pieces of a stream are durable.
    ///
    /// Durable before: everything in front of the place.
    Ack {
        /// The stream.
        stream: u64,
        /// The end of the last of them.
        durable: Place,
    },
    /// The leader lives.
    Heartbeat {
        /// Its epoch.
        promised: Promise,
        /// What it knows to be committed.
        commit_lsn: Lsn,
        /// Numbers the heartbeats of an epoch.
        sequence: u64,
        /// What each member has acknowledged of its log, by segment and offset, for the others to remember.
        acked: Vec<(NodeId, (u64, u64))>,
    },
    /// A heartbeat of the epoch that is promised was heard.
    Heard {
        /// The epoch.
        epoch: Epoch,
        /// Its number.
        sequence: u64,
    },
    /// You seem to have lost something: say again what you have. What was said before may have been overtaken.
    Question {
        /// Numbers the questions of a node.
        number: u64,
    },
    /// What this replica had when it was asked.
    ///
    /// Durable before: everything in the summary.
    Answer {
        /// Of the question.
        number: u64,
        /// What it has.
        summary: Summary,
    },
    /// You are fenced: a later epoch is promised.
    ///
    /// Durable before: the promise.
    Fenced(Promise),
}
