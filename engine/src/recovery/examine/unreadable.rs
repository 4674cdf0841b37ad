//! Blocks behind the end of the log that the medium does not give.
//!
//! Owns the decision about them: FORMAT.md, section 8. They are no torn write, which leaves something to
//! read, and may hide evidence; so they are passed over only where what can be read says that nothing
//! was written there. Reads only; they are zeroed by `recovery::cut`.

use rustix::io::Errno;

use super::{Examined, Examiner};
use crate::disk::{Aligned, DiskFile};
use crate::error::IoFailure;
use crate::format::bytes::to_usize;
use crate::format::segment::file_name;
use crate::recovery::{Verdict, decide};
use crate::segments::Segment;

impl Examined {
    /// Whether a segment has blocks behind the end of the log that could not be read.
    pub(crate) fn is_unreadable(&self, segment: u64) -> bool {
        self.unreadable.iter().any(|(number, _)| *number == segment)
    }
}

impl Examiner<'_> {
    /// Decides about blocks behind the end that cannot be read, when all that can be was.
    pub(super) fn pass_over_unreadable(&mut self) -> Result<(), IoFailure> {
        let Some((segment, _)) = self.found.unreadable.first().copied() else { return Ok(()) };
        let verdict = decide(&self.found.facts);
        if self.found.corruption.is_some() || matches!(verdict, Verdict::Damaged(_)) {
            // More evidence would not change that.
            return Ok(());
        }
        if verdict != Verdict::Clean || !self.ends_blank() {
            return self.unreadable(segment, Errno::IO.into());
        }
        for (segment, offset) in &self.found.unreadable {
            let note = format!("segment {segment}: unused, and cannot be read at offset {offset}");
            self.found.notes.push(note);
            if !self.found.unused.contains(segment) {
                self.found.remains.push((*segment, *offset));
            }
        }
        Ok(())
    }

    /// Whether nothing was ever written to the block in which the log would go on, and no later segment
    /// was started. A batch behind such a place was not acknowledged, because that one was not.
    fn ends_blank(&self) -> bool {
        let end = &self.found.end;
        let is_full = end.offset + u64::from(end.block_bytes) > end.data_end;
        let active = self.found.segments.last().and_then(Segment::writer);
        let goes_on_blank = active.is_none_or(|file| is_full || self.is_blank(&*file, end.offset));
        goes_on_blank && self.found.unused.iter().all(|number| self.is_not_started(*number))
    }

    /// Whether nothing was ever written to a block. One that cannot be read might hold anything.
    pub(super) fn is_blank(&self, file: &dyn DiskFile, offset: u64) -> bool {
        let mut block = Aligned::zeroed(to_usize(u64::from(self.superblock.block_bytes)));
        let filled = file.read_direct_at(&mut block, offset).unwrap_or(0);
        filled == block.len() && block.iter().all(|byte| *byte == 0)
    }

    /// Whether a segment holds no header or, where that cannot be read, no first batch.
    fn is_not_started(&self, number: u64) -> bool {
        let Ok(file) = self.disk.open(&file_name(number), self.access) else { return false };
        let first = if self.found.unreadable.contains(&(number, 0)) {
            u64::from(self.superblock.block_bytes)
        } else {
            0
        };
        self.is_blank(&*file, first)
    }
}
