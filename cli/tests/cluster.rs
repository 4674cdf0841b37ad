//! Three nodes with certificates, on this machine: what was acknowledged outlives a follower (row K2 of the
//! fault matrix), a leader (K1, K7), and all three at once (K4), and the sealed segments of all nodes are the
//! same bytes.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;
#[path = "common/replicas.rs"]
mod replicas;

use std::io::{BufRead, BufReader, Write};
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use common::serving::{eventually, text};
use common::{SEGMENT, Scratch, answer, bare, cairnlog};
use replicas::{Cluster, Ground, NODES, by_lsn};
use rustix::process::Signal;
use serde_json::Value;

/// All on this machine's loopback.
struct Loopback;

impl Ground for Loopback {
    fn addresses(&self) -> Vec<String> {
        // All at once, so that they differ.
        let sockets: Vec<UdpSocket> =
            (0..NODES).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        sockets.iter().map(|socket| socket.local_addr().unwrap().to_string()).collect()
    }

    fn at_node<T: Send>(&self, _number: usize, work: impl FnOnce() -> T + Send) -> T {
        work()
    }
}

fn three_nodes() -> Cluster<Loopback> {
    Cluster::new(Loopback, &SEGMENT)
}

/// Lines that are appended, with `--ack quorum`, until it is told to stop or cannot go on.
struct Load {
    stop: Arc<AtomicBool>,
    appending: JoinHandle<Vec<u64>>,
}

impl Load {
    fn line(number: usize) -> String {
        format!("{number} {}", "x".repeat(number * 7 % 300))
    }

    fn start(mut command: Command) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        command.args(["--ack", "quorum", "--print-lsn"]).stdin(Stdio::piped());
        let mut child = command.stderr(Stdio::inherit()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let is_stopped = Arc::clone(&stop);
        let feeding = std::thread::spawn(move || {
            for first in (0..).step_by(20) {
                let lines: String =
                    (first..first + 20).map(|number| Load::line(number) + "\n").collect();
                if is_stopped.load(Ordering::SeqCst) || stdin.write_all(lines.as_bytes()).is_err() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let appending = std::thread::spawn(move || {
            let lsns = stdout.lines().map(|line| line.unwrap().parse().unwrap()).collect();
            let _ = child.wait();
            feeding.join().unwrap();
            lsns
        });
        Load { stop, appending }
    }

    /// The LSNs that were printed, in the order of the lines.
    fn end(self) -> Vec<u64> {
        self.stop.store(true, Ordering::SeqCst);
        let lsns = self.appending.join().unwrap();
        println!("{} lines were acknowledged", lsns.len());
        lsns
    }
}

/// What was acknowledged is there, at its LSN.
fn check(records: &str, acknowledged: &[u64]) {
    let by_lsn = by_lsn(records);
    assert!(!acknowledged.is_empty());
    for (number, lsn) in acknowledged.iter().enumerate() {
        assert_eq!(by_lsn.get(lsn), Some(&Load::line(number)), "record {lsn}");
    }
}

#[test]
fn a_file_is_on_every_node() {
    let cluster = three_nodes();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.lock");
    let mut expected = Vec::new();
    for ack in ["quorum", "all", "quorum", "local", "buffered"] {
        let mut command = cluster.client("append", &[1, 2, 3]);
        answer(command.args(["--ack", ack, "--input"]).arg(&path));
        expected.extend(std::fs::read(&path).unwrap());
    }
    // Any node knows who leads.
    text(common::feed(&mut cluster.client("append", &[3]), b"the end\n"));
    expected.extend(b"the end\n");
    cluster.wait_until_equal(1);
    for number in 1..=NODES {
        assert!(answer(&mut cluster.client("read", &[number])) == expected, "node {number}");
    }
    let status = cluster.status(1);
    assert_eq!(status["followers"].as_array().map(Vec::len), Some(NODES - 1), "{status}");
    assert_eq!(cluster.status(2)["role"], "follower");
    assert!(cluster.stop_and_compare(1) > 1);
}

#[test]
fn a_follower_dies_and_comes_back() {
    let mut cluster = three_nodes();
    let load = Load::start(cluster.client("append", &[1, 2, 3]));
    cluster.wait_for_records(1, 1000);
    cluster.kill(3);
    cluster.wait_for_records(1, 3000);
    cluster.start(3);
    cluster.wait_for_records(1, 1000);
    let acknowledged = load.end();
    cluster.wait_until_equal(1);
    for number in 1..=NODES {
        check(&cluster.read(number), &acknowledged);
    }
    assert!(cluster.stop_and_compare(1) > 1);
}

#[test]
fn a_leader_dies_and_another_is_promoted() {
    let mut cluster = three_nodes();
    let load = Load::start(cluster.client("append", &[1, 2, 3]));
    cluster.wait_for_records(1, 3000);
    cluster.kill(1);
    cluster.promote(2);
    let acknowledged = load.end();
    check(&cluster.read(2), &acknowledged);
    text(common::feed(&mut cluster.client("append", &[3, 2]), b"of the new leader\n"));
    // What it had alone goes, and it follows.
    cluster.start(1);
    cluster.wait_until_equal(2);
    for number in 1..=NODES {
        check(&cluster.read(number), &acknowledged);
    }
    assert_eq!(cluster.status(1)["role"], "follower");
    assert!(cluster.stop_and_compare(2) > 1);
}

#[test]
fn all_die_at_once() {
    let mut cluster = three_nodes();
    let load = Load::start(cluster.client("append", &[1, 2, 3]));
    cluster.wait_for_records(1, 3000);
    for node in cluster.nodes.values() {
        node.signal(Signal::KILL);
    }
    for (_, node) in std::mem::take(&mut cluster.nodes) {
        assert_eq!(node.wait(), None);
    }
    let acknowledged = load.end();
    cluster.start_all();
    cluster.promote(3);
    check(&cluster.read(3), &acknowledged);
    text(common::feed(&mut cluster.client("append", &[1, 2, 3]), b"afterwards\n"));
    assert!(cluster.stop_and_compare(3) > 1);
}

#[test]
fn a_follower_takes_no_orders_it_cannot_carry_out() {
    let cluster = three_nodes();
    // Only says what would come of it.
    let mut command = cluster.client("promote", &[2]);
    let plan = text(command.args(["--dry-run", "--format", "json"]).output().unwrap());
    assert!(serde_json::from_str::<Value>(&plan).unwrap().is_object(), "{plan}");
    assert_eq!(cluster.status(1)["role"], "leader");
    assert_eq!(cluster.status(2)["role"], "follower");
    let mut status = cluster.client("status", &[1, 2, 3]);
    let lines = text(status.args(["--format", "json"]).output().unwrap());
    assert_eq!(lines.lines().count(), NODES);
    // A client without a certificate is not heard.
    let mut stranger = bare("status");
    let output = stranger.args(["--server", &cluster.addresses[0]]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[test]
fn what_a_leader_had_alone_is_in_a_fork() {
    let mut cluster = three_nodes();
    text(common::feed(&mut cluster.client("append", &[1]), b"kept\n"));
    cluster.kill(2);
    cluster.kill(3);
    let mut alone = cluster.client("append", &[1]);
    text(common::feed(alone.args(["--ack", "local"]), b"alone 1\nalone 2\n"));
    cluster.kill(1);
    cluster.start(2);
    cluster.start(3);
    cluster.promote(2);
    text(common::feed(&mut cluster.client("append", &[2]), b"of another\n"));
    cluster.start(1);
    cluster.wait_until_equal(2);
    let directory = cluster.directory(1);
    let list = text(cairnlog("fork", &directory).args(["--format", "json"]).output().unwrap());
    let fork: Value = serde_json::from_str(&list).unwrap();
    assert_eq!((&fork["lsn"], &fork["records"]), (&2.into(), &2.into()), "{list}");
    let shown = text(cairnlog("fork", &directory).args(["--lsn", "2"]).output().unwrap());
    assert_eq!(shown, "alone 1\nalone 2\n");
    let log = answer(&mut cluster.client("read", &[1]));
    assert_eq!(log, b"kept\nof another\n");
}

#[test]
fn a_second_signal_does_not_wait_for_answers() {
    let mut cluster = three_nodes();
    cluster.kill(2);
    cluster.kill(3);
    let mut append = common::Running::start(&mut cluster.client("append", &[1]));
    append.say("without a quorum\n");
    eventually("a record that waits", || {
        let status = cluster.status(1);
        let waits = status["durable_lsn"].as_u64() > status["commit_lsn"].as_u64();
        if waits { Ok(()) } else { Err(status.to_string()) }
    });
    // The first one waits for the answers of its clients, for a few seconds.
    let node = cluster.nodes.remove(&1).unwrap();
    let start = Instant::now();
    node.signal(Signal::TERM);
    node.signal(Signal::INT);
    assert_eq!(node.wait(), Some(2));
    assert!(start.elapsed() < Duration::from_secs(2), "it took {:?}", start.elapsed());
}

/// Whoever appends dies as well, and does not know how far it got.
#[test]
fn a_named_input_is_stored_once_whoever_dies() {
    let mut cluster = three_nodes();
    let scratch = Scratch::new();
    let path = scratch.path().join("input");
    let lines: Vec<String> = (0..150_000).map(|number| format!("line {number}")).collect();
    std::fs::write(&path, lines.join("\n")).unwrap();
    let append = |cluster: &Cluster<Loopback>| {
        let mut command = cluster.client("append", &[1, 2, 3]);
        command.args(["--producer", "import-7", "--input"]).arg(&path);
        command
    };
    // Nodes and the command are killed in the middle; another node leads.
    for (run, (leader, next)) in [(1, 2), (2, 3)].into_iter().enumerate() {
        let mut child = append(&cluster).spawn().unwrap();
        cluster.wait_for_records(leader, 2000);
        cluster.kill(leader);
        if run == 0 {
            child.kill().unwrap();
        }
        cluster.promote(next);
        cluster.start(leader);
        // The second time it is only the leader that died: what was not answered is sent again.
        assert_eq!(child.wait().unwrap().success(), run == 1);
    }
    // Once more, after all of them ended.
    for (_, node) in std::mem::take(&mut cluster.nodes) {
        node.stop();
    }
    cluster.start_all();
    cluster.promote(3);
    let said = append(&cluster).output().unwrap();
    assert!(
        String::from_utf8_lossy(&said.stderr).contains("150000 lines are in the log"),
        "{said:?}"
    );
    text(said);
    let stored = text(cluster.client("read", &[3]).output().unwrap());
    assert_eq!(stored.lines().count(), lines.len());
    assert!(stored.lines().eq(lines.iter()), "each once, in order");
}
