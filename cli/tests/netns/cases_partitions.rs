//! Nodes that do not reach each other, both ways or one way, or are not there.
//!
//! Owns N5, N6, N9, N10, K3 and K7 for processes: who acknowledges what meanwhile, and how all come together again.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::common::serving::{text, within};
use crate::common::{SEGMENT, cairnlog, feed};
use crate::network::{Fault, HEALED, LEADER, Network, Spot, both_ways, one_way, three_nodes};
use crate::producer::{Producer, agreed_leader, compare};
use crate::replicas::Cluster;

const LONG: Duration = Duration::from_secs(10);
const FOLLOWERS: [Spot; 2] = [Spot::Node(2), Spot::Node(3)];

/// How many followers the leader says it is connected to.
fn connected(cluster: &Cluster<Network>, leader: usize) -> usize {
    let status = cluster.status(leader);
    let followers = status["followers"].as_array().unwrap().iter();
    followers.filter(|follower| follower["connected"] == true).count()
}

fn wait_until_connected(cluster: &Cluster<Network>, leader: usize, followers: usize) {
    within(HEALED, "connections", || match connected(cluster, leader) {
        found if found == followers => Ok(()),
        found => Err(format!("node {leader} has {found} of {followers}")),
    });
}

fn wait_until_it_follows(cluster: &Cluster<Network>, number: usize, leader: usize) {
    within(HEALED, "an old leader that follows", || {
        let status = cluster.status(number);
        let follows = status["role"] == "follower" && status["leader"] == leader;
        if follows { Ok(()) } else { Err(status.to_string()) }
    });
}

/// Whether a node says that it can do its part.
fn readiness(cluster: &Cluster<Network>, number: usize) -> (u16, String) {
    cluster.ground.at(Spot::Node(number), || cluster.nodes[&number].get("/readyz")).unwrap()
}

/// Appends lines at the level `local` to one node, from one spot.
fn append_locally(cluster: &Cluster<Network>, spot: Spot, number: usize, lines: &str) {
    let mut command = cluster.client("append", &[number]);
    command.args(["--ack", "local"]);
    text(cluster.ground.at(spot, || feed(&mut command, lines.as_bytes())));
}

#[test]
fn n5_a_leader_without_followers_acknowledges_nothing_and_goes_on_afterwards() {
    let Some(cluster) = three_nodes(&SEGMENT) else { return };
    let producer = Producer::start(&cluster, "a", Spot::Client);
    producer.wait_for(300, HEALED);
    cluster.ground.set(&both_ways(&[LEADER], &FOLLOWERS, Fault::Cut));
    wait_until_connected(&cluster, 1, 0);
    let (acknowledged, committed) =
        (producer.acknowledged(), cluster.status(1)["commit_lsn"].clone());
    // Its clients are told that they do not know, and do not wait for ever.
    producer.wait_for_doubt();
    append_locally(&cluster, Spot::Client, 1, "of the leader alone\n");
    producer.wait_for_doubt();
    let (code, reason) = readiness(&cluster, 1);
    assert_eq!(code, 503, "{reason}");
    assert_eq!(producer.acknowledged(), acknowledged);
    assert_eq!(cluster.status(1)["commit_lsn"], committed);
    // Nobody else took over: only a person names a leader here.
    for follower in [2, 3] {
        assert_eq!(cluster.status(follower)["role"], "follower");
        assert_eq!(readiness(&cluster, follower).0, 503, "it does not hear its leader");
    }
    cluster.ground.heal();
    producer.wait_for(300, HEALED);
    wait_until_connected(&cluster, 1, 2);
    let known = producer.end();
    compare(cluster, 1, &[&known], &["of the leader alone"]);
}

#[test]
fn n5_a_follower_alone_holds_nobody_up() {
    let Some(cluster) = three_nodes(&SEGMENT) else { return };
    let producer = Producer::start(&cluster, "a", Spot::Client);
    producer.wait_for(300, HEALED);
    let lonely = [Spot::Node(3)];
    cluster.ground.set(&both_ways(&lonely, &[LEADER, Spot::Node(2)], Fault::Cut));
    wait_until_connected(&cluster, 1, 1);
    producer.wait_for(1000, HEALED);
    let behind = cluster.status(3);
    assert!(behind["end_lsn"].as_u64() < cluster.status(1)["commit_lsn"].as_u64(), "{behind}");
    assert_eq!(readiness(&cluster, 3).0, 503);
    assert_eq!(readiness(&cluster, 1).0, 200);
    // So long that attempts to reach it have become rare.
    let start = Instant::now();
    while start.elapsed() < LONG {
        producer.wait_for(100, HEALED);
    }
    // What it has it shows, and that is right.
    let (some, all) = (cluster.read(3), cluster.read(1));
    assert!(!some.is_empty() && all.starts_with(&some), "a prefix");
    cluster.ground.heal();
    wait_until_connected(&cluster, 1, 2);
    let known = producer.end();
    compare(cluster, 1, &[&known], &[]);
}

#[test]
fn n5_k7_a_leader_is_replaced_on_the_other_side() {
    let Some(cluster) = three_nodes(&SEGMENT) else { return };
    let old = Producer::start(&cluster, "old", Spot::Client);
    let new = Producer::start(&cluster, "new", Spot::Other);
    old.wait_for(300, HEALED);
    new.wait_for(300, HEALED);
    let sides = ([LEADER, Spot::Client], [Spot::Node(2), Spot::Node(3), Spot::Other]);
    cluster.ground.set(&both_ways(&sides.0, &sides.1, Fault::Cut));
    wait_until_connected(&cluster, 1, 0);
    let (acknowledged, committed) = (old.acknowledged(), cluster.status(1)["commit_lsn"].clone());
    cluster.promote(2);
    new.wait_for(1000, HEALED);
    append_locally(&cluster, Spot::Client, 1, "alone 1\nalone 2\n");
    old.wait_for_doubt();
    // What the old one has alone it does not show, and what it shows is right.
    let (some, all) = (cluster.read(1), cluster.read(2));
    assert!(!some.contains("alone") && !some.is_empty() && all.starts_with(&some), "a prefix");
    // Both lead, and one of them commits.
    let (first, second) = (cluster.status(1), cluster.status(2));
    assert_eq!((&first["role"], &second["role"]), (&"leader".into(), &"leader".into()));
    assert!(first["epoch"].as_u64() < second["epoch"].as_u64(), "{first} {second}");
    assert_eq!(first["commit_lsn"], committed);
    assert_eq!(old.acknowledged(), acknowledged);
    cluster.ground.heal();
    wait_until_it_follows(&cluster, 1, 2);
    old.wait_for(300, HEALED);
    let (old, new) = (old.end(), new.end());
    cluster.wait_until_equal_within(2, HEALED);
    let forked = forked(&cluster, 1);
    for alone in ["alone 1", "alone 2"] {
        assert!(forked.lines().any(|line| line == alone), "{alone} is kept");
    }
    compare(cluster, 2, &[&old, &new], &[]);
}

/// The records that a node gave up.
fn forked(cluster: &Cluster<Network>, number: usize) -> String {
    let directory = cluster.directory(number);
    let list = text(cairnlog("fork", &directory).args(["--format", "json"]).output().unwrap());
    let lsns = list.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["lsn"].clone());
    let show = |lsn: Value| {
        let lsn = lsn.to_string();
        text(cairnlog("fork", &directory).args(["--lsn", &lsn]).output().unwrap())
    };
    lsns.map(show).collect()
}

/// Packets go one way only between the leader and its followers.
fn one_way_partition(from: &[Spot], to: &[Spot]) {
    let Some(cluster) = three_nodes(&SEGMENT) else { return };
    let producer = Producer::start(&cluster, "a", Spot::Client);
    producer.wait_for(300, HEALED);
    let epoch = cluster.status(1)["epoch"].clone();
    cluster.ground.set(&one_way(from, to, Fault::Cut));
    // Acknowledgements that were on their way come through where packets still do.
    wait_until_connected(&cluster, 1, 0);
    let (acknowledged, committed) =
        (producer.acknowledged(), cluster.status(1)["commit_lsn"].clone());
    producer.wait_for_doubt();
    producer.wait_for_doubt();
    assert_eq!(producer.acknowledged(), acknowledged);
    assert_eq!(cluster.status(1)["commit_lsn"], committed);
    cluster.ground.heal();
    producer.wait_for(300, HEALED);
    wait_until_connected(&cluster, 1, 2);
    assert_eq!(cluster.status(1)["epoch"], epoch, "nobody had to be named again");
    let known = producer.end();
    compare(cluster, 1, &[&known], &[]);
}

#[test]
fn n6_n9_a_leader_that_is_not_heard() {
    one_way_partition(&[LEADER], &FOLLOWERS);
}

#[test]
fn n6_n9_a_leader_that_hears_nothing() {
    one_way_partition(&FOLLOWERS, &[LEADER]);
}

#[test]
fn k3_two_followers_die_and_come_back() {
    let Some(mut cluster) = three_nodes(&SEGMENT) else { return };
    let producer = Producer::start(&cluster, "a", Spot::Client);
    producer.wait_for(300, HEALED);
    cluster.kill(2);
    cluster.kill(3);
    wait_until_connected(&cluster, 1, 0);
    let (acknowledged, committed) =
        (producer.acknowledged(), cluster.status(1)["commit_lsn"].clone());
    producer.wait_for_doubt();
    producer.wait_for_doubt();
    assert_eq!(producer.acknowledged(), acknowledged);
    // What is committed is still read, and nothing else.
    let shown = cluster.read(1).lines().count();
    assert_eq!(committed, shown as u64 + 1);
    cluster.start(3);
    producer.wait_for(300, HEALED);
    cluster.start(2);
    let known = producer.end();
    compare(cluster, 1, &[&known], &[]);
}

#[test]
fn n10_a_leader_that_was_paused_is_one_no_more() {
    let Some(cluster) = three_nodes(&SEGMENT) else { return };
    let producer = Producer::start(&cluster, "a", Spot::Client);
    producer.wait_for(300, HEALED);
    cluster.nodes[&1].signal(Signal::STOP);
    // What is sent to it now it has before it when it wakes up.
    producer.wait_for_doubt();
    cluster.promote(2);
    producer.wait_for(300, HEALED);
    cluster.nodes[&1].signal(Signal::CONT);
    wait_until_it_follows(&cluster, 1, 2);
    producer.wait_for(300, HEALED);
    let known = producer.end();
    compare(cluster, 2, &[&known], &[]);
}

#[test]
fn n5_who_is_cut_off_cannot_be_promoted() {
    let Some(cluster) = three_nodes(&SEGMENT) else { return };
    let producer = Producer::start(&cluster, "a", Spot::Client);
    producer.wait_for(300, HEALED);
    let lonely = [Spot::Node(3)];
    cluster.ground.set(&both_ways(&lonely, &[LEADER, Spot::Node(2)], Fault::Cut));
    wait_until_connected(&cluster, 1, 1);
    let mut promote = cluster.client("promote", &[3]);
    let output = cluster.ground.at(Spot::Node(3), || promote.output()).unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let talk = String::from_utf8(output.stderr).unwrap();
    assert!(talk.contains("too few replicas promised"), "{talk}");
    producer.wait_for(300, HEALED);
    cluster.ground.heal();
    // Its operator was told that it does not lead.
    producer.wait_for(300, HEALED);
    let leader = within(HEALED, "one leader", || agreed_leader(&cluster));
    assert_eq!(leader, 1);
    let known = producer.end();
    compare(cluster, leader, &[&known], &[]);
}
