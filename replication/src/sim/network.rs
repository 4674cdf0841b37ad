//! What is between simulated nodes.
//!
//! Owns connections and which links are cut. A connection keeps the order of its messages and loses none while
//! it lives, as QUIC streams do; heartbeats are datagrams, which may be lost, doubled and overtaken. A cut link
//! holds messages back until the connection is given up, on either side at its own time.
//!
//! Units: milliseconds of simulated time.

use std::collections::{BTreeMap, BTreeSet};

use super::random::Random;
use crate::protocol::message::Message;
use crate::protocol::node_id::NodeId;

/// How the network behaves in a run.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// A message takes at least so long.
    pub delay_ms_min: u64,
    /// And at most so long.
    pub delay_ms_max: u64,
    /// Of a thousand datagrams so many are lost, and as many come twice.
    pub loss_per_mille: u64,
}

/// What one node has of its connection to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Half {
    /// The same on both sides; a message of an older one is not delivered.
    number: u64,
    /// The next message is not delivered before that time.
    next_ms: u64,
    /// Something that was sent did not get through: nothing that comes after it does.
    is_broken: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Network {
    pub(super) weather: Weather,
    halves: BTreeMap<(NodeId, NodeId), Half>,
    /// From whom to whom nothing gets through.
    cut: BTreeSet<(NodeId, NodeId)>,
    /// From whom to whom no datagram gets through.
    mute: BTreeSet<(NodeId, NodeId)>,
    last_number: u64,
}

impl Network {
    pub(super) fn new(weather: Weather) -> Network {
        Network {
            weather,
            halves: BTreeMap::new(),
            cut: BTreeSet::new(),
            mute: BTreeSet::new(),
            last_number: 0,
        }
    }

    /// Connects two nodes, if nothing is between them.
    pub(super) fn connect(&mut self, now_ms: u64, one: NodeId, other: NodeId) -> bool {
        let is_free = |pair| !self.halves.contains_key(&pair) && !self.cut.contains(&pair);
        if !is_free((one, other)) || !is_free((other, one)) {
            return false;
        }
        self.last_number += 1;
        let half = Half { number: self.last_number, next_ms: now_ms, is_broken: false };
        self.halves.insert((one, other), half);
        self.halves.insert((other, one), half);
        true
    }

    /// One side gives its connection up.
    pub(super) fn disconnect(&mut self, node: NodeId, peer: NodeId) -> bool {
        self.halves.remove(&(node, peer)).is_some()
    }

    /// Whether a side still has a connection that the other one has given up, or to which nothing gets through.
    pub(super) fn is_stale(&self, node: NodeId, peer: NodeId) -> bool {
        let Some(half) = self.halves.get(&(node, peer)) else { return false };
        let other = self.halves.get(&(peer, node));
        let is_whole = |other: &Half| other.number == half.number && !other.is_broken;
        half.is_broken || !other.is_some_and(is_whole)
    }

    /// Whether a side has given up a connection.
    pub(super) fn is_over(&self, node: NodeId, peer: NodeId, number: u64) -> bool {
        self.halves.get(&(node, peer)).is_none_or(|half| half.number != number)
    }

    pub(super) fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        self.cut.contains(&(from, to))
    }

    pub(super) fn cut(&mut self, from: NodeId, to: NodeId) {
        self.cut.insert((from, to));
    }

    /// From now on every heartbeat, or answer to one, is lost on the way.
    pub(super) fn mute(&mut self, from: NodeId, to: NodeId) {
        self.mute.insert((from, to));
    }

    pub(super) fn heal(&mut self) {
        self.cut.clear();
        self.mute.clear();
    }

    /// When a message arrives, and over which connection; not at all, or more than once, when it is a datagram.
    pub(super) fn send(
        &mut self,
        now_ms: u64,
        (from, to): (NodeId, NodeId),
        message: &Message,
        random: &mut Random,
    ) -> Vec<(u64, u64)> {
        let Weather { delay_ms_min, delay_ms_max, loss_per_mille } = self.weather;
        let (is_cut, is_mute) = (self.is_cut(from, to), self.mute.contains(&(from, to)));
        let Some(half) = self.halves.get_mut(&(from, to)) else { return Vec::new() };
        let mut arrives = || now_ms + delay_ms_min + random.below(delay_ms_max - delay_ms_min + 1);
        if is_datagram(message) {
            let times = vec![(arrives(), half.number), (arrives(), half.number)];
            let copies = match random.below(1000) {
                at if is_cut || is_mute || at < loss_per_mille => 0,
                at if at < 2 * loss_per_mille => 2,
                _ => 1,
            };
            return times.into_iter().take(copies).collect();
        }
        half.next_ms = half.next_ms.max(arrives());
        // What a cut link holds back never comes: the connection is given up before.
        half.is_broken |= is_cut;
        if half.is_broken { Vec::new() } else { vec![(half.next_ms, half.number)] }
    }

    /// Whether a message that was sent over this connection is delivered.
    pub(super) fn delivers(
        &mut self,
        from: NodeId,
        to: NodeId,
        message: &Message,
        number: u64,
    ) -> bool {
        let is_cut = self.is_cut(from, to);
        if let Some(half) = self.halves.get_mut(&(from, to))
            && half.number == number
            && !is_datagram(message)
        {
            half.is_broken |= is_cut;
            if half.is_broken {
                return false;
            }
        }
        let half = self.halves.get(&(to, from));
        half.is_some_and(|half| half.number == number) && !is_cut
    }
}

fn is_datagram(message: &Message) -> bool {
    matches!(message, Message::Heartbeat { .. } | Message::Heard { .. })
}
