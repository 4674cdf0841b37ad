//! What can be asked for on the command line.
//!
//! Every flag, its unit, its default and its environment variable; `--help` is written here. Precedence: flag,
//! environment, file (of `serve`), default. Does nothing.

mod ack;
mod bench;
mod cluster;
mod directory;
mod file;
mod limits;
mod place;
mod records;
mod serve;
mod top;
mod values;

pub(crate) use ack::{Ack, LocalAck};
pub(crate) use bench::BenchArgs;
pub(crate) use cluster::{CertArgs, CertCommand, PromoteArgs, StatusArgs};
pub(crate) use directory::{DoctorArgs, ForkArgs, InspectArgs, RepairArgs, VerifyArgs};
pub(crate) use limits::config_for;
pub(crate) use place::{Cluster, Place};
pub(crate) use records::{AppendArgs, ReadArgs};
pub(crate) use serve::{Coordination, ServeArgs};
pub(crate) use top::{Command, parse};
pub(crate) use values::{Format, RecordFormat};
