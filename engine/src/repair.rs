//! Repair: making a damaged log one that opens, deliberately.
//!
//! Owns the plan (what is damaged, what can be rebuilt, which records are lost) and its execution. What
//! is whole is found by `repair::survey`, new files are made by `repair::rebuild`. A log that is merely
//! torn needs no repair: opening it cuts the tail off.
//!
//! Invariants
//!  E1. Planning changes nothing; repairing changes nothing without a copy, beside the log, of every file
//!      whose bytes are replaced.                         test `what_is_replaced_is_kept`
//!  E2. A repaired segment takes the name of the damaged one when all of it is on the medium and was
//!      read back. A power cut leaves the old or the new.   test `a_power_cut_during_a_repair`
//!  E3. LSNs of lost records are never given to others: a control batch stands for them, and readers get
//!      a typed error.                                    test `lost_records_are_an_error_and_the_rest_is_served`
//!
//! Crash: a plan made again does the rest.

mod rebuild;
mod survey;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::checkpoint::{self, CheckpointReader};
use crate::disk::{BackendChoice, Disk, Entry, EntryKind, OsDisk};
use crate::error::{IoFailure, OpenError};
use crate::format::checkpoint::{Kind, file_name as checkpoint_name};
use crate::format::segment::{file_name, parse_file_name};
use crate::format::superblock::Superblock;
use crate::names::{Name, classify};
use crate::read::{look_alone, not_found};
use crate::recovery::Verdict;
use crate::watermark::WatermarkStore;
use crate::{Lsn, LsnRange};
use survey::{Survey, Surveyed};

/// One thing that a repair does.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RepairStep {
    /// Both copies of the superblock are damaged: a new one is made from what the segments say. The user
    /// cell is lost, the directory gets a new incarnation, and promises start behind the newest epoch.
    RebuildSuperblock,
    /// A segment is rebuilt as it was, from parity.
    MendSegment {
        /// The segment.
        segment: u64,
    },
    /// Header or footer of a segment are made anew; no record is lost.
    RewriteSegment {
        /// The segment.
        segment: u64,
    },
    /// Records are given up: a control batch in their place says so to every reader.
    GiveUp {
        /// The segment they were in.
        segment: u64,
        /// Where in it.
        offset: u64,
        /// The records; empty when only a batch without records is damaged.
        lsns: LsnRange,
    },
    /// A damaged checkpoint is put aside; an older one, or the log, serves.
    SetCheckpointAside {
        /// The file.
        name: String,
    },
}

impl std::fmt::Display for RepairStep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RepairStep::RebuildSuperblock => f.write_str(
                "make a new superblock from what the segments say: the user cell is lost, and the \
                 directory gets a new incarnation",
            ),
            RepairStep::MendSegment { segment } => {
                write!(f, "segment {segment}: rebuild it from parity; nothing is lost")
            }
            RepairStep::RewriteSegment { segment } => {
                write!(f, "segment {segment}: make header and footer anew; nothing is lost")
            }
            RepairStep::GiveUp { segment, offset, lsns } if lsns.is_empty() => {
                write!(
                    f,
                    "segment {segment}, offset {offset}: bridge a damaged batch without records"
                )
            }
            RepairStep::GiveUp { segment, offset, lsns } => {
                let (start, end) = (lsns.start, lsns.end);
                write!(f, "segment {segment}, offset {offset}: give up records {start}..{end}")
            }
            RepairStep::SetCheckpointAside { name } => write!(f, "put {name} aside: it is damaged"),
        }
    }
}

/// What a repair would do, or did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RepairReport {
    /// What recovery says about the log as it is; `None` when nobody can tell without a superblock.
    pub verdict: Option<Verdict>,
    /// The steps, in order; none when there is nothing to repair.
    pub steps: Vec<RepairStep>,
    /// Whether the steps were done, or are only the plan.
    pub is_done: bool,
    /// Copies of what was replaced, beside the log. Remove them when you are sure.
    pub kept: Vec<String>,
}

impl RepairReport {
    /// The records that are given up, in order.
    #[must_use]
    pub fn lost(&self) -> Vec<LsnRange> {
        let lost = self.steps.iter().filter_map(|step| match step {
            RepairStep::GiveUp { lsns, .. } if !lsns.is_empty() => Some(lsns.clone()),
            _ => None,
        });
        lost.collect()
    }
}

/// Why a log could not be repaired. Nothing was changed, or the next repair goes on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepairError {
    /// The directory holds no log, another process writes to it, or it cannot be read.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Too much is gone: restore the directory from elsewhere.
    #[error("cannot be repaired: {0}")]
    Impossible(String),
}

impl From<IoFailure> for RepairError {
    fn from(failure: IoFailure) -> RepairError {
        OpenError::Io(failure).into()
    }
}

/// Plans the repair of the log in a directory, and carries it out when `confirmed`.
///
/// # Errors
/// See [`RepairError`].
pub fn repair(directory: &Path, confirmed: bool) -> Result<RepairReport, RepairError> {
    let disk = OsDisk::open(directory, false, BackendChoice::Blocking)
        .map_err(|error| not_found(directory, error))?;
    repair_on(&disk, confirmed)
}

/// Plans the repair of the log on a disk, and carries it out when `confirmed`; see [`repair`].
///
/// # Errors
/// As for [`repair`].
pub fn repair_on(disk: &dyn Disk, confirmed: bool) -> Result<RepairReport, RepairError> {
    let failed = |error| IoFailure::new("look at", &disk.describe(), error);
    let locked = || RepairError::from(OpenError::Locked(disk.describe()));
    let _lock = if confirmed {
        let lock = disk.lock().map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => locked(),
            _ => IoFailure::new("lock", &disk.describe(), error).into(),
        })?;
        Some(lock)
    } else if disk.is_locked().map_err(failed)? {
        return Err(locked());
    } else {
        None
    };
    let plan = Plan::make(disk)?;
    let mut report = plan.report();
    if confirmed {
        report.kept = rebuild::carry_out(disk, &plan)?;
        report.is_done = true;
    }
    Ok(report)
}

/// What was found, and what follows from it.
struct Plan {
    verdict: Option<Verdict>,
    superblock: Superblock,
    /// Whether that is a new one.
    is_rebuilt: bool,
    segments: Vec<Surveyed>,
    damaged_checkpoints: Vec<String>,
}

impl Plan {
    fn make(disk: &dyn Disk) -> Result<Plan, RepairError> {
        let (superblock, verdict) = match look_alone(disk) {
            Ok(look) => (look.superblock, Some(look.verdict)),
            Err(OpenError::Superblock { .. }) => (rebuild::superblock(disk)?, None),
            Err(other) => return Err(other.into()),
        };
        let failed = |error| IoFailure::new("survey", &disk.describe(), error);
        let entries = disk.list().map_err(failed)?;
        let files = segment_files(&entries);
        let watermark = WatermarkStore::read(disk).map_err(failed)?;
        let evidence = crate::recovery::evidence(&superblock, watermark.as_ref());
        let table = checkpoint::newest_table(disk, &entries, &superblock).map_err(failed)?;
        let is_torn_at_worst = matches!(verdict, Some(Verdict::Clean | Verdict::TornTail { .. }));
        let survey = Survey {
            disk,
            superblock: &superblock,
            files: &files,
            evidence_lsn: evidence.max(table.evidence_lsn),
            searches_the_tail: !is_torn_at_worst,
            is_damaged: !is_torn_at_worst && verdict.is_some(),
        };
        let segments = survey.run().map_err(failed)?.map_err(RepairError::Impossible)?;
        let damaged_checkpoints = damaged_checkpoints(disk, &entries, superblock.log_id);
        let is_rebuilt = verdict.is_none();
        Ok(Plan { verdict, superblock, is_rebuilt, segments, damaged_checkpoints })
    }

    fn report(&self) -> RepairReport {
        let mut steps = Vec::new();
        if self.is_rebuilt {
            steps.push(RepairStep::RebuildSuperblock);
        }
        for surveyed in &self.segments {
            let segment = surveyed.header.segment;
            for (offset, base_lsn, lost) in surveyed.lost() {
                let lsns = *base_lsn..lost.end_lsn;
                steps.push(RepairStep::GiveUp { segment, offset: *offset, lsns });
            }
            if surveyed.lost().next().is_some() {
                continue;
            }
            if surveyed.is_mended {
                steps.push(RepairStep::MendSegment { segment });
            } else if surveyed.has_damaged_ends {
                steps.push(RepairStep::RewriteSegment { segment });
            }
        }
        let aside = |name: &String| RepairStep::SetCheckpointAside { name: name.clone() };
        steps.extend(self.damaged_checkpoints.iter().map(aside));
        let verdict = self.verdict.clone();
        RepairReport { verdict, steps, is_done: false, kept: Vec::new() }
    }
}

fn segment_files(entries: &[Entry]) -> BTreeMap<u64, u64> {
    let segment = |entry: &Entry| match entry.kind {
        EntryKind::File(bytes) => parse_file_name(&entry.name).map(|number| (number, bytes)),
        EntryKind::Other => None,
    };
    entries.iter().filter_map(segment).collect()
}

/// Names of checkpoints that are not whole.
fn damaged_checkpoints(disk: &dyn Disk, entries: &[Entry], log_id: u128) -> Vec<String> {
    let is_whole = |kind: Kind, lsn: Lsn| match CheckpointReader::open(disk, kind, lsn, log_id) {
        Ok(Ok(mut reader)) => matches!(reader.check(), Ok(Ok(()))),
        _ => false,
    };
    let damaged = entries.iter().filter_map(|entry| match classify(&entry.name) {
        Name::Checkpoint(kind, lsn) if !is_whole(kind, lsn) => Some(checkpoint_name(kind, lsn)),
        _ => None,
    });
    damaged.collect()
}

/// The name of a segment's file, for people.
fn name_of(segment: &Surveyed) -> String {
    file_name(segment.header.segment)
}

/// Shared by the parts of a repair.
type Source = Arc<dyn crate::disk::DiskFile>;
