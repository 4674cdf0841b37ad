//! How a node is, for those who look at it from outside.
//!
//! Owns the names and units under which it is said; they are the operator's contract. Measures nothing.

use serde_json::{Value, json};

use crate::protocol::view::RoleKind;

/// What a node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Role {
    /// It leads.
    Leader,
    /// It follows a leader, or waits for one.
    Follower,
    /// It takes what a leader sends, and counts for nothing.
    Learner,
    /// It is about to lead.
    Candidate,
    /// It takes part in naming a leader, and holds no data.
    Witness,
}

impl Role {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Role::Leader => "leader",
            Role::Follower => "follower",
            Role::Learner => "learner",
            Role::Candidate => "candidate",
            Role::Witness => "witness",
        }
    }
}

impl From<RoleKind> for Role {
    fn from(kind: RoleKind) -> Role {
        match kind {
            RoleKind::Follower => Role::Follower,
            RoleKind::Learner => Role::Learner,
            RoleKind::Candidate => Role::Candidate,
            RoleKind::Leader => Role::Leader,
        }
    }
}

/// A follower, as its leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowerStatus {
    /// Its number.
    pub node_id: u64,
    /// Below it records are durable there.
    pub durable_lsn: u64,
    /// Bytes of the log that it does not have durable.
    pub behind_bytes: u64,
    /// Milliseconds since it had all.
    pub behind_ms: u64,
    /// Whether the ack level `all` waits for it.
    pub in_service: bool,
    /// Whether there is a connection to it.
    pub connected: bool,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Status {
    /// This node.
    pub node_id: u64,
    /// What it does.
    pub role: Role,
    /// The node that leads, as far as this one knows.
    pub leader: Option<u64>,
    /// The greatest epoch that was promised.
    pub epoch: u64,
    /// The oldest record kept.
    pub first_lsn: u64,
    /// Below it records are durable here.
    pub durable_lsn: u64,
    /// Below it they are committed, as far as this node knows.
    pub commit_lsn: u64,
    /// The next record's LSN.
    pub end_lsn: u64,
    /// Whether appends are acknowledged at less than what was asked for.
    pub degraded: bool,
    /// Why.
    pub degraded_because: Option<String>,
    /// Whether the cluster is not made yet.
    pub is_forming: bool,
    /// Whether this process works, whatever the others do.
    pub is_live: bool,
    /// Whether it does what its role promises: a leader commits, a follower hears its leader.
    pub is_ready: bool,
    /// Why not.
    pub not_ready_because: Option<String>,
    /// Bytes of the log's segments.
    pub log_bytes: u64,
    /// On a leader: its followers.
    pub followers: Vec<FollowerStatus>,
    /// Metrics: name, help, value.
    pub counters: Vec<(&'static str, &'static str, f64)>,
}

impl Status {
    /// As one JSON object.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let follower = |f: &FollowerStatus| {
            json!({
                "node_id": f.node_id,
                "durable_lsn": f.durable_lsn,
                "behind_bytes": f.behind_bytes,
                "behind_ms": f.behind_ms,
                "in_service": f.in_service,
                "connected": f.connected,
            })
        };
        json!({
            "node_id": self.node_id,
            "role": self.role.name(),
            "leader": self.leader,
            "epoch": self.epoch,
            "first_lsn": self.first_lsn,
            "durable_lsn": self.durable_lsn,
            "commit_lsn": self.commit_lsn,
            "end_lsn": self.end_lsn,
            "degraded": self.degraded,
            "degraded_because": self.degraded_because,
            "forming": self.is_forming,
            "live": self.is_live,
            "ready": self.is_ready,
            "not_ready_because": self.not_ready_because,
            "log_bytes": self.log_bytes,
            "followers": self.followers.iter().map(follower).collect::<Vec<_>>(),
        })
    }
}
