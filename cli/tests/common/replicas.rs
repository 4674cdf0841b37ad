//! Three nodes with certificates, as processes: started, promoted, killed, and compared.
//!
//! Owns what tests on one machine's loopback and tests with a network in between have in common. Where the
//! nodes are is a [`Ground`]. Not part of `common`, because it parses JSON: that would change how other test
//! crates compare numbers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::common::serving::{Node, PATIENCE, eventually, text, within};
use crate::common::{Scratch, answer, bare, cairnlog};

pub(crate) const NODES: usize = 3;

/// Where nodes are. They are counted from 1 on.
pub(crate) trait Ground {
    /// Where each of them is reached by the others.
    fn addresses(&self) -> Vec<String>;
    /// Does this where the node is: what is started there, or connects from there, is beside it.
    fn at_node<T: Send>(&self, number: usize, work: impl FnOnce() -> T + Send) -> T;
}

/// See the module.
pub(crate) struct Cluster<G> {
    pub(crate) ground: G,
    pub(crate) addresses: Vec<String>,
    /// Those that run.
    pub(crate) nodes: BTreeMap<usize, Node>,
    scratch: Scratch,
    /// Flags of every `serve`.
    flags: Vec<String>,
}

impl<G: Ground> Cluster<G> {
    /// Three nodes with these flags of `serve`, of which the first one leads.
    pub(crate) fn new(ground: G, flags: &[&str]) -> Cluster<G> {
        let scratch = Scratch::new();
        let certificates = scratch.path().join("certificates");
        let mut command = bare("cert");
        answer(command.args(["dev", "--nodes", "3", "--out"]).arg(&certificates));
        let addresses = ground.addresses();
        let flags = flags.iter().map(|&flag| flag.to_owned()).collect();
        let mut cluster = Cluster { ground, addresses, nodes: BTreeMap::new(), scratch, flags };
        cluster.start_all();
        cluster.promote(1);
        cluster
    }

    pub(crate) fn directory(&self, number: usize) -> PathBuf {
        self.scratch.path().join(format!("log-{number}"))
    }

    pub(crate) fn certificates(&self, name: &str) -> PathBuf {
        self.scratch.path().join("certificates").join(name)
    }

    pub(crate) fn start(&mut self, number: usize) {
        let mut command = cairnlog("serve", &self.directory(number));
        command.args(&self.flags);
        command.args(["--http", "127.0.0.1:0", "--node-id", &number.to_string()]);
        command.arg("--tls-dir").arg(self.certificates(&format!("node-{number}")));
        for (index, address) in self.addresses.iter().enumerate() {
            command.arg("--peer").arg(format!("{}={address}", index + 1));
        }
        let node = self.ground.at_node(number, || Node::start(&mut command));
        assert_eq!(node.quic, self.addresses[number - 1]);
        self.nodes.insert(number, node);
    }

    pub(crate) fn start_all(&mut self) {
        for number in 1..=NODES {
            self.start(number);
        }
    }

    pub(crate) fn kill(&mut self, number: usize) {
        self.nodes.remove(&number).unwrap().kill();
    }

    /// A command for these nodes.
    pub(crate) fn client(&self, command: &str, numbers: &[usize]) -> Command {
        let addresses: Vec<&str> =
            numbers.iter().map(|number| &self.addresses[number - 1][..]).collect();
        let mut client = bare(command);
        client.args(["--server", &addresses.join(",")]);
        client.arg("--tls-dir").arg(self.certificates("client"));
        client
    }

    pub(crate) fn status(&self, number: usize) -> Value {
        let node = &self.nodes[&number];
        serde_json::from_str(&self.ground.at_node(number, || node.status())).unwrap()
    }

    pub(crate) fn promote(&self, number: usize) {
        eventually("promote", || {
            let mut command = self.client("promote", &[number]);
            let output = self.ground.at_node(number, || command.output()).unwrap();
            if output.status.success() { Ok(()) } else { Err(format!("{output:?}")) }
        });
        let node = &self.nodes[&number];
        self.ground.at_node(number, || node.wait_until_ready());
        assert_eq!(self.status(number)["role"], "leader");
    }

    /// Waits until every node that runs has, and knows to be committed, all that the leader has.
    pub(crate) fn wait_until_equal(&self, leader: usize) {
        self.wait_until_equal_within(leader, PATIENCE);
    }

    pub(crate) fn wait_until_equal_within(&self, leader: usize, most: Duration) {
        within(most, "nodes with the same records", || {
            let end = self.status(leader)["end_lsn"].clone();
            let has_all = |status: &Value| {
                ["end_lsn", "durable_lsn", "commit_lsn"].iter().all(|key| status[*key] == end)
            };
            let statuses: Vec<Value> =
                self.nodes.keys().map(|number| self.status(*number)).collect();
            if statuses.iter().all(has_all) { Ok(()) } else { Err(format!("{statuses:?}")) }
        });
    }

    /// Ends all nodes in good order, and compares what is on their disks; how many segments were sealed.
    pub(crate) fn stop_and_compare(mut self, leader: usize) -> usize {
        self.wait_until_equal(leader);
        for (_, node) in std::mem::take(&mut self.nodes) {
            node.stop();
        }
        let sealed: Vec<_> = (1..=NODES)
            .map(|number| {
                let directory = self.directory(number);
                answer(&mut cairnlog("verify", &directory));
                sealed_segments(&directory)
            })
            .collect();
        for (index, segments) in sealed.iter().enumerate() {
            let names: Vec<_> = segments.keys().collect();
            assert_eq!(names, sealed[0].keys().collect::<Vec<_>>(), "node {}", index + 1);
            for (name, bytes) in segments {
                assert!(bytes == &sealed[0][name], "{name} of node {}", index + 1);
            }
        }
        sealed[0].len()
    }

    /// All records that a node shows, one object of JSON a line.
    pub(crate) fn read(&self, number: usize) -> String {
        let mut command = self.client("read", &[number]);
        command.args(["--format", "json"]);
        text(self.ground.at_node(number, || command.output()).unwrap())
    }

    /// Lets a load run until so many more records are committed.
    pub(crate) fn wait_for_records(&self, leader: usize, records: u64) {
        let committed = || self.status(leader)["commit_lsn"].as_u64().unwrap();
        let start = committed();
        eventually("records", || {
            let now = committed();
            if now >= start + records { Ok(()) } else { Err(format!("{start} to {now}")) }
        });
    }
}

/// The files of segments that nothing is written to any more.
fn sealed_segments(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let inspected = answer(cairnlog("inspect", directory).args(["--format", "json"]));
    let found = String::from_utf8(inspected).unwrap();
    let found = found.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    found
        .filter(|found| found["kind"] == "segment" && found["sealed"] == true)
        .map(|segment| {
            let name = format!("{:020}.seg", segment["segment"].as_u64().unwrap());
            let bytes = std::fs::read(directory.join(&name)).unwrap();
            (name, bytes)
        })
        .collect()
}

/// The records of what [`Cluster::read`] gives: by LSN, what each holds.
pub(crate) fn by_lsn(records: &str) -> BTreeMap<u64, String> {
    let parsed = records.lines().map(|line| {
        let record: Value = serde_json::from_str(line).unwrap();
        (record["lsn"].as_u64().unwrap(), record["data"].as_str().unwrap().to_owned())
    });
    parsed.collect()
}
