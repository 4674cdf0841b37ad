//! The `cairnlog` binary on a mounted file system.
//!
//! Owns how the commands are called here, and a writer that is fed without end until something stops it.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use cairnlog_engine::disk::BackendChoice;

use crate::common::{SEGMENT, answer, assert_code, cairnlog, feed};

/// For `--backend`.
pub(crate) fn flag(backend: BackendChoice) -> &'static str {
    match backend {
        BackendChoice::Auto => "auto",
        BackendChoice::Uring => "uring",
        BackendChoice::Blocking => "blocking",
    }
}

/// `cairnlog append` with short segments, one driver, and LSNs.
pub(crate) fn append(log: &Path, backend: BackendChoice) -> Command {
    let mut command = cairnlog("append", log);
    command.args(SEGMENT).args(["--print-lsn", "--backend", flag(backend)]);
    command
}

/// Appends lines, with whatever end it takes.
pub(crate) fn append_lines(log: &Path, backend: BackendChoice, lines: &[String]) -> Output {
    feed(&mut append(log, backend), (lines.join("\n") + "\n").as_bytes())
}

/// The LSNs that were printed. The last line may be cut off in the middle: it was not printed yet.
pub(crate) fn lsns(printed: &[u8]) -> Vec<usize> {
    let text = std::str::from_utf8(printed).unwrap();
    let whole = text.rfind('\n').map_or(0, |end| end + 1);
    text[..whole].lines().map(|lsn| lsn.parse().unwrap()).collect()
}

/// Everything in the log, after it was verified and inspected.
pub(crate) fn lines_in(log: &Path) -> Vec<String> {
    answer(&mut cairnlog("verify", log));
    answer(&mut cairnlog("inspect", log));
    let shown = String::from_utf8(answer(&mut cairnlog("read", log))).unwrap();
    shown.lines().map(str::to_owned).collect()
}

/// A command that could not do everything ended with this code, and said why.
pub(crate) fn assert_refused(output: &Output, code: i32, complaint: &str) {
    assert_code(output, code);
    let talk = String::from_utf8_lossy(&output.stderr);
    assert!(talk.contains(complaint) && !talk.contains("panicked"), "{talk}");
}

/// An `append` that gets lines of one round until it ends.
pub(crate) struct Writer {
    child: Child,
    feeding: JoinHandle<()>,
    hearing: JoinHandle<Vec<u8>>,
    first_lsn: Receiver<()>,
}

/// A line that tells where it belongs. Lengths differ, so that batches end everywhere.
pub(crate) fn line(round: u64, number: u64) -> String {
    let padding = usize::try_from((round * 7 + number * 131) % 900).unwrap();
    format!("{round} {number} {}", "x".repeat(padding))
}

impl Writer {
    /// Feeds lines, some at once, as fast as they are taken.
    pub(crate) fn start(log: &Path, backend: BackendChoice, round: u64, at_once: u64) -> Writer {
        let mut command = append(log, backend);
        let mut child = command.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let (first_is_printed, first_lsn) = channel();
        let feeding = std::thread::spawn(move || {
            for first in (0..).step_by(usize::try_from(at_once).unwrap()) {
                let lines: String =
                    (first..first + at_once).map(|number| line(round, number) + "\n").collect();
                // Killed.
                if stdin.write_all(lines.as_bytes()).is_err() {
                    break;
                }
            }
        });
        let hearing = std::thread::spawn(move || {
            let mut printed = Vec::new();
            stdout.read_until(b'\n', &mut printed).unwrap();
            // Nobody may be waiting for it.
            let _ = first_is_printed.send(());
            stdout.read_to_end(&mut printed).unwrap();
            printed
        });
        Writer { child, feeding, hearing, first_lsn }
    }

    pub(crate) fn wait_for_first_lsn(&self) {
        self.first_lsn.recv_timeout(Duration::from_secs(60)).unwrap();
    }

    /// `kill -9`; the LSNs it printed.
    pub(crate) fn kill(mut self) -> Vec<usize> {
        // It may have ended by itself.
        let _ = self.child.kill();
        self.feeding.join().unwrap();
        let printed = self.hearing.join().unwrap();
        self.child.wait().unwrap();
        lsns(&printed)
    }
}
