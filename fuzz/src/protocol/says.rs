//! What another node says: plausible, for it knows what was said before, or not.

use std::collections::BTreeMap;

use arbitrary::Arbitrary;
use cairnlog_engine::{Epoch, LeaderId, Lsn, Place, Promise};
use cairnlog_replication::protocol::history::Summary;
use cairnlog_replication::protocol::lease::Heard;
use cairnlog_replication::protocol::message::Message;
use cairnlog_replication::protocol::node_id::NodeId;

use super::disk::{LOG_ID, epochs_of, position};
use super::world::node_of;

/// A message; what it names is made out of [`Known`].
#[derive(Arbitrary, Clone, Debug)]
pub(super) enum Says {
    Hello { has: Has, asks: bool },
    Empty,
    Found,
    Seal(Whose),
    Sealed { whose: Whose, has: Has, heard: Option<(u8, u8)> },
    Fetch { whose: Whose, from: Where },
    Stream { whose: Whose, stream: Stream, at: Where },
    Ready(Stream),
    Unready(Stream),
    Batches { stream: Stream, after: Where, end: Where, commit_lsn: u8 },
    Ack { stream: Stream, durable: Where },
    Heartbeat { whose: Whose, commit_lsn: u8, acked: Option<u8> },
    Question { number: u8 },
    Answer { number: u8, has: Has },
    Heard { epoch: u8 },
    Fenced(Whose),
}

/// A promise.
#[derive(Arbitrary, Clone, Debug)]
pub(super) enum Whose {
    /// The one that stands here.
    Standing,
    /// The next epoch, of whoever speaks.
    Next,
    Any {
        epoch: u64,
        node: u8,
        incarnation: u8,
    },
}

/// A place.
#[derive(Arbitrary, Clone, Debug)]
pub(super) enum Where {
    Start,
    /// The end of what is durable here.
    Durable,
    /// The end of what this peer has sent, or of what was sent to it.
    Last,
    /// So much behind that, with records of an epoch.
    Behind {
        blocks: u8,
        records: u8,
        epoch: u8,
    },
    Any {
        segment: u8,
        offset: u8,
        lsn: u8,
        epoch: u8,
        link: u8,
    },
}

/// A log.
#[derive(Arbitrary, Clone, Debug)]
pub(super) struct Has {
    /// The directory is the known one.
    is_member: bool,
    is_other_log: bool,
    start_counter: u8,
    end: Where,
    promised: Whose,
}

#[derive(Arbitrary, Clone, Debug)]
pub(super) enum Stream {
    /// The newest of this peer, or to it.
    Last,
    Next,
    Any(u8),
}

/// What was said before, and by whom.
pub(super) struct Known {
    pub(super) from: NodeId,
    pub(super) standing: Promise,
    pub(super) durable: Place,
    pub(super) last: Place,
    pub(super) stream: u64,
    pub(super) members: BTreeMap<NodeId, u128>,
    /// The bytes of pieces are a number by which the disk knows them.
    pub(super) piece: u64,
}

impl Whose {
    fn promise(&self, known: &Known) -> Promise {
        let own = |node: u64, incarnation| LeaderId { node, incarnation, nonce: 1 };
        match self {
            Whose::Standing => known.standing,
            Whose::Next => {
                let node = known.from.get();
                let epoch = known.standing.epoch.next();
                Promise { epoch, leader: own(node, incarnation_of(known.from)) }
            }
            Whose::Any { epoch, node, incarnation } => {
                let leader = own(u64::from(*node), u128::from(*incarnation));
                Promise { epoch: Epoch::new(*epoch), leader }
            }
        }
    }
}

impl Where {
    fn place(&self, known: &Known) -> Place {
        match *self {
            Where::Start => Place::START,
            Where::Durable => known.durable,
            Where::Last => known.last,
            Where::Behind { blocks, records, epoch } => {
                let Place { segment, offset, lsn, epoch: before, link } = known.last;
                Place {
                    segment: segment.max(1),
                    offset: offset.saturating_add(u64::from(blocks) * 512),
                    lsn: Lsn::new(lsn.get().saturating_add(u64::from(records))),
                    epoch: Epoch::new(before.get().saturating_add(u64::from(epoch % 2))),
                    link: link.wrapping_add(1),
                }
            }
            Where::Any { segment, offset, lsn, epoch, link } => Place {
                segment: u64::from(segment),
                offset: u64::from(offset) * 512,
                lsn: Lsn::new(u64::from(lsn)),
                epoch: Epoch::new(u64::from(epoch)),
                link: u32::from(link),
            },
        }
    }
}

impl Has {
    fn summary(&self, known: &Known) -> Summary {
        let end = self.end.place(known);
        let incarnation = if self.is_member { incarnation_of(known.from) } else { 1 };
        let log_id = if self.is_other_log { 1 } else { LOG_ID };
        Summary {
            log_id,
            lineage_id: LOG_ID,
            incarnation,
            start_counter: self.start_counter.into(),
            nonce: 1,
            promised: self.promised.promise(known),
            epochs: epochs_of(&[Place::START, end]),
            end,
            first_lsn: Lsn::FIRST,
            commit_lsn: Lsn::NONE,
            members: known.members.clone(),
            shown: BTreeMap::new(),
        }
    }
}

impl Stream {
    fn number(&self, known: &Known) -> u64 {
        match self {
            Stream::Last => known.stream,
            Stream::Next => known.stream + 1,
            Stream::Any(number) => u64::from(*number),
        }
    }
}

/// The directory that a node has as a member.
pub(super) fn incarnation_of(node: NodeId) -> u128 {
    100 + u128::from(node.get())
}

impl Says {
    pub(super) fn message(&self, known: &Known) -> Message {
        let lsn = |number: u8| Lsn::new(u64::from(number));
        match self {
            Says::Hello { has, asks } => {
                Message::Hello { summary: has.summary(known), asks: *asks }
            }
            Says::Empty => Message::Empty { configured: known.members.keys().copied().collect() },
            Says::Found => Message::Found { log_id: LOG_ID, lineage_id: LOG_ID },
            Says::Seal(whose) => Message::Seal(whose.promise(known)),
            Says::Sealed { whose, has, heard } => Message::Sealed {
                promised: whose.promise(known),
                summary: has.summary(known),
                heard: heard.map(|(node, lease_ms)| Heard {
                    leader: Some(node_of(node)),
                    lease_ms: u64::from(lease_ms),
                }),
            },
            Says::Fetch { whose, from } => Message::Fetch {
                promised: whose.promise(known),
                from: position(&from.place(known)),
            },
            Says::Stream { whose, stream, at } => Message::Stream {
                stream: stream.number(known),
                promised: whose.promise(known),
                at: at.place(known),
            },
            Says::Ready(stream) => Message::Ready { stream: stream.number(known) },
            Says::Unready(stream) => Message::Unready { stream: stream.number(known) },
            Says::Batches { stream, after, end, commit_lsn } => Message::Batches {
                stream: stream.number(known),
                after: position(&after.place(known)),
                end: end.place(known),
                commit_lsn: lsn(*commit_lsn),
                bytes: known.piece.to_le_bytes().to_vec(),
            },
            Says::Ack { stream, durable } => {
                Message::Ack { stream: stream.number(known), durable: durable.place(known) }
            }
            Says::Heartbeat { whose, commit_lsn, acked } => Message::Heartbeat {
                promised: whose.promise(known),
                commit_lsn: lsn(*commit_lsn),
                sequence: 1,
                acked: acked.iter().map(|node| (node_of(*node), position(&known.last))).collect(),
            },
            Says::Heard { epoch } => {
                Message::Heard { epoch: Epoch::new(u64::from(*epoch)), sequence: 1 }
            }
            Says::Question { number } => Message::Question { number: u64::from(*number) },
            Says::Answer { number, has } => {
                Message::Answer { number: u64::from(*number), summary: has.summary(known) }
            }
            Says::Fenced(whose) => Message::Fenced(whose.promise(known)),
        }
    }
}
