//! Right checksums over wrong bytes.
//!
//! Owns the places of the checksums, as FORMAT.md gives them, so that inputs get behind them. What is
//! forged here only somebody with bad intentions would write; the engine must not panic over it either.

/// What starts each structure, with the version behind it.
pub(crate) const BATCH: &[u8; 4] = b"CLbt";
pub(crate) const SEGMENT: &[u8; 4] = b"CLsg";
pub(crate) const TRAILER: &[u8; 4] = b"CLtr";
pub(crate) const SUPERBLOCK: &[u8; 4] = b"CLsb";
pub(crate) const WATERMARK: &[u8; 4] = b"CLwm";
pub(crate) const CHECKPOINT: &[u8; 4] = b"CLcp";
pub(crate) const PARITY: &[u8; 4] = b"CLpa";
pub(crate) const FORK: &[u8; 4] = b"CLfk";

const BATCH_HEADER_BYTES: usize = 128;
const BATCH_BODY_CHECKSUM_AT: usize = 100;
const BATCH_CHECKSUM_AT: usize = BATCH_HEADER_BYTES - 4;
const BATCH_LENGTH: std::ops::Range<usize> = 52..56;
const SEGMENT_CHECKSUM_AT: usize = 252;
const ROOT_CHECKSUM_AT: usize = 4092;
const ROOT_BYTES: usize = 4096;

/// Bytes as a structure of a log: the magic number and the version in front are made right.
pub(crate) fn start(bytes: &[u8], magic: &[u8; 4], length: usize) -> Vec<u8> {
    let mut structure = bytes.to_vec();
    structure.resize(length, 0);
    structure[..4].copy_from_slice(magic);
    structure[4..6].copy_from_slice(&1_u16.to_le_bytes());
    structure
}

/// Makes the checksum of the header of a batch right.
pub(crate) fn seal_batch_header(batch: &mut [u8]) {
    let sum = crc32fast::hash(&batch[..BATCH_CHECKSUM_AT]);
    put(batch, BATCH_CHECKSUM_AT, sum);
}

/// Makes both checksums of a batch right; its bytes are the whole batch.
pub(crate) fn seal_batch(batch: &mut [u8]) {
    let sum = crc32fast::hash(&batch[BATCH_HEADER_BYTES..]);
    put(batch, BATCH_BODY_CHECKSUM_AT, sum);
    seal_batch_header(batch);
}

/// Makes the checksum of a block with a segment header or a trailer right.
pub(crate) fn seal_segment(block: &mut [u8]) {
    seal(block, SEGMENT_CHECKSUM_AT);
}

/// Makes the checksum of a copy of the superblock or of a block of the watermark right.
pub(crate) fn seal_root(block: &mut [u8]) {
    seal(block, ROOT_CHECKSUM_AT);
}

/// Makes the checksums right of whatever structure starts at `offset`, if it is one.
pub(crate) fn seal_any(file: &mut [u8], offset: usize, block_bytes: usize) {
    let Some(structure) = file.get_mut(offset..) else { return };
    if structure.starts_with(BATCH) && structure.len() >= BATCH_HEADER_BYTES {
        let mut length = [0; 4];
        length.copy_from_slice(&structure[BATCH_LENGTH]);
        let length = usize::try_from(u32::from_le_bytes(length)).expect("64-bit targets");
        match structure.get_mut(..length) {
            Some(batch) if length > BATCH_HEADER_BYTES => seal_batch(batch),
            _ => seal_batch_header(structure),
        }
    } else if structure.starts_with(SEGMENT) || structure.starts_with(TRAILER) {
        structure.get_mut(..block_bytes).into_iter().for_each(seal_segment);
    } else if structure.starts_with(SUPERBLOCK) || structure.starts_with(WATERMARK) {
        structure.get_mut(..ROOT_BYTES).into_iter().for_each(seal_root);
    }
}

fn seal(block: &mut [u8], checksum_at: usize) {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&block[..checksum_at]);
    hasher.update(&block[checksum_at + 4..]);
    put(block, checksum_at, hasher.finalize());
}

fn put(bytes: &mut [u8], at: usize, sum: u32) {
    bytes[at..at + 4].copy_from_slice(&sum.to_le_bytes());
}
