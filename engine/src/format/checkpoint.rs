//! Checkpoint files: a header block, and the content in pieces that carry their own place.
//!
//! Owns the bytes of both kinds of checkpoint and the names of the files. Layout: FORMAT.md, section 11.
//! What the content of the engine's own kind means: `format::table`. Reads and writes no files.
//!
//! Invariants
//!  H1. A piece of another checkpoint, or of another place in this one, is refused: its checksum starts
//!      from what the checkpoint is and from the piece's number. test `pieces_know_their_place`

use super::bytes::{
    Decoder, Encoder, open_block, parse_number, seal_block, to_u32, to_u64, to_usize,
};
use super::limits::COUNT_MAX;
use super::version::{Fault, MAGIC_CHECKPOINT, VERSION};
use crate::{Epoch, Lsn};

/// Bytes of the header block.
pub const HEADER_BYTES: usize = 4096;
/// Bytes of a piece in the file; the last one is shorter.
pub const PIECE_BYTES: usize = 64 << 10;
/// Bytes of content in a piece; the rest is its checksum.
pub const PIECE_CONTENT_BYTES: usize = PIECE_BYTES - PIECE_TAIL_BYTES;
const PIECE_TAIL_BYTES: usize = 8;
const CHECKSUM_AT: usize = HEADER_BYTES - 4;
/// Pieces end at multiples of this.
const PIECE_ALIGNMENT: usize = 4096;

/// Whose state a checkpoint holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The engine's: the table of sealed segments.
    Segments,
    /// The embedder's.
    State,
}

impl Kind {
    fn number(self) -> u8 {
        match self {
            Kind::Segments => 1,
            Kind::State => 2,
        }
    }

    fn suffix(self) -> &'static str {
        match self {
            Kind::Segments => ".segments",
            Kind::State => ".checkpoint",
        }
    }
}

/// The file name of a checkpoint.
#[must_use]
pub fn file_name(kind: Kind, lsn: Lsn) -> String {
    format!("{:020}{}", lsn.get(), kind.suffix())
}

/// The checkpoint that a file name stands for; `None` for any other name.
#[must_use]
pub fn parse_file_name(name: &str) -> Option<(Kind, Lsn)> {
    [Kind::Segments, Kind::State].into_iter().find_map(|kind| {
        let lsn = parse_number(name, kind.suffix()).filter(|lsn| *lsn < COUNT_MAX)?;
        Some((kind, Lsn::new(lsn)))
    })
}

/// The header of a checkpoint file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointHeader {
    /// Whose state it is.
    pub kind: Kind,
    /// The log it belongs to.
    pub log_id: u128,
    /// The state holds everything below this LSN and nothing else.
    pub lsn: Lsn,
    /// The epoch of the life that took it.
    pub epoch: Epoch,
    /// Wall clock when it was taken.
    pub time_ms: u64,
    /// Bytes of content.
    pub content_bytes: u64,
}

impl CheckpointHeader {
    /// Writes the header block.
    pub(crate) fn encode(&self, block: &mut [u8]) {
        assert!(block.len() == HEADER_BYTES);
        block.fill(0);
        let mut e = Encoder::new(block);
        e.u32(MAGIC_CHECKPOINT);
        e.u16(VERSION);
        e.u8(self.kind.number());
        e.u8(0);
        e.u128(self.log_id);
        e.u64(self.lsn.get());
        e.u64(self.epoch.get());
        e.u64(self.time_ms);
        e.u64(self.content_bytes);
        seal_block(block, CHECKSUM_AT);
    }

    /// What the checksums of the pieces start from: another checkpoint's pieces are no part of this
    /// one. The length is left out, because it is known only behind them.
    pub(crate) fn seed(&self) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&[self.kind.number()]);
        hasher.update(&self.log_id.to_le_bytes());
        for number in [self.lsn.get(), self.epoch.get(), self.time_ms] {
            hasher.update(&number.to_le_bytes());
        }
        hasher.finalize()
    }

    /// Reads the header block.
    ///
    /// # Errors
    /// The [`Fault`] that makes it no header.
    pub fn decode(block: &[u8]) -> Result<CheckpointHeader, Fault> {
        let mut d = open_block(block, HEADER_BYTES, MAGIC_CHECKPOINT)?;
        let number = d.u8();
        let kind = [Kind::Segments, Kind::State].into_iter().find(|kind| kind.number() == number);
        let Some(kind) = kind else { return Err(Fault::Field) };
        d.u8();
        let header = CheckpointHeader {
            kind,
            log_id: d.u128(),
            lsn: Lsn::new(d.u64()),
            epoch: Epoch::new(d.u64()),
            time_ms: d.u64(),
            content_bytes: d.u64(),
        };
        let possible = (1..COUNT_MAX).contains(&header.lsn.get())
            && header.epoch.get().max(header.content_bytes) < COUNT_MAX / 2;
        if possible { Ok(header) } else { Err(Fault::Field) }
    }

    /// Bytes of the whole file.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        let full = self.content_bytes / to_u64(PIECE_CONTENT_BYTES);
        let rest = to_usize(self.content_bytes % to_u64(PIECE_CONTENT_BYTES));
        let last = if rest == 0 { 0 } else { piece_bytes(rest) };
        to_u64(HEADER_BYTES) + full * to_u64(PIECE_BYTES) + to_u64(last)
    }

    /// Bytes of content in a piece; 0 behind the last one.
    pub(crate) fn piece_content_bytes(&self, number: u64) -> usize {
        let start = number.saturating_mul(to_u64(PIECE_CONTENT_BYTES));
        let rest = self.content_bytes.saturating_sub(start);
        to_usize(rest.min(to_u64(PIECE_CONTENT_BYTES)))
    }
}

/// Where a piece starts in the file.
pub(crate) fn piece_offset(number: u64) -> u64 {
    to_u64(HEADER_BYTES) + number * to_u64(PIECE_BYTES)
}

/// Bytes in the file of a piece with so much content.
pub(crate) fn piece_bytes(content_bytes: usize) -> usize {
    (content_bytes + PIECE_TAIL_BYTES).next_multiple_of(PIECE_ALIGNMENT)
}

/// Puts length and checksum behind the content of a piece, whose bytes are `piece`.
pub(crate) fn seal_piece(piece: &mut [u8], content_bytes: usize, number: u64, seed: u32) {
    let at = piece.len() - PIECE_TAIL_BYTES;
    assert!(content_bytes <= at, "the content leaves room for its checksum");
    piece[content_bytes..at].fill(0);
    piece[at..at + 4].copy_from_slice(&to_u32(content_bytes).to_le_bytes());
    let checksum = piece_checksum(&piece[..at + 4], number, seed);
    piece[at + 4..].copy_from_slice(&checksum.to_le_bytes());
}

/// The content of a piece.
///
/// # Errors
/// [`Fault::Checksum`], or [`Fault::Short`] when the file ends in it.
pub(crate) fn open_piece(
    piece: &[u8],
    content_bytes: usize,
    number: u64,
    seed: u32,
) -> Result<&[u8], Fault> {
    let Some(piece) = piece.get(..piece_bytes(content_bytes)) else { return Err(Fault::Short) };
    let at = piece.len() - PIECE_TAIL_BYTES;
    let mut d = Decoder::new(&piece[at..]);
    let (length, checksum) = (d.u32(), d.u32());
    if checksum != piece_checksum(&piece[..at + 4], number, seed) {
        return Err(Fault::Checksum);
    }
    if length != to_u32(content_bytes) {
        return Err(Fault::Field);
    }
    Ok(&piece[..content_bytes])
}

fn piece_checksum(bytes: &[u8], number: u64, seed: u32) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.update(&number.to_le_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(content_bytes: u64) -> CheckpointHeader {
        CheckpointHeader {
            kind: Kind::State,
            log_id: 1,
            lsn: Lsn::new(7),
            epoch: Epoch::new(2),
            time_ms: 3,
            content_bytes,
        }
    }

    #[test]
    fn round_trip_and_every_flipped_bit() {
        let mut block = vec![0; HEADER_BYTES];
        header(9).encode(&mut block);
        assert_eq!(CheckpointHeader::decode(&block), Ok(header(9)));
        for bit in 0..block.len() * 8 {
            block[bit / 8] ^= 1 << (bit % 8);
            assert!(CheckpointHeader::decode(&block).is_err(), "bit {bit} was not seen");
            block[bit / 8] ^= 1 << (bit % 8);
        }
        assert_eq!(CheckpointHeader::decode(&[0; HEADER_BYTES]), Err(Fault::Magic));
    }

    #[test]
    fn pieces_know_their_place() {
        let mut piece = vec![0; piece_bytes(11)];
        piece[..11].copy_from_slice(b"hello world");
        seal_piece(&mut piece, 11, 4, 99);
        assert_eq!(open_piece(&piece, 11, 4, 99), Ok(&b"hello world"[..]));
        assert_eq!(open_piece(&piece, 11, 5, 99), Err(Fault::Checksum));
        assert_eq!(open_piece(&piece, 11, 4, 98), Err(Fault::Checksum));
        assert_eq!(open_piece(&piece, 12, 4, 99), Err(Fault::Field));
        assert_eq!(open_piece(&piece[..4095], 11, 4, 99), Err(Fault::Short));
        for bit in 0..piece.len() * 8 {
            piece[bit / 8] ^= 1 << (bit % 8);
            assert!(open_piece(&piece, 11, 4, 99).is_err(), "bit {bit} was not seen");
            piece[bit / 8] ^= 1 << (bit % 8);
        }
        assert!(open_piece(&vec![0; PIECE_BYTES], 0, 0, 0).is_err(), "zeros are valid nowhere");
    }

    #[test]
    fn lengths_agree() {
        for content in [0, 1, PIECE_CONTENT_BYTES - 1, PIECE_CONTENT_BYTES, 200_000] {
            let header = header(to_u64(content));
            let mut bytes = HEADER_BYTES;
            for number in 0.. {
                let content = header.piece_content_bytes(number);
                if content == 0 {
                    break;
                }
                assert_eq!(to_u64(bytes), piece_offset(number));
                bytes += piece_bytes(content);
            }
            assert_eq!(header.file_bytes(), to_u64(bytes), "{content}");
        }
    }

    #[test]
    fn names() {
        for kind in [Kind::Segments, Kind::State] {
            assert_eq!(parse_file_name(&file_name(kind, Lsn::new(12))), Some((kind, Lsn::new(12))));
        }
        for name in ["12.checkpoint", "00000000000000000000.segments", "x.segments", ""] {
            assert_eq!(parse_file_name(name), None, "{name}");
        }
    }
}
