//! A single node: what goes in over the network comes out, as it does with a directory; probes, signals, and
//! a kill.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::serving::{Node, PATIENCE, text};
use common::{
    Running, SEGMENT, Scratch, answer, append, assert_code, bare, cairnlog, complaint, contents,
    feed, lines_of,
};
use rustix::process::Signal;
use serde_json::Value;

const ANY_PORTS: [&str; 4] = ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"];

fn serve(directory: &Path) -> Node {
    let node = Node::start(cairnlog("serve", directory).args(ANY_PORTS).args(SEGMENT));
    node.wait_until_ready();
    node
}

fn status_of(node: &Node) -> Value {
    serde_json::from_str(&node.status()).unwrap()
}

fn to(node: &Node, command: &str) -> Command {
    let mut client = bare(command);
    client.args(["--server", &node.quic]);
    client
}

#[test]
fn numbers_come_back() {
    let scratch = Scratch::new();
    let node = serve(&scratch.log());
    let numbers = lines_of(1..50_001);
    let output = feed(to(&node, "append").arg("--print-lsn"), numbers.as_bytes());
    assert_eq!(text(output), numbers);
    assert_eq!(answer(&mut to(&node, "read")), numbers.as_bytes());
    let some = answer(to(&node, "read").args(["--from", "7", "--to", "900", "--count", "3"]));
    assert_eq!(some, b"7\n8\n9\n");
    // The same beside the server and through it, and afterwards.
    let json = ["--format", "json"];
    let through = answer(to(&node, "read").args(json));
    assert!(through == answer(cairnlog("read", &scratch.log()).args(json)));
    node.stop();
    assert!(through == answer(cairnlog("read", &scratch.log()).args(json)));
    answer(&mut cairnlog("verify", &scratch.log()));
}

#[test]
fn a_file_and_any_bytes_come_back() {
    let scratch = Scratch::new();
    let node = serve(&scratch.log());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.lock");
    answer(to(&node, "append").arg("--input").arg(&path));
    assert_eq!(answer(&mut to(&node, "read")), std::fs::read(path).unwrap());
    let before = status_of(&node)["end_lsn"].as_u64().unwrap();
    let bytes: Vec<u8> = (0..=255).filter(|byte| *byte != b'\n').collect();
    text(feed(&mut to(&node, "append"), &bytes));
    let mut read = to(&node, "read");
    let found = answer(read.args(["--from", &before.to_string()]));
    assert_eq!(found, [&bytes[..], b"\n"].concat());
}

#[test]
fn what_arrived_is_acknowledged_at_once() {
    for ack in ["buffered", "local", "quorum", "all"] {
        let scratch = Scratch::new();
        let node = serve(&scratch.log());
        let mut command = to(&node, "append");
        let mut running = Running::start(command.args(["--print-lsn", "--ack", ack]));
        running.say("one\n");
        assert_eq!(running.hear(), "1\n", "{ack}");
        running.say("two\nthree\nfo");
        assert_eq!(running.hear(), "2\n");
        assert_eq!(running.hear(), "3\n");
        running.say("ur\nfive");
        assert_eq!(running.hear(), "4\n");
        running.stop_saying();
        assert_eq!(running.hear(), "5\n");
        assert_eq!(running.end(), Some(0));
    }
}

#[test]
fn readers_follow() {
    let scratch = Scratch::new();
    let node = serve(&scratch.log());
    let mut following = Running::start(to(&node, "read").args(["--follow", "--count", "4"]));
    for (line, others) in [("one\n", "two\n"), ("three\n", "four\n")] {
        text(feed(&mut to(&node, "append"), line.as_bytes()));
        assert_eq!(following.hear(), line);
        text(feed(&mut to(&node, "append"), others.as_bytes()));
        assert_eq!(following.hear(), others);
    }
    assert_eq!(following.end(), Some(0));
    // A reader that nobody listens to any more ends by itself.
    let mut unheard = Running::start(to(&node, "read").arg("--follow"));
    assert_eq!(unheard.hear(), "one\n");
    unheard.stop_hearing();
    assert_eq!(unheard.end(), Some(0));
}

#[test]
fn it_says_how_it_is() {
    let scratch = Scratch::new();
    let node = serve(&scratch.log());
    text(feed(&mut to(&node, "append"), lines_of(1..11).as_bytes()));
    let json = text(to(&node, "status").args(["--format", "json"]).output().unwrap());
    for status in [status_of(&node), serde_json::from_str::<Value>(&json).unwrap()] {
        assert_eq!(status["node_id"], 1, "{status}");
        assert_eq!(status["role"], "leader", "{status}");
        assert_eq!(status["leader"], 1, "{status}");
        assert_eq!(status["first_lsn"], 1, "{status}");
        for key in ["durable_lsn", "commit_lsn", "end_lsn"] {
            assert_eq!(status[key], 11, "{key} of {status}");
        }
        assert_eq!(status["degraded"], false, "{status}");
        assert!(status["epoch"].as_u64().unwrap() >= 1, "{status}");
    }
    assert!(text(to(&node, "status").output().unwrap()).contains("leader"));
    assert_eq!(node.get("/livez").unwrap().0, 200);
    let (code, metrics) = node.get("/metrics").unwrap();
    assert_eq!(code, 200);
    for line in ["cairnlog_commit_lsn 11", "cairnlog_role{role=\"leader\"} 1", "cairnlog_ready 1"] {
        assert!(metrics.lines().any(|found| found == line), "{line} in\n{metrics}");
    }
    assert_eq!(node.get("/nothing").unwrap().0, 404);
}

#[test]
fn connections_are_measured() {
    let scratch = Scratch::new();
    let node = serve(&scratch.log());
    for (ack, writers, in_flight) in [("buffered", 1, 1), ("quorum", 3, 8)] {
        let (writers, in_flight) = (format!("{writers}"), format!("{in_flight}"));
        let mut command = to(&node, "bench");
        command.args(["--format", "json", "--seconds", "0.3", "--ack", ack]);
        command.args(["--writers", &writers, "--in-flight", &in_flight]);
        let answer: Value = serde_json::from_slice(&answer(&mut command)).unwrap();
        assert_eq!(answer["ack"], ack);
        assert!(answer["appends_per_second"].as_f64().unwrap() > 0.0, "{answer}");
        assert!(answer["p50_us"].as_f64().unwrap() <= answer["max_us"].as_f64().unwrap());
    }
}

#[test]
fn signals_end_it_in_order() {
    for signal in [Signal::TERM, Signal::INT] {
        let scratch = Scratch::new();
        let heard = UnixDatagram::bind(scratch.path().join("notify")).unwrap();
        heard.set_read_timeout(Some(PATIENCE)).unwrap();
        let hear = || {
            let mut buffer = [0; 64];
            let length = heard.recv(&mut buffer).unwrap();
            String::from_utf8(buffer[..length].to_vec()).unwrap()
        };
        let mut command = cairnlog("serve", &scratch.log());
        command.args(ANY_PORTS).env("NOTIFY_SOCKET", scratch.path().join("notify"));
        let node = Node::start(&mut command);
        assert_eq!(hear(), "READY=1");
        // In memory only: the end makes it durable.
        text(feed(to(&node, "append").args(["--ack", "buffered"]), b"one\ntwo\n"));
        node.signal(signal);
        assert_eq!(hear(), "STOPPING=1");
        assert_eq!(node.wait(), Some(0));
        assert_eq!(answer(&mut cairnlog("read", &scratch.log())), b"one\ntwo\n");
    }
}

/// Whoever has nothing to answer any more does not wait for clients that are not there.
#[test]
fn nothing_holds_up_the_end_of_an_idle_server() {
    let scratch = Scratch::new();
    let node = serve(&scratch.log());
    text(feed(&mut to(&node, "append"), b"one\n"));
    let start = Instant::now();
    node.stop();
    assert!(start.elapsed() < Duration::from_secs(2), "it took {:?}", start.elapsed());
}

#[test]
fn a_kill_loses_nothing_acknowledged() {
    let scratch = Scratch::new();
    let mut acknowledged = Vec::new();
    for round in 0..5 {
        let node = serve(&scratch.log());
        let mut running = Running::start(to(&node, "append").arg("--print-lsn"));
        let lines: Vec<String> = (0..2000).map(|number| format!("{round} {number}")).collect();
        running.say(&(lines.join("\n") + "\n"));
        for line in &lines[..500] {
            let lsn: usize = running.hear().trim().parse().unwrap();
            acknowledged.push((lsn, line.clone()));
        }
        node.kill();
        drop(running);
        let read = text(cairnlog("read", &scratch.log()).output().unwrap());
        let found: Vec<&str> = read.lines().collect();
        for (lsn, line) in &acknowledged {
            assert_eq!(found[lsn - 1], line, "{lsn}");
        }
    }
    answer(&mut cairnlog("verify", &scratch.log()));
}

#[test]
fn a_directory_has_one_owner() {
    let scratch = Scratch::new();
    append(&scratch.log(), "one\n");
    let node = serve(&scratch.log());
    // What was there before is served.
    assert_eq!(answer(&mut to(&node, "read")), b"one\n");
    assert_code(&feed(&mut cairnlog("append", &scratch.log()), b"two\n"), 2);
    assert_code(&cairnlog("serve", &scratch.log()).args(ANY_PORTS).output().unwrap(), 2);
    // The address of the other.
    let other = scratch.path().join("other");
    let mut command = cairnlog("serve", &other);
    let output = command.args(["--listen", "127.0.0.1:0", "--http", &node.http]).output().unwrap();
    assert_code(&output, 2);
    assert!(complaint(&output).contains("--http"), "{output:?}");
    assert!(!other.exists());
}

#[test]
fn the_file_is_weaker_than_the_environment() {
    let scratch = Scratch::new();
    let file = scratch.path().join("cairnlog.toml");
    std::fs::write(&file, "coordination = 'etcd'\n").unwrap();
    let refused = |flag: Option<&str>, variable: Option<&str>| {
        let mut command = cairnlog("serve", &scratch.log());
        command.args(ANY_PORTS).arg("--config").arg(&file);
        if let Some(flag) = flag {
            command.args(["--coordination", flag]);
        }
        if let Some(variable) = variable {
            command.env("CAIRNLOG_COORDINATION", variable);
        }
        let output = command.output().unwrap();
        assert_code(&output, 2);
        complaint(&output)
    };
    assert!(refused(None, None).contains("etcd"));
    assert!(refused(None, Some("quorum")).contains("quorum"));
    assert!(refused(Some("quorum"), Some("manual")).contains("quorum"));
    for text in ["speed = 1\n", "retain_bytes = '1MB'\n", "dir = [\n"] {
        std::fs::write(&file, text).unwrap();
        assert!(refused(None, None).contains("cairnlog.toml: "), "{text}");
    }
    // None of them made a directory.
    assert_eq!(contents(scratch.path()).len(), 1);
}

#[test]
fn usage_is_checked() {
    let scratch = Scratch::new();
    for args in [
        &["serve"][..],
        &["serve", "--dir", "x", "--peer", "2=127.0.0.1:1"],
        &["serve", "--dir", "x", "--listen", "nowhere"],
        &["append"],
        &["append", "--dir", "x", "--server", "127.0.0.1:1"],
        &["append", "--server", "127.0.0.1:1", "--producer", "a/b"],
        &["append", "--dir", "x", "--ack", "all"],
        &["bench", "--dir", "x", "--ack", "quorum"],
        &["read", "--server", "127.0.0.1:1", "--salvage"],
        &["read", "--server", "127.0.0.1:1", "--from", "5", "--to", "4"],
        &["promote", "--server", "127.0.0.1:1,127.0.0.1:2"],
        &["status"],
        // Nobody is there.
        &["status", "--server", "127.0.0.1:1"],
        &["cert", "dev", "--out", "x", "--nodes", "0"],
    ] {
        let mut command = bare(args[0]);
        let output = command.args(&args[1..]).current_dir(scratch.path()).output().unwrap();
        assert_code(&output, 2);
    }
    assert_eq!(contents(scratch.path()), []);
    // A flag is stronger than the environment, for the place too.
    append(&scratch.log(), "one\n");
    let mut command = cairnlog("read", &scratch.log());
    let output = command.env("CAIRNLOG_SERVER", "127.0.0.1:1").output().unwrap();
    assert_eq!(text(output), "one\n");
}
