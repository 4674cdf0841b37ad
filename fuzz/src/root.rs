//! Any bytes as the structures around the batches: superblock, watermark, segment header, trailer, the
//! headers of checkpoints, parity and forks, and the names of files.
//!
//! Properties
//!  R1. Decoding answers, whatever the bytes are.
//!  R2. What decodes keeps the promises by which recovery computes sizes and offsets.

use cairnlog_engine::Lsn;
use cairnlog_engine::format::checkpoint::{self, CheckpointHeader};
use cairnlog_engine::format::fork::{self, ForkHeader};
use cairnlog_engine::format::parity::{self, Layout, ParityHeader, UNIT_BYTES};
use cairnlog_engine::format::segment::{SegmentHeader, Trailer, file_name, parse_file_name};
use cairnlog_engine::format::superblock::{CELL_BYTES_MAX, COPY_BYTES, Superblock};
use cairnlog_engine::format::watermark::{BLOCK_BYTES, Watermark};

use crate::forge;

/// The block size that the forged structures of a segment have, where the input does not say.
const SEGMENT_BLOCK_BYTES: usize = 512;
const SEGMENT_BLOCK_BYTES_AT: std::ops::Range<usize> = 64..68;

/// Holds R1 and R2 against the bytes as they are, and as each structure with a right checksum.
pub fn check(bytes: &[u8]) {
    check_all(bytes);
    for (magic, length) in [
        (forge::SUPERBLOCK, COPY_BYTES),
        (forge::WATERMARK, BLOCK_BYTES),
        (forge::CHECKPOINT, checkpoint::HEADER_BYTES),
        (forge::PARITY, parity::HEADER_BYTES),
        (forge::FORK, fork::HEADER_BYTES),
    ] {
        let mut block = forge::start(bytes, magic, length);
        forge::seal_root(&mut block);
        check_all(&block);
    }
    let mut block = forge::start(bytes, forge::TRAILER, SEGMENT_BLOCK_BYTES);
    forge::seal_segment(&mut block);
    check_all(&block);
    let mut block = forge::start(bytes, forge::SEGMENT, SEGMENT_BLOCK_BYTES);
    forge::seal_segment(&mut block);
    check_all(&block);
    let block_bytes = u32::try_from(SEGMENT_BLOCK_BYTES).expect("a small number");
    block[SEGMENT_BLOCK_BYTES_AT].copy_from_slice(&block_bytes.to_le_bytes());
    forge::seal_segment(&mut block);
    check_all(&block);
    check_name(bytes);
}

fn check_all(bytes: &[u8]) {
    if let Ok(superblock) = Superblock::decode(bytes) {
        assert!(superblock.cell.len() <= CELL_BYTES_MAX && superblock.first_segment > 0);
        assert!(superblock.first_lsn >= Lsn::FIRST);
        assert_block(superblock.block_bytes);
    }
    // Every value of its fields is evidence of something.
    let _ = Watermark::decode(bytes);
    if let Ok(header) = SegmentHeader::decode(bytes) {
        assert!(header.segment > 0 && header.base_lsn >= Lsn::FIRST);
        assert_block(header.block_bytes);
        let block_bytes = u64::from(header.block_bytes);
        assert!(header.segment_bytes.is_multiple_of(block_bytes));
        let data_end = header.data_end();
        assert!(data_end.is_multiple_of(block_bytes), "batches end at a block");
        assert!(block_bytes < data_end && data_end < header.segment_bytes, "there is room");
    }
    if let Ok(header) = CheckpointHeader::decode(bytes) {
        assert!(header.lsn >= Lsn::FIRST && header.file_bytes() >= header.content_bytes);
    }
    if let Ok(header) = ForkHeader::decode(bytes) {
        assert!(Lsn::FIRST <= header.lsn && header.lsn <= header.end_lsn);
        assert!(header.content_bytes.is_multiple_of(u64::from(header.block_bytes)));
    }
    if let Ok(header) = ParityHeader::decode(bytes) {
        let layout = Layout::of(header.segment_bytes);
        assert!(header.segment > 0 && layout.slabs() > 0);
        let data: usize = (0..layout.slabs()).map(|slab| layout.data_units(slab)).sum();
        assert!(data as u64 * UNIT_BYTES as u64 >= header.segment_bytes);
        assert!(
            layout.file_bytes() < header.segment_bytes,
            "parity is shorter than what it is for"
        );
    }
    if let Ok(trailer) = Trailer::decode(bytes) {
        assert!(trailer.base_lsn <= trailer.end_lsn);
    }
}

fn assert_block(block_bytes: u32) {
    assert!(block_bytes.is_power_of_two() && (512..=65536).contains(&block_bytes));
}

fn check_name(bytes: &[u8]) {
    let Ok(name) = str::from_utf8(bytes) else { return };
    if let Some((kind, lsn)) = checkpoint::parse_file_name(name) {
        assert_eq!(checkpoint::file_name(kind, lsn), name, "a checkpoint has one name");
    }
    if let Some(number) = parity::parse_file_name(name) {
        assert_eq!(parity::file_name(number), name, "a parity file has one name");
    }
    if let Some(number) = parse_file_name(name) {
        assert!(number > 0);
        assert_eq!(file_name(number), name, "a segment has one name");
    }
}
