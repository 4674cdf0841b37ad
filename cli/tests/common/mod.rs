//! Running the binary.
#![allow(dead_code, reason = "each test crate uses some of it")]

pub(crate) mod serving;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

/// Small enough that tests roll segments, and fast to make.
pub(crate) const SEGMENT: [&str; 2] = ["--segment-bytes", "64KiB"];

/// A directory that goes away.
pub(crate) struct Scratch(tempfile::TempDir);

impl Scratch {
    pub(crate) fn new() -> Scratch {
        Scratch(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// A log in it, not made yet.
    pub(crate) fn log(&self) -> PathBuf {
        self.path().join("log")
    }
}

/// `cairnlog COMMAND --dir DIR`, with pipes.
pub(crate) fn cairnlog(command: &str, directory: &Path) -> Command {
    let mut cairnlog = bare(command);
    cairnlog.arg("--dir").arg(directory);
    cairnlog
}

/// `cairnlog COMMAND`, with pipes and nothing from the environment.
pub(crate) fn bare(command: &str) -> Command {
    let mut cairnlog = Command::new(env!("CARGO_BIN_EXE_cairnlog"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CAIRNLOG_") {
            cairnlog.env_remove(name);
        }
    }
    cairnlog.arg(command);
    cairnlog.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    cairnlog
}

/// Runs a command to its end with this input.
pub(crate) fn feed(command: &mut Command, input: &[u8]) -> Output {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        // A command may end before it read everything.
        scope.spawn(move || stdin.write_all(input).is_ok());
        child.wait_with_output().unwrap()
    })
}

/// Runs a command that is expected to end well, for its standard output.
pub(crate) fn answer(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap();
    assert_code(&output, 0);
    output.stdout
}

/// Appends lines to a log with short segments, expecting success.
pub(crate) fn append(directory: &Path, input: impl AsRef<[u8]>) -> Vec<u8> {
    let mut command = cairnlog("append", directory);
    let output = feed(command.args(SEGMENT).arg("--print-lsn"), input.as_ref());
    assert_code(&output, 0);
    output.stdout
}

pub(crate) fn assert_code(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    if code != 0 {
        assert!(!output.stderr.is_empty(), "{output:?}");
    }
}

/// Standard error, which is expected to be one line.
pub(crate) fn complaint(output: &Output) -> String {
    let talk = String::from_utf8(output.stderr.clone()).unwrap();
    assert!(talk.starts_with("cairnlog: ") && talk.ends_with('\n'), "{talk}");
    assert_eq!(talk.lines().count(), 1, "{talk}");
    talk
}

/// The numbers, one a line.
pub(crate) fn lines_of(numbers: impl Iterator<Item = u64>) -> String {
    numbers.map(|number| format!("{number}\n")).collect()
}

/// Names, lengths and contents of everything in a directory.
pub(crate) fn contents(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut contents: Vec<_> =
        entries.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
    contents.sort();
    contents
}

/// A command that goes on while the test talks to it.
pub(crate) struct Running {
    pub(crate) child: Child,
    stdout: Option<BufReader<ChildStdout>>,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Running {
        let mut child = command.stdin(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let stdout = child.stdout.take().map(BufReader::new);
        Running { child, stdout }
    }

    pub(crate) fn say(&mut self, text: &str) {
        let stdin = self.child.stdin.as_mut().unwrap();
        stdin.write_all(text.as_bytes()).unwrap();
    }

    pub(crate) fn hear(&mut self) -> String {
        let mut line = String::new();
        self.stdout.as_mut().unwrap().read_line(&mut line).unwrap();
        line
    }

    /// Everything until it closes its output.
    pub(crate) fn hear_all(&mut self) -> String {
        let mut text = String::new();
        self.stdout.as_mut().unwrap().read_to_string(&mut text).unwrap();
        text
    }

    /// Closes the pipe it writes to.
    pub(crate) fn stop_hearing(&mut self) {
        self.stdout = None;
    }

    pub(crate) fn stop_saying(&mut self) {
        self.child.stdin = None;
    }

    /// Ends its input, and hears the rest of its output; its exit code.
    pub(crate) fn end(mut self) -> Option<i32> {
        self.stop_saying();
        if self.stdout.is_some() {
            self.hear_all();
        }
        self.child.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Ended already, unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Numbers that look random: SplitMix64.
pub(crate) struct Random(u64);

impl Random {
    /// A new seed each time; it is printed, for those who look at a failure.
    pub(crate) fn new() -> Random {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let seed = u64::try_from(since.as_nanos()).unwrap();
        println!("seed {seed}");
        Random::of(seed)
    }

    pub(crate) fn of(seed: u64) -> Random {
        Random(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}
