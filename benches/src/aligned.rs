//! Memory that `O_DIRECT` accepts.
//!
//! Owns the alignment. Does not read or write files.
//!
//! Invariant: the slice starts at a multiple of `BLOCK_BYTES`; the vector below it is never
//! resized, so it cannot move.

use std::ops::{Deref, DerefMut};

/// Alignment of memory, offset and length that every device here takes; also the engine's default
/// block.
pub const BLOCK_BYTES: usize = 4096;

/// A zeroed buffer on a block boundary.
#[derive(Debug)]
pub struct AlignedBuffer {
    storage: Vec<u8>,
    start: usize,
    length_bytes: usize,
}

impl AlignedBuffer {
    /// A buffer of `length_bytes`, rounded up to whole blocks.
    #[must_use]
    pub fn new(length_bytes: usize) -> Self {
        let length_bytes = length_bytes.next_multiple_of(BLOCK_BYTES);
        let storage = vec![0; length_bytes + BLOCK_BYTES];
        let start = storage.as_ptr().align_offset(BLOCK_BYTES);
        assert!(start < BLOCK_BYTES, "a byte pointer can always be aligned");
        Self { storage, start, length_bytes }
    }
}

impl Deref for AlignedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.storage[self.start..self.start + self.length_bytes]
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.storage[self.start..self.start + self.length_bytes]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_on_a_block_and_is_whole_blocks() {
        for length_bytes in [1, 100, 4096, 4097, 1 << 20] {
            let buffer = AlignedBuffer::new(length_bytes);
            assert_eq!(buffer.as_ptr().align_offset(BLOCK_BYTES), 0);
            assert_eq!(buffer.len(), length_bytes.next_multiple_of(BLOCK_BYTES));
        }
    }
}
