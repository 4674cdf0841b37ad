//! The sizes that a directory may have.
//!
//! Owns the ranges that decoding and configuration both check. Units: bytes.

/// Smallest and largest block.
pub(crate) const BLOCK_BYTES: std::ops::RangeInclusive<u32> = 512..=65536;
/// Smallest and largest segment.
pub(crate) const SEGMENT_BYTES: std::ops::RangeInclusive<u64> = (64 << 10)..=(4 << 30);

/// No counter, LSN, offset or number of a segment reaches this, so that adding to one cannot overflow.
pub(crate) const COUNT_MAX: u64 = u64::MAX / 2;

/// Whether a directory may have such blocks.
pub(crate) fn block_bytes_are_possible(block_bytes: u32) -> bool {
    BLOCK_BYTES.contains(&block_bytes) && block_bytes.is_power_of_two()
}

/// Whether a segment may have this length: whole blocks, with room for a header, a batch and a footer.
pub(crate) fn segment_bytes_are_possible(segment_bytes: u64, block_bytes: u32) -> bool {
    SEGMENT_BYTES.contains(&segment_bytes)
        && segment_bytes.is_multiple_of(u64::from(block_bytes))
        && segment_bytes >= 8 * u64::from(block_bytes)
}
