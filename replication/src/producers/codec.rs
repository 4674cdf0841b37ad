//! The table of producers as the content of a checkpoint.
//!
//! Owns the bytes: magic (8 bytes), the LSN up to which runs were applied (8), whether something was forgotten (4), the
//! number of producers (4); then of each, the one appended to least recently first: id (16), the sequence behind its
//! last record (8), the LSN behind it (8), the number of its stretches (4), and of each of these the first sequence
//! (8) and the first LSN (8). Numbers stand lowest byte first. That the bytes are whole is the checkpoint's to say.
//!
//! Invariants
//!  E1. A table decodes to itself, and encodes to the same bytes.                    tests `tables_come_back`, `any_bytes`
//!  E2. No bytes make decoding panic, or allocate more than a small multiple of them.        test `any_bytes`

use std::collections::VecDeque;

use cairnlog_engine::Lsn;

use super::table::{Limits, ProducerTable, Remembered, Stretch};

/// The last byte is the version.
const MAGIC: [u8; 8] = *b"CLprod\0\x01";
const STRETCH_BYTES: usize = 16;

/// The bytes are not those of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a table of producers")]
pub struct Malformed;

/// A table as bytes.
#[must_use]
pub fn encode(table: &ProducerTable) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&table.end_lsn().get().to_le_bytes());
    bytes.extend_from_slice(&u32::from(table.has_forgotten()).to_le_bytes());
    put_count(&mut bytes, table.len());
    for (producer_id, remembered) in table.remembered() {
        bytes.extend_from_slice(&producer_id.to_le_bytes());
        bytes.extend_from_slice(&remembered.next_sequence.to_le_bytes());
        bytes.extend_from_slice(&remembered.end_lsn.get().to_le_bytes());
        put_count(&mut bytes, remembered.stretches.len());
        for stretch in &remembered.stretches {
            bytes.extend_from_slice(&stretch.first_sequence.to_le_bytes());
            bytes.extend_from_slice(&stretch.lsn.get().to_le_bytes());
        }
    }
    bytes
}

fn put_count(bytes: &mut Vec<u8>, count: usize) {
    let count = u32::try_from(count).expect("far below: see Limits");
    bytes.extend_from_slice(&count.to_le_bytes());
}

/// Bytes as a table. One that was made under greater limits loses what is over these.
///
/// # Errors
/// [`Malformed`].
pub fn decode(bytes: &[u8], limits: Limits) -> Result<ProducerTable, Malformed> {
    let mut left = bytes;
    if take::<8>(&mut left)? != MAGIC {
        return Err(Malformed);
    }
    let end_lsn = take_lsn(&mut left)?;
    let has_forgotten = match take_u32(&mut left)? {
        0 => false,
        1 => true,
        _ => return Err(Malformed),
    };
    let mut table = ProducerTable::new(limits, Lsn::FIRST);
    if has_forgotten {
        table.note_forgotten();
    }
    let mut newest_lsn = Lsn::FIRST;
    for _ in 0..take_u32(&mut left)? {
        let producer_id = u128::from_le_bytes(take(&mut left)?);
        let remembered = take_remembered(&mut left)?;
        if remembered.end_lsn <= newest_lsn || table.knows(producer_id) {
            return Err(Malformed);
        }
        newest_lsn = remembered.end_lsn;
        cut_to(&mut table, producer_id, remembered, limits);
    }
    if !left.is_empty() || newest_lsn > end_lsn {
        return Err(Malformed);
    }
    table.advance(end_lsn);
    Ok(table)
}

fn cut_to(
    table: &mut ProducerTable,
    producer_id: u128,
    mut remembered: Remembered,
    limits: Limits,
) {
    while remembered.stretches.len() > limits.stretches_each {
        remembered.stretches.pop_front();
    }
    table.take_back(producer_id, remembered);
}

/// What is remembered of one producer, if it can be so.
fn take_remembered(left: &mut &[u8]) -> Result<Remembered, Malformed> {
    let next_sequence = take_u64(left)?;
    let end_lsn = take_lsn(left)?;
    let count = usize::try_from(take_u32(left)?).map_err(|_| Malformed)?;
    if count == 0 || count > left.len() / STRETCH_BYTES {
        return Err(Malformed);
    }
    let mut stretches: VecDeque<Stretch> = VecDeque::with_capacity(count);
    // Where the records end that were looked at; none was yet.
    let mut behind: Option<Stretch> = None;
    for _ in 0..count {
        let stretch = Stretch { first_sequence: take_u64(left)?, lsn: take_lsn(left)? };
        if let Some(before) = behind {
            check_follows(before, stretch)?;
        }
        behind = Some(stretch);
        stretches.push_back(stretch);
    }
    let end = Stretch { first_sequence: next_sequence, lsn: end_lsn };
    let last = behind.ok_or(Malformed)?;
    // The last one ends exactly where the producer's records do.
    if last.first_sequence >= next_sequence || records(last, end)? != lsns(last, end)? {
        return Err(Malformed);
    }
    Ok(Remembered { stretches, next_sequence, end_lsn })
}

/// Between two stretches are records of others, or they would be one.
fn check_follows(before: Stretch, next: Stretch) -> Result<(), Malformed> {
    let records = records(before, next)?;
    if records == 0 || lsns(before, next)? <= records { Err(Malformed) } else { Ok(()) }
}

fn records(from: Stretch, to: Stretch) -> Result<u64, Malformed> {
    to.first_sequence.checked_sub(from.first_sequence).ok_or(Malformed)
}

fn lsns(from: Stretch, to: Stretch) -> Result<u64, Malformed> {
    to.lsn.get().checked_sub(from.lsn.get()).ok_or(Malformed)
}

fn take<const N: usize>(left: &mut &[u8]) -> Result<[u8; N], Malformed> {
    let (taken, rest) = left.split_first_chunk::<N>().ok_or(Malformed)?;
    *left = rest;
    Ok(*taken)
}

fn take_u32(left: &mut &[u8]) -> Result<u32, Malformed> {
    take(left).map(u32::from_le_bytes)
}

fn take_u64(left: &mut &[u8]) -> Result<u64, Malformed> {
    take(left).map(u64::from_le_bytes)
}

/// The LSN of a record, or the one behind it.
fn take_lsn(left: &mut &[u8]) -> Result<Lsn, Malformed> {
    let lsn = Lsn::new(take_u64(left)?);
    if lsn < Lsn::FIRST { Err(Malformed) } else { Ok(lsn) }
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
