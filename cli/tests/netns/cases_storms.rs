//! One fault after the other, drawn by chance, with nobody waiting for the last to be over.
//!
//! Owns what no list of cases has: several faults at once, faults that change while something heals, leaders
//! named while nodes cannot see each other. Prints its seed; `CAIRNLOG_STORM_ROUNDS` makes it longer, and
//! `CAIRNLOG_STORM_SEED` draws the same faults again (the same times it cannot).

use std::time::Duration;

use rustix::process::Signal;

use crate::common::serving::eventually;
use crate::common::{Random, SEGMENT};
use crate::network::{Fault, HEALED, Network, Rule, Spot, three_nodes};
use crate::producer::{Producer, agreed_leader, compare};
use crate::replicas::{Cluster, NODES};

const ROUNDS: u64 = 6;
/// A round is at most so long: from far less to more than what a connection lives without being heard.
const ROUND_MS_MAX: u64 = 2500;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// Faults between some spots, in some directions.
fn draw(random: &mut Random) -> Vec<Rule> {
    let percent = |random: &mut Random| 10 + u32::try_from(random.below(60)).unwrap();
    let mut rules = Vec::new();
    for from in Spot::ALL {
        for to in Spot::ALL {
            if from == to || random.below(3) > 0 {
                continue;
            }
            let fault = match random.below(8) {
                0 => Fault::Lose(percent(random)),
                1 => Fault::Damage(percent(random)),
                2 => Fault::Double(percent(random)),
                _ => Fault::Cut,
            };
            rules.push(Rule { from, to, fault });
        }
    }
    rules
}

/// A node is named, whether it can come to lead or not.
fn promote(cluster: &Cluster<Network>, number: usize) {
    let mut command = cluster.client("promote", &[number]);
    let output = cluster.ground.at(Spot::Node(number), || command.output()).unwrap();
    println!("promote {number}: {:?}", output.status.code());
}

fn disturb(cluster: &mut Cluster<Network>, random: &mut Random) {
    let number = 1 + usize::try_from(random.below(NODES as u64)).unwrap();
    match random.below(6) {
        0 | 1 => promote(cluster, number),
        2 => {
            println!("kill {number}");
            cluster.kill(number);
            cluster.start(number);
        }
        3 => {
            println!("pause {number}");
            cluster.nodes[&number].signal(Signal::STOP);
            std::thread::sleep(Duration::from_millis(random.below(ROUND_MS_MAX)));
            cluster.nodes[&number].signal(Signal::CONT);
        }
        _ => {}
    }
}

#[test]
fn n1_n5_n6_n10_k1_k2_k7_a_storm() {
    let Some(mut cluster) = three_nodes(&SEGMENT) else { return };
    let mut random = match number("CAIRNLOG_STORM_SEED") {
        Some(seed) => Random::of(seed),
        None => Random::new(),
    };
    let (a, b) =
        (Producer::start(&cluster, "a", Spot::Client), Producer::start(&cluster, "b", Spot::Other));
    for round in 0..number("CAIRNLOG_STORM_ROUNDS").unwrap_or(ROUNDS) {
        let rules = if random.below(4) == 0 { Vec::new() } else { draw(&mut random) };
        println!("round {round}: {} faults", rules.len());
        cluster.ground.set(&rules);
        disturb(&mut cluster, &mut random);
        std::thread::sleep(Duration::from_millis(random.below(ROUND_MS_MAX)));
    }
    cluster.ground.set(&[]);
    // Perhaps nobody leads by now: one is named then, as a person would.
    eventually("one leader", || agreed_leader(&cluster).inspect_err(|_| promote(&cluster, 2)));
    a.wait_for(100, HEALED);
    b.wait_for(100, HEALED);
    let (a, b) = (a.end(), b.end());
    let leader = eventually("one leader", || agreed_leader(&cluster));
    compare(cluster, leader, &[&a, &b], &[]);
}
