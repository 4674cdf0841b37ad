//! `repair`: the plan, and with `--confirm` the deed.
//!
//! Owns how the engine's report is shown.

use std::fmt::Write;

use cairnlog_engine::{RepairError, RepairReport, RepairStep};
use serde_json::{Value, json};

use super::verify::verdict_as_json;
use crate::args::{Format, RepairArgs};
use crate::exit::{Exit, Failure};
use crate::output;

pub(crate) fn run(args: &RepairArgs) -> Result<Exit, Failure> {
    let directory = &args.directory.path;
    let repaired = cairnlog_engine::repair(directory, args.confirm);
    let report = repaired.map_err(|error| match error {
        RepairError::Open(error) => Failure::open(directory, &error),
        error => Failure::new(Exit::Failed, format!("{}: {error}", directory.display())),
    })?;
    match args.format {
        Format::Text => output::print(&as_text(&report))?,
        Format::Json => output::print_json(&as_json(&report))?,
    }
    let waits = !report.is_done && !report.steps.is_empty();
    Ok(if waits { Exit::No } else { Exit::Done })
}

fn as_text(report: &RepairReport) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &dyn std::fmt::Display| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{name:<9} {value}");
    };
    match &report.verdict {
        Some(verdict) => line("verdict", verdict),
        None => line("verdict", &"no copy of the superblock is whole"),
    }
    if report.steps.is_empty() {
        line("repair", &"nothing is damaged");
    }
    for step in &report.steps {
        line(if report.is_done { "done" } else { "would" }, step);
    }
    for range in report.lost() {
        line("lost", &format_args!("records {}..{}", range.start, range.end));
    }
    for name in &report.kept {
        line("kept", name);
    }
    if !report.is_done && !report.steps.is_empty() {
        line("", &"nothing was changed; --confirm carries this out");
    }
    text
}

fn as_json(report: &RepairReport) -> Value {
    let lost = report.lost();
    let range = |range: &cairnlog_engine::LsnRange| json!({ "from_lsn": range.start.get(), "to_lsn": range.end.get() });
    json!({
        "verdict": report.verdict.as_ref().map(verdict_as_json),
        "steps": report.steps.iter().map(step_as_json).collect::<Vec<_>>(),
        "lost": lost.iter().map(range).collect::<Vec<_>>(),
        "kept": report.kept,
        "done": report.is_done,
    })
}

fn step_as_json(step: &RepairStep) -> Value {
    let mut value = match step {
        RepairStep::RebuildSuperblock => json!({ "kind": "rebuild_superblock" }),
        RepairStep::MendSegment { segment } => json!({ "kind": "mend", "segment": segment }),
        RepairStep::RewriteSegment { segment } => json!({ "kind": "rewrite", "segment": segment }),
        RepairStep::GiveUp { segment, offset, lsns } => json!({
            "kind": "give_up", "segment": segment, "offset": offset,
            "from_lsn": lsns.start.get(), "to_lsn": lsns.end.get(),
        }),
        RepairStep::SetCheckpointAside { name } => {
            json!({ "kind": "set_checkpoint_aside", "name": name })
        }
        other => json!({ "kind": "other", "what": other.to_string() }),
    };
    value["what"] = step.to_string().into();
    value
}
