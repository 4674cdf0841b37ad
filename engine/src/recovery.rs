//! Recovery: from what is on the medium to a log that can be appended to, with a verdict.
//!
//! Owns the order of the steps and the decision table ([`decide`], FORMAT.md section 8). Reading what
//! there is: `recovery::examine`; undoing a torn tail: `recovery::cut`; where only the page cache can be
//! read: `recovery::renew`. Does not open the superblock or
//! the log.
//!
//! Invariants
//!  V1. Only what lies above all evidence of durability, and within `inflight_bytes_max`, is called
//!      torn.                                                     test `the_table_is_complete`
//!  V2. Nothing is changed before the verdict, and nothing at all after `Damaged` or `LostDurable`.
//!  V3. A crash at any step leaves a directory on which recovery ends the same way.
//!                                                  test `crash_during_recovery` in tests/power_cut.rs

mod cut;
mod examine;
mod renew;

use std::fmt;

pub(crate) use cut::{finish_cut, lower_watermark, read_back, sync_tail};
pub(crate) use examine::{Examined, evidence, examine, read_header, read_trailer};
pub(crate) use renew::renew_tail;

use crate::error::Corruption;
use crate::format::version::Fault;
use crate::{Epoch, Lsn, LsnRange};

/// What recovery found at the end of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// The log ends where its last batch ends.
    Clean,
    /// Behind the end lay bytes of writes that were never acknowledged: they were cut off.
    TornTail {
        /// The segment of the cut.
        segment: u64,
        /// The first offset cut off.
        offset: u64,
        /// The first LSN cut off: the next record gets it.
        lsn: Lsn,
        /// Batches, whole or torn, that were recognized behind the cut.
        batches: u64,
    },
    /// Something that had been durable is damaged: there is evidence of it or behind it.
    Damaged(Corruption),
    /// Records that had been durable are gone, with nothing in their place.
    LostDurable {
        /// The records.
        range: LsnRange,
        /// The segment in which the first of them should be.
        segment: u64,
        /// The offset at which it should be.
        offset: u64,
    },
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Clean => f.write_str("clean"),
            Verdict::TornTail { segment, offset, lsn, batches } => write!(
                f,
                "torn tail: segment {segment}, offset {offset}: {batches} unacknowledged batches \
                 from LSN {lsn} on"
            ),
            Verdict::Damaged(corruption) => write!(f, "damaged: {corruption}"),
            Verdict::LostDurable { range, segment, offset } => write!(
                f,
                "lost: records {}..{} were durable and are gone (segment {segment}, offset {offset})",
                range.start, range.end
            ),
        }
    }
}

/// What an open found and did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// The state of the end of the log.
    pub verdict: Verdict,
    /// Whether the log was made by this open.
    pub created: bool,
    /// The oldest record kept.
    pub first_lsn: Lsn,
    /// The next record's LSN.
    pub end_lsn: Lsn,
    /// The highest durable LSN that the directory gave evidence of, apart from the records themselves.
    pub evidence_lsn: Lsn,
    /// The epoch of this open.
    pub epoch: Epoch,
    /// How many times the log was opened for writing.
    pub start_counter: u64,
    /// Segments of the log.
    pub segments: u64,
    /// Segments taken from the engine's checkpoint, without looking at their files.
    pub segments_listed: u64,
    /// Segments whose batches had to be read, because they were not sealed.
    pub segments_scanned: u64,
    /// Batches read in them.
    pub batches_scanned: u64,
    /// The driver that writes for tickets: `io_uring` or `blocking`. Worth a line in your own log.
    pub backend: &'static str,
    /// Why it is not io_uring; empty when it is, or when blocking was asked for.
    pub backend_reason: String,
    /// Names in the directory that are not the log's; they were left alone.
    pub foreign: Vec<String>,
    /// What else deserves a look: a damaged header that the footer made up for, a segment sealed anew.
    pub notes: Vec<String>,
}

/// What is known about the place where the chain of batches ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TailFacts {
    pub(crate) segment: u64,
    pub(crate) offset: u64,
    /// The LSN that would come next.
    pub(crate) lsn: Lsn,
    /// Why the chain ends; `None` when the segment is full.
    pub(crate) fault: Option<Fault>,
    /// The file that should go on where the chain ends and does not, when it is damaged itself.
    pub(crate) suspect: Option<(u64, Fault)>,
    /// The highest durable LSN of any evidence.
    pub(crate) evidence_lsn: Lsn,
    /// Batches of this log recognized at or behind the end, in this or a later segment.
    pub(crate) recognized: u64,
    /// How far behind the end the farthest of them starts, in bytes of the log.
    pub(crate) farthest_bytes: u64,
    /// How far a write may be ahead of what is durable.
    pub(crate) inflight_bytes_max: u64,
}

/// The decision table: labels as in FORMAT.md, section 8.
///
/// | row | evidence above the end | recognized behind the end | within the window | verdict |
/// | --- | --- | --- | --- | --- |
/// | R1 | no  | none | -   | `Clean` |
/// | R2 | no  | some | yes | `TornTail` |
/// | R3 | no  | some | no  | `Damaged` |
/// | R4 | yes | some | any | `Damaged` |
/// | R5 | yes | none | -   | `LostDurable`; `Damaged` when the next file is there and is no segment |
pub(crate) fn decide(facts: &TailFacts) -> Verdict {
    let evidence = facts.evidence_lsn > facts.lsn;
    let recognized = facts.recognized > 0;
    let within = facts.farthest_bytes <= facts.inflight_bytes_max;
    let TailFacts { segment, offset, lsn, .. } = *facts;
    // Where an operator has to look: in the file that does not go on, or else where the chain ends.
    let place = match facts.suspect {
        Some((segment, fault)) => (segment, 0, fault),
        None => (segment, offset, facts.fault.unwrap_or(Fault::Chain)),
    };
    let damaged = || {
        let (segment, offset, fault) = place;
        Verdict::Damaged(Corruption { segment, offset, lsn, fault })
    };
    match (evidence, recognized, within) {
        (false, false, _) => Verdict::Clean,
        (false, true, true) => {
            Verdict::TornTail { segment, offset, lsn, batches: facts.recognized }
        }
        (false, true, false) | (true, true, _) => damaged(),
        // There is something in their place.
        (true, false, _) if facts.suspect.is_some() => damaged(),
        (true, false, _) => {
            Verdict::LostDurable { range: lsn..facts.evidence_lsn, segment, offset }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_complete() {
        for evidence in [1, 10, 11] {
            for recognized in [0, 1, 3] {
                for farthest_bytes in [0, 100, 101] {
                    let facts = TailFacts {
                        segment: 1,
                        offset: 4096,
                        lsn: Lsn::new(10),
                        fault: Some(Fault::Body),
                        suspect: None,
                        evidence_lsn: Lsn::new(evidence),
                        recognized,
                        farthest_bytes,
                        inflight_bytes_max: 100,
                    };
                    let verdict = decide(&facts);
                    let torn = matches!(verdict, Verdict::TornTail { .. });
                    let (above, far) = (evidence > 10, farthest_bytes > 100);
                    assert_eq!(torn, recognized > 0 && !above && !far, "{facts:?}");
                    let clean = verdict == Verdict::Clean;
                    assert_eq!(clean, recognized == 0 && !above, "{facts:?}");
                    let lost = matches!(verdict, Verdict::LostDurable { .. });
                    assert_eq!(lost, recognized == 0 && above, "{facts:?}");
                }
            }
        }
    }
}
