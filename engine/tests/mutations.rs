//! Whether the tests of crashes and faults can fail: the engine is broken on purpose, in a copy, in one
//! way after the other, and each time one of them has to notice.
//!
//! Owns the list of mutations. Each is a few texts of the source and what takes their place; a text
//! that is not there exactly once, because the source moved on, ends the test before anything is built:
//! write the mutation anew. So does a mutation that does not compile. The unbroken copy is run first
//! and has to pass.
//!
//! Takes minutes, so that it is ignored by default and a step of its own in `.ci/run`. While one
//! mutation is tested the next one is built; both work in cargo's directory for temporary files.
//! `CAIRNLOG_MUTATION` names one mutation, a part of its name, or the tests that have to notice, to be
//! tried alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// A file below `engine/src`, a text in it, and what takes its place.
type Edit = (&'static str, &'static str, &'static str);

struct Mutation {
    what: &'static str,
    edits: &'static [Edit],
    /// The test binaries of which one has to notice, in the order in which they are asked.
    tests: &'static [&'static str],
}

const EXPLORER: &[&str] = &["explorer"];
const LIES: &[&str] = &["lies"];
const FAULTS: &[&str] = &["io_faults"];
/// Not a test binary but the unit tests of that name, built for the model checker.
const INTERLEAVINGS: &[&str] = &["interleavings"];
/// All other that are built.
const TESTS: [&str; 3] = ["explorer", "lies", "io_faults"];

/// A test that runs longer hangs, which is noticed too.
const TEST_SECONDS_MAX: u64 = 90;

const MUTATIONS: &[Mutation] = &[
    Mutation {
        what: "the directory is not synced before a segment is used",
        edits: &[(
            "log/maintenance.rs",
            "self.disk.sync_directory().inspect_err(",
            "Ok::<(), io::Error>(()).inspect_err(",
        )],
        tests: EXPLORER,
    },
    Mutation {
        what: "a new segment is not synced before it has its name",
        edits: &[("log/maintenance.rs", "file.sync()?;", "")],
        tests: EXPLORER,
    },
    Mutation {
        what: "a recycled file keeps its old header",
        edits: &[(
            "log/maintenance.rs",
            "file.write_durable_at(&Aligned::zeroed(HEADER_BLOCK_MAX), 0)?;",
            "let _ = HEADER_BLOCK_MAX;",
        )],
        tests: EXPLORER,
    },
    Mutation {
        what: "a file is dropped before the trim point is durable",
        edits: &[
            ("log/maintenance.rs", "superblock.first_lsn = first_lsn;", "let _ = &superblock;"),
            ("log/maintenance.rs", "superblock.first_segment = first_segment;", ""),
            (
                "log/maintenance.rs",
                "dropped.map_err(|error| IoFailure::new(\"drop\", &name, error))",
                "dropped.map_err(|error| IoFailure::new(\"drop\", &name, error))?; \
                 maintenance.superblock.change(|superblock| { superblock.first_lsn = first_lsn; \
                 superblock.first_segment = first_segment; })",
            ),
        ],
        tests: EXPLORER,
    },
    Mutation {
        what: "a segment is sealed while it is written",
        edits: &[("log/maintenance.rs", "if number < unfinished {", "if number <= unfinished {")],
        tests: EXPLORER,
    },
    Mutation {
        what: "the superblock is not synced",
        edits: &[(
            "superblock.rs",
            "self.file.write_durable_at(&copy,",
            "self.file.write_at(&copy,",
        )],
        tests: EXPLORER,
    },
    Mutation {
        what: "only one copy of the superblock is written",
        edits: &[("superblock.rs", ".and_then(|()| self.write_copy(1))", "")],
        tests: EXPLORER,
    },
    Mutation {
        what: "a new superblock is not synced before it has its name",
        edits: &[("superblock.rs", "file.sync()?;", "")],
        tests: EXPLORER,
    },
    Mutation {
        what: "a batch is written and not made durable",
        edits: &[(
            "log/committer.rs",
            "write.file.write_durable_at(&write",
            "write.file.write_at(&write",
        )],
        tests: EXPLORER,
    },
    Mutation {
        what: "a ticket is acknowledged before its write completed",
        edits: &[
            (
                "log/committer.rs",
                "if let Err(error) = submitted {",
                "self.complete(&mut state, Completion { id, result: Ok(()) }, ended);\
                 if let Err(error) = submitted {",
            ),
            (
                "wal/writer.rs",
                "assert!(self.poison.is_some(), \"a completion is for a write that was handed out\");",
                "",
            ),
        ],
        tests: EXPLORER,
    },
    Mutation {
        what: "a write is acknowledged before those in front of it",
        edits: &[(
            "wal/writer.rs",
            "placed.completed = true;",
            "placed.completed = true; if result.is_ok() && let Some(commit) = placed.commit.take() \
             { commit.finish(Ok(())); }",
        )],
        tests: EXPLORER,
    },
    Mutation {
        what: "a batch gets blocks that another one has",
        edits: &[(
            "wal/writer.rs",
            "segment.offset += to_u64(length);",
            "segment.offset += to_u64(length).max(1024) - 512;",
        )],
        tests: EXPLORER,
    },
    Mutation {
        what: "a batch says that itself is durable",
        edits: &[(
            "wal/writer.rs",
            "durable_lsn: self.durable_lsn,\n            commit_lsn",
            "durable_lsn: base_lsn,\n            commit_lsn",
        )],
        tests: EXPLORER,
    },
    Mutation {
        what: "the checksum of a body is not looked at",
        edits: &[(
            "format/batch.rs",
            "checksum(&batch[HEADER_BYTES..]) == self.body_checksum",
            "self.length > 0",
        )],
        tests: EXPLORER,
    },
    Mutation {
        what: "the checksum of a header is not looked at",
        edits: &[("format/batch.rs", "if stored != checksum(", "if false && stored != checksum(")],
        tests: LIES,
    },
    Mutation {
        what: "the chain of checksums is not looked at",
        edits: &[(
            "wal/scan.rs",
            "self.checksum.is_some_and(|checksum| header.prev_checksum != checksum)",
            "false",
        )],
        tests: LIES,
    },
    Mutation {
        what: "the identity of the log is not looked at",
        edits: &[("wal/scan.rs", "if header.log_id != self.log_id {", "if false {")],
        tests: LIES,
    },
    Mutation {
        what: "what a file holds from before it was recycled is recognized",
        edits: &[("wal/scan.rs", "&& header.segment == self.segment", "")],
        tests: EXPLORER,
    },
    Mutation {
        what: "an open does not sync the directory",
        edits: &[(
            "log/open.rs",
            "disk.sync_directory().map_err(",
            "Ok::<(), io::Error>(()).map_err(",
        )],
        tests: EXPLORER,
    },
    Mutation {
        what: "the tail of an earlier process is not synced",
        edits: &[(
            "recovery/cut.rs",
            "if let Some(file) = segment.writer() {",
            "if let Some(file) = segment.writer().filter(|_| false) {",
        )],
        tests: EXPLORER,
    },
    Mutation {
        what: "a failed sync of the tail is tried again",
        edits: &[(
            "recovery/cut.rs",
            "file.sync().map_err(|error| IoFailure::new(\"sync\", &name, error))?;",
            "file.sync().or_else(|_| file.sync())\
             .map_err(|error| IoFailure::new(\"sync\", &name, error))?;",
        )],
        tests: EXPLORER,
    },
    Mutation {
        what: "a failed sync of the directory is tried again",
        edits: &[(
            "log/maintenance.rs",
            "self.disk.sync_directory().inspect_err(",
            "self.disk.sync_directory().or_else(|_| self.disk.sync_directory()).inspect_err(",
        )],
        tests: EXPLORER,
    },
    Mutation {
        what: "what a cut leaves is not zeroed",
        edits: &[(
            "recovery/cut.rs",
            "file.write_at(&zeros, *offset).map_err(failed)?;",
            "let _ = (&zeros, offset, &failed as &dyn Fn(io::Error) -> IoFailure);",
        )],
        tests: EXPLORER,
    },
    Mutation {
        what: "a cut is not recorded",
        edits: &[(
            "recovery/cut.rs",
            "superblock.change(|s| s.cut = Cut {",
            "superblock.change(|_| _ = Cut {",
        )],
        tests: EXPLORER,
    },
    Mutation {
        what: "a checkpoint is not synced before it has its name",
        edits: &[("checkpoint/files.rs", "file.sync()?;", "")],
        tests: EXPLORER,
    },
    Mutation {
        what: "a checkpoint is answered before its name is durable",
        edits: &[(
            "checkpoint/files.rs",
            "disk.sync_directory().map_err(",
            "Ok::<(), io::Error>(()).map_err(",
        )],
        tests: EXPLORER,
    },
    Mutation {
        what: "an open does not raise the epoch",
        edits: &[(
            "log/open.rs",
            "promised_epoch.max(found.end.epoch).next()",
            "promised_epoch.max(found.end.epoch).max(Epoch::new(1))",
        )],
        tests: EXPLORER,
    },
    Mutation {
        what: "all damage is called a torn tail",
        edits: &[(
            "recovery.rs",
            "(false, true, false) | (true, true, _) => damaged(),",
            "(false, true, false) | (true, true, _) => \
             Verdict::TornTail { segment, offset, lsn, batches: 1 },",
        )],
        tests: LIES,
    },
    Mutation {
        what: "durable records that are gone are not missed",
        edits: &[(
            "recovery.rs",
            "Verdict::LostDurable { range: lsn..facts.evidence_lsn, segment, offset }",
            "Verdict::Clean",
        )],
        tests: LIES,
    },
    Mutation {
        what: "the error of a write is ignored",
        edits: &[(
            "wal/writer.rs",
            "if let Err(error) = result {",
            "if let Err(error) = result.or(Ok::<(), io::Error>(())) {",
        )],
        tests: FAULTS,
    },
    Mutation {
        what: "who is asked to lead is not woken",
        edits: &[("wal/commit.rs", "self.state.wake_one();", "")],
        tests: INTERLEAVINGS,
    },
    Mutation {
        what: "a time-out takes the request to lead along",
        edits: &[(
            "wal/commit.rs",
            "return Wake::TimedOut;",
            "{ let _ = self.accept_lead(); return Wake::TimedOut; }",
        )],
        tests: INTERLEAVINGS,
    },
    Mutation {
        what: "a task is listed, and the end not looked at again",
        edits: &[(
            "wal/commit.rs",
            "self.ended().map_or(Poll::Pending, Poll::Ready)",
            "Poll::Pending",
        )],
        tests: INTERLEAVINGS,
    },
    Mutation {
        what: "the tasks are taken before the end is there to be seen",
        edits: &[
            (
                "wal/commit.rs",
                "let before = self.state.swap(",
                "let tasks = std::mem::take(&mut *self.tasks()); let before = self.state.swap(",
            ),
            (
                "wal/commit.rs",
                "let tasks = std::mem::take(&mut *self.tasks());\n        for",
                "for",
            ),
        ],
        tests: INTERLEAVINGS,
    },
    Mutation {
        what: "a failure is stored after it can be seen",
        edits: &[
            ("wal/commit.rs", "let _ = self.failure.set(error);", "failure = Some(error);"),
            (
                "wal/commit.rs",
                "let state = match result {",
                "let mut failure = None; let state = match result {",
            ),
            (
                "wal/commit.rs",
                "self.state.wake_all();",
                "self.state.wake_all(); if let Some(error) = failure { let _ = self.failure.set(error); }",
            ),
        ],
        tests: INTERLEAVINGS,
    },
    Mutation {
        what: "a driver that leaves asks nobody to lead",
        edits: &[("log/committer.rs", "Some(leader) => leader.ask_to_lead(),", "Some(_) => {}")],
        tests: INTERLEAVINGS,
    },
    Mutation {
        what: "a driver that leaves does not wake the commit thread",
        edits: &[(
            "log/committer.rs",
            "None if pending => self.kick_commit_thread(),",
            "None if pending => {}",
        )],
        tests: INTERLEAVINGS,
    },
    Mutation {
        what: "the commit thread says that it sleeps after it looked for work",
        edits: &[(
            "log/committer.rs",
            "self.commit_sleeps.store(true, Ordering::SeqCst);\n            drop(state);",
            "drop(state);\n            self.commit_sleeps.store(true, Ordering::SeqCst);",
        )],
        tests: INTERLEAVINGS,
    },
    Mutation {
        what: "a batch ends before its end is published",
        edits: &[("log/committer.rs", "ended.add(commit, Ok(()));", "commit.finish(Ok(()));")],
        tests: INTERLEAVINGS,
    },
    Mutation {
        what: "progress is looked at before the generation",
        edits: &[
            (
                "log/progress.rs",
                "let generation = self.generation.load(Ordering::SeqCst);\n            if let",
                "if let",
            ),
            (
                "log/progress.rs",
                "let left = deadline.map(",
                "let generation = self.generation.load(Ordering::SeqCst); let left = deadline.map(",
            ),
        ],
        tests: INTERLEAVINGS,
    },
    Mutation {
        what: "a raised signal is not looked at under the lock",
        edits: &[(
            "log/core.rs",
            "drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));\n            self.changed",
            "self.changed",
        )],
        tests: INTERLEAVINGS,
    },
];

/// A copy of the engine that can be broken.
struct Copy {
    folder: PathBuf,
}

impl Copy {
    fn make() -> Copy {
        let engine = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mutations");
        let copy = Copy { folder };
        let _ = fs::remove_dir_all(copy.folder.join("engine"));
        copy_folder(&engine.join("src"), &copy.folder.join("engine/src"));
        copy_folder(&engine.join("tests/common"), &copy.folder.join("engine/tests/common"));
        for name in TESTS {
            let name = format!("tests/{name}.rs");
            copy.write(&format!("engine/{name}"), &read(&engine.join(&name)));
        }
        // The only unit tests that want a crate which the copy is built faster without.
        copy.write("engine/src/format/batch_tests.rs", "");
        copy.write("engine/FORMAT.md", &read(&engine.join("FORMAT.md")));
        let manifest = read(&engine.join("Cargo.toml"));
        copy.write("engine/Cargo.toml", &manifest.replace("proptest.workspace = true", ""));
        let root = engine.join("..");
        let lines = read(&root.join("Cargo.toml"));
        let lines = lines.lines().filter(|line| !line.starts_with("default-members"));
        let lines = lines.map(|line| match line.starts_with("members") {
            true => "members = [\"engine\"]",
            false => line,
        });
        copy.write("Cargo.toml", &lines.collect::<Vec<_>>().join("\n"));
        copy.write("Cargo.lock", &read(&root.join("Cargo.lock")));
        copy
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.folder.join(name);
        fs::create_dir_all(path.parent().expect("a file in a folder")).expect("a folder is made");
        fs::write(&path, text).expect("a file is written");
    }

    /// Builds the test binaries with some edits made, and puts them aside; where to, or what the
    /// compiler said.
    fn build(&self, number: usize, edits: &[Edit], tests: &[&str]) -> Result<Vec<PathBuf>, String> {
        let mut before = Vec::new();
        for (file, find, put) in edits {
            let name = format!("engine/src/{file}");
            let text = read(&self.folder.join(&name));
            self.write(&name, &text.replacen(find, put, 1));
            before.push((name, text));
        }
        let built = self.cargo(tests);
        for (name, text) in before.iter().rev() {
            self.write(name, text);
        }
        let said = built?;
        let place = |test: &&str| {
            let marker = match *test {
                "interleavings" => "unittests src/lib.rs (".to_owned(),
                test => format!("tests/{test}.rs ("),
            };
            let (_, rest) = said.split_once(&marker).expect("cargo says what it built");
            let (built, _) = rest.split_once(')').expect("in parentheses");
            let aside = self.folder.join(format!("{number}-{test}"));
            fs::copy(self.folder.join(built), &aside).expect("a binary is copied");
            aside
        };
        Ok(tests.iter().map(place).collect())
    }

    fn cargo(&self, tests: &[&str]) -> Result<String, String> {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["test", "--no-run", "--offline", "-p", "cairnlog-engine"]);
        cargo.args(["--no-default-features", "--features", "sim"]);
        let mut target = "target";
        if tests == INTERLEAVINGS {
            target = "target-shuttle";
            cargo.arg("--lib").env("RUSTFLAGS", "--cfg shuttle");
        } else {
            cargo.args(tests.iter().flat_map(|test| ["--test", test]));
        }
        cargo.arg("--target-dir").arg(self.folder.join(target)).current_dir(&self.folder);
        cargo.env("CARGO_TERM_COLOR", "never").env("CARGO_INCREMENTAL", "1");
        cargo.env("CARGO_PROFILE_DEV_OPT_LEVEL", "1").env("CARGO_PROFILE_DEV_DEBUG", "0");
        let output = cargo.output().expect("cargo runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(said) } else { Err(said) }
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder is made");
    for entry in fs::read_dir(from).expect("a folder of the source") {
        let path = entry.expect("an entry of the source").path();
        let target = to.join(path.file_name().expect("an entry has a name"));
        if path.is_dir() {
            copy_folder(&path, &target);
        } else {
            fs::write(&target, fs::read(&path).expect("a file is read")).expect("it is written");
        }
    }
}

/// Runs a test binary; who noticed something, or `None` when all passed.
fn noticed(binary: &Path) -> Option<String> {
    let log = binary.with_extension("log");
    let out = fs::File::create(&log).expect("a file is made");
    let is_model = binary.display().to_string().ends_with("interleavings");
    let mut child = Command::new(binary)
        // The other unit tests there are not for the checker.
        .args(is_model.then_some("interleavings"))
        .env("CAIRNLOG_STATES", "300")
        .env("CAIRNLOG_STRIDE", "4")
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
    if status.success() {
        return None;
    }
    let said = fs::read(&log).expect("what it said is kept");
    let said = String::from_utf8_lossy(&said);
    let failed =
        |line: &str| Some(line.strip_prefix("test ")?.strip_suffix(" ... FAILED")?.to_owned());
    let names: Vec<String> = said.lines().filter_map(failed).collect();
    Some(if names.is_empty() { status.to_string() } else { names.join(", ") })
}

/// Every text must be there once: otherwise the source moved on, and the list has to follow.
fn check_texts() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut stale = Vec::new();
    for mutation in MUTATIONS {
        for (file, find, _) in mutation.edits {
            let count = read(&source.join(file)).matches(find).count();
            if count != 1 {
                stale.push(format!("{}: {count} times in {file}: {find}", mutation.what));
            }
        }
    }
    assert!(stale.is_empty(), "these mutations have to be written anew:\n{}", stale.join("\n"));
}

#[test]
fn every_mutation_has_its_texts() {
    check_texts();
}

#[test]
#[ignore = "takes minutes; a step of its own in .ci/run"]
fn every_mutation_is_noticed() {
    check_texts();
    let copy = Copy::make();
    let only = std::env::var("CAIRNLOG_MUTATION").unwrap_or_default();
    let is_asked = |mutation: &&Mutation| {
        mutation.what.contains(&only) || mutation.tests.contains(&only.as_str())
    };
    let mutations: Vec<&Mutation> = MUTATIONS.iter().filter(is_asked).collect();
    for tests in [&TESTS[..], INTERLEAVINGS] {
        if !mutations.iter().any(|mutation| tests.contains(&mutation.tests[0])) {
            continue;
        }
        for binary in copy.build(0, &[], tests).unwrap_or_else(|said| panic!("{said}")) {
            assert_eq!(noticed(&binary), None, "{} fails on the unbroken engine", binary.display());
        }
    }
    let (send, receive) = mpsc::sync_channel::<(&Mutation, Vec<PathBuf>)>(1);
    let runner = std::thread::spawn(move || {
        let mut missed = Vec::new();
        for (mutation, binaries) in receive {
            let start = Instant::now();
            let by = binaries.iter().find_map(|binary| noticed(binary));
            for binary in &binaries {
                fs::remove_file(binary).expect("a binary is removed");
            }
            let seconds = start.elapsed().as_secs();
            println!("{} ({seconds} s): {}", mutation.what, by.as_deref().unwrap_or("MISSED"));
            if by.is_none() {
                missed.push(mutation.what);
            }
        }
        missed
    });
    for (number, mutation) in (1..).zip(&mutations) {
        match copy.build(number, mutation.edits, mutation.tests) {
            Ok(binaries) => send.send((mutation, binaries)).expect("the runner lives"),
            Err(said) => panic!("{} does not compile:\n{said}", mutation.what),
        }
    }
    drop(send);
    let missed = runner.join().expect("the runner ends");
    assert!(missed.is_empty(), "not noticed: {missed:#?}");
    println!("{} mutations, each noticed", mutations.len());
}
