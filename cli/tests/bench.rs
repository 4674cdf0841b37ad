//! `bench` and `doctor`: what they answer, and what they leave alone.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{Scratch, answer, append, assert_code, cairnlog, contents, lines_of};
use serde_json::Value;

const SHORT: [&str; 4] = ["--seconds", "0.5", "--segment-bytes", "1MiB"];

fn bench(scratch: &Scratch, args: &[&str]) -> Value {
    let mut command = cairnlog("bench", &scratch.log());
    let shown = answer(command.args(SHORT).args(["--format", "json"]).args(args));
    serde_json::from_slice(&shown).unwrap()
}

#[test]
fn bench_answers() {
    let scratch = Scratch::new();
    let retain = ["--retain-bytes", "4MiB"];
    for (args, writers, in_flight) in [
        (&[][..], 1, 1),
        (&["--writers", "3", "--record-bytes", "100"], 3, 1),
        (&["--writers", "2", "--in-flight", "16"], 2, 16),
        (&["--ack", "buffered", "--backend", "blocking"], 1, 1),
    ] {
        let answer = bench(&scratch, &[&retain[..], args].concat());
        let fields = [
            "appends_per_second",
            "mb_per_second",
            "p50_us",
            "p99_us",
            "p999_us",
            "max_us",
            "writers",
            "in_flight",
            "record_bytes",
            "ack",
            "backend",
        ];
        let object = answer.as_object().unwrap();
        assert!(
            object.len() == fields.len() && fields.iter().all(|name| object.contains_key(*name))
        );
        assert_eq!(
            (&answer["writers"], &answer["in_flight"]),
            (&writers.into(), &in_flight.into())
        );
        assert!(answer["appends_per_second"].as_f64().unwrap() > 1.0, "{answer}");
        let [p50, p99, max] = ["p50_us", "p99_us", "max_us"].map(|p| answer[p].as_f64().unwrap());
        assert!(p50 <= p99 && p99 <= max, "{answer}");
        let ack = if args.contains(&"buffered") { "buffered" } else { "local" };
        assert_eq!(answer["ack"], ack);
    }
    // It keeps to what it may retain: that, a segment ahead, spares, and their parity.
    let bytes: usize = contents(&scratch.log()).iter().map(|(_, bytes)| bytes.len()).sum();
    assert!(bytes < 11 << 20, "{bytes}");
    answer(&mut cairnlog("verify", &scratch.log()));
}

#[test]
fn bench_drops_nothing_of_others() {
    let scratch = Scratch::new();
    append(&scratch.log(), lines_of(1..20_001));
    let mut command = cairnlog("bench", &scratch.log());
    command.args(["--seconds", "0.1", "--segment-bytes", "64KiB", "--record-bytes", "1000"]);
    let output = command.output().unwrap();
    assert_code(&output, 0);
    assert!(String::from_utf8(output.stderr).unwrap().contains("nothing is dropped"));
    let kept = answer(cairnlog("read", &scratch.log()).args(["--to", "20001"]));
    assert_eq!(kept, lines_of(1..20_001).as_bytes());
}

#[test]
fn doctor_leaves_nothing_behind() {
    let scratch = Scratch::new();
    for path in [scratch.path().to_owned(), scratch.log(), scratch.path().join("a/b/c")] {
        let shown = answer(cairnlog("doctor", &path).args(["--format", "json"]));
        let report: Value = serde_json::from_slice(&shown).unwrap();
        assert_ne!(report["verdict"], "FAIL", "{report}");
        assert!(report["write_sync_us"].as_f64().unwrap() > 0.0);
        assert_eq!(contents(scratch.path()), []);
    }
}
