//! A directory whose files were damaged, cut, swapped, taken away or forged.
//!
//! Properties
//!  I1. Looking never panics, never hangs, and changes no byte: a reader, `verify` and `inspect`.
//!  I2. They and `open` agree on the verdict.
//!  I3. An open that is refused changes no byte, but for a copy of the superblock that was damaged.
//!  I4. What is read is what was appended, at its LSN, without gaps: after any damage that nobody forged.
//!  I5. While superblock and watermark are whole, what the watermark promises is there, or the open is
//!      refused.
//!  I6. A log that opened takes a record, and has it after the next open.
//!  I7. A plan of a repair changes no byte. A directory that was repaired opens, and what it has lost it
//!      says; a repair that is impossible says so.
//!
//! Bounds: [`EDITS_MAX`] edits of an image of a few small segments.

mod build;
mod edit;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use arbitrary::{Arbitrary, Unstructured};
use cairnlog_engine::disk::sim::SimDisk;
use cairnlog_engine::format::superblock::COPY_BYTES;
use cairnlog_engine::{
    Log, LogReader, Lsn, LsnRange, OpenError, ReadError, RecoveryReport, Verdict, inspect_on,
    repair_on, verify_on,
};

use self::build::{Image, image};
use self::edit::{Edit, Files};
use crate::model::config;

const EDITS_MAX: usize = 8;
/// The disk has room for so many bytes more: a forged header may say that a segment has gigabytes, which a repair
/// would write.
const FREE_BYTES: u64 = 64 << 20;
/// So many records are read one by one.
const READS_MAX: u64 = 40;

/// An image and what is done to it.
#[derive(Debug)]
pub struct Case {
    image: u8,
    edits: Vec<Edit>,
}

impl<'a> Arbitrary<'a> for Case {
    fn arbitrary(u: &mut Unstructured<'a>) -> arbitrary::Result<Case> {
        let image = u.arbitrary()?;
        let mut edits = Vec::new();
        while !u.is_empty() && edits.len() < EDITS_MAX {
            edits.push(u.arbitrary()?);
        }
        Ok(Case { image, edits })
    }
}

/// Holds I1 to I7 against one damaged directory.
pub fn check(case: &Case) {
    let image = image(case.image);
    let mut files = Files::of(image);
    for edit in &case.edits {
        files.apply(edit);
    }
    let disk = SimDisk::new(1);
    files.write_to(&disk);
    disk.set_free_bytes(Some(FREE_BYTES));
    let forged = image.is_forged(&files.bytes);
    let before = contents(&disk);
    let seen = look(&disk, image, forged);
    assert_eq!(contents(&disk), before, "I1: looking changes nothing");
    match Log::open_on(Arc::new(disk.clone()), config()) {
        Ok((log, report)) => {
            let verdict = seen.as_ref().map_or(&Verdict::Clean, |(verdict, _)| verdict);
            assert_eq!(verdict, &report.verdict, "I2");
            assert!(seen.is_some() || report.created, "I2: there is a log that readers do not see");
            let intact = files.are_roots_of(image);
            check_opened(&disk, log, &report, image, forged, intact && !files.has_directories());
            let end = seen.map_or(report.end_lsn, |(_, end)| end);
            assert!(forged || end == report.end_lsn, "I2: a reader ends at {end}");
        }
        Err(error) => {
            if let (OpenError::Damaged { report, .. }, Some((verdict, _))) = (&error, seen) {
                assert_eq!(report.verdict, verdict, "I2");
            }
            // With a directory in the place of a file that is to be made it fails in the middle.
            if !(files.has_directories() && matches!(error, OpenError::Io(_))) {
                check_refused(&before, &contents(&disk), forged, &error);
            }
            check_repair(&disk, image, forged || files.has_directories());
        }
    }
}

/// I7; `odd` is a directory in which nothing more can be asked for than that it does not panic.
fn check_repair(disk: &SimDisk, image: &Image, odd: bool) {
    let before = contents(disk);
    let planned = repair_on(disk, false);
    assert_eq!(contents(disk), before, "I7: a plan changes nothing");
    let Ok(report) = repair_on(disk, true) else { return };
    let steps = planned.map(|plan| plan.steps);
    assert!(steps.as_ref().is_ok_and(|s| *s == report.steps), "I7: {steps:?}, {:?}", report.steps);
    if odd {
        return;
    }
    let (log, _) = Log::open_on(Arc::new(disk.clone()), config())
        .unwrap_or_else(|error| panic!("I7: repaired by {:?}: {error}", report.steps));
    let mut next = log.first_lsn();
    while next < log.end_lsn() {
        match log.read(next) {
            Ok(record) => {
                assert!(image.model.record(next) == Some(record.bytes()), "I4");
                next = next.next();
            }
            Err(ReadError::Lost { range }) => {
                let is_said = |lost: &LsnRange| lost.start <= next && next < lost.end;
                assert!(report.lost().iter().any(is_said), "I7: {range:?} of {:?}", report.steps);
                next = next.next();
            }
            Err(error) => panic!("I7: {error}"),
        }
    }
}

fn contents(disk: &SimDisk) -> BTreeMap<String, Vec<u8>> {
    disk.files().into_iter().map(|name| (name.clone(), disk.read_file(&name))).collect()
}

/// Everything that only looks; what a reader says of the end of the log.
fn look(disk: &SimDisk, image: &Image, forged: bool) -> Option<(Verdict, Lsn)> {
    let verified = verify_on(disk, &mut |_, _| {});
    let _ = inspect_on(disk, &mut |_| ControlFlow::Continue(()));
    let reader = match LogReader::open_on(Arc::new(disk.clone())) {
        Ok(reader) => reader,
        Err(_) => {
            assert!(verified.is_err(), "I2: verify finds a log, a reader does not");
            return None;
        }
    };
    if let Ok(report) = verified {
        assert_eq!(&report.verdict, reader.verdict(), "I2");
    }
    if let Ok(records) = reader.iter(..) {
        let records = records.filter(|record| !forged || record.is_err());
        // Damage may end it anywhere.
        let _ = image.model.check_records(reader.range().start, records);
    }
    let _ = reader.lsn_at_time(image.middle_ms);
    Some((reader.verdict().clone(), reader.range().end))
}

fn check_opened(
    disk: &SimDisk,
    log: Log,
    report: &RecoveryReport,
    image: &Image,
    forged: bool,
    intact: bool,
) {
    let (first, end) = (log.first_lsn(), log.end_lsn());
    if !forged {
        assert!(end <= image.model.end_lsn(), "I4: nobody wrote what ends at {end}");
        assert!(!intact || end >= image.promised, "I5: {end} after {}", image.promised);
        let _ = image.model.check_all(&log);
    }
    for lsn in (first.get()..end.get()).take(usize::try_from(READS_MAX).expect("few")) {
        if let Ok(record) = log.read(Lsn::new(lsn)) {
            assert_eq!(record.lsn, Lsn::new(lsn), "I4");
            assert!(forged || image.model.record(record.lsn) == Some(record.bytes()), "I4");
        }
    }
    let _ = log.lsn_at_time(image.middle_ms);
    let _ = log.next_sequence(1);
    let appended = log.append(b"after");
    let trimmed = log.trim(end);
    let closed = log.close();
    if forged || !intact {
        return;
    }
    assert_eq!(appended.expect("I6: it takes a record"), report.end_lsn);
    assert!(trimmed.expect("what is durable can be trimmed") <= end);
    closed.expect("I6: it closes");
    let reopened = Log::open_on(Arc::new(disk.clone()), config());
    let (log, again) = reopened.unwrap_or_else(|error| panic!("I6: {error}"));
    assert_eq!((again.verdict, again.end_lsn), (Verdict::Clean, end.next()), "I6");
    assert_eq!(log.read(end).expect("I6: it is there").bytes(), b"after");
}

fn check_refused(
    before: &BTreeMap<String, Vec<u8>>,
    after: &BTreeMap<String, Vec<u8>>,
    forged: bool,
    error: &OpenError,
) {
    for (name, bytes) in after {
        let was = before.get(name).unwrap_or_else(|| panic!("I3: made {name}: {error}"));
        let healed = name == "superblock" && (forged || is_healed(was, bytes));
        assert!(bytes == was || healed, "I3: changed {name}: {error}");
    }
    assert_eq!(before.len(), after.len(), "I3: removed a file: {error}");
}

/// Whether one copy of the superblock was rewritten from the other, and nothing else.
fn is_healed(before: &[u8], after: &[u8]) -> bool {
    let (Some(copy), Some(other)) =
        (after.get(..COPY_BYTES), after.get(COPY_BYTES..2 * COPY_BYTES))
    else {
        return false;
    };
    let from = before.chunks(COPY_BYTES).take(2).any(|before| before == copy);
    copy == other
        && from
        && after.get(2 * COPY_BYTES..) == Some(before.get(2 * COPY_BYTES..).unwrap_or_default())
}
