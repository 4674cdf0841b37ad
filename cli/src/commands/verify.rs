//! `verify`: whether everything that had been durable is whole.
//!
//! Owns how the engine's report is shown.

use std::fmt::Write;

use cairnlog_engine::{Corruption, OpenError, Verdict, VerifyReport};
use serde_json::{Value, json};

use crate::args::{Format, VerifyArgs};
use crate::exit::{Exit, Failure};
use crate::output::{self, Progress};

pub(crate) fn run(args: &VerifyArgs) -> Result<Exit, Failure> {
    let directory = &args.directory.path;
    let mut progress = Progress::new(true, true);
    let verified =
        cairnlog_engine::verify(directory, &mut |done, total| progress.show(done, total));
    progress.clear();
    let report = verified.map_err(|error| match error {
        // Nobody can tell what was promised: that is damage, and not a command that went wrong.
        OpenError::Superblock { .. } => Failure::new(Exit::No, error.to_string()),
        error => Failure::open(directory, &error),
    })?;
    match args.format {
        Format::Text => output::print(&as_text(&report))?,
        Format::Json => output::print_json(&as_json(&report))?,
    }
    Ok(if report.is_whole() { Exit::Done } else { Exit::No })
}

fn as_text(report: &VerifyReport) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &dyn std::fmt::Display| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{name:<9} {value}");
    };
    line("verdict", &if report.is_whole() { "whole" } else { "damaged" });
    line("end", &report.verdict);
    if let (Verdict::TornTail { .. }, true) = (&report.verdict, report.writer_lives) {
        line("", &"a writer has the log open: these are writes on their way");
    }
    let (first, end) = (report.first_lsn, report.end_lsn);
    line("records", &format_args!("{} (LSN {first} up to, not including, {end})", report.records));
    line("batches", &report.batches);
    line("segments", &report.segments);
    line("bytes", &report.bytes);
    for damage in &report.damage {
        line("damage", damage);
    }
    line(
        "files",
        &format_args!(
            "{} checkpoints, {} parity, {} forks",
            report.checkpoints, report.parity_files, report.forks
        ),
    );
    for file in &report.damaged_files {
        line("damage", &format_args!("{}: {}", file.name, file.fault));
    }
    for range in &report.lost {
        line("lost", &format_args!("records {}..{}, by a repair", range.start, range.end));
    }
    for note in &report.notes {
        line("note", note);
    }
    for name in &report.foreign {
        line("foreign", &name.escape_debug());
    }
    text
}

fn as_json(report: &VerifyReport) -> Value {
    json!({
        "whole": report.is_whole(),
        "verdict": verdict_as_json(&report.verdict),
        "first_lsn": report.first_lsn.get(),
        "end_lsn": report.end_lsn.get(),
        "segments": report.segments,
        "batches": report.batches,
        "records": report.records,
        "bytes": report.bytes,
        "damage": report.damage.iter().map(corruption_as_json).collect::<Vec<_>>(),
        "checkpoints": report.checkpoints,
        "parity_files": report.parity_files,
        "forks": report.forks,
        "damaged_files": report.damaged_files.iter().map(|file| json!({
            "name": file.name, "fault": file.fault.to_string(),
        })).collect::<Vec<_>>(),
        "lost": report.lost.iter().map(|range| json!({
            "from_lsn": range.start.get(), "to_lsn": range.end.get(),
        })).collect::<Vec<_>>(),
        "foreign": report.foreign,
        "notes": report.notes,
        "writer_lives": report.writer_lives,
    })
}

/// A verdict, with its `kind`.
pub(super) fn verdict_as_json(verdict: &Verdict) -> Value {
    match verdict {
        Verdict::Clean => json!({ "kind": "clean" }),
        Verdict::TornTail { segment, offset, lsn, batches } => json!({
            "kind": "torn_tail", "segment": segment, "offset": offset, "lsn": lsn.get(),
            "batches": batches,
        }),
        Verdict::Damaged(corruption) => {
            let mut value = corruption_as_json(corruption);
            value["kind"] = "damaged".into();
            value
        }
        Verdict::LostDurable { range, segment, offset } => json!({
            "kind": "lost_durable", "segment": segment, "offset": offset,
            "from_lsn": range.start.get(), "to_lsn": range.end.get(),
        }),
        other => json!({ "kind": other.to_string() }),
    }
}

/// A damaged place.
pub(super) fn corruption_as_json(corruption: &Corruption) -> Value {
    json!({
        "segment": corruption.segment,
        "offset": corruption.offset,
        "lsn": corruption.lsn.get(),
        "fault": corruption.fault.to_string(),
    })
}
