//! What the commands say and do when bytes are not what they were, or cannot be written.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{
    Running, SEGMENT, Scratch, answer, append, assert_code, cairnlog, complaint, contents, feed,
    lines_of,
};
use serde_json::Value;

fn segment(log: &Path, number: u64) -> PathBuf {
    log.join(format!("{number:020}.seg"))
}

fn batches(log: &Path) -> Vec<Value> {
    let shown = answer(cairnlog("inspect", log).args(["--format", "json"]));
    let shown = String::from_utf8(shown).unwrap();
    let found = shown.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    found.filter(|found| found["kind"] == "batch").collect()
}

/// Changes one byte behind the header of a batch.
fn damage(log: &Path, batch: &Value) {
    let path = segment(log, batch["segment"].as_u64().unwrap());
    let mut bytes = std::fs::read(&path).unwrap();
    let offset = usize::try_from(batch["offset"].as_u64().unwrap()).unwrap();
    bytes[offset + 200] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

fn verify_as_json(log: &Path, code: i32) -> Value {
    let output = cairnlog("verify", log).args(["--format", "json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn damage_is_reported_and_not_touched() {
    let scratch = Scratch::new();
    let log = scratch.log();
    // One batch in each life, so that the later ones prove the earlier ones durable.
    for first in [1, 101, 201] {
        append(&log, lines_of(first..first + 100));
    }
    let batches = batches(&log);
    let second =
        batches.iter().find(|batch| batch["base_lsn"] == 101 && batch["record_count"] == 100);
    damage(&log, second.unwrap());
    let before = contents(&log);

    let output = feed(&mut cairnlog("append", &log), b"more\n");
    assert_code(&output, 2);
    assert!(complaint(&output).contains("segment 1, offset "), "{output:?}");
    let output = cairnlog("read", &log).output().unwrap();
    assert_code(&output, 1);
    assert_eq!(output.stdout, lines_of(1..101).as_bytes());
    complaint(&output);
    // Not where it was not asked for.
    answer(cairnlog("read", &log).args(["--to", "101"]));
    let output = cairnlog("verify", &log).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let report = verify_as_json(&log, 1);
    assert_eq!(report["whole"], false);
    assert_eq!(report["verdict"]["kind"], "damaged");
    assert_eq!(report["verdict"]["lsn"], 101);
    assert_eq!(report["verdict"]["offset"], second.unwrap()["offset"]);
    let shown = answer(cairnlog("inspect", &log).args(["--format", "json"]));
    assert!(String::from_utf8(shown).unwrap().contains(r#""body_is_whole":false"#));
    assert_eq!(cairnlog("doctor", &log).output().unwrap().status.code(), Some(2));
    assert_eq!(contents(&log), before);
}

#[test]
fn damage_in_a_sealed_segment_is_found() {
    let scratch = Scratch::new();
    let log = scratch.log();
    let mut command = cairnlog("append", &log);
    let lines = lines_of(1..50_001) + "last\n";
    // What parity makes up for is tested below.
    assert_code(&feed(command.args(SEGMENT).args(["--parity", "off"]), lines.as_bytes()), 0);
    let batches = batches(&log);
    let batch = batches.iter().find(|batch| batch["segment"] == 2).unwrap();
    damage(&log, batch);
    let report = verify_as_json(&log, 1);
    assert_eq!(report["damage"][0]["segment"], 2);
    assert_eq!(report["damage"][0]["offset"], batch["offset"]);
    let output = cairnlog("read", &log).output().unwrap();
    assert_code(&output, 1);
    let lsn = batch["base_lsn"].as_u64().unwrap();
    assert_eq!(output.stdout, lines_of(1..lsn).as_bytes());
    complaint(&output);
    let end = batch["end_lsn"].as_u64().unwrap();
    let output = cairnlog("read", &log).arg("--salvage").output().unwrap();
    assert_code(&output, 1);
    let rest = lines_of(1..lsn) + &lines_of(end..50_001) + "last\n";
    assert!(output.stdout == rest.as_bytes(), "everything but the damaged batch");
    let talk = String::from_utf8(output.stderr).unwrap();
    assert!(talk.contains(&format!("records {lsn}..{end} were passed over")), "{talk}");
    // What is behind the damage can be read.
    let after = batches.iter().find(|batch| batch["segment"] == 3).unwrap();
    let from = after["end_lsn"].to_string();
    answer(cairnlog("read", &log).args(["--from", &from]));
}

#[test]
fn a_repair_is_planned_and_then_done() {
    let scratch = Scratch::new();
    let log = scratch.log();
    append(&log, lines_of(1..101));
    append(&log, lines_of(101..201));
    append(&log, lines_of(201..301));
    assert_eq!(repair_as_json(&log, &[], 0)["steps"], serde_json::json!([]));
    let batches = batches(&log);
    let batch = batches.iter().find(|b| b["base_lsn"] == 101 && b["record_count"] == 100);
    let batch = batch.unwrap();
    damage(&log, batch);
    let output = feed(cairnlog("append", &log).args(SEGMENT), b"refused\n");
    assert_code(&output, 2);
    let plan = repair_as_json(&log, &[], 1);
    assert_eq!(plan["steps"][0]["kind"], "give_up");
    assert_eq!((&plan["done"], &plan["kept"]), (&false.into(), &serde_json::json!([])));
    assert_eq!(plan["lost"], serde_json::json!([{ "from_lsn": 101, "to_lsn": 201 }]));
    assert_eq!(verify_as_json(&log, 1)["whole"], false, "a plan changes nothing");
    let done = repair_as_json(&log, &["--confirm"], 0);
    assert_eq!((&done["done"], &done["steps"]), (&true.into(), &plan["steps"]));
    assert!(log.join(done["kept"][0].as_str().unwrap()).exists());
    assert_eq!(verify_as_json(&log, 0)["whole"], true);
    let output = cairnlog("read", &log).output().unwrap();
    assert_code(&output, 1);
    assert_eq!(output.stdout, lines_of(1..101).as_bytes());
    assert!(complaint(&output).contains("101..201"), "{output:?}");
    let output = cairnlog("read", &log).arg("--salvage").output().unwrap();
    assert_code(&output, 1);
    assert_eq!(output.stdout, (lines_of(1..101) + &lines_of(201..301)).as_bytes());
    assert_eq!(append(&log, "new\n"), b"301\n", "lost LSNs are not given again");
}

fn repair_as_json(log: &Path, more: &[&str], code: i32) -> Value {
    let output = cairnlog("repair", log).args(["--format", "json"]).args(more).output().unwrap();
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_torn_tail_is_no_damage() {
    let scratch = Scratch::new();
    let log = scratch.log();
    append(&log, lines_of(1..101));
    append(&log, lines_of(101..201));
    // Nothing says any more that the last batch was durable.
    std::fs::write(log.join("watermark"), [0; 8192]).unwrap();
    let last = batches(&log).pop().unwrap();
    damage(&log, &last);
    let report = verify_as_json(&log, 0);
    assert_eq!(report["verdict"]["kind"], "torn_tail");
    assert_eq!(report["end_lsn"], 101);
    assert_eq!(answer(&mut cairnlog("read", &log)), lines_of(1..101).as_bytes());
    let output = feed(cairnlog("append", &log).args(SEGMENT).arg("--print-lsn"), b"new\n");
    assert_code_and_one_line(&output);
    assert_eq!(output.stdout, b"101\n");
    let expected = lines_of(1..101) + "new\n";
    assert_eq!(answer(&mut cairnlog("read", &log)), expected.as_bytes());
    assert_eq!(verify_as_json(&log, 0)["verdict"]["kind"], "clean");
}

fn assert_code_and_one_line(output: &std::process::Output) {
    assert_code(output, 0);
    assert!(complaint(output).contains("torn tail"), "{output:?}");
}

#[test]
fn two_damaged_superblocks_are_a_halt() {
    let scratch = Scratch::new();
    let log = scratch.log();
    append(&log, "one\n");
    std::fs::write(log.join("superblock"), [7; 8192]).unwrap();
    let before = contents(&log);
    for (command, code) in [("append", 2), ("read", 2), ("verify", 1), ("doctor", 2)] {
        let output = feed(&mut cairnlog(command, &log), b"two\n");
        assert_eq!(output.status.code(), Some(code), "{command} {output:?}");
    }
    answer(&mut cairnlog("inspect", &log));
    assert_eq!(contents(&log), before);
}

/// An append that cannot write beyond half a MiB, or one, of any file: a disk that fails.
fn limited_append(log: &Path, args: &[&str]) -> Command {
    let mut limited = Command::new("sh");
    let script = "trap '' XFSZ; ulimit -f 1024; exec \"$@\"";
    limited.args(["-c", script, "sh", env!("CARGO_BIN_EXE_cairnlog"), "append", "--dir"]);
    limited.arg(log).args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
    limited
}

#[test]
fn poison_does_not_wait_for_input() {
    let scratch = Scratch::new();
    let segment = ["--segment-bytes", "4MiB"];
    assert_code(&feed(cairnlog("append", &scratch.log()).args(segment), b"1\n"), 0);
    let mut running = Running::start(&mut limited_append(&scratch.log(), &segment));
    // More than may be written, and then silence.
    let line = "x".repeat(999) + "\n";
    let stdin = running.child.stdin.as_mut().unwrap();
    for _ in 0..1200 {
        // It may have ended already.
        if stdin.write_all(line.as_bytes()).is_err() {
            break;
        }
    }
    assert_eq!(running.child.wait().unwrap().code(), Some(3));
}

#[test]
fn a_failed_write_poisons() {
    for backend in ["blocking", "auto"] {
        let scratch = Scratch::new();
        let log = scratch.log();
        let segment = ["--segment-bytes", "4MiB"];
        assert_code(&feed(cairnlog("append", &log).args(segment), b"1\n"), 0);
        let numbers = lines_of(2..400_001);
        let args = [&segment[..], &["--print-lsn", "--backend", backend]].concat();
        let mut limited = limited_append(&log, &args);
        let output = feed(&mut limited, numbers.as_bytes());
        assert_code(&output, 3);
        assert!(complaint(&output).contains("poisoned"), "{output:?}");
        let printed = String::from_utf8(output.stdout).unwrap();
        let end = 2 + u64::try_from(printed.lines().count()).unwrap();
        assert_eq!(printed, lines_of(2..end), "{backend}");
        assert!(end > 2 && end < 400_000, "{end}");
        // What was acknowledged is there, and it goes on from a prefix of the input.
        let stored = String::from_utf8(answer(&mut cairnlog("read", &log))).unwrap();
        let count = u64::try_from(stored.lines().count()).unwrap();
        assert_eq!(stored, lines_of(1..count + 1));
        assert!(count + 1 >= end, "{count} {end}");
        answer(&mut cairnlog("verify", &log));
        let next = feed(cairnlog("append", &log).args(segment).arg("--print-lsn"), b"x\n");
        assert_code(&next, 0);
        assert_eq!(next.stdout, format!("{}\n", count + 1).as_bytes());
    }
}
