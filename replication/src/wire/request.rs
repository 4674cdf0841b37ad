//! What clients ask of a node, and what it answers.
//!
//! Owns the values; their bytes are in `request_codec`. A client and a node share *lanes*, streams in both directions that carry frames
//! (see `frame` for the length in front of each). The first request on a lane says what it is for: a lane that
//! appends carries any number of [`Request::Append`], which are answered in their order; every other request has a
//! lane of its own: a read is answered until [`Response::End`] or [`Response::Failed`], the question for a sequence by
//! one [`Response::NextSequence`] or [`Response::Failed`], the others by one [`Response::Json`] or [`Response::Failed`].
//!
//! Invariants are those of the bytes. Bounds: [`RECORDS_MAX`], [`ADDRESS_BYTES_MAX`], [`TEXT_BYTES_MAX`].

use cairnlog_engine::{Epoch, Lsn, LsnRange};

use crate::protocol::node_id::NodeId;

/// Records of one request, or of one answer, at most.
pub const RECORDS_MAX: usize = 65_536;
/// Numbered appends of one producer that may be without an answer at once: of so many a leader remembers where they
/// are.
pub const APPENDS_IN_FLIGHT_MAX: usize = 1024;
/// Bytes of the address of a node in an answer, at most.
pub const ADDRESS_BYTES_MAX: usize = 256;
/// Bytes of a text for people in an answer, at most.
pub const TEXT_BYTES_MAX: usize = 4096;

/// How far an append must have got before it is acknowledged; each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ack {
    /// In the memory of the leader. Survives nothing.
    Buffered,
    /// Durable on the leader: survives a crash of it, if it comes back before another one takes over.
    Local,
    /// Durable on a commit quorum of the set: survives the loss of all the others.
    Quorum,
    /// Durable on every replica in service, and on a commit quorum at least.
    All,
}

/// Where a producer is: its records are numbered, so that an append that is sent again stores nothing twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// Who.
    pub producer_id: u128,
    /// The number of the first record, from 0 on, without gaps.
    pub first: u64,
}

/// What readers see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visibility {
    /// What is committed: it never leaves the log.
    Committed,
    /// The same, from the leader, and all of it: nothing is missing whose append was acknowledged before the read was
    /// asked for.
    Linearizable,
    /// What is durable on the node that is asked, which may still leave the log when another one takes over.
    Durable,
}

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Append records, all of them or none, one behind the other.
    Append {
        /// When to answer.
        ack: Ack,
        /// Only if the first one gets this LSN.
        expected_lsn: Option<Lsn>,
        /// Who appends, if it may be sent again.
        sequence: Option<Sequence>,
        /// The records.
        records: Vec<Vec<u8>>,
    },
    /// Send records.
    Read {
        /// From this one on; the oldest kept when there is none.
        from: Option<Lsn>,
        /// In front of this one.
        to: Option<Lsn>,
        /// At most so many.
        count: Option<u64>,
        /// Wait until this node has everything in front of this one, to read what was written elsewhere.
        min_lsn: Option<Lsn>,
        /// Which.
        visibility: Visibility,
        /// Whether to wait for more at the end.
        follows: bool,
    },
    /// Say where a producer goes on.
    NextSequence {
        /// Which one.
        producer_id: u128,
        /// Not before everything that it has appended has got so far.
        ack: Ack,
    },
    /// Say how this node is.
    Status,
    /// Lead.
    Promote {
        /// Only say what would come of it.
        dry_run: bool,
    },
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireRecord {
    /// Its number.
    pub lsn: Lsn,
    /// The epoch in which it was appended.
    pub epoch: Epoch,
    /// When, in milliseconds since 1970.
    pub time_ms: u64,
    /// What it holds.
    pub data: Vec<u8>,
}

/// What a node answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// The records are in the log.
    Appended {
        /// Which they are.
        lsns: LsnRange,
        /// The epoch of the leader.
        epoch: Epoch,
        /// How far they got: what was asked for, or less where the server degrades.
        ack: Ack,
        /// The replicas that have them, as far as the leader knows; empty for `buffered`.
        replicas: Vec<NodeId>,
    },
    /// Some records; more come.
    Records(Vec<WireRecord>),
    /// The number of the next record of a producer: 0 when the log has none of it.
    NextSequence(u64),
    /// A text in JSON.
    Json(String),
    /// There is no more; the next record will have this LSN.
    End(Lsn),
    /// It was not done, or it is not known whether it was.
    Failed(Failure),
}

/// What a client can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing was done: try again, there or elsewhere.
    Retryable,
    /// Nothing was done, and trying again does not help.
    Final,
    /// It may have been done, or be done yet.
    Unknown,
}

/// Why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Another node leads, or none that this one knows of: its number, and where it is.
    NotLeading(Option<(NodeId, String)>),
    /// The next record would have this LSN, not the one that was expected.
    Unexpected(Lsn),
    /// The producer is not known here, or not any more, and did not begin at 0; or records in front of these are
    /// missing; or these were appended so long ago that it is not known any more where they are.
    UnknownProducer,
    /// The record is not kept any more, or not there yet.
    OutOfRange(LsnRange),
    /// The request cannot be carried out as it is.
    Invalid,
    /// The storage of this node failed, or is full.
    Storage,
    /// Too much is on its way.
    Busy,
    /// The answer did not come in time.
    TimedOut,
    /// This node is about to end.
    ShuttingDown,
}

/// Why a request was not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What to do about it.
    pub outcome: Outcome,
    /// What happened.
    pub reason: Reason,
    /// The same for people.
    pub text: String,
}
