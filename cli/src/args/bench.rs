//! `bench`: what is measured, how, and for how long.
//!
//! Owns its flags.

use clap::Args as ClapArgs;

use super::limits::Driver;
use super::values::{parse_bytes, parse_seconds};
use super::{Ack, Format, Place};

/// Measure how fast records become durable.
///
/// Appends random bytes and drops old segments as it goes, so that it measures recycled segments, as in
/// a log that runs for long, and does not fill the disk. The log stays there afterwards. In a log that
/// holds records of others nothing is dropped unless `--retain-bytes` is given.
///
/// Filling the log up to what it retains (for at most 10 seconds) and a warm-up of half a second come
/// first and are not counted. Latency is from the call to the
/// acknowledgement; MB are 10^6 bytes of records. With a server, nothing is filled up or dropped: what it
/// retains is its own affair, and the records stay in its log.
#[derive(Debug, ClapArgs)]
#[command(verbatim_doc_comment)]
pub(crate) struct BenchArgs {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Threads that append; with `--server`, connections.
    #[arg(long, value_name = "THREADS", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) writers: u32,
    /// Appends that each of them keeps on their way before it waits for the oldest. Means nothing with
    /// `--dir` and `--ack buffered`, which does not wait.
    #[arg(long, value_name = "APPENDS", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub(crate) in_flight: u32,
    /// Length of each record, up to 16 MiB.
    #[arg(long, value_name = "BYTES", default_value = "1024", value_parser = parse_bytes)]
    pub(crate) record_bytes: u64,
    /// How long to measure.
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0, value_parser = parse_seconds)]
    pub(crate) seconds: f64,
    /// What to measure: records in memory, or durable ones, and where. [default: local with --dir, quorum
    /// with --server]
    #[arg(long, value_enum, env = "CAIRNLOG_ACK")]
    pub(crate) ack: Option<Ack>,
    /// Drop the oldest segments while the log is larger. Only with --dir. [default: 256 MiB]
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub(crate) retain_bytes: Option<u64>,
    /// Length of new segment files, 64 KiB to 4 GiB. Only with --dir. [default: 64 MiB]
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes, env = "CAIRNLOG_SEGMENT_BYTES")]
    pub(crate) segment_bytes: Option<u64>,
    #[command(flatten)]
    pub(crate) driver: Driver,
    /// How to show the answer; `json` is one object.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}
