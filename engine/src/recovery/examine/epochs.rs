//! Epochs that begin in a sealed segment which the engine's checkpoint does not list.
//!
//! Owns the search for their epoch starts. It reads only where there is one: a segment that begins and
//! ends in the epoch that is known already holds none.

use std::io;
use std::sync::Arc;

use super::Examiner;
use crate::disk::DiskFile;
use crate::format::batch::BatchHeader;
use crate::format::bytes::to_usize;
use crate::format::segment::{SegmentHeader, Trailer};
use crate::read::Window;

impl Examiner<'_> {
    /// Takes note of the epochs that begin in a sealed segment. What cannot be read stays unknown, which
    /// costs a replica a longer way to the common point and nothing else.
    pub(super) fn find_epochs(
        &mut self,
        header: &SegmentHeader,
        trailer: &Trailer,
        file: &Arc<dyn DiskFile>,
    ) {
        if trailer.last_epoch <= self.found.epochs.last() {
            return;
        }
        if self.walk(header, trailer, file).is_err() {
            let segment = header.segment;
            self.found.notes.push(format!("segment {segment}: not all of its epochs are known"));
        }
    }

    fn walk(
        &mut self,
        header: &SegmentHeader,
        trailer: &Trailer,
        file: &Arc<dyn DiskFile>,
    ) -> io::Result<()> {
        let block = u64::from(header.block_bytes);
        let mut window = Window::new(Arc::clone(file), true);
        let mut offset = block;
        while offset < trailer.end_offset && self.found.epochs.last() < trailer.last_epoch {
            let bytes = window.get(offset, to_usize(block))?;
            let batch = BatchHeader::decode(bytes).ok().filter(|batch| {
                batch.log_id == header.log_id
                    && (batch.segment, batch.offset) == (header.segment, offset)
            });
            let Some(batch) = batch else {
                return Err(io::ErrorKind::InvalidData.into());
            };
            if batch.record_count == 0 && batch.epoch > self.found.epochs.last() {
                let bytes = window.get(offset, to_usize(u64::from(batch.length)))?;
                if batch.body_is_whole(bytes) {
                    self.found.epochs.note(&batch, bytes);
                }
            }
            offset = batch.end_offset().max(offset + block);
        }
        Ok(())
    }
}
