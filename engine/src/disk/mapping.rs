//! A sealed segment in memory.
//!
//! Owns the mapping of a file that nobody writes any more. A read error of the medium must not become
//! a SIGBUS, so a range is touched only after [`Mapping::populate`] succeeded on it.
#![allow(unsafe_code)]

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::{Deref, Range};

/// The bytes of a file, mapped or copied.
pub struct Mapping(Source);

enum Source {
    Mapped(memmap2::Mmap),
    #[cfg(feature = "sim")]
    Copied {
        bytes: Vec<u8>,
        unreadable: Vec<Range<usize>>,
    },
}

impl Mapping {
    /// Maps a file. Only sealed segments are mapped: they are immutable, and recycled only after the
    /// last handle to them is gone.
    pub(super) fn of(file: &File) -> io::Result<Mapping> {
        // SAFETY: the engine never changes or shortens a sealed segment while a handle to it lives, and
        // other processes keep to the same lock. Should somebody else write the file all the same, the
        // bytes are only ever read as plain bytes, behind a checksum.
        let mapped = unsafe { memmap2::Mmap::map(file) }?;
        Ok(Mapping(Source::Mapped(mapped)))
    }

    /// The same interface over a copy, of which some ranges cannot be populated.
    #[cfg(feature = "sim")]
    pub(super) fn copied(bytes: Vec<u8>, unreadable: Vec<Range<usize>>) -> Mapping {
        Mapping(Source::Copied { bytes, unreadable })
    }

    /// Reads a range into memory, so that touching it cannot fault.
    ///
    /// # Errors
    /// What the medium answered, instead of a signal later.
    pub fn populate(&self, range: Range<usize>) -> io::Result<()> {
        match &self.0 {
            Source::Mapped(mapped) => {
                let advice = memmap2::Advice::PopulateRead;
                match mapped.advise_range(advice, range.start, range.len()) {
                    // A kernel before 5.14 does not know the advice: the pages come one by one.
                    Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
                    other => other,
                }
            }
            #[cfg(feature = "sim")]
            Source::Copied { unreadable, .. } => {
                let meets = |bad: &Range<usize>| bad.start < range.end && range.start < bad.end;
                if unreadable.iter().any(meets) {
                    return Err(io::Error::other("an unreadable sector"));
                }
                Ok(())
            }
        }
    }

    /// Starts reading a range ahead of its use; never fails.
    pub fn prefetch(&self, range: Range<usize>) {
        match &self.0 {
            Source::Mapped(mapped) => {
                // Only a hint: an error shows when the range is populated.
                let _ = mapped.advise_range(memmap2::Advice::WillNeed, range.start, range.len());
            }
            #[cfg(feature = "sim")]
            Source::Copied { .. } => {}
        }
    }
}

impl Deref for Mapping {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Source::Mapped(mapped) => mapped,
            #[cfg(feature = "sim")]
            Source::Copied { bytes, .. } => bytes,
        }
    }
}

impl fmt::Debug for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mapping({} bytes)", self.len())
    }
}
