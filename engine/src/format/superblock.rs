//! The superblock: who this log is, and what must never be forgotten.
//!
//! Owns the bytes of one copy; two copies stand in the file `superblock`, [`COPY_BYTES`] apart. Which
//! copy wins and in what order they are written: `crate::superblock`. Layout: FORMAT.md, section 5.

use super::bytes::{Decoder, Encoder, open_block, seal_block, to_u32, to_usize};
use super::limits::COUNT_MAX;
use super::segment::Trailer;
use super::table;
use super::version::{Fault, MAGIC_SUPERBLOCK, VERSION};
use crate::epochs::StartedEpoch;
use crate::{Epoch, Lsn};

/// Bytes of one copy, and the distance between the two.
pub const COPY_BYTES: usize = 4096;
/// The most that the durable user cell holds.
pub const CELL_BYTES_MAX: usize = 1024;
const CHECKSUM_AT: usize = COPY_BYTES - 4;
/// Behind the longest cell.
const AGE_HORIZON_AT: usize = 144 + CELL_BYTES_MAX;
const PROMISED_TO_AT: usize = AGE_HORIZON_AT + 120;

/// A place in the log from which older epochs are void, until nothing of them is left on the medium.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// The first LSN given up.
    pub lsn: Lsn,
    /// The segment of the cut; 0 when no cut is unfinished.
    pub segment: u64,
    /// The first offset given up in that segment.
    pub offset: u64,
    /// The newest epoch that the cut makes void.
    pub epoch: Epoch,
}

impl Cut {
    /// Whether there is a cut that is not finished.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.segment > 0
    }

    /// Whether a state of the log up to `lsn`, noted in this epoch, holds what was given up.
    #[must_use]
    pub fn voids_state(&self, lsn: Lsn, epoch: Epoch) -> bool {
        self.is_pending() && lsn > self.lsn && epoch <= self.epoch
    }

    /// Whether a footer stands for more of its segment than was kept; or for all of it, where the log is to go
    /// on in that segment.
    pub(crate) fn voids_trailer(&self, trailer: &Trailer) -> bool {
        self.is_pending()
            && (trailer.segment, trailer.end_offset) >= (self.segment, self.offset)
            && trailer.last_epoch <= self.epoch
    }

    /// Whether a batch at this place, of this epoch, was given up.
    #[must_use]
    pub fn voids(&self, segment: u64, offset: u64, epoch: Epoch) -> bool {
        self.is_pending() && (segment, offset) >= (self.segment, self.offset) && epoch <= self.epoch
    }
}

/// Records of a batch in whose middle a cut was made: they are kept, and appended again from the fork.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restore {
    /// Records below it are appended again, from the end of the log on; none when it is 0. It is also the
    /// first LSN given up, which with the epoch is the name of the fork.
    pub end_lsn: Lsn,
    /// The epoch of the fork.
    pub epoch: Epoch,
}

/// What readers in other processes need to know of truncations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Truncations {
    /// How many there were in this directory.
    pub count: u64,
    /// The first LSN that the last one gave up.
    pub last_lsn: Lsn,
}

/// One life of one replica, as the leader of an epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaderId {
    /// Its node; 0 for nobody.
    pub node: u64,
    /// Its directory.
    pub incarnation: u128,
    /// The life of its process.
    pub nonce: u128,
}

/// One copy of the superblock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Counts changes; the greater valid copy is the newer one.
    pub sequence: u64,
    /// The identity of the log, on every node and for ever.
    pub log_id: u128,
    /// The line of succession; changes only when an operator forces one.
    pub lineage_id: u128,
    /// The identity of this directory.
    pub incarnation: u128,
    /// Counts opens for writing.
    pub start_counter: u64,
    /// The greatest epoch promised; never goes back.
    pub promised_epoch: Epoch,
    /// To whom that epoch was promised; nobody, in a log that is opened alone.
    pub promised_to: LeaderId,
    /// Block size of the directory.
    pub block_bytes: u32,
    /// The most bytes that any life since the last clean cut had past its `durable_lsn`.
    pub inflight_bytes_max: u64,
    /// The oldest record kept.
    pub first_lsn: Lsn,
    /// The oldest segment kept.
    pub first_segment: u64,
    /// The cut that is not finished, if any.
    pub cut: Cut,
    /// What is to be appended again when the cut is finished.
    pub restore: Restore,
    /// Truncations so far.
    pub truncations: Truncations,
    /// The epoch that the oldest record kept belongs to, when its epoch start was trimmed.
    pub first_epoch: Option<StartedEpoch>,
    /// How far retention by age has come to believe the wall clock; 0 when nothing is known.
    pub age_horizon_ms: u64,
    /// Whatever the embedder put there, at most [`CELL_BYTES_MAX`].
    pub cell: Vec<u8>,
}

impl Superblock {
    /// Writes the copy.
    pub(crate) fn encode(&self, block: &mut [u8]) {
        assert!(block.len() == COPY_BYTES && self.cell.len() <= CELL_BYTES_MAX);
        block.fill(0);
        let mut e = Encoder::new(block);
        e.u32(MAGIC_SUPERBLOCK);
        e.u16(VERSION);
        e.u16(0);
        e.u64(self.sequence);
        e.u128(self.log_id);
        e.u128(self.lineage_id);
        e.u128(self.incarnation);
        e.u64(self.start_counter);
        e.u64(self.promised_epoch.get());
        e.u32(self.block_bytes);
        e.u32(to_u32(self.cell.len()));
        e.u64(self.inflight_bytes_max);
        e.u64(self.first_lsn.get());
        e.u64(self.first_segment);
        e.u64(self.cut.lsn.get());
        e.u64(self.cut.segment);
        e.u64(self.cut.offset);
        e.u64(self.cut.epoch.get());
        e.bytes(&self.cell);
        let mut e = Encoder::new(&mut block[AGE_HORIZON_AT..]);
        e.u64(self.age_horizon_ms);
        e.u64(self.restore.end_lsn.get());
        e.u64(self.restore.epoch.get());
        e.u64(self.truncations.count);
        e.u64(self.truncations.last_lsn.get());
        if let Some(first_epoch) = &self.first_epoch {
            table::encode_epoch(first_epoch, &mut e);
        }
        let mut e = Encoder::new(&mut block[PROMISED_TO_AT..]);
        e.u64(self.promised_to.node);
        e.u128(self.promised_to.incarnation);
        e.u128(self.promised_to.nonce);
        seal_block(block, CHECKSUM_AT);
    }

    /// Reads a copy.
    ///
    /// # Errors
    /// The [`Fault`] that makes it no valid copy.
    pub fn decode(block: &[u8]) -> Result<Superblock, Fault> {
        let mut d = open_block(block, COPY_BYTES, MAGIC_SUPERBLOCK)?;
        d.u16();
        let sequence = d.u64();
        let (log_id, lineage_id, incarnation) = (d.u128(), d.u128(), d.u128());
        let start_counter = d.u64();
        let promised_epoch = Epoch::new(d.u64());
        let block_bytes = d.u32();
        let cell_bytes = to_usize(u64::from(d.u32()));
        let inflight_bytes_max = d.u64();
        let first_lsn = Lsn::new(d.u64());
        let first_segment = d.u64();
        let cut = Cut {
            lsn: Lsn::new(d.u64()),
            segment: d.u64(),
            offset: d.u64(),
            epoch: Epoch::new(d.u64()),
        };
        let mut tail = Decoder::new(&block[AGE_HORIZON_AT..]);
        let age_horizon_ms = tail.u64();
        let restore = Restore { end_lsn: Lsn::new(tail.u64()), epoch: Epoch::new(tail.u64()) };
        let truncations = Truncations { count: tail.u64(), last_lsn: Lsn::new(tail.u64()) };
        let first_epoch = table::decode_epoch(&mut tail);
        let mut tail = Decoder::new(&block[PROMISED_TO_AT..]);
        let promised_to =
            LeaderId { node: tail.u64(), incarnation: tail.u128(), nonce: tail.u128() };
        if cell_bytes > CELL_BYTES_MAX
            || !(1..COUNT_MAX).contains(&first_segment)
            || !(1..COUNT_MAX).contains(&first_lsn.get())
            || sequence.max(start_counter).max(promised_epoch.get()) >= COUNT_MAX
            || cut.segment.max(cut.offset).max(cut.lsn.get()) >= COUNT_MAX
            || cut.epoch.max(restore.epoch).get() >= COUNT_MAX
            || restore.end_lsn.max(truncations.last_lsn).get() >= COUNT_MAX
            || truncations.count >= COUNT_MAX
            || !super::block_bytes_are_possible(block_bytes)
        {
            return Err(Fault::Field);
        }
        Ok(Superblock {
            sequence,
            log_id,
            lineage_id,
            incarnation,
            start_counter,
            promised_epoch,
            promised_to,
            block_bytes,
            inflight_bytes_max,
            first_lsn,
            first_segment,
            cut,
            restore,
            truncations,
            // Zeros, where nothing was trimmed.
            first_epoch: first_epoch.ok(),
            age_horizon_ms,
            cell: d.bytes(cell_bytes).to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::batch::EpochStart;

    #[test]
    fn round_trip_and_every_flipped_bit() {
        let superblock = Superblock {
            sequence: 9,
            log_id: 1,
            lineage_id: 2,
            incarnation: 3,
            start_counter: 4,
            promised_epoch: Epoch::new(5),
            promised_to: LeaderId { node: 1, incarnation: 3, nonce: 8 },
            block_bytes: 4096,
            inflight_bytes_max: 6,
            first_lsn: Lsn::new(7),
            first_segment: 8,
            cut: Cut { lsn: Lsn::new(1), segment: 1, offset: 4096, epoch: Epoch::new(2) },
            restore: Restore { end_lsn: Lsn::new(3), epoch: Epoch::new(2) },
            truncations: Truncations { count: 2, last_lsn: Lsn::new(3) },
            first_epoch: Some(StartedEpoch {
                epoch: Epoch::new(1),
                lsn: Lsn::new(2),
                segment: 3,
                offset: 4096,
                start: EpochStart { lineage_id: 2, incarnation: 3, nonce: 4 },
            }),
            age_horizon_ms: 10,
            cell: b"applied=7".to_vec(),
        };
        let mut block = vec![0; COPY_BYTES];
        superblock.encode(&mut block);
        assert_eq!(Superblock::decode(&block), Ok(superblock));
        for bit in 0..block.len() * 8 {
            block[bit / 8] ^= 1 << (bit % 8);
            assert!(Superblock::decode(&block).is_err(), "bit {bit} was not seen");
            block[bit / 8] ^= 1 << (bit % 8);
        }
        assert_eq!(Superblock::decode(&[0; COPY_BYTES]), Err(Fault::Magic));
    }

    #[test]
    fn a_cut_voids_older_epochs_from_its_place_on() {
        let cut = Cut { lsn: Lsn::new(5), segment: 2, offset: 8192, epoch: Epoch::new(3) };
        assert!(cut.voids(2, 8192, Epoch::new(3)));
        assert!(cut.voids(3, 4096, Epoch::new(1)));
        assert!(!cut.voids(2, 8192, Epoch::new(4)));
        assert!(!cut.voids(2, 4096, Epoch::new(3)));
        assert!(!Cut::default().voids(1, 4096, Epoch::new(1)));
    }
}
