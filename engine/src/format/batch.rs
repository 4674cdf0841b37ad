//! Batches: the unit of write, checksum, replication and recovery.
//!
//! Owns the bytes of a batch: header, records, producer runs, padding. Layout and validity: FORMAT.md,
//! section 3. Does not decide whether a batch continues the log (`recovery`, `wal::scan`): it only
//! says what a header claims and whether its bytes are whole.
//!
//! Invariants
//!  B1. A header that decodes has `length` in whole blocks, within `LENGTH_MAX`, and room for its
//!      payload, so that a caller may size a buffer by it.             test `every_flipped_bit_is_seen`
//!  B2. [`Records`] never reads outside the payload, whatever it holds. test `records_are_total`
//!
//! Units: `length`, `payload_bytes` and offsets are bytes; `time_ms` is milliseconds since 1970.

use super::bytes::{Decoder, Encoder, checksum, round_up, to_u32, to_u64, to_usize};
use super::limits::COUNT_MAX;
use super::version::{Fault, MAGIC_BATCH, VERSION, VERSION_LOST_RANGE, VERSION_MIN};
use crate::{Epoch, Lsn};

/// Bytes of the fixed header in front of every batch.
pub const HEADER_BYTES: usize = 128;
/// Bytes in front of each record: its length.
pub const RECORD_PREFIX_BYTES: usize = 4;
/// The largest batch: the largest record, its prefix and header, in whole blocks, with room to spare.
pub const LENGTH_MAX: usize = 32 << 20;
const CHECKSUM_AT: usize = HEADER_BYTES - 4;
const RUN_BYTES: usize = 32;

/// What a batch carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// Records.
    Records,
    /// The first batch of an epoch; no records.
    EpochStart,
    /// Stands for records that a repair gave up; no records.
    LostRange,
}

impl Kind {
    fn to_u8(self) -> u8 {
        match self {
            Kind::Records => 1,
            Kind::EpochStart => 2,
            Kind::LostRange => 3,
        }
    }

    fn from_u8(value: u8) -> Option<Kind> {
        match value {
            1 => Some(Kind::Records),
            2 => Some(Kind::EpochStart),
            3 => Some(Kind::LostRange),
            _ => None,
        }
    }
}

/// What a lost range stands for, and how the log goes on behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The first LSN that is not lost any more.
    pub end_lsn: Lsn,
    /// Where the next batch starts.
    pub end_offset: u64,
    /// The link that the next batch continues: that of the last batch that was lost.
    pub link: u32,
}

/// The header of a batch, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// What the batch carries.
    pub kind: Kind,
    /// The log it belongs to.
    pub log_id: u128,
    /// The segment it was written to.
    pub segment: u64,
    /// Where in the segment it starts; a multiple of the block size.
    pub offset: u64,
    /// LSN of its first record; for a control batch, of the record that comes next.
    pub base_lsn: Lsn,
    /// Number of records; 0 in a control batch.
    pub record_count: u32,
    /// Bytes of the whole batch, padding included.
    pub length: u32,
    /// Bytes of records and producer runs behind the header.
    pub payload_bytes: u32,
    /// Number of producer runs behind the records.
    pub producer_run_count: u32,
    /// The leadership that wrote it.
    pub epoch: Epoch,
    /// What the writer knew to be durable when it closed the batch; evidence in recovery.
    pub durable_lsn: Lsn,
    /// What the writer knew to be committed.
    pub commit_lsn: Lsn,
    /// Wall clock when the batch was closed, never less than that of the batch before.
    pub time_ms: u64,
    /// [`BatchHeader::checksum`] of the batch before it in the log; 0 in front of the first.
    pub prev_checksum: u32,
    /// Over everything behind the header, padding included.
    pub body_checksum: u32,
    /// Over the header, and through `body_checksum` over the whole batch.
    pub checksum: u32,
    /// In a lost range, what it stands for.
    pub lost: Option<Lost>,
}

impl BatchHeader {
    /// The first LSN after the batch.
    #[must_use]
    pub fn end_lsn(&self) -> Lsn {
        match &self.lost {
            Some(lost) => lost.end_lsn,
            None => self.base_lsn.plus(u64::from(self.record_count)),
        }
    }

    /// Where the next batch starts: behind this one or, for a lost range, behind what was lost.
    #[must_use]
    pub fn end_offset(&self) -> u64 {
        self.lost.map_or(self.bytes_end(), |lost| lost.end_offset)
    }

    /// The first offset after the batch's own bytes.
    #[must_use]
    pub fn bytes_end(&self) -> u64 {
        self.offset + u64::from(self.length)
    }

    /// What the next batch must have as its `prev_checksum`.
    #[must_use]
    pub fn link(&self) -> u32 {
        self.lost.map_or(self.checksum, |lost| lost.link)
    }

    /// Reads a header from the first [`HEADER_BYTES`] of `bytes`.
    ///
    /// # Errors
    /// The [`Fault`] that makes it no header. Says nothing about the body.
    pub fn decode(bytes: &[u8]) -> Result<BatchHeader, Fault> {
        let Some(bytes) = bytes.get(..HEADER_BYTES) else { return Err(Fault::Short) };
        let mut d = Decoder::new(bytes);
        if d.u32() != MAGIC_BATCH {
            return Err(Fault::Magic);
        }
        let mut stored = Decoder::new(&bytes[CHECKSUM_AT..]);
        let stored = stored.u32();
        if stored != checksum(&bytes[..CHECKSUM_AT]) {
            return Err(Fault::Checksum);
        }
        let version = d.u16();
        let kind = Kind::from_u8(d.u8());
        let newest = if kind == Some(Kind::LostRange) { VERSION_LOST_RANGE } else { VERSION };
        if !(VERSION_MIN..=newest).contains(&version) {
            return Err(Fault::Version(version));
        }
        let kind = kind.ok_or(Fault::Field)?;
        let reserved = d.u8();
        let mut header = BatchHeader {
            kind,
            log_id: d.u128(),
            segment: d.u64(),
            offset: d.u64(),
            base_lsn: Lsn::new(d.u64()),
            record_count: d.u32(),
            length: d.u32(),
            epoch: Epoch::new(d.u64()),
            durable_lsn: Lsn::new(d.u64()),
            commit_lsn: Lsn::new(d.u64()),
            time_ms: d.u64(),
            payload_bytes: d.u32(),
            producer_run_count: d.u32(),
            prev_checksum: d.u32(),
            body_checksum: d.u32(),
            checksum: stored,
            lost: None,
        };
        if kind == Kind::LostRange {
            let (end_lsn, end_offset, link) = (Lsn::new(d.u64()), d.u64(), d.u32());
            header.lost = Some(Lost { end_lsn, end_offset, link });
        }
        let reserved_is_zero = reserved == 0 && bytes[d.at()..CHECKSUM_AT].iter().all(|b| *b == 0);
        if reserved_is_zero && header.fields_are_possible() {
            Ok(header)
        } else {
            Err(Fault::Field)
        }
    }

    fn fields_are_possible(&self) -> bool {
        let length = to_usize(u64::from(self.length));
        let payload = to_usize(u64::from(self.payload_bytes));
        let records = to_usize(u64::from(self.record_count)) * RECORD_PREFIX_BYTES;
        let runs = to_usize(u64::from(self.producer_run_count)) * RUN_BYTES;
        length.is_multiple_of(512)
            && length <= LENGTH_MAX
            && HEADER_BYTES + payload <= length
            && records + runs <= payload
            && self.base_lsn >= Lsn::FIRST
            && self.base_lsn.get().max(self.offset).max(self.segment) < COUNT_MAX
            && (1..COUNT_MAX).contains(&self.epoch.get())
            && self.durable_lsn <= self.base_lsn
            && self.commit_lsn <= self.base_lsn
            && (self.kind == Kind::Records) == (self.record_count > 0)
            && self.lost.is_none_or(|lost| {
                lost.end_lsn >= self.base_lsn
                    && lost.end_offset >= self.bytes_end()
                    && lost.end_lsn.get().max(lost.end_offset) < COUNT_MAX
            })
    }

    /// Whether `batch`, which starts with this header, is whole.
    #[must_use]
    pub fn body_is_whole(&self, batch: &[u8]) -> bool {
        batch.len() == to_usize(u64::from(self.length))
            && checksum(&batch[HEADER_BYTES..]) == self.body_checksum
    }

    fn encode(&self, bytes: &mut [u8]) {
        let mut e = Encoder::new(bytes);
        e.u32(MAGIC_BATCH);
        e.u16(if self.lost.is_some() { VERSION_LOST_RANGE } else { VERSION });
        e.u8(self.kind.to_u8());
        e.u8(0);
        e.u128(self.log_id);
        e.u64(self.segment);
        e.u64(self.offset);
        e.u64(self.base_lsn.get());
        e.u32(self.record_count);
        e.u32(self.length);
        e.u64(self.epoch.get());
        e.u64(self.durable_lsn.get());
        e.u64(self.commit_lsn.get());
        e.u64(self.time_ms);
        e.u32(self.payload_bytes);
        e.u32(self.producer_run_count);
        e.u32(self.prev_checksum);
        e.u32(self.body_checksum);
        if let Some(lost) = &self.lost {
            e.u64(lost.end_lsn.get());
            e.u64(lost.end_offset);
            e.u32(lost.link);
        }
        let reserved = e.at()..CHECKSUM_AT;
        bytes[reserved].fill(0);
        let sum = checksum(&bytes[..CHECKSUM_AT]);
        bytes[CHECKSUM_AT..HEADER_BYTES].copy_from_slice(&sum.to_le_bytes());
    }
}

/// Bytes that `payload_bytes` take as a batch.
#[must_use]
pub fn batch_bytes(payload_bytes: usize, block_bytes: usize) -> usize {
    round_up(HEADER_BYTES + payload_bytes, block_bytes)
}

/// Finishes a batch in place: `batch` holds [`HEADER_BYTES`] of room, the payload, and zeroed padding
/// to whole blocks. Fills in the lengths and checksums of `header`, writes it, and returns its link in
/// the chain.
pub(crate) fn finish(batch: &mut [u8], payload_bytes: usize, header: &mut BatchHeader) -> u32 {
    assert!(batch.len() <= LENGTH_MAX && HEADER_BYTES + payload_bytes <= batch.len());
    header.length = to_u32(batch.len());
    header.payload_bytes = to_u32(payload_bytes);
    header.body_checksum = checksum(&batch[HEADER_BYTES..]);
    header.encode(&mut batch[..HEADER_BYTES]);
    let mut stored = Decoder::new(&batch[CHECKSUM_AT..HEADER_BYTES]);
    header.checksum = stored.u32();
    header.checksum
}

/// Consecutive records of one producer inside a batch, for telling a retried append from a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerRun {
    /// Who appended.
    pub producer_id: u128,
    /// The producer's number of the first record of the run.
    pub first_sequence: u64,
    /// Records before the run in its batch.
    pub first_record: u32,
    /// Records in the run.
    pub record_count: u32,
}

impl ProducerRun {
    /// Bytes of a run in a batch.
    pub const BYTES: usize = RUN_BYTES;

    /// The sequence after the run.
    #[must_use]
    pub fn end_sequence(&self) -> u64 {
        self.first_sequence.saturating_add(u64::from(self.record_count))
    }

    pub(crate) fn encode(&self) -> [u8; RUN_BYTES] {
        let mut bytes = [0; RUN_BYTES];
        let mut e = Encoder::new(&mut bytes);
        e.u128(self.producer_id);
        e.u64(self.first_sequence);
        e.u32(self.first_record);
        e.u32(self.record_count);
        bytes
    }

    fn decode(bytes: &[u8]) -> ProducerRun {
        let mut d = Decoder::new(bytes);
        ProducerRun {
            producer_id: d.u128(),
            first_sequence: d.u64(),
            first_record: d.u32(),
            record_count: d.u32(),
        }
    }
}

/// The producer runs of a whole batch; those that lead outside of it, which no writer makes, are left
/// out.
#[must_use]
pub fn producer_runs(header: &BatchHeader, batch: &[u8]) -> Vec<ProducerRun> {
    let end = HEADER_BYTES + to_usize(u64::from(header.payload_bytes));
    let runs = to_usize(u64::from(header.producer_run_count)) * RUN_BYTES;
    let records = header.record_count;
    let bytes = end.checked_sub(runs).and_then(|start| batch.get(start..end)).unwrap_or_default();
    let runs = bytes.chunks_exact(RUN_BYTES).map(ProducerRun::decode);
    runs.filter(|r| r.first_record.checked_add(r.record_count).is_some_and(|n| n <= records))
        .collect()
}

/// The identity behind an epoch, carried by its first batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochStart {
    /// The lineage the epoch continues.
    pub lineage_id: u128,
    /// The directory that leads.
    pub incarnation: u128,
    /// The life of the process that leads.
    pub nonce: u128,
}

impl EpochStart {
    pub(crate) const BYTES: usize = 48;

    pub(crate) fn encode(&self) -> [u8; EpochStart::BYTES] {
        let mut bytes = [0; EpochStart::BYTES];
        let mut e = Encoder::new(&mut bytes);
        e.u128(self.lineage_id);
        e.u128(self.incarnation);
        e.u128(self.nonce);
        bytes
    }

    /// The identity in an epoch start; `None` when the batch is of another kind or too short.
    #[must_use]
    pub fn decode(header: &BatchHeader, batch: &[u8]) -> Option<EpochStart> {
        if header.kind != Kind::EpochStart {
            return None;
        }
        let bytes = batch.get(HEADER_BYTES..HEADER_BYTES + EpochStart::BYTES)?;
        let mut d = Decoder::new(bytes);
        Some(EpochStart { lineage_id: d.u128(), incarnation: d.u128(), nonce: d.u128() })
    }
}

/// The places of the records in a batch, in order: ranges of bytes inside the batch.
#[derive(Clone, Debug)]
pub struct Records {
    at: usize,
    end: usize,
    remaining: u32,
}

impl Records {
    /// The records of a whole batch with this header.
    #[must_use]
    pub fn new(header: &BatchHeader) -> Records {
        let payload = to_usize(u64::from(header.payload_bytes));
        let runs = to_usize(u64::from(header.producer_run_count)) * RUN_BYTES;
        let end = HEADER_BYTES + payload.saturating_sub(runs);
        Records { at: HEADER_BYTES, end, remaining: header.record_count }
    }

    /// The next record's bytes in `batch`; `None` after the last.
    ///
    /// # Errors
    /// [`Fault::Field`] when a length leads outside the payload, which no writer produces.
    pub fn next_in(&mut self, batch: &[u8]) -> Result<Option<std::ops::Range<usize>>, Fault> {
        if self.remaining == 0 {
            return if self.at == self.end { Ok(None) } else { Err(Fault::Field) };
        }
        let start = self.at + RECORD_PREFIX_BYTES;
        if start > self.end || self.end > batch.len() {
            return Err(Fault::Field);
        }
        let length = Decoder::new(&batch[self.at..start]).u32();
        let end = to_u64(start).saturating_add(u64::from(length));
        if end > to_u64(self.end) {
            return Err(Fault::Field);
        }
        self.at = to_usize(end);
        self.remaining -= 1;
        Ok(Some(start..self.at))
    }
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;
