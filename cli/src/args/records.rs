//! `append` and `read`: records in, records out.
//!
//! Owns their flags, and what the name of a producer may be.

use std::path::PathBuf;

use cairnlog_engine::Lsn;
use cairnlog_replication::wire::request;
use clap::{Args as ClapArgs, ValueEnum};

use super::limits::Limits;
use super::values::parse_lsn;
use super::{Ack, Place, RecordFormat};

/// Append lines to a log: to a directory, making it if there is none, or to a server.
///
/// Every line of the input becomes a record, without its newline. Bytes behind the last newline are a
/// record too, so an input with and one without a newline at its end are stored alike. A line may have
/// up to 16 MiB (less in short segments); with a longer one it stops: nothing of that line is stored,
/// the lines before it are. What has arrived is stored at once, in batches of up to 512 lines or
/// 256 KiB (32 KiB with --server), with up to 17 MiB on their way to the disk; it never waits for more input.
#[derive(Debug, ClapArgs)]
#[command(verbatim_doc_comment)]
pub(crate) struct AppendArgs {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Read lines from this file instead of standard input.
    #[arg(long, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,
    /// When a record counts as acknowledged. Whichever it is, the command ends only when everything is
    /// durable with `--dir`, and acknowledged with `--server`, and says so if that fails. [default: local
    /// with --dir, quorum with --server]
    #[arg(long, value_enum, env = "CAIRNLOG_ACK")]
    pub(crate) ack: Option<Ack>,
    /// Print the LSN of each record, one a line, as soon as the record is acknowledged. If nobody reads
    /// them any more, it goes on without.
    #[arg(long)]
    pub(crate) print_lsn: bool,
    /// A name for this input, 1 to 16 of A-Z a-z 0-9 . _ -: run again with the same input after a
    /// failure, it stores nothing twice. It goes on behind the lines that the log holds of that name. With
    /// --dir it finds them by reading the log from its newest segment back. Servers remember the 16,384
    /// names that were appended under last, those that clients make up for themselves included; one that
    /// they do not remember any more is refused.
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

/// What a server shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Visibility {
    /// What never leaves the log.
    Committed,
    /// The same, and nothing is missing that was acknowledged at `quorum` before; only a leader can tell.
    Linearizable,
    /// What is durable on the server that is asked, and may still leave the log when another one takes over.
    Durable,
}

impl From<Visibility> for request::Visibility {
    fn from(visibility: Visibility) -> request::Visibility {
        match visibility {
            Visibility::Committed => request::Visibility::Committed,
            Visibility::Linearizable => request::Visibility::Linearizable,
            Visibility::Durable => request::Visibility::Durable,
        }
    }
}

/// Write records to standard output.
///
/// Works beside a process that writes to the log, shows what is durable, and changes nothing. Without a
/// writer it shows what recovery would keep. Where it meets damage it stops with exit code 1, after
/// everything before the damage. A server shows what is committed.
#[derive(Debug, ClapArgs)]
#[command(verbatim_doc_comment)]
pub(crate) struct ReadArgs {
    #[command(flatten)]
    pub(crate) place: Place,
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
    /// Which records to show. Only with --server. [default: committed]
    #[arg(long, value_enum)]
    pub(crate) visibility: Option<Visibility>,
    /// Show nothing before the server has every record before this one, to read what was written elsewhere. Only with
    /// --server.
    #[arg(long, value_name = "LSN", value_parser = parse_lsn)]
    pub(crate) min_lsn: Option<Lsn>,
    /// At the end of the log, wait for more.
    #[arg(long)]
    pub(crate) follow: bool,
    /// Pass over records that are damaged or were given up by a repair, say which, and show the rest.
    /// Exit code 1 when there were any. Only with --dir.
    #[arg(long, conflicts_with = "follow")]
    pub(crate) salvage: bool,
}
