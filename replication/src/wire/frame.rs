//! One message as one frame.
//!
//! Owns the layout of frames: a length (4 bytes, of everything behind it), the kind of message (1), three bytes of
//! zeros, and the fields in the order in which the message declares them, numbers lowest byte first. What comes from
//! the network is not trusted: a length is held against a limit before anything is read for it, and a count against
//! the bytes that are there before anything is allocated.
//!
//! Invariants
//!  W1. Every message decodes to itself.                                  test `every_message_comes_back`
//!  W2. No bytes make decoding panic, and what decodes encodes to the same bytes. test `any_bytes`, and fuzzing
//!
//! Bounds: [`FRAME_BYTES_MAX`]; [`EPOCHS_MAX`] epochs.

use std::collections::{BTreeMap, BTreeSet};

use cairnlog_engine::format::batch::EpochStart;
use cairnlog_engine::{BegunEpoch, Epoch, LeaderId, Lsn, Place, Promise};

use super::bytes::{Decoder, Encoder};
use crate::protocol::history::{EPOCHS_MAX, Summary};
use crate::protocol::lease::Heard;
use crate::protocol::message::Message;
use crate::protocol::node_id::NodeId;
use crate::protocol::shown::Shown;

/// Bytes in front of every frame: its length.
pub const LENGTH_BYTES: usize = 4;
/// The longest frame: the largest batch, and room for what stands in front of it.
pub const FRAME_BYTES_MAX: usize = (32 << 20) + (64 << 10);
const EPOCH_BYTES: usize = 72;
/// Bytes of what a member has shown.
pub(crate) const SHOWN_BYTES: usize = 56;
/// Nodes of a cluster: as many as a node notes beside its log.
pub const MEMBERS_MAX: usize = 12;

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// They end too early.
    #[error("it ends too early")]
    Short,
    /// There are more than the message has.
    #[error("it goes on behind its end")]
    Long,
    /// No message of this kind is known.
    #[error("there is no message of kind {0}")]
    Kind(u8),
    /// A field has a value that it cannot have.
    #[error("a field has an impossible value")]
    Field,
    /// A record is not what its checksum was made of.
    #[error("a record does not fit its checksum")]
    Checksum,
}

/// Nobody promises a later epoch: whoever stands next takes the one behind every epoch that it has heard of, and that
/// has to be there.
const PROMISE_MAX: Epoch = Epoch::new(u64::MAX / 2);

/// The length of the frame whose first bytes these are, without those of the length itself.
///
/// # Errors
/// [`Fault::Field`] when it is over the limit: whoever sends that is not to be listened to any more.
pub fn length(bytes: [u8; LENGTH_BYTES]) -> Result<usize, Fault> {
    let length = u32::from_le_bytes(bytes);
    usize::try_from(length).ok().filter(|length| *length <= FRAME_BYTES_MAX).ok_or(Fault::Field)
}

/// A message as a frame, length included.
#[must_use]
pub fn encode(message: &Message) -> Vec<u8> {
    let mut e = Encoder::default();
    e.u32(0);
    e.u32(u32::from(kind_of(message)));
    match message {
        Message::Hello { summary, asks } => {
            e.u8(u8::from(*asks));
            encode_summary(&mut e, summary);
        }
        Message::Empty { configured } => {
            e.u32(u32::try_from(configured.len()).unwrap_or(u32::MAX));
            for node in configured {
                e.u64(node.get());
            }
        }
        Message::Found { log_id, lineage_id } => {
            e.u128(*log_id);
            e.u128(*lineage_id);
        }
        Message::Seal(promise) | Message::Fenced(promise) => encode_promise(&mut e, promise),
        Message::Sealed { promised, summary, heard } => {
            encode_promise(&mut e, promised);
            e.u64(heard.and_then(|heard| heard.leader).map_or(0, NodeId::get));
            e.u64(heard.map_or(0, |heard| heard.lease_ms));
            encode_summary(&mut e, summary);
        }
        Message::Fetch { promised, from } => {
            encode_promise(&mut e, promised);
            e.u64(from.0);
            e.u64(from.1);
        }
        Message::Stream { stream, promised, at } => {
            e.u64(*stream);
            encode_promise(&mut e, promised);
            encode_place(&mut e, at);
        }
        Message::Ready { stream } | Message::Unready { stream } => e.u64(*stream),
        Message::Batches { stream, after, end, commit_lsn, bytes } => {
            e.u64(*stream);
            e.u64(after.0);
            e.u64(after.1);
            encode_place(&mut e, end);
            e.u64(commit_lsn.get());
            e.0.extend_from_slice(bytes);
        }
        Message::Ack { stream, durable } => {
            e.u64(*stream);
            encode_place(&mut e, durable);
        }
        Message::Heartbeat { promised, commit_lsn, sequence, acked } => {
            encode_promise(&mut e, promised);
            e.u64(commit_lsn.get());
            e.u64(*sequence);
            encode_acked(&mut e, acked);
        }
        Message::Question { number } => e.u64(*number),
        Message::Answer { number, summary } => {
            e.u64(*number);
            encode_summary(&mut e, summary);
        }
        Message::Heard { epoch, sequence } => {
            e.u64(epoch.get());
            e.u64(*sequence);
        }
    }
    let mut bytes = e.0;
    let length = u32::try_from(bytes.len() - LENGTH_BYTES).expect("a frame is at most 33 MiB");
    bytes[..LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
    bytes
}

fn kind_of(message: &Message) -> u8 {
    match message {
        Message::Hello { .. } => 1,
        Message::Seal(_) => 2,
        Message::Sealed { .. } => 3,
        Message::Fetch { .. } => 4,
        Message::Stream { .. } => 5,
        Message::Ready { .. } => 6,
        Message::Unready { .. } => 7,
        Message::Batches { .. } => 8,
        Message::Ack { .. } => 9,
        Message::Heartbeat { .. } => 10,
        Message::Heard { .. } => 11,
        Message::Fenced(_) => 12,
        Message::Empty { .. } => 13,
        Message::Found { .. } => 14,
        Message::Question { .. } => 15,
        Message::Answer { .. } => 16,
    }
}

/// A frame, without its length, as a message.
///
/// # Errors
/// The [`Fault`] that makes it none.
pub fn decode(frame: &[u8]) -> Result<Message, Fault> {
    let mut d = Decoder::new(frame);
    let [kind, reserved @ ..] = d.u32()?.to_le_bytes();
    if reserved != [0; 3] {
        return Err(Fault::Field);
    }
    let message = match kind {
        1 => {
            let asks = decode_flag(&mut d)?;
            Message::Hello { asks, summary: decode_summary(&mut d)? }
        }
        2 => Message::Seal(decode_promise(&mut d)?),
        3 => {
            let promised = decode_promise(&mut d)?;
            let heard = decode_heard(&mut d)?;
            Message::Sealed { promised, summary: decode_summary(&mut d)?, heard }
        }
        4 => Message::Fetch { promised: decode_promise(&mut d)?, from: (d.u64()?, d.u64()?) },
        5 => {
            let stream = d.u64()?;
            let promised = decode_promise(&mut d)?;
            Message::Stream { stream, promised, at: decode_place(&mut d)? }
        }
        6 => Message::Ready { stream: d.u64()? },
        7 => Message::Unready { stream: d.u64()? },
        8 => {
            let (stream, after) = (d.u64()?, (d.u64()?, d.u64()?));
            let end = decode_place(&mut d)?;
            let commit_lsn = Lsn::new(d.u64()?);
            let bytes = d.rest().to_vec();
            return Ok(Message::Batches { stream, after, end, commit_lsn, bytes });
        }
        9 => Message::Ack { stream: d.u64()?, durable: decode_place(&mut d)? },
        10 => {
            let promised = decode_promise(&mut d)?;
            let (commit_lsn, sequence) = (Lsn::new(d.u64()?), d.u64()?);
            let mut acked = Vec::new();
            for _ in 0..decode_count(&mut d, MEMBERS_MAX, 24)? {
                let node = NodeId::new(d.u64()?).ok_or(Fault::Field)?;
                acked.push((node, (d.u64()?, d.u64()?)));
            }
            Message::Heartbeat { promised, commit_lsn, sequence, acked }
        }
        11 => Message::Heard { epoch: Epoch::new(d.u64()?), sequence: d.u64()? },
        12 => Message::Fenced(decode_promise(&mut d)?),
        13 => Message::Empty { configured: decode_nodes(&mut d)? },
        14 => Message::Found { log_id: d.u128()?, lineage_id: d.u128()? },
        15 => Message::Question { number: d.u64()? },
        16 => Message::Answer { number: d.u64()?, summary: decode_summary(&mut d)? },
        other => return Err(Fault::Kind(other)),
    };
    if d.rest().is_empty() { Ok(message) } else { Err(Fault::Long) }
}

/// Node numbers, growing.
fn decode_nodes(d: &mut Decoder<'_>) -> Result<BTreeSet<NodeId>, Fault> {
    let mut nodes = BTreeSet::new();
    for _ in 0..decode_count(d, MEMBERS_MAX, 8)? {
        let node = NodeId::new(d.u64()?).ok_or(Fault::Field)?;
        if nodes.last().is_some_and(|last| *last >= node) {
            return Err(Fault::Field);
        }
        nodes.insert(node);
    }
    Ok(nodes)
}

/// How many things of so many bytes each come next.
fn decode_count(d: &mut Decoder<'_>, max: usize, bytes: usize) -> Result<usize, Fault> {
    let count = usize::try_from(d.u32()?).unwrap_or(usize::MAX);
    if count > max || count * bytes > d.left() { Err(Fault::Field) } else { Ok(count) }
}

pub(super) fn decode_flag(d: &mut Decoder<'_>) -> Result<bool, Fault> {
    match d.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Fault::Field),
    }
}

fn encode_acked(e: &mut Encoder, acked: &[(NodeId, (u64, u64))]) {
    e.u32(u32::try_from(acked.len()).expect("at most MEMBERS_MAX"));
    for (node, to) in acked {
        e.u64(node.get());
        e.u64(to.0);
        e.u64(to.1);
    }
}

fn encode_promise(e: &mut Encoder, promise: &Promise) {
    e.u64(promise.epoch.get());
    e.u64(promise.leader.node);
    e.u128(promise.leader.incarnation);
    e.u128(promise.leader.nonce);
}

fn decode_promise(d: &mut Decoder<'_>) -> Result<Promise, Fault> {
    let epoch = Epoch::new(d.u64()?);
    if epoch > PROMISE_MAX {
        return Err(Fault::Field);
    }
    let leader = LeaderId { node: d.u64()?, incarnation: d.u128()?, nonce: d.u128()? };
    Ok(Promise { epoch, leader })
}

fn decode_heard(d: &mut Decoder<'_>) -> Result<Option<Heard>, Fault> {
    match (NodeId::new(d.u64()?), d.u64()?) {
        (None, 0) => Ok(None),
        // It is said only when there is something left of it.
        (Some(_), 0) => Err(Fault::Field),
        (leader, lease_ms) => Ok(Some(Heard { leader, lease_ms })),
    }
}

fn encode_place(e: &mut Encoder, place: &Place) {
    e.u64(place.segment);
    e.u64(place.offset);
    e.u64(place.lsn.get());
    e.u64(place.epoch.get());
    e.u32(place.link);
}

fn decode_place(d: &mut Decoder<'_>) -> Result<Place, Fault> {
    let (segment, offset) = (d.u64()?, d.u64()?);
    let (lsn, epoch) = (Lsn::new(d.u64()?), Epoch::new(d.u64()?));
    Ok(Place { segment, offset, lsn, epoch, link: d.u32()? })
}

pub(crate) fn encode_shown(e: &mut Encoder, shown: &Shown) {
    e.u64(shown.start_counter);
    e.u128(shown.nonce);
    e.u64(shown.promised.get());
    e.u64(shown.acked_epoch.get());
    e.u64(shown.acked.0);
    e.u64(shown.acked.1);
}

pub(crate) fn decode_shown(d: &mut Decoder<'_>) -> Result<Shown, Fault> {
    Ok(Shown {
        start_counter: d.u64()?,
        nonce: d.u128()?,
        promised: Epoch::new(d.u64()?),
        acked_epoch: Epoch::new(d.u64()?),
        acked: (d.u64()?, d.u64()?),
    })
}

fn encode_summary(e: &mut Encoder, summary: &Summary) {
    e.u128(summary.log_id);
    e.u128(summary.lineage_id);
    e.u128(summary.incarnation);
    e.u64(summary.start_counter);
    e.u128(summary.nonce);
    encode_promise(e, &summary.promised);
    encode_place(e, &summary.end);
    e.u64(summary.first_lsn.get());
    e.u64(summary.commit_lsn.get());
    // The newest count.
    let epochs = &summary.epochs[summary.epochs.len().saturating_sub(EPOCHS_MAX)..];
    e.u32(u32::try_from(epochs.len()).expect("at most EPOCHS_MAX"));
    for begun in epochs {
        e.u64(begun.epoch.get());
        e.u128(begun.start.lineage_id);
        e.u128(begun.start.incarnation);
        e.u128(begun.start.nonce);
        e.u64(begun.after.0);
        e.u64(begun.after.1);
    }
    e.u32(u32::try_from(summary.members.len()).expect("at most MEMBERS_MAX"));
    for (node, incarnation) in &summary.members {
        e.u64(node.get());
        e.u128(*incarnation);
    }
    e.u32(u32::try_from(summary.shown.len()).expect("at most MEMBERS_MAX"));
    for (node, shown) in &summary.shown {
        e.u64(node.get());
        encode_shown(e, shown);
    }
}

fn decode_summary(d: &mut Decoder<'_>) -> Result<Summary, Fault> {
    let (log_id, lineage_id, incarnation) = (d.u128()?, d.u128()?, d.u128()?);
    let (start_counter, nonce) = (d.u64()?, d.u128()?);
    let promised = decode_promise(d)?;
    let end = decode_place(d)?;
    let (first_lsn, commit_lsn) = (Lsn::new(d.u64()?), Lsn::new(d.u64()?));
    let count = decode_count(d, EPOCHS_MAX, EPOCH_BYTES)?;
    let mut epochs = Vec::with_capacity(count);
    for _ in 0..count {
        let epoch = Epoch::new(d.u64()?);
        let start = EpochStart { lineage_id: d.u128()?, incarnation: d.u128()?, nonce: d.u128()? };
        epochs.push(BegunEpoch { epoch, start, after: (d.u64()?, d.u64()?) });
    }
    let mut members = BTreeMap::new();
    for _ in 0..decode_count(d, MEMBERS_MAX, 24)? {
        let node = NodeId::new(d.u64()?).ok_or(Fault::Field)?;
        if members.last_key_value().is_some_and(|(last, _)| *last >= node) {
            return Err(Fault::Field);
        }
        members.insert(node, d.u128()?);
    }
    let mut shown = BTreeMap::new();
    for _ in 0..decode_count(d, MEMBERS_MAX, 8 + SHOWN_BYTES)? {
        let node = NodeId::new(d.u64()?).ok_or(Fault::Field)?;
        if shown.last_key_value().is_some_and(|(last, _)| *last >= node) {
            return Err(Fault::Field);
        }
        shown.insert(node, decode_shown(d)?);
    }
    Ok(Summary {
        log_id,
        lineage_id,
        incarnation,
        start_counter,
        nonce,
        promised,
        epochs,
        end,
        first_lsn,
        commit_lsn,
        members,
        shown,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u64) -> NodeId {
        NodeId::new(number).expect("not 0")
    }

    fn messages() -> Vec<Message> {
        let leader = LeaderId { node: 3, incarnation: u128::MAX - 7, nonce: 9 };
        let promise = Promise { epoch: Epoch::new(12), leader };
        let place = Place {
            segment: 7,
            offset: 4096,
            lsn: Lsn::new(1 << 40),
            epoch: Epoch::new(11),
            link: 0xdead_beef,
        };
        let start = EpochStart { lineage_id: 1, incarnation: 2, nonce: 3 };
        let begun = BegunEpoch { epoch: Epoch::new(5), start, after: (3, 512) };
        let shown = Shown {
            start_counter: 1,
            nonce: 2,
            promised: Epoch::new(3),
            acked_epoch: Epoch::new(4),
            acked: (5, u64::MAX),
        };
        let summary = Summary {
            log_id: 1,
            lineage_id: 2,
            incarnation: 3,
            start_counter: 4,
            nonce: 8,
            promised: promise,
            epochs: vec![begun, BegunEpoch { epoch: Epoch::new(6), ..begun }],
            end: place,
            first_lsn: Lsn::new(5),
            commit_lsn: Lsn::new(6),
            members: [(node(1), 7), (node(3), u128::MAX)].into(),
            shown: [(node(3), shown)].into(),
        };
        let sequence = 77;
        let sealed = |heard| Message::Sealed { promised: promise, summary: summary.clone(), heard };
        vec![
            Message::Hello { summary: summary.clone(), asks: true },
            Message::Seal(promise),
            sealed(None),
            sealed(Some(Heard { leader: Some(node(2)), lease_ms: u64::MAX })),
            sealed(Some(Heard { leader: None, lease_ms: 1 })),
            Message::Question { number: 3 },
            Message::Answer { number: u64::MAX, summary: summary.clone() },
            Message::Fetch { promised: promise, from: (8, 9) },
            Message::Stream { stream: 5, promised: promise, at: place },
            Message::Ready { stream: 6 },
            Message::Unready { stream: 7 },
            Message::Batches {
                stream: 8,
                after: (1, 2),
                end: place,
                commit_lsn: Lsn::new(9),
                bytes: vec![1, 2, 3],
            },
            Message::Ack { stream: 9, durable: place },
            Message::Heartbeat {
                promised: promise,
                commit_lsn: Lsn::new(10),
                sequence,
                acked: vec![(node(1), (3, 4)), (node(2), (5, u64::MAX))],
            },
            Message::Heard { epoch: Epoch::new(11), sequence },
            Message::Fenced(promise),
            Message::Empty { configured: [node(1), node(2)].into() },
            Message::Found { log_id: 1, lineage_id: 2 },
        ]
    }

    fn body(frame: &[u8]) -> &[u8] {
        let (front, body) = frame.split_first_chunk().expect("a length");
        assert_eq!(length(*front), Ok(body.len()));
        body
    }

    #[test]
    fn every_message_comes_back() {
        for message in messages() {
            let frame = encode(&message);
            assert_eq!(decode(body(&frame)), Ok(message));
        }
    }

    /// P9.
    #[test]
    fn any_bytes() {
        for message in messages() {
            let frame = encode(&message);
            let body = body(&frame);
            let is_open = matches!(message, Message::Batches { .. });
            for end in 0..body.len() {
                assert!(decode(&body[..end]).is_err() || is_open, "{message:?} cut at {end}");
            }
            for bit in 0..body.len() * 8 {
                let mut flipped = body.to_vec();
                flipped[bit / 8] ^= 1 << (bit % 8);
                if let Ok(other) = decode(&flipped) {
                    assert_eq!(encode(&other)[LENGTH_BYTES..], flipped);
                    assert_ne!(other, message);
                }
            }
        }
        assert_eq!(decode(&[0; 64]), Err(Fault::Kind(0)), "zeros are no message");
        assert_eq!(length([0xff; 4]), Err(Fault::Field));
    }

    /// I3.
    /// A node that believed it could never stand again.
    #[test]
    fn the_last_epoch_is_not_believed() {
        let leader = LeaderId { node: 2, incarnation: 3, nonce: 4 };
        let seal = |epoch| Message::Seal(Promise { epoch, leader });
        let decoded = |message| decode(body(&encode(&message)));
        assert_eq!(decoded(seal(PROMISE_MAX)), Ok(seal(PROMISE_MAX)));
        for epoch in [PROMISE_MAX.next(), Epoch::new(u64::MAX)] {
            assert_eq!(decoded(seal(epoch)), Err(Fault::Field));
        }
    }

    #[test]
    fn a_count_is_not_believed() {
        let hello = encode(&messages()[0]);
        let mut body = body(&hello).to_vec();
        let shown = 8 + SHOWN_BYTES + 4;
        let count_at = body.len() - shown - 2 * 24 - 4 - 2 * EPOCH_BYTES - 4;
        assert_eq!(body[count_at], 2);
        body[count_at..count_at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(decode(&body), Err(Fault::Field));
    }
}
