//! What a mutation is, and the run over many: a package is broken on purpose, in a copy, in one way after the
//! other, and each time the test that the mutation names has to notice.
//!
//! Owns the run; the copy is `copy`'s. A mutation is a few texts of the source and what takes their place; a text
//! that is not there exactly once, because the source moved on, ends the test before anything is built: write
//! the mutation anew. So does a mutation that does not compile. The unbroken copy is run first and has to pass.
//! While one mutation is tested the next one is built; both work in cargo's directory for temporary files.
//! `CAIRNLOG_MUTATION` names one mutation, or a part of its name, to be tried alone.
//!
//! Included by the tests of each package that has mutations.

mod copy;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use copy::Copy;

/// A file below `src`, a text in it, and what takes its place.
pub(super) type Edit = (&'static str, &'static str, &'static str);

pub(super) struct Mutation {
    pub(super) what: &'static str,
    pub(super) edits: &'static [Edit],
    /// Who has to notice: a test binary, or `binary::test` for the tests of it with that in their name.
    pub(super) test: &'static str,
}

/// What is broken.
pub(super) struct Subject {
    pub(super) package: &'static str,
    /// Its folder.
    pub(super) folder: &'static str,
    /// Folders of the packages of this workspace that it needs.
    pub(super) made_of: &'static [&'static str],
    /// What the copy is built faster without: a file, and how its lines begin that are left out.
    pub(super) without: &'static [(&'static str, &'static [&'static str])],
    /// What the tests find in their environment.
    pub(super) env: &'static [(&'static str, &'static str)],
    pub(super) mutations: &'static [&'static [Mutation]],
}

/// Not a test binary but the unit tests of that name, built for the model checker.
pub(super) const INTERLEAVINGS: &str = "interleavings";
/// Not a test binary but the unit tests.
pub(super) const UNIT: &str = "unit";

/// A test of threads may miss by chance what it notices nearly always: so often may it try.
const ATTEMPTS: usize = 3;
/// A test that runs longer hangs, which is noticed too.
const TEST_SECONDS_MAX: u64 = 90;

impl Subject {
    /// The workspace.
    fn root(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
    }

    fn all(&self) -> impl Iterator<Item = &'static Mutation> {
        self.mutations.iter().copied().flatten()
    }

    /// Every text must be there once: otherwise the source moved on, and the list has to follow.
    pub(super) fn check_texts(&self) {
        let source = self.root().join(self.folder).join("src");
        let mut stale = Vec::new();
        for mutation in self.all() {
            for (file, find, _) in mutation.edits {
                let count = copy::read(&source.join(file)).matches(find).count();
                if count != 1 {
                    stale.push(format!("{}: {count} times in {file}: {find}", mutation.what));
                }
            }
        }
        assert!(stale.is_empty(), "these mutations have to be written anew:\n{}", stale.join("\n"));
    }

    /// Tries every mutation, or those that were asked for.
    pub(super) fn check_all(&'static self) {
        self.check_texts();
        let only = std::env::var("CAIRNLOG_MUTATION").unwrap_or_default();
        let mutations: Vec<_> = self.all().filter(|m| m.what.contains(&only)).collect();
        assert!(!mutations.is_empty(), "no mutation is called {only}");
        let tests: BTreeSet<&str> = mutations.iter().map(|mutation| mutation.test).collect();
        let copy = Copy::make(self, tests.iter().map(|test| parts(test).0));
        for test in tests {
            let (binary, name) = parts(test);
            let unbroken = copy.build(0, &[], binary).unwrap_or_else(|said| panic!("{said}"));
            let by = self.noticed(&unbroken, name);
            assert_eq!(by, None, "{test} fails on what is not broken");
        }
        let (send, receive) = mpsc::sync_channel::<(&Mutation, PathBuf)>(1);
        let runner = std::thread::spawn(move || {
            let mut missed = Vec::new();
            for (mutation, binary) in receive {
                let start = Instant::now();
                let name = parts(mutation.test).1;
                let by = (0..ATTEMPTS).find_map(|_| self.noticed(&binary, name));
                fs::remove_file(binary).expect("a binary is removed");
                let seconds = start.elapsed().as_secs();
                println!("{} ({seconds} s): {}", mutation.what, by.as_deref().unwrap_or("MISSED"));
                if by.is_none() {
                    missed.push(mutation.what);
                }
            }
            missed
        });
        for (number, mutation) in (1..).zip(&mutations) {
            match copy.build(number, mutation.edits, parts(mutation.test).0) {
                Ok(binary) => send.send((mutation, binary)).expect("the runner lives"),
                Err(said) => panic!("{} does not compile:\n{said}", mutation.what),
            }
        }
        drop(send);
        let missed = runner.join().expect("the runner ends");
        assert!(missed.is_empty(), "not noticed: {missed:#?}");
        println!("{} mutations, each noticed", mutations.len());
    }

    /// Runs a test binary, or one test of it; who noticed something, or `None` when all passed.
    fn noticed(&self, binary: &Path, test: Option<&str>) -> Option<String> {
        let log = binary.with_extension("log");
        let out = fs::File::create(&log).expect("a file is made");
        let mut child = Command::new(binary)
            .args(test)
            .envs(self.env.iter().copied())
            .env("RUST_BACKTRACE", "0")
            .stdout(out)
            .stderr(Stdio::null())
            .spawn()
            .expect("a test binary runs");
        let deadline = Instant::now() + Duration::from_secs(TEST_SECONDS_MAX);
        let status = loop {
            if let Some(status) = child.try_wait().expect("a child is waited for") {
                break status;
            }
            if Instant::now() > deadline {
                child.kill().expect("a child is killed");
                child.wait().expect("a child ends");
                return Some("nobody: it hangs".to_owned());
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let said = fs::read(&log).expect("what it said is kept");
        let said = String::from_utf8_lossy(&said);
        assert!(!said.contains("running 0 tests"), "{} has no test {test:?}", binary.display());
        if status.success() {
            return None;
        }
        let failed =
            |line: &str| Some(line.strip_prefix("test ")?.strip_suffix(" ... FAILED")?.to_owned());
        let names: Vec<String> = said.lines().filter_map(failed).collect();
        Some(if names.is_empty() { status.to_string() } else { names.join(", ") })
    }
}

/// The binary of a row's test, and which of its tests is asked.
fn parts(test: &str) -> (&str, Option<&str>) {
    match test.split_once("::") {
        Some((binary, name)) => (binary, Some(name)),
        // The other unit tests there are not for the checker.
        None if test == INTERLEAVINGS => (test, Some(test)),
        None => (test, None),
    }
}
