//! Clients whose link goes away and comes back.
//!
//! Owns N9 for clients: what they are told, and that they go on where they were.

use std::io::Read as _;
use std::io::Write as _;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::common::SEGMENT;
use crate::common::serving::within;
use crate::network::{Fault, HEALED, Network, Spot, both_ways, three_nodes};
use crate::producer::{Producer, compare};
use crate::replicas::{Cluster, by_lsn};

const NODES: [Spot; 3] = [Spot::Node(1), Spot::Node(2), Spot::Node(3)];
/// Longer than a connection lives without being heard.
const LONG: Duration = Duration::from_secs(4);

/// A `read --follow`, and what it has shown.
struct Tail {
    child: Child,
    shown: Arc<Mutex<Vec<u8>>>,
    reading: Option<JoinHandle<()>>,
}

impl Tail {
    fn start(cluster: &Cluster<Network>, spot: Spot) -> Tail {
        let mut command = cluster.client("read", &[1, 2, 3]);
        command.args(["--follow", "--from", "1", "--format", "json"]).stderr(Stdio::inherit());
        let mut child = cluster.ground.at(spot, || command.spawn()).unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let shown = Arc::new(Mutex::new(Vec::new()));
        let showing = Arc::clone(&shown);
        let reading = std::thread::spawn(move || {
            let mut some = [0; 1 << 16];
            while let Ok(bytes @ 1..) = stdout.read(&mut some) {
                showing.lock().unwrap().extend_from_slice(&some[..bytes]);
            }
        });
        Tail { child, shown, reading: Some(reading) }
    }

    fn lines(&self) -> usize {
        self.shown.lock().unwrap().iter().filter(|byte| **byte == b'\n').count()
    }

    /// Waits until it has shown so many lines.
    fn wait_for(&self, lines: usize) {
        within(HEALED, "a reader that follows", || match self.lines() {
            shown if shown >= lines => Ok(()),
            shown => Err(format!("{shown} of {lines}")),
        });
    }

    /// All that it has shown.
    fn end(mut self) -> String {
        assert!(self.child.try_wait().unwrap().is_none(), "it still follows");
        self.child.kill().unwrap();
        self.reading.take().unwrap().join().unwrap();
        String::from_utf8(std::mem::take(&mut *self.shown.lock().unwrap())).unwrap()
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn n9_a_client_whose_link_goes_and_comes_back() {
    let Some(cluster) = three_nodes(&SEGMENT) else { return };
    let tail = Tail::start(&cluster, Spot::Client);
    let producer = Producer::start(&cluster, "a", Spot::Client);
    let steady = Producer::start(&cluster, "b", Spot::Other);
    producer.wait_for(300, HEALED);
    tail.wait_for(300);

    // Without the leader nothing can be appended, and everything read.
    cluster.ground.set(&both_ways(&[Spot::Client], &NODES[..1], Fault::Cut));
    producer.wait_for_doubt();
    let acknowledged = producer.acknowledged();
    let shown = tail.lines();
    steady.wait_for(300, HEALED);
    tail.wait_for(shown + 300);
    assert_eq!(producer.acknowledged(), acknowledged);

    // Without anybody, for longer than its connections live.
    cluster.ground.set(&both_ways(&[Spot::Client], &NODES, Fault::Cut));
    let start = Instant::now();
    let mut shown = tail.lines();
    while start.elapsed() < LONG {
        shown = tail.lines();
        steady.wait_for(100, HEALED);
    }
    assert_eq!(tail.lines(), shown, "nothing gets through");
    cluster.ground.heal();
    producer.wait_for(300, HEALED);
    tail.wait_for(shown + 300);

    let (producer, steady) = (producer.end(), steady.end());
    cluster.wait_until_equal_within(1, HEALED);
    let log = cluster.read(1);
    tail.wait_for(log.lines().count());
    assert!(tail.end() == log, "every record once, in order");
    compare(cluster, 1, &[&producer, &steady], &[]);
}

/// What is numbered is sent again for so long.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn n9_an_append_that_is_cut_off_says_that_it_does_not_know() {
    let Some(cluster) = three_nodes(&SEGMENT) else { return };
    let mut command = cluster.client("append", &[1, 2, 3]);
    command.arg("--print-lsn").stdin(Stdio::piped());
    let mut child = cluster.ground.at(Spot::Client, || command.spawn()).unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let feeding = std::thread::spawn(move || {
        let lines = (0..).take_while(|number| writeln!(stdin, "line {number}").is_ok());
        lines.count()
    });
    cluster.wait_for_records(1, 300);
    cluster.ground.set(&both_ways(&[Spot::Client], &NODES, Fault::Cut));
    let cut = Instant::now();
    let output = child.wait_with_output().unwrap();
    assert!(cut.elapsed() < PATIENCE + HEALED, "it took {:?}", cut.elapsed());
    feeding.join().unwrap();
    let talk = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{talk}");
    assert!(talk.contains("whether more lines were stored is not known"), "{talk}");
    // What it printed is there, and what is there is a beginning of what it read.
    let printed: Vec<u64> =
        String::from_utf8(output.stdout).unwrap().lines().map(|lsn| lsn.parse().unwrap()).collect();
    let log = by_lsn(&cluster.read(1));
    assert!(!printed.is_empty());
    for (number, lsn) in printed.iter().enumerate() {
        assert_eq!(log[lsn], format!("line {number}"));
    }
    for (number, record) in log.values().enumerate() {
        assert_eq!(record, &format!("line {number}"));
    }
    cluster.stop_and_compare(1);
}
