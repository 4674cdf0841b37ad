//! Cursors over fixed little-endian layouts.
//!
//! Owns how integers become bytes, and the two checksums over them. Does not know any structure: each
//! `format` file lists its fields in order, once in `encode` and once in `decode`.
//!
//! Bounds: a cursor never grows its buffer; running past its end is a broken layout of our own and
//! panics, so the callers hand it a buffer of the fixed size of their structure.

use super::version::{Fault, VERSION, VERSION_MIN};

/// Writes fields one after the other into a zeroed buffer.
pub(crate) struct Encoder<'a> {
    bytes: &'a mut [u8],
    at: usize,
}

impl<'a> Encoder<'a> {
    pub(crate) fn new(bytes: &'a mut [u8]) -> Encoder<'a> {
        Encoder { bytes, at: 0 }
    }

    pub(crate) fn bytes(&mut self, value: &[u8]) {
        self.bytes[self.at..self.at + value.len()].copy_from_slice(value);
        self.at += value.len();
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.bytes(&[value]);
    }

    pub(crate) fn u16(&mut self, value: u16) {
        self.bytes(&value.to_le_bytes());
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.bytes(&value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.bytes(&value.to_le_bytes());
    }

    pub(crate) fn u128(&mut self, value: u128) {
        self.bytes(&value.to_le_bytes());
    }

    /// Where the next field goes.
    pub(crate) fn at(&self) -> usize {
        self.at
    }
}

/// Reads fields one after the other.
pub(crate) struct Decoder<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Decoder<'a> {
        Decoder { bytes, at: 0 }
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut value = [0; N];
        value.copy_from_slice(&self.bytes[self.at..self.at + N]);
        self.at += N;
        value
    }

    pub(crate) fn u8(&mut self) -> u8 {
        u8::from_le_bytes(self.array())
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    pub(crate) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    pub(crate) fn u128(&mut self) -> u128 {
        u128::from_le_bytes(self.array())
    }

    pub(crate) fn bytes(&mut self, len: usize) -> &'a [u8] {
        let value = &self.bytes[self.at..self.at + len];
        self.at += len;
        value
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }
}

/// The checksum of every structure: CRC-32 (IEEE).
pub(crate) fn checksum(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

/// The checksum of a block that holds its own checksum in `CHECKSUM_AT..CHECKSUM_AT + 4`: over all
/// other bytes of the block, padding included.
pub(crate) fn block_checksum(block: &[u8], checksum_at: usize) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&block[..checksum_at]);
    hasher.update(&block[checksum_at + 4..]);
    hasher.finalize()
}

/// Stamps a block with its checksum.
pub(crate) fn seal_block(block: &mut [u8], checksum_at: usize) {
    let checksum = block_checksum(block, checksum_at);
    block[checksum_at..checksum_at + 4].copy_from_slice(&checksum.to_le_bytes());
}

/// Whether a block carries the right checksum.
pub(crate) fn block_is_valid(block: &[u8], checksum_at: usize) -> bool {
    let mut stored = Decoder { bytes: block, at: checksum_at };
    stored.u32() == block_checksum(block, checksum_at)
}

/// The fields of a block behind magic and version, if it is whole and of a version that is read. Its
/// checksum stands in its last four bytes. Rot is not a newer version: the checksum is looked at first.
pub(crate) fn open_block(block: &[u8], bytes: usize, magic: u32) -> Result<Decoder<'_>, Fault> {
    let Some(block) = block.get(..bytes) else { return Err(Fault::Short) };
    let mut d = Decoder::new(block);
    if d.u32() != magic {
        return Err(Fault::Magic);
    }
    if !block_is_valid(block, bytes - 4) {
        return Err(Fault::Checksum);
    }
    let version = d.u16();
    if (VERSION_MIN..=VERSION).contains(&version) { Ok(d) } else { Err(Fault::Version(version)) }
}

/// The number that a file name starts with, 20 digits and not 0; `None` for any other name.
pub(crate) fn parse_number(name: &str, suffix: &str) -> Option<u64> {
    let number = name.strip_suffix(suffix)?;
    let is_ours = number.len() == 20 && number.bytes().all(|b| b.is_ascii_digit());
    number.parse().ok().filter(|number| is_ours && *number > 0)
}

/// A length in bytes as the `u64` of a file offset.
pub(crate) fn to_u64(bytes: usize) -> u64 {
    u64::try_from(bytes).expect("a usize fits in 64 bits")
}

/// A length in bytes as the `u32` of a field; lengths in the format are capped below 4 GiB.
pub(crate) fn to_u32(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("lengths in the format are capped below 4 GiB")
}

/// A file offset or length that is known to fit in memory.
pub(crate) fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).expect("the engine runs on 64-bit targets")
}

/// `bytes` rounded up to whole blocks.
pub(crate) fn round_up(bytes: usize, block_bytes: usize) -> usize {
    bytes.div_ceil(block_bytes) * block_bytes
}
