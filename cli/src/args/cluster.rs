//! Commands that look after servers: `status`, `promote`, `cert`.
//!
//! Owns their flags.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};

use super::{Cluster, Format};

/// Show how servers are: who leads, how far each got.
///
/// Asks every server that is named, and says which ones do not answer: exit code 2 when there is one.
#[derive(Debug, ClapArgs)]
#[command(verbatim_doc_comment)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) cluster: Cluster,
    /// How to show it; `json` is one object a line.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

/// Make a server the leader.
///
/// Name the one server that is to lead. Exit code 1 when it is refused.
#[derive(Debug, ClapArgs)]
#[command(verbatim_doc_comment)]
pub(crate) struct PromoteArgs {
    #[command(flatten)]
    pub(crate) cluster: Cluster,
    /// Only show what would come of it.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// How to show the answer; `json` is one object.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

/// Make certificates.
#[derive(Debug, ClapArgs)]
pub(crate) struct CertArgs {
    #[command(subcommand)]
    pub(crate) command: CertCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CertCommand {
    /// Make a local authority and certificates of it, to try things out.
    ///
    /// One folder `node-N` for each node, for `serve --tls-dir`, and one folder `client` for the commands
    /// that take `--server`.
    #[command(verbatim_doc_comment)]
    Dev {
        /// The directory to make them in.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// How many nodes there are.
        #[arg(long, value_name = "NODES", value_parser = clap::value_parser!(u64).range(1..=64))]
        nodes: u64,
    },
}
