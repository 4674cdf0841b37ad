//! Checkpoints on disk: writing one so that it is whole or not there, and finding the newest whole one.
//!
//! Owns the files of both kinds (`format::checkpoint`): how they come, are read, and go. A checkpoint is
//! written under a temporary name, synced, renamed, and the directory synced; only then are older ones
//! removed, and never the last [`KEPT_MIN`] ones. Does not know what the content means, nor when a
//! checkpoint is due (`take`, `state_log`).
//!
//! Invariants
//!  Q1. A checkpoint has its name only when every byte of it is on the medium, and an older one goes only
//!      when the newer one's name is.           test `a_power_cut_leaves_the_old_or_the_new`
//!  Q2. No byte of content is handed out before its checksum was seen to be right.
//!
//! Crash: a temporary file, which the next open removes; or one checkpoint more than are kept.
//! Bounds: one piece of memory for whoever writes or reads.

use std::io::{self, Read, Write};
use std::sync::Arc;

use crate::disk::{Access, Aligned, Disk, DiskFile, Entry, EntryKind};
use crate::epochs::StartedEpoch;
use crate::format::bytes::{to_u64, to_usize};
use crate::format::checkpoint::{
    CheckpointHeader, HEADER_BYTES, Kind, PIECE_BYTES, PIECE_CONTENT_BYTES, file_name, open_piece,
    piece_bytes, piece_offset, seal_piece,
};
use crate::format::superblock::Superblock;
use crate::format::table::{self, TABLE_BYTES_MAX, TableEntry};
use crate::format::version::Fault;
use crate::log::maintenance::remove_if_there;
use crate::names::{Name, TEMPORARY_SUFFIX, classify};
use crate::{Epoch, Lsn};

/// A damaged newest checkpoint needs one to fall back to.
pub(crate) const KEPT_MIN: usize = 2;

/// Writes a checkpoint; it has its name, durably, when this returns. The header's `content_bytes` is
/// found out on the way. The answer is the length of the file.
///
/// # Errors
/// Those of `save` and of the disk. Nothing is left but perhaps a temporary file; a failed sync of the
/// directory leaves in doubt whether the checkpoint is there, and is marked by [`DirectoryInDoubt`].
pub(crate) fn write(
    disk: &dyn Disk,
    header: CheckpointHeader,
    save: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
) -> io::Result<u64> {
    let name = file_name(header.kind, header.lsn);
    let temporary = format!("{name}{TEMPORARY_SUFFIX}");
    remove_if_there(disk, &temporary)?;
    let written = write_temporary(disk, header, &temporary, save)
        .and_then(|bytes| disk.rename(&temporary, &name).map(|()| bytes));
    match written {
        Ok(bytes) => {
            disk.sync_directory().map_err(|error| io::Error::other(DirectoryInDoubt(error)))?;
            Ok(bytes)
        }
        Err(error) => {
            // Best effort: the next open removes it.
            let _ = remove_if_there(disk, &temporary);
            Err(error)
        }
    }
}

/// A sync of the directory failed: which names are durable is not known any more.
#[derive(Debug, thiserror::Error)]
#[error("sync of the directory: {0}")]
pub(crate) struct DirectoryInDoubt(pub(crate) io::Error);

fn write_temporary(
    disk: &dyn Disk,
    mut header: CheckpointHeader,
    temporary: &str,
    save: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
) -> io::Result<u64> {
    let file = disk.create(temporary, to_u64(HEADER_BYTES))?;
    let mut writer = PieceWriter {
        file: &*file,
        seed: header.seed(),
        number: 0,
        piece: Aligned::zeroed(PIECE_BYTES),
        filled: 0,
        content_bytes: 0,
    };
    save(&mut writer)?;
    header.content_bytes = writer.finish()?;
    let mut block = Aligned::zeroed(HEADER_BYTES);
    header.encode(&mut block);
    file.write_at(&block, 0)?;
    file.sync()?;
    Ok(header.file_bytes())
}

struct PieceWriter<'a> {
    file: &'a dyn DiskFile,
    seed: u32,
    number: u64,
    piece: Aligned,
    filled: usize,
    content_bytes: u64,
}

impl PieceWriter<'_> {
    fn flush_piece(&mut self) -> io::Result<()> {
        if self.filled == 0 {
            return Ok(());
        }
        let bytes = piece_bytes(self.filled);
        seal_piece(&mut self.piece[..bytes], self.filled, self.number, self.seed);
        self.file.write_at(&self.piece[..bytes], piece_offset(self.number))?;
        self.content_bytes += to_u64(self.filled);
        self.number += 1;
        self.filled = 0;
        Ok(())
    }

    fn finish(mut self) -> io::Result<u64> {
        self.flush_piece()?;
        Ok(self.content_bytes)
    }
}

impl Write for PieceWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE_CONTENT_BYTES - self.filled);
        self.piece[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
        self.filled += taken;
        if self.filled == PIECE_CONTENT_BYTES {
            self.flush_piece()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A checkpoint that is being read, as [`Read`]. Every piece is checked before it is handed out.
#[derive(Debug)]
pub struct CheckpointReader {
    file: Arc<dyn DiskFile>,
    header: CheckpointHeader,
    seed: u32,
    number: u64,
    piece: Aligned,
    content: std::ops::Range<usize>,
    passed_over: Vec<String>,
}

impl CheckpointReader {
    /// Opens a checkpoint; its content is not looked at yet.
    pub(crate) fn open(
        disk: &dyn Disk,
        kind: Kind,
        lsn: Lsn,
        log_id: u128,
    ) -> io::Result<Result<CheckpointReader, Fault>> {
        let file = disk.open(&file_name(kind, lsn), Access::Read)?;
        let mut block = Aligned::zeroed(HEADER_BYTES);
        let filled = file.read_direct_at(&mut block, 0)?;
        let header = match CheckpointHeader::decode(&block[..filled]) {
            Ok(header) => header,
            Err(fault) => return Ok(Err(fault)),
        };
        if header.log_id != log_id {
            return Ok(Err(Fault::ForeignLog));
        }
        if header.kind != kind || header.lsn != lsn {
            return Ok(Err(Fault::Misplaced));
        }
        if header.file_bytes() > file.len()? {
            return Ok(Err(Fault::Short));
        }
        let seed = header.seed();
        let piece = Aligned::zeroed(PIECE_BYTES);
        let (number, content, passed_over) = (0, 0..0, Vec::new());
        Ok(Ok(CheckpointReader { file, header, seed, number, piece, content, passed_over }))
    }

    /// The state holds every record below this LSN and no other.
    #[must_use]
    pub fn lsn(&self) -> Lsn {
        self.header.lsn
    }

    /// Bytes of the content.
    #[must_use]
    pub fn content_bytes(&self) -> u64 {
        self.header.content_bytes
    }

    /// Wall clock when it was taken, milliseconds since 1970.
    #[must_use]
    pub fn time_ms(&self) -> u64 {
        self.header.time_ms
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.header.epoch
    }

    /// Newer checkpoints that were passed over, and what is wrong with each. They are left alone; the
    /// next ones that are taken take their place.
    #[must_use]
    pub fn passed_over(&self) -> &[String] {
        &self.passed_over
    }

    /// Reads all of it, to see whether it is whole, and goes back to the start.
    pub(crate) fn check(&mut self) -> io::Result<Result<(), Fault>> {
        loop {
            match self.next_piece()? {
                Ok(true) => {}
                Ok(false) => {
                    (self.number, self.content) = (0, 0..0);
                    return Ok(Ok(()));
                }
                Err(fault) => return Ok(Err(fault)),
            }
        }
    }

    /// Reads the next piece; false behind the last one.
    fn next_piece(&mut self) -> io::Result<Result<bool, Fault>> {
        let content_bytes = self.header.piece_content_bytes(self.number);
        if content_bytes == 0 {
            return Ok(Ok(false));
        }
        let offset = piece_offset(self.number);
        let filled = self.file.read_direct_at(&mut self.piece, offset)?;
        match open_piece(&self.piece[..filled], content_bytes, self.number, self.seed) {
            Ok(_) => {
                self.content = 0..content_bytes;
                self.number += 1;
                Ok(Ok(true))
            }
            Err(fault) => Ok(Err(fault)),
        }
    }
}

impl Read for CheckpointReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.content.is_empty() {
            match self.next_piece()? {
                Ok(true) => {}
                Ok(false) => return Ok(0),
                Err(fault) => {
                    let piece = self.number;
                    let what = format!("checkpoint at {}: piece {piece}: {fault}", self.lsn());
                    return Err(io::Error::new(io::ErrorKind::InvalidData, what));
                }
            }
        }
        let taken = out.len().min(self.content.len());
        let from = self.content.start;
        out[..taken].copy_from_slice(&self.piece[from..from + taken]);
        self.content.start += taken;
        Ok(taken)
    }
}

/// The LSNs of the checkpoints of a kind, the newest first, whole or not.
pub(crate) fn list(disk: &dyn Disk, kind: Kind) -> io::Result<Vec<Lsn>> {
    Ok(of_kind(&disk.list()?, kind))
}

/// The newest whole checkpoint of a kind among `lsns` (newest first), and why newer ones were passed over.
pub(crate) fn newest(
    disk: &dyn Disk,
    kind: Kind,
    lsns: &[Lsn],
    log_id: u128,
) -> (Option<CheckpointReader>, Vec<String>) {
    let mut notes = Vec::new();
    for lsn in lsns {
        let opened = CheckpointReader::open(disk, kind, *lsn, log_id);
        let checked = opened.and_then(|opened| match opened {
            Ok(mut reader) => Ok(reader.check()?.map(|()| reader)),
            Err(fault) => Ok(Err(fault)),
        });
        let why = match checked {
            Ok(Ok(mut reader)) => {
                reader.passed_over.clone_from(&notes);
                return (Some(reader), notes);
            }
            Ok(Err(fault)) => fault.to_string(),
            Err(error) => error.to_string(),
        };
        notes.push(format!("{}: {why}; an older one serves", file_name(kind, *lsn)));
    }
    (None, notes)
}

/// What the checkpoints of a directory tell recovery.
#[derive(Debug, Default)]
pub(crate) struct Table {
    /// Sealed segments, oldest first; none when there is no whole checkpoint.
    pub(crate) entries: Vec<TableEntry>,
    /// The epochs that began in or before them.
    pub(crate) epochs: Vec<StartedEpoch>,
    /// Everything below it had been durable when a checkpoint was taken.
    pub(crate) evidence_lsn: Lsn,
    pub(crate) notes: Vec<String>,
}

/// The newest table of segments. A checkpoint that a cut overtook says nothing any more.
pub(crate) fn newest_table(
    disk: &dyn Disk,
    entries: &[Entry],
    superblock: &Superblock,
) -> io::Result<Table> {
    let (cut, log_id) = (superblock.cut, superblock.log_id);
    let mut table = Table::default();
    let mut tables = Vec::new();
    for kind in [Kind::Segments, Kind::State] {
        for lsn in of_kind(entries, kind) {
            // One that cannot be read, or is damaged, is no evidence.
            let header = CheckpointReader::open(disk, kind, lsn, log_id).ok().and_then(Result::ok);
            if header.as_ref().is_some_and(|r| cut.voids_state(lsn, r.header.epoch)) {
                continue;
            }
            if header.is_some() {
                table.evidence_lsn = table.evidence_lsn.max(lsn);
            }
            if kind == Kind::Segments {
                tables.push(lsn);
            }
        }
    }
    let (reader, notes) = newest(disk, Kind::Segments, &tables, log_id);
    table.notes = notes;
    let Some(mut reader) = reader else { return Ok(table) };
    let bytes = content(&mut reader, TABLE_BYTES_MAX)?;
    match table::decode(&bytes, log_id) {
        Ok((entries, epochs)) => (table.entries, table.epochs) = (entries, epochs),
        Err(fault) => table.notes.push(format!("table of segments: {fault}; they are looked at")),
    }
    Ok(table)
}

/// The LSNs of the checkpoints of a kind in a listing, the newest first.
fn of_kind(entries: &[Entry], kind: Kind) -> Vec<Lsn> {
    let lsn_of = |entry: &Entry| match (classify(&entry.name), entry.kind) {
        (Name::Checkpoint(its_kind, lsn), EntryKind::File(_)) if its_kind == kind => Some(lsn),
        _ => None,
    };
    let mut found: Vec<Lsn> = entries.iter().filter_map(lsn_of).collect();
    found.sort_unstable_by(|a, b| b.cmp(a));
    found
}

/// Removes all but the newest `kept`, and never the last [`KEPT_MIN`]; those left, the newest first.
pub(crate) fn prune(disk: &dyn Disk, kind: Kind, kept: usize) -> io::Result<Vec<Lsn>> {
    let mut lsns = list(disk, kind)?;
    let kept = kept.max(KEPT_MIN);
    for lsn in lsns.get(kept..).unwrap_or_default() {
        remove_if_there(disk, &file_name(kind, *lsn))?;
    }
    lsns.truncate(kept);
    Ok(lsns)
}

/// Reads the whole content into memory; for contents that are known to be small.
pub(crate) fn content(reader: &mut CheckpointReader, bytes_max: u64) -> io::Result<Vec<u8>> {
    let bytes = reader.content_bytes();
    if bytes > bytes_max {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the content is too long"));
    }
    let mut content = Vec::with_capacity(to_usize(bytes));
    reader.read_to_end(&mut content)?;
    Ok(content)
}

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;
