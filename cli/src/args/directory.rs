//! Commands that look after a directory: `verify`, `inspect`, `fork`, `repair`, `doctor`.
//!
//! Owns their flags.

use std::path::PathBuf;

use cairnlog_engine::Lsn;
use clap::Args as ClapArgs;

use super::values::parse_lsn;
use super::{Format, RecordFormat};

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

/// Show what a truncation gave up: records that a leader had taken and no quorum had, mostly.
///
/// Without --lsn it lists the forks of the directory, one a line. Changes nothing.
#[derive(Debug, ClapArgs)]
#[command(verbatim_doc_comment)]
pub(crate) struct ForkArgs {
    #[command(flatten)]
    pub(crate) directory: Directory,
    /// Show the records of the fork that begins at this LSN.
    #[arg(long, value_name = "LSN", value_parser = parse_lsn)]
    pub(crate) lsn: Option<Lsn>,
    /// Of several that begin there, the one with this epoch. [default: the newest]
    #[arg(long, value_name = "EPOCH", requires = "lsn")]
    pub(crate) epoch: Option<u64>,
    /// How to show records, and the list: `json` is one object a line.
    #[arg(long, value_enum, default_value_t = RecordFormat::Raw)]
    pub(crate) format: RecordFormat,
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
