//! The workloads and the goals, as data.
//!
//! Owns what is measured, of whom, and what the engine is held to. Does not run anything (`run`,
//! `measure`) and does not judge (`goal`).
//!
//! Units: records in bytes; rates per second; times in nanoseconds.

use crate::load::Load;
use crate::target::Kind;

/// What the engine and the plain loop keep on disk while they are measured: small enough to be
/// written through before the clock starts, so that both write over blocks that exist.
pub const RECYCLE_BYTES: u64 = 256 << 20;

/// Size of a record of the scanned log.
pub const SCAN_RECORD_BYTES: usize = 1024;

/// One row group of the table.
#[derive(Debug)]
pub struct Workload {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What it is called in the table.
    pub title: &'static str,
    /// Payload of one record.
    pub record_bytes: usize,
    /// What the figures count.
    pub unit: Unit,
    /// Who does what, in the order of the rows.
    pub cases: &'static [Case],
    /// What the engine should reach.
    pub goals: &'static [Goal],
}

impl Workload {
    /// Whether it reads a log that was written before.
    #[must_use]
    pub fn is_scan(&self) -> bool {
        self.cases.iter().any(|case| matches!(case.task, Task::Scan(_)))
    }
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Who.
    pub kind: Kind,
    /// Does what.
    pub task: Task,
}

/// What is done, and what is taken down of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Appends, counted.
    Append(Load),
    /// Appends, while the device counts what is written to it.
    DeviceBytes(Load),
    /// Appends, while the memory of the process is watched.
    Memory(Load),
    /// Reading a whole log, from opening it to its last record, each verified.
    Scan(Cache),
}

/// Where the bytes of a scanned log are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cache {
    /// In the page cache.
    Warm,
    /// On the device only (or in its host's cache, which nobody here can empty).
    Cold,
}

/// What the figures of a workload count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Appends in a second.
    AppendsPerSecond,
    /// Bytes in a second.
    BytesPerSecond,
    /// Bytes written to the device for each byte of payload.
    DeviceBytesPerByte,
    /// Bytes of memory.
    Bytes,
}

/// What the engine is held to. Ratios are of medians over the rounds of one run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// The engine's figure divided by that of `against`.
    Ratio {
        /// The other one.
        against: Kind,
        /// The bound, reached or passed.
        at_least: f64,
    },
    /// The engine's median latency divided by that of `against`.
    P50Ratio {
        /// The other one.
        against: Kind,
        /// The bound, reached or passed below.
        at_most: f64,
    },
    /// The engine's 99th percentile.
    P99Below(u64),
    /// The engine's figure.
    AtLeast(f64),
    /// The engine's figure.
    AtMost(f64),
    /// No commit of the file system's journal for an append, beyond what idle time brings.
    NoJournalCommits,
}

/// The workload of that name, or all whose names begin with it.
#[must_use]
pub fn named(prefix: &str) -> Vec<&'static Workload> {
    match WORKLOADS.iter().find(|workload| workload.name == prefix) {
        Some(exact) => vec![exact],
        None => WORKLOADS.iter().filter(|workload| workload.name.starts_with(prefix)).collect(),
    }
}

const fn durable(kind: Kind, writers: usize) -> Case {
    Case { kind, task: Task::Append(Load::Durable { writers }) }
}

const fn buffered(kind: Kind, writers: usize) -> Case {
    Case { kind, task: Task::Append(Load::Buffered { writers }) }
}

const fn device_bytes(kind: Kind) -> Case {
    Case { kind, task: Task::DeviceBytes(Load::Durable { writers: 1 }) }
}

const fn memory(kind: Kind) -> Case {
    Case { kind, task: Task::Memory(Load::Durable { writers: 256 }) }
}

const fn scan(kind: Kind, cache: Cache) -> Case {
    Case { kind, task: Task::Scan(cache) }
}

const fn appends(
    name: &'static str,
    title: &'static str,
    record_bytes: usize,
    cases: &'static [Case],
    goals: &'static [Goal],
) -> Workload {
    Workload { name, title, record_bytes, unit: Unit::AppendsPerSecond, cases, goals }
}

const ONE_WRITER: &[Case] = &[
    durable(Kind::Engine, 1),
    durable(Kind::Direct, 1),
    durable(Kind::Okaywal, 1),
    durable(Kind::Fjall, 1),
    durable(Kind::RaftEngine, 1),
];

const ONE_WRITER_GOALS: &[Goal] = &[
    Goal::Ratio { against: Kind::Direct, at_least: 1.0 },
    Goal::P50Ratio { against: Kind::Direct, at_most: 1.05 },
];

const fn many_writers(writers: usize) -> [Case; 4] {
    [
        durable(Kind::Engine, writers),
        durable(Kind::Okaywal, writers),
        durable(Kind::Fjall, writers),
        durable(Kind::RaftEngine, writers),
    ]
}

const WRITERS_8: &[Case] = &many_writers(8);
const WRITERS_64: &[Case] = &many_writers(64);
const WRITERS_256: &[Case] = &many_writers(256);

/// All workloads, in the order of the table.
pub const WORKLOADS: &[Workload] = &[
    appends("append-1x100", "1 writer, 100 B", 100, ONE_WRITER, ONE_WRITER_GOALS),
    appends("append-1x1k", "1 writer, 1 KiB", 1024, ONE_WRITER, ONE_WRITER_GOALS),
    appends("append-1x16k", "1 writer, 16 KiB", 16 << 10, ONE_WRITER, ONE_WRITER_GOALS),
    appends(
        "append-8x1k",
        "8 writers, 1 KiB",
        1024,
        WRITERS_8,
        &[Goal::Ratio { against: Kind::Okaywal, at_least: 2.0 }],
    ),
    appends(
        "append-64x1k",
        "64 writers, 1 KiB",
        1024,
        WRITERS_64,
        &[Goal::Ratio { against: Kind::RaftEngine, at_least: 2.5 }, Goal::P99Below(1_000_000)],
    ),
    appends(
        "append-256x1k",
        "256 writers, 1 KiB",
        1024,
        WRITERS_256,
        &[Goal::Ratio { against: Kind::RaftEngine, at_least: 2.5 }],
    ),
    appends(
        "append-64x16k",
        "64 writers, 16 KiB",
        16 << 10,
        &[
            durable(Kind::Engine, 64),
            durable(Kind::Okaywal, 64),
            durable(Kind::Fjall, 64),
            durable(Kind::RaftEngine, 64),
            // Only here does it matter whether the files of raft-engine were written before.
            durable(Kind::RaftEnginePrefilled, 64),
        ],
        &[Goal::Ratio { against: Kind::RaftEngine, at_least: 3.0 }],
    ),
    appends(
        "tickets-256x1k",
        "256 in flight, 1 KiB",
        1024,
        &[
            Case { kind: Kind::Engine, task: Task::Append(Load::InFlight { depth: 256 }) },
            durable(Kind::RaftEngine, 256),
        ],
        &[Goal::Ratio { against: Kind::RaftEngine, at_least: 7.0 }],
    ),
    appends(
        "buffered-8x1k",
        "buffered, 8 writers, 1 KiB",
        1024,
        &[buffered(Kind::Engine, 8), buffered(Kind::Commitlog, 8)],
        &[Goal::Ratio { against: Kind::Commitlog, at_least: 4.0 }],
    ),
    Workload {
        name: "scan-warm",
        title: "open and verified scan, 1 KiB, warm",
        record_bytes: SCAN_RECORD_BYTES,
        unit: Unit::BytesPerSecond,
        cases: &[scan(Kind::Engine, Cache::Warm)],
        goals: &[Goal::AtLeast(5e9)],
    },
    Workload {
        name: "scan-cold",
        title: "open and verified scan, 1 KiB, cold",
        record_bytes: SCAN_RECORD_BYTES,
        unit: Unit::BytesPerSecond,
        cases: &[scan(Kind::Engine, Cache::Cold), scan(Kind::Direct, Cache::Cold)],
        goals: &[Goal::Ratio { against: Kind::Direct, at_least: 0.9 }],
    },
    Workload {
        name: "device-bytes-1x1k",
        title: "device bytes per payload byte, 1 writer, 1 KiB",
        record_bytes: 1024,
        unit: Unit::DeviceBytesPerByte,
        cases: &[
            device_bytes(Kind::Engine),
            device_bytes(Kind::Direct),
            device_bytes(Kind::Okaywal),
            device_bytes(Kind::Fjall),
            device_bytes(Kind::RaftEngine),
        ],
        goals: &[Goal::AtMost(4.1), Goal::NoJournalCommits],
    },
    Workload {
        name: "memory-256x1k",
        title: "resident memory, 256 writers, 1 KiB",
        record_bytes: 1024,
        unit: Unit::Bytes,
        cases: &[memory(Kind::Engine), memory(Kind::Okaywal), memory(Kind::RaftEngine)],
        goals: &[Goal::AtMost(67_108_864.0)],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        for workload in WORKLOADS {
            let found: Vec<_> = named(workload.name).iter().map(|found| found.name).collect();
            assert_eq!(found, [workload.name]);
        }
        assert_eq!(named("scan").len(), 2);
        assert!(named("nothing").is_empty());
    }

    #[test]
    fn a_goal_compares_the_engine_with_someone_in_the_workload() {
        for workload in WORKLOADS {
            let has = |kind| workload.cases.iter().any(|case| case.kind == kind);
            assert!(has(Kind::Engine), "{}", workload.name);
            for goal in workload.goals {
                if let Goal::Ratio { against, .. } | Goal::P50Ratio { against, .. } = goal {
                    assert!(has(*against), "{}", workload.name);
                }
            }
        }
    }
}
