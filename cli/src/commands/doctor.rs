//! `doctor`: whether a log can run here, and how well.
//!
//! Owns the judgement about what `doctor::machine` finds. Touches no file of a log.

mod machine;

use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};

use cairnlog_engine::disk::{Backend, BackendChoice, OsDisk};
use cairnlog_engine::{Config, LogReader, OpenError, Verdict};
use rustix::process::Resource;
use serde_json::{Map, Value, json};

use crate::args::{DoctorArgs, Format};
use crate::exit::{Exit, Failure};
use crate::output;

/// A durable write that takes longer makes a slow log.
const SLOW_US: f64 = 5000.0;
const OPEN_FILES_MIN: u64 = 256;
/// File systems that forget everything with the power.
const VOLATILE: [&str; 2] = ["tmpfs", "ramfs"];
/// File systems on the other side of a network, whose durability is theirs to promise.
const REMOTE: [&str; 8] = ["nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "fuse", "virtiofs"];

pub(crate) fn run(args: &DoctorArgs) -> Result<Exit, Failure> {
    let mut report = Report::default();
    report.examine(&args.directory.path);
    match args.format {
        Format::Text => output::print(&report.as_text())?,
        Format::Json => output::print_json(&report.as_json())?,
    }
    Ok(if report.worst() == Mark::Fail { Exit::Failed } else { Exit::Done })
}

/// What a finding means for a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Mark {
    Ok,
    /// It runs, and not as well as it could.
    Warn,
    /// It does not run.
    Fail,
}

impl Mark {
    fn name(self) -> &'static str {
        match self {
            Mark::Ok => "OK",
            Mark::Warn => "WARN",
            Mark::Fail => "FAIL",
        }
    }
}

struct Finding {
    mark: Mark,
    name: &'static str,
    text: String,
}

/// What was found, for people and for programs.
#[derive(Default)]
struct Report {
    findings: Vec<Finding>,
    values: Map<String, Value>,
}

impl Report {
    fn examine(&mut self, directory: &Path) {
        self.examine_kernel();
        let there = self.examine_directory(directory);
        let Some(there) = there else { return };
        self.examine_file_system(&there);
        self.examine_writes(&there);
        self.examine_driver(&there);
        self.examine_limits();
    }

    fn note(&mut self, mark: Mark, name: &'static str, text: impl Into<String>) {
        self.findings.push(Finding { mark, name, text: text.into() });
    }

    fn value(&mut self, name: &str, value: impl Into<Value>) {
        self.values.insert(name.to_owned(), value.into());
    }

    fn examine_kernel(&mut self) {
        let kernel = machine::kernel();
        self.value("kernel", kernel.as_str());
        self.note(Mark::Ok, "kernel", kernel);
    }

    /// The directory, or the one in which it would be made.
    fn examine_directory(&mut self, directory: &Path) -> Option<PathBuf> {
        let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", directory.display());
        match LogReader::open(directory) {
            Ok(reader) => {
                self.note_log(&reader);
                return Some(directory.to_owned());
            }
            Err(OpenError::NotFound(_)) => {}
            Err(error) => {
                self.note(Mark::Fail, "directory", failed(&error));
                return None;
            }
        }
        match std::fs::read_dir(directory) {
            Ok(mut entries) => {
                let foreign = entries.find_map(|entry| {
                    let name = entry.ok()?.file_name().to_string_lossy().into_owned();
                    (name != "lost+found" && name != "lock").then_some(name)
                });
                if let Some(name) = foreign {
                    let text = failed(&format_args!("no log, and not empty: it holds {name:?}"));
                    self.note(Mark::Fail, "directory", text);
                    return None;
                }
                self.note(Mark::Ok, "directory", "empty: append makes a log");
                Some(directory.to_owned())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let there =
                    directory.ancestors().skip(1).map(or_here).find(|path| path.is_dir())?;
                let text = format!("not there yet; {} was looked at instead", there.display());
                self.note(Mark::Ok, "directory", text);
                Some(there)
            }
            Err(error) => {
                self.note(Mark::Fail, "directory", failed(&error));
                None
            }
        }
    }

    fn note_log(&mut self, reader: &LogReader) {
        let range = reader.range();
        let writer = if reader.writer_lives() { ", a writer has it open" } else { "" };
        let text = format!("a log with records {}..{}{writer}", range.start, range.end);
        match reader.verdict() {
            Verdict::Clean => self.note(Mark::Ok, "directory", text),
            Verdict::TornTail { .. } if reader.writer_lives() => {
                self.note(Mark::Ok, "directory", text);
            }
            Verdict::TornTail { .. } => {
                let text = format!("{text}; the next append cuts off a torn tail");
                self.note(Mark::Ok, "directory", text);
            }
            verdict => self.note(Mark::Fail, "directory", format!("{text}; {verdict}")),
        }
    }

    fn examine_file_system(&mut self, directory: &Path) {
        match machine::file_system(directory) {
            Ok(kind) => {
                self.value("file_system", kind.as_str());
                let is_remote = REMOTE.contains(&kind.as_str()) || kind.starts_with("fuse.");
                if VOLATILE.contains(&kind.as_str()) {
                    let text = format!("{kind}: in memory, nothing survives a power cut");
                    self.note(Mark::Warn, "file system", text);
                } else if is_remote {
                    let text = format!("{kind}: what is durable is up to its server");
                    self.note(Mark::Warn, "file system", text);
                } else {
                    self.note(Mark::Ok, "file system", kind);
                }
            }
            Err(error) => self.note(Mark::Warn, "file system", format!("unknown: {error}")),
        }
        match machine::free_bytes(directory) {
            Ok(bytes) => self.note_free(bytes),
            Err(error) => self.note(Mark::Warn, "free", format!("unknown: {error}")),
        }
    }

    fn note_free(&mut self, bytes: u64) {
        self.value("free_bytes", bytes);
        let segments = bytes / Config::default().segment_bytes;
        // One to write to, one prepared, and two to be recycled.
        let mark = if segments < 4 { Mark::Warn } else { Mark::Ok };
        self.note(
            mark,
            "free",
            format!("{bytes} bytes: {segments} segments of the default length"),
        );
    }

    fn examine_writes(&mut self, directory: &Path) {
        let latencies = match machine::measure(directory) {
            Ok(latencies) => latencies,
            Err(error) => {
                let text = format!("a file in {} cannot be written: {error}", directory.display());
                return self.note(Mark::Fail, "writing", text);
            }
        };
        self.value("direct", latencies.direct);
        if latencies.direct {
            self.note(Mark::Ok, "O_DIRECT", "taken");
        } else {
            let text = "refused by the file system: writes go through the page cache";
            self.note(Mark::Warn, "O_DIRECT", text);
        }
        self.value("dsync_us", latencies.dsync_us);
        self.value("write_sync_us", latencies.write_sync_us);
        let write_sync = latencies.write_sync_us;
        let best = latencies.dsync_us.map_or(write_sync, |dsync| dsync.min(write_sync));
        let dsync = latencies.dsync_us.map_or("unknown here".to_owned(), |us| format!("{us} µs"));
        let text =
            format!("RWF_DSYNC {dsync}, write and fdatasync {write_sync} µs (medians, 4 KiB)");
        let mark = if best > SLOW_US { Mark::Warn } else { Mark::Ok };
        self.note(mark, "durable write", text);
    }

    fn examine_driver(&mut self, directory: &Path) {
        match OsDisk::open(directory, false, BackendChoice::Auto) {
            Ok(disk) => {
                let probe = disk.probe();
                let is_uring = probe.backend == Backend::Uring;
                let name = if is_uring { "io_uring" } else { "blocking" };
                self.value("backend", name);
                self.value("backend_reason", probe.backend_reason.as_str());
                if is_uring {
                    self.note(Mark::Ok, "backend", name);
                } else {
                    let text = format!("{name}: {}", probe.backend_reason);
                    self.note(Mark::Warn, "backend", text);
                }
            }
            Err(error) => {
                let text = format!("{}: {error}", directory.display());
                self.note(Mark::Fail, "backend", text);
            }
        }
    }

    fn examine_limits(&mut self) {
        let show = |limit: Option<u64>| limit.map_or("unlimited".to_owned(), |n| n.to_string());
        let files = machine::limit(Resource::Nofile);
        self.value("open_files", files);
        let few = files.is_some_and(|files| files < OPEN_FILES_MIN);
        let mark = if few { Mark::Warn } else { Mark::Ok };
        self.note(mark, "open files", show(files));
        let locked = machine::limit(Resource::Memlock);
        self.value("memlock_bytes", locked);
        self.note(Mark::Ok, "locked memory", format!("{} bytes", show(locked)));
    }

    fn worst(&self) -> Mark {
        self.findings.iter().map(|finding| finding.mark).max().unwrap_or(Mark::Ok)
    }

    fn verdict(&self) -> &'static str {
        match self.worst() {
            Mark::Ok => "a log runs well here",
            Mark::Warn => "a log runs here, with the warnings above",
            Mark::Fail => "a log cannot run here",
        }
    }

    fn as_text(&self) -> String {
        let mut text = String::new();
        for Finding { mark, name, text: finding } in &self.findings {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{:<4} {name:<14} {finding}", mark.name());
        }
        let _ = writeln!(text, "{:<4} {:<14} {}", self.worst().name(), "verdict", self.verdict());
        text
    }

    fn as_json(&self) -> Value {
        let findings = self.findings.iter().map(|finding| {
            json!({ "mark": finding.mark.name(), "name": finding.name, "text": finding.text })
        });
        let mut object = self.values.clone();
        object.insert("findings".to_owned(), findings.collect());
        object.insert("verdict".to_owned(), self.worst().name().into());
        Value::Object(object)
    }
}

/// The parent of a name without one is where the process is.
fn or_here(path: &Path) -> PathBuf {
    if path.as_os_str().is_empty() { PathBuf::from(".") } else { path.to_owned() }
}
