//! Requests and answers as frames.
//!
//! Owns the layout: that of `frame` (a length, a kind, three bytes of zeros, the fields in the order in which they are
//! declared), with kinds of its own so that a frame on the wrong lane is refused. A number that may be missing
//! has a byte in front that says whether it is there; a text and a record have their length in front, and a record
//! behind that the CRC-32 of its bytes. What a message means, and whether it is allowed, is left to others.
//!
//! Invariants
//!  W1. Every message decodes to itself, but for texts that are too long. tests `every_message_comes_back`, `texts_are_cut`
//!  W2. No bytes make decoding panic, and what decodes encodes to the same bytes.     test `any_bytes`, and fuzzing
//!  W3. A record that changed on its way is not taken for the record.                 test `records_are_checked`
//!
//! Bounds: [`FRAME_BYTES_MAX`] bytes, [`RECORDS_MAX`] records. Decoding holds a count against the bytes that are there
//! before it allocates; what it allocates is a small multiple of them (the headers of `Vec`s).

use cairnlog_engine::{Epoch, Lsn, LsnRange};

use super::bytes::{Decoder, Encoder};
use super::frame::{FRAME_BYTES_MAX, Fault, LENGTH_BYTES, decode_flag};
use super::request::{
    ADDRESS_BYTES_MAX, Ack, Failure, Outcome, RECORDS_MAX, Reason, Request, Response, Sequence,
    TEXT_BYTES_MAX, Visibility, WireRecord,
};
use crate::protocol::node_id::NodeId;

const KIND_APPEND: u8 = 33;
const KIND_READ: u8 = 34;
const KIND_STATUS: u8 = 35;
const KIND_PROMOTE: u8 = 36;
const KIND_NEXT_SEQUENCE: u8 = 37;
const KIND_APPENDED: u8 = 65;
const KIND_RECORDS: u8 = 66;
const KIND_JSON: u8 = 67;
const KIND_END: u8 = 68;
const KIND_FAILED: u8 = 69;
const KIND_SEQUENCE: u8 = 70;

/// Length and checksum in front of the bytes of an appended record.
const RECORD_FRONT_BYTES: usize = 8;
/// What stands in front of the bytes of a record that was read.
const WIRE_RECORD_FRONT_BYTES: usize = 24 + RECORD_FRONT_BYTES;
/// An append without its records: length, kind, level, LSN, sequence, count.
const APPEND_FRONT_BYTES: usize = LENGTH_BYTES + 4 + 1 + 9 + 25 + 4;

/// The longest that the frame of an append of these records can be, in bytes, length included.
///
/// Whoever appends holds it against [`FRAME_BYTES_MAX`], and the number of records against [`RECORDS_MAX`]: the other
/// side takes no frame that is over either.
#[must_use]
pub fn append_frame_bytes(records: &[Vec<u8>]) -> usize {
    let sum = |sum: usize, record: &Vec<u8>| sum.saturating_add(RECORD_FRONT_BYTES + record.len());
    records.iter().fold(APPEND_FRONT_BYTES, sum)
}

/// A request as a frame, length included.
///
/// It never fails: a request over the bounds becomes a frame that no one accepts.
#[must_use]
pub fn encode_request(request: &Request) -> Vec<u8> {
    let mut e = Encoder::default();
    match request {
        Request::Append { ack, expected_lsn, sequence, records } => {
            return encode_append(*ack, *expected_lsn, *sequence, records);
        }
        Request::Read { from, to, count, min_lsn, visibility, follows } => {
            begin(&mut e, KIND_READ);
            encode_optional(&mut e, from.map(Lsn::get));
            encode_optional(&mut e, to.map(Lsn::get));
            encode_optional(&mut e, *count);
            encode_optional(&mut e, min_lsn.map(Lsn::get));
            e.u8(match visibility {
                Visibility::Committed => 0,
                Visibility::Durable => 1,
                Visibility::Linearizable => 2,
            });
            e.u8(u8::from(*follows));
        }
        Request::NextSequence { producer_id, ack } => {
            begin(&mut e, KIND_NEXT_SEQUENCE);
            e.u128(*producer_id);
            e.u8(ack_code(*ack));
        }
        Request::Status => begin(&mut e, KIND_STATUS),
        Request::Promote { dry_run } => {
            begin(&mut e, KIND_PROMOTE);
            e.u8(u8::from(*dry_run));
        }
    }
    end(e)
}

/// A [`Request::Append`] as a frame, length included, without owning its records.
///
/// It never fails: see [`encode_request`].
#[must_use]
pub fn encode_append(
    ack: Ack,
    expected_lsn: Option<Lsn>,
    sequence: Option<Sequence>,
    records: &[Vec<u8>],
) -> Vec<u8> {
    let mut e = Encoder(Vec::with_capacity(append_frame_bytes(records)));
    begin(&mut e, KIND_APPEND);
    e.u8(ack_code(ack));
    encode_optional(&mut e, expected_lsn.map(Lsn::get));
    e.u8(u8::from(sequence.is_some()));
    if let Some(sequence) = sequence {
        e.u128(sequence.producer_id);
        e.u64(sequence.first);
    }
    encode_count(&mut e, records.len());
    for record in records {
        encode_data(&mut e, record);
    }
    end(e)
}

/// A frame, without its length, as a request.
///
/// # Errors
/// The [`Fault`] that makes it none; the lane that it came on is of no more use.
pub fn decode_request(frame: &[u8]) -> Result<Request, Fault> {
    let mut d = Decoder::new(frame);
    let request = match decode_kind(&mut d)? {
        KIND_APPEND => {
            let ack = decode_ack(&mut d)?;
            let expected_lsn = decode_optional(&mut d)?.map(Lsn::new);
            let sequence = match decode_flag(&mut d)? {
                true => Some(Sequence { producer_id: d.u128()?, first: d.u64()? }),
                false => None,
            };
            let count = decode_count(&mut d, RECORDS_MAX, RECORD_FRONT_BYTES)?;
            let mut records = Vec::with_capacity(count);
            for _ in 0..count {
                records.push(decode_data(&mut d)?);
            }
            Request::Append { ack, expected_lsn, sequence, records }
        }
        KIND_READ => Request::Read {
            from: decode_optional(&mut d)?.map(Lsn::new),
            to: decode_optional(&mut d)?.map(Lsn::new),
            count: decode_optional(&mut d)?,
            min_lsn: decode_optional(&mut d)?.map(Lsn::new),
            visibility: match d.u8()? {
                0 => Visibility::Committed,
                1 => Visibility::Durable,
                2 => Visibility::Linearizable,
                _ => return Err(Fault::Field),
            },
            follows: decode_flag(&mut d)?,
        },
        KIND_NEXT_SEQUENCE => {
            Request::NextSequence { producer_id: d.u128()?, ack: decode_ack(&mut d)? }
        }
        KIND_STATUS => Request::Status,
        KIND_PROMOTE => Request::Promote { dry_run: decode_flag(&mut d)? },
        other => return Err(Fault::Kind(other)),
    };
    if d.rest().is_empty() { Ok(request) } else { Err(Fault::Long) }
}

/// An answer as a frame, length included. Texts that are too long are cut.
///
/// It never fails: an answer over the bounds becomes a frame that no one accepts.
#[must_use]
pub fn encode_response(response: &Response) -> Vec<u8> {
    let mut e = Encoder::default();
    match response {
        Response::Appended { lsns, epoch, ack, replicas } => {
            begin(&mut e, KIND_APPENDED);
            encode_range(&mut e, lsns);
            e.u64(epoch.get());
            e.u8(ack_code(*ack));
            encode_count(&mut e, replicas.len());
            for node in replicas {
                e.u64(node.get());
            }
        }
        Response::Records(records) => {
            begin(&mut e, KIND_RECORDS);
            encode_count(&mut e, records.len());
            for record in records {
                e.u64(record.lsn.get());
                e.u64(record.epoch.get());
                e.u64(record.time_ms);
                encode_data(&mut e, &record.data);
            }
        }
        Response::NextSequence(sequence) => {
            begin(&mut e, KIND_SEQUENCE);
            e.u64(*sequence);
        }
        Response::Json(text) => {
            begin(&mut e, KIND_JSON);
            encode_text(&mut e, text, JSON_BYTES_MAX);
        }
        Response::End(lsn) => {
            begin(&mut e, KIND_END);
            e.u64(lsn.get());
        }
        Response::Failed(failure) => {
            begin(&mut e, KIND_FAILED);
            encode_failure(&mut e, failure);
        }
    }
    end(e)
}

/// What fits in a frame behind its kind and the length of the text.
const JSON_BYTES_MAX: usize = FRAME_BYTES_MAX - 8;

/// A frame, without its length, as an answer.
///
/// # Errors
/// The [`Fault`] that makes it none; the lane that it came on is of no more use.
pub fn decode_response(frame: &[u8]) -> Result<Response, Fault> {
    let mut d = Decoder::new(frame);
    let response = match decode_kind(&mut d)? {
        KIND_APPENDED => {
            let (lsns, epoch) = (decode_range(&mut d)?, Epoch::new(d.u64()?));
            let ack = decode_ack(&mut d)?;
            let count = decode_count(&mut d, usize::MAX, 8)?;
            let mut replicas = Vec::with_capacity(count);
            for _ in 0..count {
                replicas.push(NodeId::new(d.u64()?).ok_or(Fault::Field)?);
            }
            Response::Appended { lsns, epoch, ack, replicas }
        }
        KIND_RECORDS => {
            let count = decode_count(&mut d, RECORDS_MAX, WIRE_RECORD_FRONT_BYTES)?;
            let mut records = Vec::with_capacity(count);
            for _ in 0..count {
                let (lsn, epoch, time_ms) = (Lsn::new(d.u64()?), Epoch::new(d.u64()?), d.u64()?);
                records.push(WireRecord { lsn, epoch, time_ms, data: decode_data(&mut d)? });
            }
            Response::Records(records)
        }
        KIND_SEQUENCE => Response::NextSequence(d.u64()?),
        KIND_JSON => Response::Json(decode_text(&mut d, JSON_BYTES_MAX)?),
        KIND_END => Response::End(Lsn::new(d.u64()?)),
        KIND_FAILED => Response::Failed(decode_failure(&mut d)?),
        other => return Err(Fault::Kind(other)),
    };
    if d.rest().is_empty() { Ok(response) } else { Err(Fault::Long) }
}

fn begin(e: &mut Encoder, kind: u8) {
    e.u32(0);
    e.u32(u32::from(kind));
}

fn end(e: Encoder) -> Vec<u8> {
    let mut bytes = e.0;
    // A frame that is longer than a length can say is refused for any length over the limit.
    let length = u32::try_from(bytes.len() - LENGTH_BYTES).unwrap_or(u32::MAX);
    bytes[..LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
    bytes
}

fn decode_kind(d: &mut Decoder<'_>) -> Result<u8, Fault> {
    let [kind, reserved @ ..] = d.u32()?.to_le_bytes();
    if reserved == [0; 3] { Ok(kind) } else { Err(Fault::Field) }
}

fn encode_count(e: &mut Encoder, count: usize) {
    // What cannot be counted does not fit in a frame either.
    e.u32(u32::try_from(count).unwrap_or(u32::MAX));
}

/// A count of things of at least `each` bytes, of which all must be there.
fn decode_count(d: &mut Decoder<'_>, max: usize, each: usize) -> Result<usize, Fault> {
    let count = d.count()?;
    if count > max || count > d.left() / each { Err(Fault::Field) } else { Ok(count) }
}

fn encode_optional(e: &mut Encoder, value: Option<u64>) {
    e.u8(u8::from(value.is_some()));
    if let Some(value) = value {
        e.u64(value);
    }
}

fn decode_optional(d: &mut Decoder<'_>) -> Result<Option<u64>, Fault> {
    if decode_flag(d)? { d.u64().map(Some) } else { Ok(None) }
}

fn encode_data(e: &mut Encoder, data: &[u8]) {
    encode_count(e, data.len());
    e.u32(crc32fast::hash(data));
    e.0.extend_from_slice(data);
}

fn decode_data(d: &mut Decoder<'_>) -> Result<Vec<u8>, Fault> {
    let (count, checksum) = (d.count()?, d.u32()?);
    let data = d.bytes(count)?;
    if crc32fast::hash(data) == checksum { Ok(data.to_vec()) } else { Err(Fault::Checksum) }
}

fn encode_text(e: &mut Encoder, text: &str, max: usize) {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    encode_count(e, end);
    e.0.extend_from_slice(&text.as_bytes()[..end]);
}

fn decode_text(d: &mut Decoder<'_>, max: usize) -> Result<String, Fault> {
    let count = d.count()?;
    if count > max {
        return Err(Fault::Field);
    }
    str::from_utf8(d.bytes(count)?).map(str::to_owned).map_err(|_| Fault::Field)
}

fn encode_range(e: &mut Encoder, range: &LsnRange) {
    e.u64(range.start.get());
    e.u64(range.end.get());
}

fn decode_range(d: &mut Decoder<'_>) -> Result<LsnRange, Fault> {
    let (start, end) = (Lsn::new(d.u64()?), Lsn::new(d.u64()?));
    if start <= end { Ok(start..end) } else { Err(Fault::Field) }
}

fn ack_code(ack: Ack) -> u8 {
    match ack {
        Ack::Buffered => 0,
        Ack::Local => 1,
        Ack::Quorum => 2,
        Ack::All => 3,
    }
}

fn decode_ack(d: &mut Decoder<'_>) -> Result<Ack, Fault> {
    Ok(match d.u8()? {
        0 => Ack::Buffered,
        1 => Ack::Local,
        2 => Ack::Quorum,
        3 => Ack::All,
        _ => return Err(Fault::Field),
    })
}

fn encode_failure(e: &mut Encoder, failure: &Failure) {
    e.u8(match failure.outcome {
        Outcome::Retryable => 0,
        Outcome::Final => 1,
        Outcome::Unknown => 2,
    });
    match &failure.reason {
        Reason::NotLeading(leader) => {
            e.u8(0);
            e.u8(u8::from(leader.is_some()));
            if let Some((node, address)) = leader {
                e.u64(node.get());
                encode_text(e, address, ADDRESS_BYTES_MAX);
            }
        }
        Reason::Unexpected(lsn) => {
            e.u8(1);
            e.u64(lsn.get());
        }
        Reason::UnknownProducer => e.u8(2),
        Reason::OutOfRange(kept) => {
            e.u8(3);
            encode_range(e, kept);
        }
        Reason::Invalid => e.u8(4),
        Reason::Storage => e.u8(5),
        Reason::Busy => e.u8(6),
        Reason::TimedOut => e.u8(7),
        Reason::ShuttingDown => e.u8(8),
    }
    encode_text(e, &failure.text, TEXT_BYTES_MAX);
}

fn decode_failure(d: &mut Decoder<'_>) -> Result<Failure, Fault> {
    let outcome = match d.u8()? {
        0 => Outcome::Retryable,
        1 => Outcome::Final,
        2 => Outcome::Unknown,
        _ => return Err(Fault::Field),
    };
    let reason = match d.u8()? {
        0 if decode_flag(d)? => {
            let node = NodeId::new(d.u64()?).ok_or(Fault::Field)?;
            Reason::NotLeading(Some((node, decode_text(d, ADDRESS_BYTES_MAX)?)))
        }
        0 => Reason::NotLeading(None),
        1 => Reason::Unexpected(Lsn::new(d.u64()?)),
        2 => Reason::UnknownProducer,
        3 => Reason::OutOfRange(decode_range(d)?),
        4 => Reason::Invalid,
        5 => Reason::Storage,
        6 => Reason::Busy,
        7 => Reason::TimedOut,
        8 => Reason::ShuttingDown,
        _ => return Err(Fault::Field),
    };
    Ok(Failure { outcome, reason, text: decode_text(d, TEXT_BYTES_MAX)? })
}

#[cfg(test)]
#[path = "request_codec_tests.rs"]
mod tests;
