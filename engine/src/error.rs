//! One error type for each kind of operation.
//!
//! Owns the errors that people see; each variant says what the caller should do next. Bytes of a disk
//! or a user become errors here, never panics.

use std::io;
use std::sync::Arc;

use crate::config::ConfigError;
use crate::format::version::Fault;
use crate::recovery::RecoveryReport;
use crate::{Lsn, LsnRange};

/// Damage in the log: what, where, and which records are behind it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("segment {segment}, offset {offset}: {fault} (records from LSN {lsn} on)")]
pub struct Corruption {
    /// The segment.
    pub segment: u64,
    /// Offset of the first damaged batch.
    pub offset: u64,
    /// The first LSN that cannot be read.
    pub lsn: Lsn,
    /// What is wrong there.
    pub fault: Fault,
}

/// A system call failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{operation} {target}: {source}")]
pub struct IoFailure {
    /// What was tried.
    pub operation: &'static str,
    /// On what file or directory.
    pub target: String,
    /// What the system said.
    pub source: Arc<io::Error>,
}

impl IoFailure {
    pub(crate) fn new(operation: &'static str, target: &str, source: io::Error) -> IoFailure {
        IoFailure { operation, target: target.to_owned(), source: Arc::new(source) }
    }

    pub(crate) fn is_full(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self.source.kind(), StorageFull | QuotaExceeded)
    }
}

/// Whether an error of a read says something about the file. That this process may not open it, or has
/// no descriptor or memory left, is no damage.
pub(crate) fn is_of_the_file(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let own = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::ACCESS, Errno::PERM];
    !own.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Why a log could not be opened. Nothing was acknowledged, and nothing of anyone else's was touched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The configuration contradicts itself. Change the field.
    #[error("configuration: {0}")]
    Config(#[from] ConfigError),
    /// Another process or handle writes to this directory. Wait for it, or read with
    /// [`LogReader`](crate::LogReader).
    #[error("{0}: another writer holds this log; wait for it to end, or only read")]
    Locked(String),
    /// There is no log, and it was not to be made. Check the path, or set `create`.
    #[error("{0}: there is no log here")]
    NotFound(String),
    /// The directory holds something else. Choose another directory.
    #[error("{directory}: this is not a log: it holds {found:?}; use an empty directory")]
    NotALog {
        /// The directory.
        directory: String,
        /// One name that was found.
        found: String,
    },
    /// A file has the name of one of ours and is no regular file. Look at it and remove it by hand.
    #[error("{0}: not a regular file; remove it by hand if it is not wanted")]
    NotAFile(String),
    /// Written by a newer version. Use that one.
    #[error("{file}: format version {version} is newer than this binary reads; use a newer one")]
    Version {
        /// The file.
        file: String,
        /// Its version.
        version: u16,
    },
    /// Both copies of the superblock are damaged: nobody may guess what was promised. Nothing was
    /// changed. Restore the file from a copy.
    #[error("{file}: both copies are damaged ({fault}); nothing was changed; restore the file")]
    Superblock {
        /// The file.
        file: String,
        /// What is wrong with the first copy.
        fault: Fault,
    },
    /// Something that had been durable is damaged or gone: see the verdict. Nothing was changed. Read
    /// what is left with [`LogReader`](crate::LogReader), and restore or repair.
    #[error("{directory}: {}; nothing was changed", .report.verdict)]
    Damaged {
        /// The directory.
        directory: String,
        /// What recovery found.
        report: Box<RecoveryReport>,
    },
    /// The directory holds another log than [`Config::log_id`](crate::Config::log_id) says. Nothing was
    /// changed. Choose another directory.
    #[error("{directory}: this is log {found:032x}, not {expected:032x}")]
    AnotherLog {
        /// The directory.
        directory: String,
        /// The log there.
        found: u128,
        /// The log that was asked for.
        expected: u128,
    },
    /// The directory belongs to a replica: what is appended here alone, the others would never have. Nothing
    /// was changed. Start its server, or only read.
    #[error("{0}: this log is one of several replicas; append to their leader, or only read")]
    Replica(String),
    /// The disk is full. Make room and open again.
    #[error("the disk is full: {0}")]
    Full(IoFailure),
    /// A system call failed. Look at what the system said.
    #[error(transparent)]
    Io(IoFailure),
}

impl From<IoFailure> for OpenError {
    fn from(failure: IoFailure) -> OpenError {
        if failure.is_full() { OpenError::Full(failure) } else { OpenError::Io(failure) }
    }
}

/// Why an append was refused or failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The record is larger than the log takes; nothing was written. Split it.
    #[error("a record of {bytes} bytes is over the limit of {bytes_max}")]
    RecordTooLarge {
        /// Its length.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The records are together larger than one batch; nothing was written. Use several calls.
    #[error("a batch of {bytes} bytes is over the limit of {bytes_max}")]
    BatchTooLarge {
        /// Bytes of the records with a prefix of four bytes each.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// A batch of no records was given; nothing was written.
    #[error("a batch needs at least one record")]
    Empty,
    /// The disk is full: the record is not in the log and has no LSN. Reads go on. Make room and append
    /// again; nothing needs to be reopened.
    #[error("the disk is full: {0}")]
    Full(IoFailure),
    /// No segment could be made ready for it, for another reason than a full disk: the record is not in
    /// the log and has no LSN. Reads go on. Look at what the system said and append again.
    #[error("no segment could be prepared: {0}")]
    NoSegment(IoFailure),
    /// A write or sync failed, and nothing more is acknowledged: the record may or may not be in the
    /// log. Close it, look at the disk, and open again: recovery decides by what is on the medium.
    #[error("the log is poisoned: {0}")]
    Poisoned(IoFailure),
    /// Another replica leads: the record is not in the log. Append there.
    #[error("another replica leads")]
    NotLeading,
    /// The log was closed; the record is not in it.
    #[error("the log is closed")]
    Closed,
}

/// Why records could not be read.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// Not in the log: trimmed, or not appended yet. Read inside the range.
    #[error("LSN {lsn} is outside of the log, which holds {}..{}", .range.start, .range.end)]
    OutOfRange {
        /// What was asked for.
        lsn: Lsn,
        /// What there is.
        range: LsnRange,
    },
    /// The log was truncated since the reader began, to an LSN before the one that comes next: records
    /// that it handed out from `lsn` on may have been given up. Begin again at `lsn`; with a
    /// [`LogReader`](crate::LogReader) of another process, after a [`refresh`](crate::LogReader::refresh).
    #[error("the log was truncated to LSN {lsn}, and the reader stands behind it, at {next}")]
    Truncated {
        /// Where the log ended after the truncation.
        lsn: Lsn,
        /// What the reader was about to read.
        next: Lsn,
    },
    /// The records are damaged. Others stay readable: read from a later LSN, and restore or repair.
    #[error(transparent)]
    Corrupt(#[from] Corruption),
    /// The records were given up by a repair, and are on this node no more. Read on from `range.end`;
    /// restore them from elsewhere if they matter.
    #[error("records {}..{} were given up by a repair", .range.start, .range.end)]
    Lost {
        /// The records, from the one that was asked for on.
        range: LsnRange,
    },
    /// A segment file that should be there is missing.
    #[error("segment {segment} is missing (records from LSN {lsn} on)")]
    Missing {
        /// The segment.
        segment: u64,
        /// The first LSN in it.
        lsn: Lsn,
    },
    /// A system call failed. Other ranges may stay readable.
    #[error(transparent)]
    Io(IoFailure),
}

/// Why a change of the log's bounds or of its durable cell failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// Beyond what is durable. Trim to at most `durable_lsn`.
    #[error("LSN {lsn} is beyond the durable end {durable_lsn}")]
    OutOfRange {
        /// What was asked for.
        lsn: Lsn,
        /// The limit.
        durable_lsn: Lsn,
    },
    /// The cell holds at most 1024 bytes.
    #[error("{bytes} bytes are more than the cell's {bytes_max}")]
    CellTooLarge {
        /// What was given.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The checkpoint is older than one that is kept. Take one of a later state.
    #[error("LSN {lsn} is before the newest checkpoint, at {newest_lsn}")]
    Outdated {
        /// What was asked for.
        lsn: Lsn,
        /// The newest checkpoint.
        newest_lsn: Lsn,
    },
    /// The checkpoint could not be written, and is not there; those before it are. Make room, or look
    /// at what the system said, and take it again.
    #[error("no checkpoint was taken: {0}")]
    NotTaken(IoFailure),
    /// Records from the LSN on were trimmed before: there is no log that ends there.
    #[error("LSN {lsn} is before the first record kept, {first_lsn}")]
    Trimmed {
        /// What was asked for.
        lsn: Lsn,
        /// The limit.
        first_lsn: Lsn,
    },
    /// Every checkpoint kept holds records from the LSN on, and the log does not go back to its first
    /// record: no state could be restored any more. Truncate to at least `oldest_lsn`.
    #[error("LSN {lsn} is before the oldest checkpoint kept, at {oldest_lsn}")]
    BeforeCheckpoints {
        /// What was asked for.
        lsn: Lsn,
        /// The limit.
        oldest_lsn: Lsn,
    },
    /// More would be given up than [`Config::fork_bytes_max`](crate::Config::fork_bytes_max) lets be
    /// copied. Raise it, or truncate less.
    #[error("{bytes} bytes of batches would be given up, and {bytes_max} may be")]
    ForkTooLarge {
        /// What would be given up.
        bytes: u64,
        /// The limit.
        bytes_max: u64,
    },
    /// Records from the LSN on are committed: a quorum of replicas has them. Whoever asks to give them up is
    /// wrong; look at who leads, and on what ground.
    #[error("LSN {lsn} is before what is committed, {commit_lsn}")]
    Committed {
        /// What was asked for.
        lsn: Lsn,
        /// The limit.
        commit_lsn: Lsn,
    },
    /// No batch of this log ends at the place, or this replica leads. Compare the logs again.
    #[error("no batch ends at segment {segment}, offset {offset}")]
    NoSuchPlace {
        /// What was asked for.
        segment: u64,
        /// Where in it.
        offset: u64,
    },
    /// The records around the LSN cannot be read, so that no end can be made there. Repair the log.
    #[error("the place of the cut cannot be read: {0}")]
    Unreadable(ReadError),
    /// What would be given up could not be copied: nothing was changed. Make room, or look at what the
    /// system said, and truncate again.
    #[error("nothing was truncated: {0}")]
    NotTruncated(IoFailure),
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
    /// A write or sync failed earlier, or now: see [`AppendError::Poisoned`].
    #[error("the log is poisoned: {0}")]
    Poisoned(IoFailure),
}
