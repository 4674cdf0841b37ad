//! Links that lose packets, damage or double them, carry short ones only, or are slow.
//!
//! Owns N1, N3, N7 and N8 for processes: what goes on meanwhile, how fast, and in how much memory.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::serving::{eventually, text};
use crate::common::{Running, SEGMENT};
use crate::network::{Fault, HEALED, Network, Spot, one_way, three_nodes};
use crate::producer::{Producer, compare};
use crate::replicas::{Cluster, Ground};

/// Everybody that has something to say in these tests.
const ALL: [Spot; 4] = [Spot::Node(1), Spot::Node(2), Spot::Node(3), Spot::Client];

/// So many records are acknowledged in so long, though every packet may be lost; and it is lossy at least
/// so long.
const LOSSY_RECORDS: u64 = 300;
const LOSSY_MOST: Duration = Duration::from_secs(30);
const LOSSY_LEAST: Duration = Duration::from_secs(6);

#[test]
fn n1_a_fifth_of_all_packets_is_lost() {
    let Some(cluster) = three_nodes(&SEGMENT) else { return };
    let producer = Producer::start(&cluster, "a", Spot::Client);
    producer.wait_for(100, HEALED);
    cluster.ground.set(&one_way(&ALL, &ALL, Fault::Lose(20)));
    let (start, before) = (Instant::now(), producer.acknowledged());
    producer.wait_for(LOSSY_RECORDS, LOSSY_MOST);
    // Congestion control believes in full queues, and gets slower yet.
    while start.elapsed() < LOSSY_LEAST {
        producer.wait_for(1, LOSSY_MOST);
    }
    println!("{} records in {:?}", producer.acknowledged() - before, start.elapsed());
    let known = producer.end();
    cluster.wait_until_equal_within(1, 2 * HEALED);
    println!("{} packets were lost", cluster.ground.heal());
    compare(cluster, 1, &[&known], &[]);
}

#[test]
fn n3_n8_damaged_and_doubled_packets_change_nothing() {
    let Some(cluster) = three_nodes(&SEGMENT) else { return };
    let producer = Producer::start(&cluster, "a", Spot::Client);
    let mut rules = one_way(&ALL, &ALL, Fault::Damage(5));
    rules.extend(one_way(&ALL, &ALL, Fault::Double(20)));
    cluster.ground.set(&rules);
    producer.wait_for(1000, Duration::from_secs(30));
    let known = producer.end();
    cluster.wait_until_equal_within(1, HEALED);
    println!("{} packets were damaged or doubled", cluster.ground.heal());
    compare(cluster, 1, &[&known], &[]);
}

/// What every path of QUIC carries, with the headers of UDP and IP; they have found out that more is possible.
const SHORT_BYTES: u32 = 1240;

#[test]
fn n1_long_packets_do_not_arrive_any_more() {
    let Some(cluster) = three_nodes(&SEGMENT) else { return };
    let producer = Producer::with(&cluster, "a", Spot::Client, 4 << 10);
    producer.wait_for(500, HEALED);
    cluster.ground.set(&one_way(&ALL, &ALL, Fault::Shorten(SHORT_BYTES)));
    producer.wait_for(500, HEALED);
    let known = producer.end();
    cluster.wait_until_equal_within(1, HEALED);
    println!("{} packets were too long", cluster.ground.heal());
    compare(cluster, 1, &[&known], &[]);
}

/// Half a megabyte a second.
const SLOW_BITS_PER_SECOND: u64 = 4_000_000;
const SLOW_RECORD_BYTES: usize = 16 << 10;
/// A window that is small beside everything else.
const SLOW_FLAGS: [&str; 4] = ["--segment-bytes", "4MiB", "--window-bytes", "1MiB"];
/// Far more than the leader may keep in memory for a follower.
const BACKLOG_BYTES: u64 = 48 << 20;
/// What the leader may take more than when it has just begun: what is on its way to the disk, the newest
/// records, and the windows.
const MEMORY_BYTES: u64 = 28 << 20;

#[test]
fn n7_a_slow_link_holds_nobody_up() {
    let Some(cluster) = three_nodes(&SLOW_FLAGS) else { return };
    let producer = Producer::with(&cluster, "a", Spot::Client, SLOW_RECORD_BYTES);
    producer.wait_for(100, HEALED);
    let memory_before = memory_bytes(&cluster, 1);
    cluster.ground.slow(Spot::Node(3), SLOW_BITS_PER_SECOND);
    let (start, before) = (Instant::now(), producer.acknowledged());
    let (mut looks, mut missed, mut memory) = (0, 0, 0);
    eventually("a backlog", || {
        let (code, reason) =
            cluster.ground.at_node(3, || cluster.nodes[&3].get("/readyz")).unwrap();
        if code != 200 {
            println!("node 3: {reason}");
            missed += 1;
        }
        looks += 1;
        memory = memory_bytes(&cluster, 1).max(memory);
        let slow = follower(&cluster.status(1), 3);
        assert_eq!(slow["connected"], true, "{slow}");
        let is_behind = slow["behind_bytes"].as_u64().unwrap() >= BACKLOG_BYTES;
        if is_behind { Ok(()) } else { Err(slow.to_string()) }
    });
    let records = producer.acknowledged() - before;
    let bytes_per_second =
        (records * SLOW_RECORD_BYTES as u64) as f64 / start.elapsed().as_secs_f64();
    let memory = memory.saturating_sub(memory_before);
    println!(
        "{bytes_per_second:.0} bytes a second; {memory} bytes of memory; {missed} of {looks} missed"
    );
    // Twice what the slow follower gets: it is not waited for.
    assert!(bytes_per_second > (SLOW_BITS_PER_SECOND / 4) as f64, "{bytes_per_second}");
    assert!(memory < MEMORY_BYTES, "{memory}");
    // Heartbeats come through beside the pieces of the log, but for moments in which the machine is busy.
    assert!(missed * 10 <= looks, "the leader is missed: {missed} of {looks}");
    let mut status = cluster.client("status", &[1]);
    status.args(["--format", "json"]);
    let told = text(cluster.ground.at(Spot::Client, || status.output()).unwrap());
    let told = follower(&serde_json::from_str(&told).unwrap(), 3);
    assert!(told["behind_ms"].as_u64().unwrap() > 1000, "{told}");

    cluster.ground.hasten(Spot::Node(3));
    let healed = Instant::now();
    let known = producer.end();
    assert_eq!(known.in_doubt(), 0, "no append came near its deadline");
    // As long as a busy disk takes for all of it.
    cluster.wait_until_equal(1);
    println!("all there after {:?}", healed.elapsed());
    compare(cluster, 1, &[&known], &[]);
}

#[test]
fn n7_a_slow_reader_takes_no_memory() {
    let Some(cluster) = three_nodes(&SLOW_FLAGS) else { return };
    let producer = Producer::with(&cluster, "a", Spot::Other, SLOW_RECORD_BYTES);
    producer.wait_for(100, HEALED);
    let memory_before = memory_bytes(&cluster, 1);
    cluster.ground.slow(Spot::Client, SLOW_BITS_PER_SECOND);
    let mut follow = cluster.client("read", &[1]);
    follow.args(["--follow", "--from", "1"]);
    let mut reading = cluster.ground.at(Spot::Client, || Running::start(&mut follow));
    // Something has come, and the rest is on its way while the log grows far ahead.
    assert!(reading.hear().starts_with("a "));
    let start = cluster.status(1)["commit_lsn"].as_u64().unwrap();
    let records = BACKLOG_BYTES / SLOW_RECORD_BYTES as u64;
    let mut memory = 0;
    eventually("a log that has grown", || {
        memory = memory_bytes(&cluster, 1).max(memory);
        let now = cluster.status(1)["commit_lsn"].as_u64().unwrap();
        if now >= start + records { Ok(()) } else { Err(format!("{start} to {now}")) }
    });
    let memory = memory.saturating_sub(memory_before);
    println!("{memory} bytes of memory");
    assert!(memory < MEMORY_BYTES, "{memory}");
    assert!(reading.child.try_wait().unwrap().is_none(), "it still reads");
    drop(reading);
    let known = producer.end();
    assert_eq!(known.in_doubt(), 0, "no append came near its deadline");
    compare(cluster, 1, &[&known], &[]);
}

/// What a leader says of a follower.
fn follower(status: &Value, number: usize) -> Value {
    let mut followers = status["followers"].as_array().unwrap().iter();
    followers.find(|follower| follower["node_id"] == number).unwrap().clone()
}

/// Memory of a node that no file is behind.
fn memory_bytes(cluster: &Cluster<Network>, number: usize) -> u64 {
    let path = format!("/proc/{}/status", cluster.nodes[&number].id());
    let status = std::fs::read_to_string(path).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}
