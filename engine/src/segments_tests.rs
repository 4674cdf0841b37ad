//! Tests of `segments`.

use super::*;
use crate::disk::sim::SimDisk;

#[test]
fn retiring_waits_for_readers() {
    let disk = SimDisk::new(1);
    let file = disk.create(&file_name(1), 1 << 20).unwrap();
    let header = SegmentHeader {
        log_id: 1,
        segment: 1,
        base_lsn: Lsn::FIRST,
        epoch: Epoch::new(1),
        time_ms: 0,
        segment_bytes: 1 << 20,
        block_bytes: 4096,
        prev_checksum: 0,
        prev_end_offset: 0,
    };
    let extent = Extent::empty(&header);
    let segment = Segment::unsealed(header, file, extent, Index::default());
    let mapping = segment.mapping(&disk).unwrap();
    assert!(!segment.retire());
    assert_eq!(segment.file(&disk).unwrap_err().kind(), io::ErrorKind::NotFound);
    drop(mapping);
    assert!(segment.retire());
}
