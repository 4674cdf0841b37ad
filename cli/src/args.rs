//! What can be asked for on the command line.
//!
//! Owns every flag, its unit, its default and its environment variable; `--help` is written here.
//! Precedence: flag, environment, default. Does nothing.

use std::path::PathBuf;

use cairnlog_engine::disk::BackendChoice;
use cairnlog_engine::{Config, Lsn};
use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

/// Crash-safe log storage.
///
/// A log is a directory. Its records are numbered by LSN: 1, 2, 3, without gaps. One process writes to
/// it at a time; any number of others read beside it.
///
/// Exit codes: 0 done; 1 the answer is no (damage found); 2 could not be done (usage, input or output);
/// 3 the storage failed and the log is poisoned. Standard output is data, standard error is talk; a
/// closed pipe on standard output is success.
#[derive(Debug, Parser)]
#[command(name = "cairnlog", version, verbatim_doc_comment)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Append(AppendArgs),
    Read(ReadArgs),
    Verify(VerifyArgs),
    Inspect(InspectArgs),
    Repair(RepairArgs),
    Bench(BenchArgs),
    Doctor(DoctorArgs),
}

/// Append lines to a log, making it if there is none.
///
/// Every line of the input becomes a record, without its newline. Bytes behind the last newline are a
/// record too, so an input with and one without a newline at its end are stored alike. A line may have
/// up to 16 MiB (less in short segments); with a longer one it stops: nothing of that line is stored,
/// the lines before it are. What has arrived is stored at once, in batches of up to 512 lines or
/// 256 KiB, with up to 17 MiB on their way to the disk; it never waits for more input.
#[derive(Debug, ClapArgs)]
#[command(verbatim_doc_comment)]
pub(crate) struct AppendArgs {
    #[command(flatten)]
    pub(crate) directory: Directory,
    /// Read lines from this file instead of standard input.
    #[arg(long, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,
    /// When a record counts as acknowledged. Whichever it is, the command ends only when everything is
    /// durable, and says so if that fails.
    #[arg(long, value_enum, default_value_t = Ack::Local, env = "CAIRNLOG_ACK")]
    pub(crate) ack: Ack,
    /// Print the LSN of each record, one a line, as soon as the record is acknowledged. If nobody reads
    /// them any more, it goes on without.
    #[arg(long)]
    pub(crate) print_lsn: bool,
    /// A name for this input, 1 to 16 of A-Z a-z 0-9 . _ -: run again with the same input after a
    /// failure, it stores nothing twice. It goes on behind the lines that the log holds of that name,
    /// which it finds by reading the log from its newest segment back.
    #[arg(long, value_name = "ID", value_parser = parse_producer)]
    pub(crate) producer: Option<u128>,
    #[command(flatten)]
    pub(crate) limits: Limits,
}

/// The name of a producer as the number the log keeps: its bytes, zeros behind them.
fn parse_producer(text: &str) -> Result<u128, String> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let mut bytes = [0; 16];
    if text.is_empty() || text.len() > bytes.len() || !text.bytes().all(allowed) {
        return Err("1 to 16 of A-Z a-z 0-9 . _ -".to_owned());
    }
    bytes[..text.len()].copy_from_slice(text.as_bytes());
    Ok(u128::from_le_bytes(bytes))
}

/// Write records to standard output.
///
/// Works beside a process that writes to the log, shows what is durable, and changes nothing. Without a
/// writer it shows what recovery would keep. Where it meets damage it stops with exit code 1, after
/// everything before the damage.
#[derive(Debug, ClapArgs)]
#[command(verbatim_doc_comment)]
pub(crate) struct ReadArgs {
    #[command(flatten)]
    pub(crate) directory: Directory,
    /// The first record to show; the end of the log is possible and shows nothing. [default: the oldest
    /// record kept]
    #[arg(long, value_name = "LSN", value_parser = parse_lsn)]
    pub(crate) from: Option<Lsn>,
    /// Stop before this record: it is not shown. [default: the end of the log]
    #[arg(long, value_name = "LSN", value_parser = parse_lsn)]
    pub(crate) to: Option<Lsn>,
    /// Show at most this many records.
    #[arg(long, value_name = "RECORDS")]
    pub(crate) count: Option<u64>,
    /// How to show a record.
    #[arg(long, value_enum, default_value_t = RecordFormat::Raw)]
    pub(crate) format: RecordFormat,
    /// At the end of the log, wait for more.
    #[arg(long)]
    pub(crate) follow: bool,
    /// Pass over records that are damaged or were given up by a repair, say which, and show the rest.
    /// Exit code 1 when there were any.
    #[arg(long, conflicts_with = "follow")]
    pub(crate) salvage: bool,
}

/// Read everything, check everything, change nothing.
///
/// Exit code 1 when anything that had been durable is damaged or gone. A torn tail is no damage: its
/// records were never acknowledged, and the next open for writing cuts it off.
#[derive(Debug, ClapArgs)]
#[command(verbatim_doc_comment)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    pub(crate) directory: Directory,
    /// How to show the answer; `json` is one object.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

/// Show what is in the files of a log, damaged or not.
///
/// Changes nothing and judges nothing: whether the log is whole, `verify` says.
#[derive(Debug, ClapArgs)]
#[command(verbatim_doc_comment)]
pub(crate) struct InspectArgs {
    #[command(flatten)]
    pub(crate) directory: Directory,
    /// How to show it; `json` is one object a line.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

/// Measure how fast records become durable.
///
/// Appends random bytes and drops old segments as it goes, so that it measures recycled segments, as in
/// a log that runs for long, and does not fill the disk. The log stays there afterwards. In a log that
/// holds records of others nothing is dropped unless `--retain-bytes` is given.
///
/// Filling the log up to what it retains (for at most 10 seconds) and a warm-up of half a second come
/// first and are not counted. Latency is from the call to the
/// acknowledgement; MB are 10^6 bytes of records.
#[derive(Debug, ClapArgs)]
#[command(verbatim_doc_comment)]
pub(crate) struct BenchArgs {
    #[command(flatten)]
    pub(crate) directory: Directory,
    /// Threads that append.
    #[arg(long, value_name = "THREADS", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) writers: u32,
    /// Appends that each thread keeps on their way before it waits for the oldest. Means nothing with
    /// `--ack buffered`, which does not wait.
    #[arg(long, value_name = "APPENDS", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub(crate) in_flight: u32,
    /// Length of each record, up to 16 MiB.
    #[arg(long, value_name = "BYTES", default_value = "1024", value_parser = parse_bytes)]
    pub(crate) record_bytes: u64,
    /// How long to measure.
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0, value_parser = parse_seconds)]
    pub(crate) seconds: f64,
    /// What to measure: records in memory, or durable ones.
    #[arg(long, value_enum, default_value_t = Ack::Local, env = "CAIRNLOG_ACK")]
    pub(crate) ack: Ack,
    /// Drop the oldest segments while the log is larger. [default: 256 MiB]
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub(crate) retain_bytes: Option<u64>,
    /// Length of new segment files, 64 KiB to 4 GiB. [default: 64 MiB]
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes, env = "CAIRNLOG_SEGMENT_BYTES")]
    pub(crate) segment_bytes: Option<u64>,
    #[command(flatten)]
    pub(crate) driver: Driver,
    /// How to show the answer; `json` is one object.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

/// Repair a damaged log that does not open: show the plan, and with --confirm carry it out.
///
/// Rebuilds what parity allows, makes damaged headers, footers and a lost superblock anew, and gives up
/// what cannot be had: readers get an error for those records, and read on behind them. Every file
/// whose bytes are replaced is kept beside the log as NAME.replaced-N. A torn tail needs no repair: the
/// next append cuts it off. Exit code 0 when nothing is damaged or the repair was done, 1 when the plan
/// waits for --confirm, 2 when it cannot be done.
#[derive(Debug, ClapArgs)]
#[command(verbatim_doc_comment)]
pub(crate) struct RepairArgs {
    #[command(flatten)]
    pub(crate) directory: Directory,
    /// Carry the plan out. Without it nothing is changed.
    #[arg(long)]
    pub(crate) confirm: bool,
    /// How to show the plan; `json` is one object.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

/// Look at what this machine and this directory give a log.
///
/// Measures on a temporary file in the directory and removes it; touches no file of a log. Exit code 0
/// when a log can run here, warnings or not, and 2 when it cannot.
#[derive(Debug, ClapArgs)]
#[command(verbatim_doc_comment)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) directory: Directory,
    /// How to show the answer; `json` is one object.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Directory {
    /// The directory of the log.
    #[arg(long = "dir", value_name = "DIR", env = "CAIRNLOG_DIR")]
    pub(crate) path: PathBuf,
}

/// Limits of an open log.
#[derive(Debug, ClapArgs)]
pub(crate) struct Limits {
    /// Length of new segment files, 64 KiB to 4 GiB; a record fits into one. [default: 64 MiB]
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes, env = "CAIRNLOG_SEGMENT_BYTES")]
    segment_bytes: Option<u64>,
    /// Drop the oldest segments while the log is larger. [default: keep everything]
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes, env = "CAIRNLOG_RETAIN_BYTES")]
    retain_bytes: Option<u64>,
    /// Drop segments whose last record is older. [default: keep everything]
    #[arg(long, value_name = "SECONDS", env = "CAIRNLOG_RETAIN_SECONDS")]
    retain_seconds: Option<u64>,
    /// Whether digest and parity (1/32 of the bytes) are written beside sealed segments.
    #[arg(long, value_enum, default_value_t = Switch::On, env = "CAIRNLOG_PARITY")]
    parity: Switch,
    #[command(flatten)]
    pub(crate) driver: Driver,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    On,
    Off,
}

impl Limits {
    pub(crate) fn config(&self) -> Config {
        let mut config = config_for(self.segment_bytes);
        config.retain_bytes = self.retain_bytes;
        config.retain_seconds = self.retain_seconds;
        config.parity = self.parity == Switch::On;
        config.backend = self.driver.choice();
        config
    }
}

/// The default, with limits that fit the length of a segment.
pub(crate) fn config_for(segment_bytes: Option<u64>) -> Config {
    segment_bytes.map_or_else(Config::default, Config::with_segment_bytes)
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Driver {
    /// How writes are handed to the kernel.
    #[arg(long, value_enum, default_value_t = Backend::Auto, env = "CAIRNLOG_BACKEND")]
    pub(crate) backend: Backend,
}

impl Driver {
    pub(crate) fn choice(&self) -> BackendChoice {
        match self.backend {
            Backend::Auto => BackendChoice::Auto,
            Backend::Uring => BackendChoice::Uring,
            Backend::Blocking => BackendChoice::Blocking,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Backend {
    /// io_uring where the kernel gives it, else blocking; says so when it does not
    Auto,
    /// io_uring or nothing
    Uring,
    /// Blocking system calls
    Blocking,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Ack {
    /// In memory: lost if power or the process fails before it is written
    Buffered,
    /// Durable on this machine: survives a power cut
    Local,
}

impl Ack {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Ack::Buffered => "buffered",
            Ack::Local => "local",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RecordFormat {
    /// The record and a newline
    Raw,
    /// One object a line: `lsn`, `epoch`, `time_ms` (milliseconds since 1970), and the record: as
    /// `data`, a string, if it is UTF-8, else as `data_base64`, with padding
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Text,
    /// For programs
    Json,
}

fn parse_lsn(text: &str) -> Result<Lsn, String> {
    let ordinal: u64 = text.parse().map_err(|_| "an LSN is a whole number from 1 on".to_owned())?;
    Ok(Lsn::new(ordinal))
}

/// Bytes, as a number with or without `KiB`, `MiB` or `GiB` behind it.
fn parse_bytes(text: &str) -> Result<u64, String> {
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30)];
    let unit = units.iter().find_map(|(name, shift)| {
        text.strip_suffix(name).map(|number| (number.trim_end(), *shift))
    });
    let (number, shift) = unit.unwrap_or((text, 0));
    let number: u64 = number
        .parse()
        .map_err(|_| "a whole number of bytes, or one of KiB, MiB or GiB, like 64MiB".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "more than 64 bits hold".to_owned())
}

fn parse_seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.01..=86400.0).contains(&seconds) => Ok(seconds),
        _ => Err("a number from 0.01 to 86400".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn flags_are_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn bytes_have_units() {
        assert_eq!(parse_bytes("0"), Ok(0));
        assert_eq!(parse_bytes("65536"), Ok(65536));
        assert_eq!(parse_bytes("64KiB"), Ok(65536));
        assert_eq!(parse_bytes("2 GiB"), Ok(2 << 30));
        for text in ["", "KiB", "-1", "1.5MiB", "1MB", "18446744073709551615KiB", "17179869184GiB"]
        {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }
}
