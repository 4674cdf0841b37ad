//! The names in a log's directory.
//!
//! Owns which names are the log's; every other name is foreign, reported, and left alone. Names never
//! come from records or users.

use crate::format::bytes::parse_number;
use crate::format::checkpoint::{self, Kind};
use crate::format::{fork, parity, segment};
use crate::{Epoch, Lsn, superblock, watermark};

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Superblock,
    Watermark,
    Segment(u64),
    /// A dropped segment kept for recycling.
    Spare(u64),
    /// A checkpoint, the engine's or the embedder's, at this LSN.
    Checkpoint(Kind, Lsn),
    /// The parity of a sealed segment.
    Parity(u64),
    /// What a repair replaced. Nobody but a person removes it.
    Replaced,
    /// What a truncation gave up, from this LSN on. Nobody but a person removes it.
    Fork(Lsn, Epoch),
    /// Room on the disk for a fork.
    Reserve,
    /// Left over from a crash while something was made.
    Temporary,
    Foreign,
}

/// The name of the file that keeps room for a fork.
pub(crate) const RESERVE_FILE_NAME: &str = "fork.reserve";
const SPARE_SUFFIX: &str = ".spare";
pub(crate) const TEMPORARY_SUFFIX: &str = ".tmp";
/// Of a segment that is being mended. Not the name under which it is made new, as it may be meanwhile when
/// it was truncated.
pub(crate) const MEND_SUFFIX: &str = ".mend.tmp";

/// Between the name of what was replaced and a number.
const REPLACED_INFIX: &str = ".replaced-";

/// The name that the `nth` replaced content of a file is kept under.
pub(crate) fn replaced_name(name: &str, nth: u32) -> String {
    format!("{name}{REPLACED_INFIX}{nth}")
}

pub(crate) fn spare_name(number: u64) -> String {
    format!("{number:020}{SPARE_SUFFIX}")
}

pub(crate) fn classify(name: &str) -> Name {
    if name == superblock::FILE_NAME {
        return Name::Superblock;
    }
    if name == watermark::FILE_NAME {
        return Name::Watermark;
    }
    if name == RESERVE_FILE_NAME {
        return Name::Reserve;
    }
    if let Some(number) = segment::parse_file_name(name) {
        return Name::Segment(number);
    }
    if let Some((lsn, epoch)) = fork::parse_file_name(name) {
        return Name::Fork(lsn, epoch);
    }
    if let Some(number) = parity::parse_file_name(name) {
        return Name::Parity(number);
    }
    if let Some((kind, lsn)) = checkpoint::parse_file_name(name) {
        return Name::Checkpoint(kind, lsn);
    }
    if let Some(number) = parse_number(name, SPARE_SUFFIX) {
        return Name::Spare(number);
    }
    if let Some((replaced, nth)) = name.split_once(REPLACED_INFIX)
        && !nth.is_empty()
        && nth.bytes().all(|b| b.is_ascii_digit())
    {
        return match classify(replaced) {
            Name::Superblock | Name::Segment(_) | Name::Checkpoint(..) => Name::Replaced,
            _ => Name::Foreign,
        };
    }
    if name.strip_suffix(MEND_SUFFIX).and_then(segment::parse_file_name).is_some() {
        return Name::Temporary;
    }
    match name.strip_suffix(TEMPORARY_SUFFIX).map(classify) {
        Some(
            Name::Superblock
            | Name::Watermark
            | Name::Segment(_)
            | Name::Parity(_)
            | Name::Fork(..)
            | Name::Replaced
            | Name::Checkpoint(..),
        ) => Name::Temporary,
        _ => Name::Foreign,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// S4.
    #[test]
    fn only_our_names_are_ours() {
        assert_eq!(classify("superblock"), Name::Superblock);
        assert_eq!(classify("watermark"), Name::Watermark);
        assert_eq!(classify("00000000000000000007.seg"), Name::Segment(7));
        assert_eq!(classify(&spare_name(3)), Name::Spare(3));
        assert_eq!(classify(&parity::file_name(7)), Name::Parity(7));
        let state = checkpoint::file_name(Kind::State, Lsn::new(9));
        assert_eq!(classify(&state), Name::Checkpoint(Kind::State, Lsn::new(9)));
        assert_eq!(classify(&format!("{state}.tmp")), Name::Temporary);
        assert_eq!(classify(&replaced_name("superblock", 2)), Name::Replaced);
        let fork = fork::file_name(Lsn::new(7), Epoch::new(3));
        assert_eq!(classify(&fork), Name::Fork(Lsn::new(7), Epoch::new(3)));
        assert_eq!(classify(&format!("{fork}.tmp")), Name::Temporary);
        assert_eq!(classify("fork.reserve"), Name::Reserve);
        assert_eq!(classify("00000000000000000007.seg.mend.tmp"), Name::Temporary);
        assert_eq!(classify("superblock.mend.tmp"), Name::Foreign);
        assert_eq!(classify("00000000000000000007.seg.replaced-1.tmp"), Name::Temporary);
        for name in ["superblock.tmp", "watermark.tmp", "00000000000000000007.seg.tmp"] {
            assert_eq!(classify(name), Name::Temporary, "{name}");
        }
        let foreign = ["a.tmp", ".tmp", "7.seg", "x.spare", "superblock.tmp.tmp", "", "base"];
        for name in foreign {
            assert_eq!(classify(name), Name::Foreign, "{name}");
        }
    }
}
