//! The contract of the command line: what goes in comes out, exit codes, and one line for each error.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use common::{
    Random, Running, SEGMENT, Scratch, answer, append, assert_code, cairnlog, complaint, contents,
    feed, lines_of,
};
use serde_json::Value;

fn read(directory: &Path) -> Vec<u8> {
    answer(&mut cairnlog("read", directory))
}

fn read_with(directory: &Path, args: &[&str]) -> String {
    String::from_utf8(answer(cairnlog("read", directory).args(args))).unwrap()
}

#[test]
fn numbers_come_back() {
    let scratch = Scratch::new();
    let numbers = lines_of(1..100_001);
    assert_eq!(append(&scratch.log(), &numbers), numbers.as_bytes());
    assert_eq!(read(&scratch.log()), numbers.as_bytes());
    answer(&mut cairnlog("verify", &scratch.log()));
}

#[test]
fn files_come_back() {
    let scratch = Scratch::new();
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let names =
        ["Cargo.toml", "src/main.rs", "src/args/mod.rs", "tests/cli.rs", "tests/common/mod.rs"];
    let mut expected = Vec::new();
    for name in names {
        let path = here.join(name);
        answer(cairnlog("append", &scratch.log()).args(SEGMENT).arg("--input").arg(&path));
        expected.extend(std::fs::read(path).unwrap());
    }
    assert_eq!(read(&scratch.log()), expected);
}

#[test]
fn few_lines_come_back() {
    let scratch = Scratch::new();
    assert_eq!(append(&scratch.log(), ""), b"");
    assert_eq!(read(&scratch.log()), b"");
    assert_eq!(append(&scratch.log(), "\n\none\r\n"), b"1\n2\n3\n");
    assert_eq!(append(&scratch.log(), "without a newline"), b"4\n");
    assert_eq!(append(&scratch.log(), "\nafter it\n"), b"5\n6\n");
    assert_eq!(read(&scratch.log()), b"\n\none\r\nwithout a newline\n\nafter it\n");
}

#[test]
fn a_named_input_is_stored_once() {
    let scratch = Scratch::new();
    let (half, all) = (lines_of(1..3_001), lines_of(1..6_001));
    for input in [&half, &all, &all] {
        let file = scratch.path().join("input");
        std::fs::write(&file, input).unwrap();
        let producer = ["--producer", "import-7", "--input"];
        answer(cairnlog("append", &scratch.log()).args(SEGMENT).args(producer).arg(&file));
    }
    assert_eq!(read(&scratch.log()), all.as_bytes());
    append(&scratch.log(), "of nobody\n");
    let mut other = cairnlog("append", &scratch.log());
    assert_code(&other.args(["--producer", "a/b"]).output().unwrap(), 2);
}

#[test]
fn any_bytes_come_back_as_json() {
    let scratch = Scratch::new();
    let mut random = Random::new();
    let mut lines: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte, b'"', b'\\']).collect();
    lines.extend(
        (0..200).map(|length| (0..length).map(|_| random.next().to_le_bytes()[0]).collect()),
    );
    lines.push("Grüße \u{1f600} \u{0} \u{7f} \u{2028}".into());
    for line in &mut lines {
        line.retain(|byte| *byte != b'\n');
    }
    let input: Vec<u8> = lines.iter().flat_map(|line| [&line[..], b"\n"].concat()).collect();
    append(&scratch.log(), input);
    let shown = read_with(&scratch.log(), &["--format", "json"]);
    assert_eq!(shown.lines().count(), lines.len());
    for (number, (line, shown)) in lines.iter().zip(shown.lines()).enumerate() {
        let shown: Value = serde_json::from_str(shown).unwrap();
        assert_eq!(shown["lsn"], number + 1);
        assert_eq!(shown["epoch"], 1);
        assert!(shown["time_ms"].as_u64().unwrap() > 1_600_000_000_000);
        let bytes = match (&shown["data"], &shown["data_base64"]) {
            (Value::String(text), Value::Null) => text.as_bytes().to_vec(),
            (Value::Null, Value::String(text)) => BASE64_STANDARD.decode(text).unwrap(),
            _ => panic!("{shown}"),
        };
        assert_eq!(&bytes, line, "{shown}");
    }
}

#[test]
fn what_arrived_is_acknowledged_at_once() {
    for ack in ["local", "buffered"] {
        let scratch = Scratch::new();
        let mut command = cairnlog("append", &scratch.log());
        let mut running = Running::start(command.args(SEGMENT).args(["--print-lsn", "--ack", ack]));
        running.say("one\n");
        assert_eq!(running.hear(), "1\n");
        running.say("two\nthree\nfo");
        assert_eq!(running.hear(), "2\n");
        assert_eq!(running.hear(), "3\n");
        running.say("ur\nfive");
        assert_eq!(running.hear(), "4\n");
        running.stop_saying();
        assert_eq!(running.hear(), "5\n");
        assert_eq!(running.end(), Some(0));
        assert_eq!(read(&scratch.log()), b"one\ntwo\nthree\nfour\nfive\n");
    }
}

#[test]
fn unread_lsns_hold_up_nothing() {
    let scratch = Scratch::new();
    let numbers = lines_of(1..100_001);
    let mut command = cairnlog("append", &scratch.log());
    let mut running = Running::start(command.args(SEGMENT).arg("--print-lsn"));
    // Far more than a pipe holds, in both directions.
    running.say(&numbers);
    running.stop_saying();
    assert_eq!(running.hear_all(), numbers);
    assert_eq!(running.end(), Some(0));
}

#[test]
fn a_closed_pipe_is_success() {
    let scratch = Scratch::new();
    let numbers = lines_of(1..100_001);
    let mut command = cairnlog("append", &scratch.log());
    let mut running = Running::start(command.args(SEGMENT).arg("--print-lsn"));
    running.say("1\n");
    assert_eq!(running.hear(), "1\n");
    // Nobody reads LSNs any more; everything is stored all the same.
    running.stop_hearing();
    running.say(&numbers[2..]);
    assert_eq!(running.end(), Some(0));
    assert_eq!(read(&scratch.log()), numbers.as_bytes());

    for args in [&["read"][..], &["read", "--follow"], &["inspect"], &["read", "--format", "json"]]
    {
        let mut command = cairnlog(args[0], &scratch.log());
        let mut running = Running::start(command.args(&args[1..]));
        assert_ne!(running.hear(), "");
        running.stop_hearing();
        assert_eq!(running.end(), Some(0), "{args:?}");
    }
}

/// S6.
#[test]
fn a_second_writer_is_refused() {
    let scratch = Scratch::new();
    let mut command = cairnlog("append", &scratch.log());
    let mut first = Running::start(command.args(SEGMENT).arg("--print-lsn"));
    first.say("one\n");
    assert_eq!(first.hear(), "1\n");
    for command in ["append", "bench"] {
        let second = feed(&mut cairnlog(command, &scratch.log()), b"two\n");
        assert_code(&second, 2);
        let talk = String::from_utf8(second.stderr).unwrap();
        assert!(talk.contains("another writer"), "{talk}");
    }
    // Readers are not refused.
    assert_eq!(read(&scratch.log()), b"one\n");
    for command in ["verify", "inspect", "doctor"] {
        answer(&mut cairnlog(command, &scratch.log()));
    }
    first.say("three\n");
    assert_eq!(first.hear(), "2\n");
    assert_eq!(first.end(), Some(0));
    assert_eq!(read(&scratch.log()), b"one\nthree\n");
}

#[test]
fn follow_shows_what_a_writer_adds() {
    let scratch = Scratch::new();
    let numbers = lines_of(1..30_001);
    append(&scratch.log(), "1\n2\n");
    let mut command = cairnlog("append", &scratch.log());
    let mut writer = Running::start(command.args(SEGMENT).arg("--print-lsn"));
    let mut command = cairnlog("read", &scratch.log());
    let mut reader = Running::start(command.args(["--follow", "--from", "2"]));
    assert_eq!(reader.hear(), "2\n");
    // Once at rest, once in the middle of it.
    writer.say("3\n");
    assert_eq!(writer.hear(), "3\n");
    assert_eq!(reader.hear(), "3\n");
    let mut command = cairnlog("read", &scratch.log());
    let mut bounded = Running::start(command.args(["--follow", "--to", "30001"]));
    std::thread::scope(|scope| {
        scope.spawn(|| writer.say(&numbers["1\n2\n3\n".len()..]));
        assert_eq!(bounded.hear_all(), numbers);
        for number in 4..30_001 {
            assert_eq!(reader.hear(), format!("{number}\n"));
        }
    });
    assert_eq!(bounded.end(), Some(0));
    writer.stop_saying();
    assert_eq!(writer.end(), Some(0));
    // It waits on, for the next writer.
    append(&scratch.log(), "30001\n");
    assert_eq!(reader.hear(), "30001\n");
    reader.stop_hearing();
    assert_eq!(reader.end(), Some(0));
}

#[test]
fn ranges_are_half_open() {
    let scratch = Scratch::new();
    append(&scratch.log(), lines_of(1..101));
    for (args, expected) in [
        (&["--from", "98"][..], 98..101),
        (&["--from", "100", "--to", "1000"], 100..101),
        (&["--from", "101"], 0..0),
        (&["--to", "4"], 1..4),
        (&["--from", "7", "--to", "7"], 0..0),
        (&["--from", "7", "--to", "8"], 7..8),
        (&["--count", "0"], 0..0),
        (&["--from", "50", "--to", "90", "--count", "3"], 50..53),
        (&["--from", "50", "--to", "52", "--count", "3"], 50..52),
        (&["--to", "3", "--follow"], 1..3),
        (&["--count", "3", "--follow"], 1..4),
    ] {
        assert_eq!(read_with(&scratch.log(), args), lines_of(expected), "{args:?}");
    }
    for from in ["0", "102", "18446744073709551615"] {
        let output = cairnlog("read", &scratch.log()).args(["--from", from]).output().unwrap();
        assert_code(&output, 2);
        assert!(complaint(&output).contains("1..101"), "{output:?}");
    }
    for args in [&["--from", "9", "--to", "8"][..], &["--from", "-1"], &["--count", "x"]] {
        assert_code(&cairnlog("read", &scratch.log()).args(args).output().unwrap(), 2);
    }
}

#[test]
fn retention_drops_the_oldest() {
    let scratch = Scratch::new();
    let retain = ["--retain-bytes", "256KiB"];
    let numbers = lines_of(1..200_001);
    // In pieces, because only what is sealed is dropped.
    for piece in [1..100_001, 100_001..150_001, 150_001..200_001] {
        let mut command = cairnlog("append", &scratch.log());
        assert_code(&feed(command.args(SEGMENT).args(retain), lines_of(piece).as_bytes()), 0);
    }
    let left = String::from_utf8(read(&scratch.log())).unwrap();
    assert!(left.len() < 400_000 && numbers.ends_with(&left), "{}", left.len());
    let output = cairnlog("read", &scratch.log()).args(["--from", "1"]).output().unwrap();
    assert_code(&output, 2);
    assert!(complaint(&output).contains("..200001"));
    answer(&mut cairnlog("verify", &scratch.log()));
}

#[test]
fn a_long_line_ends_it() {
    let scratch = Scratch::new();
    let long = "x".repeat(64 << 10);
    let mut command = cairnlog("append", &scratch.log());
    let output = feed(
        command.args(SEGMENT).arg("--print-lsn"),
        format!("one\ntwo\n{long}\nthree\n").as_bytes(),
    );
    assert_code(&output, 2);
    assert_eq!(output.stdout, b"1\n2\n");
    assert!(complaint(&output).contains("over the limit of "), "{output:?}");
    assert_eq!(read(&scratch.log()), b"one\ntwo\n");
    // Without an end in sight, it does not wait for one.
    let mut command = cairnlog("append", &scratch.log());
    let mut running = Running::start(command.args(SEGMENT).arg("--print-lsn"));
    running.say("three\n");
    running.say(&long);
    assert_eq!(running.hear_all(), "3\n");
    assert_eq!(running.child.wait().unwrap().code(), Some(2));
    assert_eq!(append(&scratch.log(), "x".repeat(40 << 10) + "\n"), b"4\n");
}

#[test]
fn usage_is_checked() {
    let scratch = Scratch::new();
    for args in [
        &["append", "--ack", "quorum"][..],
        &["append", "--segment-bytes", "12"],
        &["append", "--segment-bytes", "64KB"],
        &["append", "--backend", "magic"],
        &["append", "--input", "/nonexistent/file"],
        &["append", "--input", "/"],
        &["bench", "--writers", "0"],
        &["bench", "--seconds", "-1"],
        &["bench", "--record-bytes", "17MiB"],
        &["nothing"],
    ] {
        let output = cairnlog(args[0], &scratch.log()).args(&args[1..]).output().unwrap();
        assert_code(&output, 2);
    }
    for command in ["read", "verify", "inspect"] {
        let output = cairnlog(command, &scratch.log()).output().unwrap();
        assert_code(&output, 2);
        assert!(complaint(&output).contains("there is no log"), "{output:?}");
    }
    // None of them made a directory.
    assert_eq!(contents(scratch.path()), []);
    let mut command = cairnlog("read", &scratch.log());
    assert_code(&command.arg("--help").output().unwrap(), 0);
}

#[test]
fn the_environment_counts() {
    let scratch = Scratch::new();
    append(&scratch.log(), "one\n");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_cairnlog"));
    let output = command.arg("read").env("CAIRNLOG_DIR", scratch.log()).output().unwrap();
    assert_code(&output, 0);
    assert_eq!(output.stdout, b"one\n");
}

#[test]
fn directories_of_others_are_left_alone() {
    let scratch = Scratch::new();
    for name in ["data.db", "superblock.txt", "0001.seg"] {
        std::fs::write(scratch.path().join(name), name).unwrap();
    }
    let before = contents(scratch.path());
    for command in ["append", "read", "verify", "inspect", "bench", "doctor"] {
        let output = feed(&mut cairnlog(command, scratch.path()), b"one\n");
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert_eq!(contents(scratch.path()), before, "{command}");
    }
    // A file, and places where nothing can be made.
    for path in [&scratch.path().join("data.db"), Path::new("/dev/null/x"), Path::new("/proc/x")] {
        for command in ["append", "read", "verify", "inspect", "bench", "doctor"] {
            let output = feed(&mut cairnlog(command, path), b"one\n");
            assert_eq!(output.status.code(), Some(2), "{command} {path:?} {output:?}");
        }
    }
    assert_eq!(contents(scratch.path()), before);
}

#[test]
fn looking_changes_nothing() {
    let scratch = Scratch::new();
    append(&scratch.log(), lines_of(1..50_001));
    let before = contents(&scratch.log());
    for command in ["read", "verify", "inspect", "doctor"] {
        answer(&mut cairnlog(command, &scratch.log()));
        assert_eq!(contents(&scratch.log()), before, "{command}");
    }
}
