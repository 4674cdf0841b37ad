//! Any bytes as a batch.
//!
//! Properties
//!  B1. Decoding answers, whatever the bytes are.
//!  B2. A header that decodes keeps the promises by which readers size buffers and compute offsets.
//!  B3. The places of records lie inside of the payload, one behind the other, and are as many as the
//!      header says, or there is an error.
//!  B4. An identity is found in an epoch start only.

use cairnlog_engine::format::batch::{
    BatchHeader, EpochStart, HEADER_BYTES, Kind, LENGTH_MAX, RECORD_PREFIX_BYTES, Records,
    producer_runs,
};
use cairnlog_engine::{Epoch, Lsn};

use crate::forge;

/// Longer inputs show nothing new.
const BYTES_MAX: usize = 16 << 10;
const SECTOR_BYTES: usize = 512;

/// Holds B1 to B4 against the bytes as they are, with a right header, and as a whole batch.
pub fn check(bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(BYTES_MAX)];
    check_batch(bytes);
    let mut batch = forge::start(bytes, forge::BATCH, bytes.len().max(HEADER_BYTES));
    forge::seal_batch_header(&mut batch);
    check_batch(&batch);
    let length = bytes.len().max(SECTOR_BYTES).next_multiple_of(SECTOR_BYTES);
    let mut batch = forge::start(bytes, forge::BATCH, length);
    batch[52..56].copy_from_slice(&u32_of(length).to_le_bytes());
    forge::seal_batch(&mut batch);
    if let Ok(header) = BatchHeader::decode(&batch) {
        assert!(header.body_is_whole(&batch), "both checksums are right");
    }
    check_batch(&batch);
}

fn check_batch(bytes: &[u8]) {
    let Ok(header) = BatchHeader::decode(bytes) else { return };
    check_header(&header);
    check_records(&header, bytes);
    let identity = EpochStart::decode(&header, bytes);
    assert!(identity.is_none() || header.kind == Kind::EpochStart, "B4");
    if header.body_is_whole(bytes) {
        assert_eq!(bytes.len(), size(header.length));
        for run in producer_runs(&header, bytes) {
            let end = run.first_record.checked_add(run.record_count);
            assert!(end.is_some_and(|end| end <= header.record_count));
        }
    }
}

fn check_header(header: &BatchHeader) {
    let (length, payload) = (size(header.length), size(header.payload_bytes));
    assert!(length.is_multiple_of(SECTOR_BYTES) && length <= LENGTH_MAX);
    assert!(HEADER_BYTES + payload <= length);
    assert!(size(header.record_count) * RECORD_PREFIX_BYTES <= payload);
    assert!(header.base_lsn >= Lsn::FIRST && header.epoch > Epoch::NONE);
    assert!(header.durable_lsn <= header.base_lsn && header.commit_lsn <= header.base_lsn);
    assert_eq!(header.kind == Kind::Records, header.record_count > 0);
    if header.lost.is_none() {
        assert_eq!(header.end_lsn().since(header.base_lsn), u64::from(header.record_count));
        assert_eq!(header.end_offset() - header.offset, u64::from(header.length));
    }
}

fn check_records(header: &BatchHeader, bytes: &[u8]) {
    let payload_end = HEADER_BYTES + size(header.payload_bytes);
    let (mut records, mut end) = (Records::new(header), HEADER_BYTES);
    let mut count = 0;
    while let Ok(place) = records.next_in(bytes) {
        let Some(place) = place else {
            assert_eq!(count, header.record_count, "B3");
            break;
        };
        assert_eq!(place.start, end + RECORD_PREFIX_BYTES, "B3");
        assert!(place.start <= place.end && place.end <= payload_end.min(bytes.len()), "B3");
        (count, end) = (count + 1, place.end);
        assert!(count <= header.record_count, "B3");
    }
}

fn size(bytes: u32) -> usize {
    usize::try_from(bytes).expect("64-bit targets")
}

fn u32_of(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("inputs are short")
}
