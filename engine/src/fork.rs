//! Forks on disk: writing what a truncation gives up, and reading it again.
//!
//! Owns the files (`format::fork`) and the reserve, a file that keeps room on the disk for one. Does not
//! decide what is given up (`log::truncate`).
//!
//! Invariants
//!  F1. A fork has its name only when every byte of it is on the medium, and the caller gives up nothing
//!      before that.                     test `a_power_cut_at_every_operation_of_a_truncation`
//!
//! Bounds: one piece of memory; a fork is at most `Config::fork_bytes_max` long.
//! Crash: a temporary file, which the next open removes.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::checkpoint::DirectoryInDoubt;
use crate::disk::{Access, Aligned, Disk, DiskFile};
use crate::error::IoFailure;
use crate::format::batch::{BatchHeader, HEADER_BYTES as BATCH_HEADER_BYTES};
use crate::format::bytes::{to_u64, to_usize};
use crate::format::fork::{ForkHeader, HEADER_BYTES, file_name};
use crate::format::superblock::Restore;
use crate::format::version::Fault;
use crate::log::maintenance::remove_if_there;
use crate::names::{RESERVE_FILE_NAME, TEMPORARY_SUFFIX};
use crate::read::PatientFile;
use crate::{Epoch, Lsn};

/// Bytes copied at once.
const PIECE_BYTES: usize = 1 << 20;

/// What is given up in one segment file.
pub(crate) struct Part {
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) offsets: Range<u64>,
}

/// Writes a fork of these parts, which `header` describes but for their length and checksum; it has its
/// name, durably, when this returns. After each piece `progress` is called.
///
/// # Errors
/// Nothing is left but perhaps a temporary file; a failed sync of the directory is marked by
/// [`DirectoryInDoubt`].
pub(crate) fn write(
    disk: &dyn Disk,
    mut header: ForkHeader,
    parts: &[Part],
    progress: &dyn Fn(),
) -> io::Result<String> {
    let name = file_name(header.lsn, header.epoch);
    let temporary = format!("{name}{TEMPORARY_SUFFIX}");
    remove_if_there(disk, &temporary)?;
    header.content_bytes = parts.iter().map(|part| part.offsets.end - part.offsets.start).sum();
    let bytes = to_u64(HEADER_BYTES) + header.content_bytes;
    let written = create(disk, &temporary, bytes)
        .and_then(|file| write_to(&*file, &mut header, parts, progress))
        .and_then(|()| disk.rename(&temporary, &name));
    match written {
        Ok(()) => {
            disk.sync_directory().map_err(|error| io::Error::other(DirectoryInDoubt(error)))?;
            Ok(name)
        }
        Err(error) => {
            // Best effort: the next open removes it.
            let _ = remove_if_there(disk, &temporary);
            Err(error)
        }
    }
}

/// Makes the file; from the reserve when the disk is full.
fn create(disk: &dyn Disk, temporary: &str, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    match disk.create(temporary, bytes) {
        Err(full) if matches!(full.kind(), StorageFull | QuotaExceeded) => {
            // A part of it may be there.
            remove_if_there(disk, temporary)?;
            match disk.open(RESERVE_FILE_NAME, Access::Write) {
                Ok(reserve) if reserve.len()? >= bytes => {
                    disk.rename(RESERVE_FILE_NAME, temporary)?;
                    Ok(reserve)
                }
                _ => Err(full),
            }
        }
        other => other,
    }
}

fn write_to(
    file: &dyn DiskFile,
    header: &mut ForkHeader,
    parts: &[Part],
    progress: &dyn Fn(),
) -> io::Result<()> {
    let mut checksum = crc32fast::Hasher::new();
    let mut piece = Aligned::zeroed(PIECE_BYTES);
    let mut to = to_u64(HEADER_BYTES);
    for part in parts {
        // Zeros stand for blocks that the medium does not give.
        let block_bytes = to_usize(u64::from(header.block_bytes));
        let source = PatientFile::new(Arc::clone(&part.file), block_bytes);
        let mut from = part.offsets.start;
        while from < part.offsets.end {
            let bytes = to_usize((part.offsets.end - from).min(to_u64(PIECE_BYTES)));
            if bytes < piece.len() {
                piece = Aligned::zeroed(bytes);
            }
            if source.read_direct_at(&mut piece, from)? < bytes {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            checksum.update(&piece);
            file.write_at(&piece, to)?;
            progress();
            from += to_u64(bytes);
            to += to_u64(bytes);
        }
        piece = Aligned::zeroed(PIECE_BYTES);
    }
    header.content_checksum = checksum.finalize();
    let mut block = Aligned::zeroed(HEADER_BYTES);
    header.encode(&mut block);
    file.write_at(&block, 0)?;
    file.sync()
}

type Opened = (ForkHeader, Arc<dyn DiskFile>);

/// Opens the fork at this LSN and epoch.
fn open(
    disk: &dyn Disk,
    log_id: u128,
    lsn: Lsn,
    epoch: Epoch,
) -> io::Result<Result<Opened, Fault>> {
    let file = disk.open(&file_name(lsn, epoch), Access::Read)?;
    let mut block = Aligned::zeroed(HEADER_BYTES);
    let filled = file.read_direct_at(&mut block, 0)?;
    Ok(match ForkHeader::decode(&block[..filled]) {
        Ok(fork) if fork.log_id != log_id => Err(Fault::ForeignLog),
        Ok(fork) if (fork.lsn, fork.epoch) != (lsn, epoch) => Err(Fault::Misplaced),
        Ok(fork) => Ok((fork, file)),
        Err(fault) => Err(fault),
    })
}

/// The first batch of a fork, of which some records were kept and have to be appended again.
///
/// # Errors
/// When the fork is missing or damaged: what was kept is then lost, unless it comes back.
pub(crate) fn first_batch(
    disk: &dyn Disk,
    log_id: u128,
    restore: Restore,
) -> Result<(BatchHeader, Vec<u8>), IoFailure> {
    let Restore { end_lsn, epoch } = restore;
    let name = file_name(end_lsn, epoch);
    let failed = |error| IoFailure::new("restore from", &name, error);
    match read_first_batch(disk, log_id, end_lsn, epoch).map_err(failed)? {
        Ok((header, batch)) if (header.base_lsn..header.end_lsn()).contains(&end_lsn) => {
            Ok((header, batch))
        }
        Ok(_) => Err(failed(io::Error::new(io::ErrorKind::InvalidData, "another batch"))),
        Err(fault) => Err(failed(io::Error::new(io::ErrorKind::InvalidData, fault.to_string()))),
    }
}

fn read_first_batch(
    disk: &dyn Disk,
    log_id: u128,
    lsn: Lsn,
    epoch: Epoch,
) -> io::Result<Result<(BatchHeader, Vec<u8>), Fault>> {
    let (fork, file) = match open(disk, log_id, lsn, epoch)? {
        Ok(opened) => opened,
        Err(fault) => return Ok(Err(fault)),
    };
    let mut block = Aligned::zeroed(BATCH_HEADER_BYTES.next_multiple_of(HEADER_BYTES));
    let filled = file.read_direct_at(&mut block, to_u64(HEADER_BYTES))?;
    let header = match BatchHeader::decode(&block[..filled]) {
        Ok(header) if header.log_id != log_id => return Ok(Err(Fault::ForeignLog)),
        Ok(header) if u64::from(header.length) > fork.content_bytes => {
            return Ok(Err(Fault::Short));
        }
        Ok(header) => header,
        Err(fault) => return Ok(Err(fault)),
    };
    let length = to_usize(u64::from(header.length));
    let mut bytes = Aligned::zeroed(length.next_multiple_of(HEADER_BYTES));
    let filled = file.read_direct_at(&mut bytes, to_u64(HEADER_BYTES))?;
    if filled < length || !header.body_is_whole(&bytes[..length]) {
        return Ok(Err(Fault::Body));
    }
    Ok(Ok((header, bytes[..length].to_vec())))
}

/// Reads all of the fork at this LSN and epoch, to see whether it is as it was written.
pub(crate) fn check(
    disk: &dyn Disk,
    log_id: u128,
    lsn: Lsn,
    epoch: Epoch,
) -> io::Result<Result<(), Fault>> {
    let (fork, file) = match open(disk, log_id, lsn, epoch)? {
        Ok(opened) => opened,
        Err(fault) => return Ok(Err(fault)),
    };
    let mut checksum = crc32fast::Hasher::new();
    let mut piece = Aligned::zeroed(PIECE_BYTES);
    let mut done = 0;
    while done < fork.content_bytes {
        let wanted = to_usize((fork.content_bytes - done).min(to_u64(PIECE_BYTES)));
        let filled = file.read_direct_at(&mut piece, to_u64(HEADER_BYTES) + done)?;
        let Some(bytes) = piece[..filled].get(..wanted) else { return Ok(Err(Fault::Short)) };
        checksum.update(bytes);
        done += to_u64(wanted);
    }
    let is_whole = checksum.finalize() == fork.content_checksum;
    Ok(if is_whole { Ok(()) } else { Err(Fault::Body) })
}

/// Makes the reserve, if it is missing: it takes its room on the disk at once.
pub(crate) fn make_reserve(disk: &dyn Disk, bytes: u64) -> io::Result<()> {
    match disk.create(RESERVE_FILE_NAME, bytes) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => {
            // What there is of it would keep no room.
            remove_if_there(disk, RESERVE_FILE_NAME)?;
            Err(error)
        }
        Ok(_) => Ok(()),
    }
}
