//! Magic numbers and the format version.
//!
//! Owns the constants that say "this is ours, and this is how old it is". A binary reads the versions
//! [`VERSION_MIN`]`..=`[`VERSION`] and refuses newer files without touching them.

/// The version this binary writes.
pub const VERSION: u16 = 1;
/// The version of lost ranges, which the first version does not know.
pub(crate) const VERSION_LOST_RANGE: u16 = 2;
/// The oldest version this binary reads.
pub const VERSION_MIN: u16 = 1;

pub(crate) const MAGIC_BATCH: u32 = u32::from_le_bytes(*b"CLbt");
pub(crate) const MAGIC_SEGMENT: u32 = u32::from_le_bytes(*b"CLsg");
pub(crate) const MAGIC_TRAILER: u32 = u32::from_le_bytes(*b"CLtr");
pub(crate) const MAGIC_SUPERBLOCK: u32 = u32::from_le_bytes(*b"CLsb");
pub(crate) const MAGIC_CHECKPOINT: u32 = u32::from_le_bytes(*b"CLcp");
pub(crate) const MAGIC_PARITY: u32 = u32::from_le_bytes(*b"CLpa");
pub(crate) const MAGIC_FORK: u32 = u32::from_le_bytes(*b"CLfk");
pub(crate) const MAGIC_WATERMARK: u32 = u32::from_le_bytes(*b"CLwm");

/// Why a structure was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The magic number is another one: not this structure, never written, or zeroed.
    Magic,
    /// Written by a newer (or far older) version; this binary does not touch it.
    Version(u16),
    /// The checksum over the structure does not match its bytes.
    Checksum,
    /// The header is right and the body behind it does not match its checksum.
    Body,
    /// Belongs to another log.
    ForeignLog,
    /// Belongs at another place: another segment or another offset.
    Misplaced,
    /// Does not continue the batch before it: an older life of the same place, or a gap.
    Chain,
    /// A field has a value that no writer produces.
    Field,
    /// The file ends before the structure does.
    Short,
    /// The file is missing.
    Missing,
    /// The medium does not give the bytes.
    Unreadable,
    /// The digest over the records is not the one that was taken when they were sealed.
    Digest,
    /// A batch at or beyond a recorded cut, from an epoch that was cut off.
    Void,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Fault::Magic => f.write_str("no such structure here (magic)"),
            Fault::Version(v) => write!(f, "format version {v} is not readable by this binary"),
            Fault::Checksum => f.write_str("checksum mismatch"),
            Fault::Body => f.write_str("checksum of the body does not match"),
            Fault::ForeignLog => f.write_str("belongs to another log"),
            Fault::Misplaced => f.write_str("belongs at another place"),
            Fault::Chain => f.write_str("does not continue the batch before it"),
            Fault::Field => f.write_str("a field has an impossible value"),
            Fault::Short => f.write_str("the file ends too early"),
            Fault::Unreadable => f.write_str("the medium cannot be read there"),
            Fault::Missing => f.write_str("the file is missing"),
            Fault::Digest => f.write_str("the records are not those that were sealed (digest)"),
            Fault::Void => f.write_str("cut off by a recorded truncation"),
        }
    }
}
