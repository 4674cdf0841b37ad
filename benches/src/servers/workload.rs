//! What is measured, and what is to be reached.
//!
//! Owns the list of workloads with their goals. Does not run or judge them (`rounds`, `goal`).

/// When an append is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// Durable on two of three nodes.
    Quorum,
    /// Durable on the node that leads; the others follow.
    Local,
}

/// Who is measured. The order is that of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Cairnlog,
    Redis,
    Postgres,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Cairnlog, Self::Redis, Self::Postgres];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cairnlog => "Cairnlog",
            Self::Redis => "Redis",
            Self::Postgres => "PostgreSQL",
        }
    }
}

/// What Cairnlog should reach; ratios are its figure divided by the other's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Goal {
    /// So many times as many appends a second as Redis.
    RateOfRedis(f64),
    /// At most so many times the CPU seconds of Redis for each append.
    CpuOfRedis(f64),
    /// Its median latency is at most so many times the best one of the peers.
    P50OfBest(f64),
    /// Its 99th percentile is at most so many times the best one of the peers.
    P99OfBest(f64),
    /// Its 99th percentile is below so many nanoseconds.
    P99Below(f64),
}

/// Appends of one kind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) level: Level,
    pub(crate) record_bytes: usize,
    pub(crate) in_flight: usize,
    pub(crate) goals: &'static [Goal],
}

/// Comes before everything, once for each target, and does not count: afterwards its files are there, and
/// those who recycle files do.
pub(crate) const FILL: Workload = Workload {
    name: "fill",
    title: "fill",
    level: Level::Quorum,
    record_bytes: 4096,
    in_flight: 128,
    goals: &[],
};

/// All of them, in the order of the table.
pub(crate) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "quorum-1x100",
        title: "quorum, 100 B, 1 in flight",
        level: Level::Quorum,
        record_bytes: 100,
        in_flight: 1,
        goals: &[Goal::P50OfBest(0.5), Goal::P99OfBest(0.7)],
    },
    Workload {
        name: "quorum-1x1k",
        title: "quorum, 1 KiB, 1 in flight",
        level: Level::Quorum,
        record_bytes: 1024,
        in_flight: 1,
        goals: &[Goal::P50OfBest(0.5), Goal::P99OfBest(0.7)],
    },
    Workload {
        name: "quorum-128x100",
        title: "quorum, 100 B, 128 in flight",
        level: Level::Quorum,
        record_bytes: 100,
        in_flight: 128,
        goals: &[Goal::RateOfRedis(4.0), Goal::CpuOfRedis(0.35)],
    },
    Workload {
        name: "quorum-128x1k",
        title: "quorum, 1 KiB, 128 in flight",
        level: Level::Quorum,
        record_bytes: 1024,
        in_flight: 128,
        goals: &[Goal::RateOfRedis(3.0), Goal::CpuOfRedis(0.35), Goal::P99Below(5e6)],
    },
    Workload {
        name: "local-128x1k",
        title: "local, 1 KiB, 128 in flight",
        level: Level::Local,
        record_bytes: 1024,
        in_flight: 128,
        goals: &[Goal::RateOfRedis(3.0)],
    },
];
