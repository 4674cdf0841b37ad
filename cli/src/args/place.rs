//! Where a log is: in a directory, or behind servers.
//!
//! Owns `--dir`, `--server` and `--tls-dir` where a command takes both, and which flags go with which.
//!
//! Invariants
//!  P1. There is exactly one place. A flag is stronger than the environment: `--server` with `CAIRNLOG_DIR`
//!      set means the server.                                          test `there_is_one_place`
//!  P2. A flag that means nothing at the place is refused, not ignored; from the environment it is ignored.
//!                                                                      test `flags_go_with_a_place`

use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args as ClapArgs, Command, Error, FromArgMatches};

/// Flags of some commands that are about a directory.
const OF_DIRECTORY: [&str; 6] =
    ["backend", "parity", "retain_bytes", "retain_seconds", "salvage", "segment_bytes"];

/// Flags of some commands that are about servers.
const OF_SERVERS: [&str; 3] = ["min_lsn", "tls_dir", "visibility"];

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Directory(PathBuf),
    Servers(Cluster),
}

/// Servers of one log.
#[derive(Clone, Debug, PartialEq, Eq, ClapArgs)]
pub(crate) struct Cluster {
    /// Servers of the log: any of its nodes, which know who leads.
    #[arg(long = "server", value_name = "ADDR[,ADDR]", value_delimiter = ',', required = true,
          value_parser = parse_address, env = "CAIRNLOG_SERVER")]
    pub(crate) servers: Vec<String>,
    /// The certificates to show and to trust: the folder `client` that `cert dev` makes. Without it, only
    /// servers on this machine that have none either.
    #[arg(long, value_name = "DIR", env = "CAIRNLOG_TLS_DIR")]
    pub(crate) tls_dir: Option<PathBuf>,
}

/// The flags as they are written.
#[derive(Debug, ClapArgs)]
struct Flags {
    /// The directory of the log. This or --server.
    #[arg(long = "dir", value_name = "DIR", env = "CAIRNLOG_DIR")]
    directory: Option<PathBuf>,
    /// Servers of the log: any of its nodes, which know who leads. This or --dir.
    #[arg(long = "server", value_name = "ADDR[,ADDR]", value_delimiter = ',',
          value_parser = parse_address, env = "CAIRNLOG_SERVER")]
    servers: Vec<String>,
    /// With --server, the certificates to show and to trust: the folder `client` that `cert dev` makes.
    /// Without it, only servers on this machine that have none either.
    #[arg(long, value_name = "DIR", env = "CAIRNLOG_TLS_DIR")]
    tls_dir: Option<PathBuf>,
}

impl ClapArgs for Place {
    fn augment_args(command: Command) -> Command {
        Flags::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Flags::augment_args_for_update(command)
    }
}

impl FromArgMatches for Place {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Place, Error> {
        let is_flag = |id| is_flag(matches, id);
        let flags = Flags::from_arg_matches(matches)?;
        let has_servers = !flags.servers.is_empty();
        let servers_are_stronger = is_flag("servers") && !is_flag("directory");
        let directory_is_stronger = is_flag("directory") && !is_flag("servers");
        match flags.directory {
            None if !has_servers => {
                let text = "where is the log? --dir DIR or --server ADDR is needed";
                Err(refusal(ErrorKind::MissingRequiredArgument, text))
            }
            Some(path) if !has_servers || directory_is_stronger => {
                if let Some(id) = OF_SERVERS.into_iter().find(|id| is_flag(id)) {
                    let flag = id.replace('_', "-");
                    let text = format!("--{flag} goes with --server, not with --dir");
                    return Err(refusal(ErrorKind::ArgumentConflict, &text));
                }
                Ok(Place::Directory(path))
            }
            Some(_) if !servers_are_stronger => {
                let text = "--dir and --server are two places: only one of them can be meant";
                Err(refusal(ErrorKind::ArgumentConflict, text))
            }
            _ => {
                refuse_flags_of_directory(matches)?;
                Ok(Place::Servers(Cluster { servers: flags.servers, tls_dir: flags.tls_dir }))
            }
        }
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Place::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Whether it was said on the command line itself.
fn is_flag(matches: &ArgMatches, id: &str) -> bool {
    let exists = matches.try_contains_id(id).is_ok();
    exists && matches.value_source(id) == Some(ValueSource::CommandLine)
}

fn refuse_flags_of_directory(matches: &ArgMatches) -> Result<(), Error> {
    let Some(id) = OF_DIRECTORY.into_iter().find(|id| is_flag(matches, id)) else { return Ok(()) };
    let flag = id.replace('_', "-");
    let text = format!("--{flag} goes with --dir, not with --server");
    Err(refusal(ErrorKind::ArgumentConflict, &text))
}

fn refusal(kind: ErrorKind, text: &str) -> Error {
    Error::raw(kind, text)
}

/// `host:port`; the name is looked up when it is needed.
pub(super) fn parse_address(text: &str) -> Result<String, String> {
    let is_port = |port: &str| port.parse::<u16>().is_ok();
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && is_port(port) => Ok(text.to_owned()),
        _ => Err("a host and a port, like 127.0.0.1:7400".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::top::{Args, Command};
    use clap::Parser;

    fn place_of(arguments: &[&str]) -> Result<Place, Error> {
        let args = Args::try_parse_from([&["cairnlog"], arguments].concat())?;
        match args.command {
            Command::Append(args) => Ok(args.place),
            Command::Read(args) => Ok(args.place),
            Command::Bench(args) => Ok(args.place),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn there_is_one_place() {
        for command in ["append", "read", "bench"] {
            let directory = place_of(&[command, "--dir", "x"]).unwrap();
            assert_eq!(directory, Place::Directory("x".into()));
            let servers = place_of(&[command, "--server", "a:1,b:2", "--tls-dir", "t"]).unwrap();
            let expected = Cluster {
                servers: vec!["a:1".to_owned(), "b:2".to_owned()],
                tls_dir: Some("t".into()),
            };
            assert_eq!(servers, Place::Servers(expected));
            assert!(place_of(&[command]).is_err());
            for arguments in [
                &["--dir", "x", "--server", "a:1"][..],
                &["--dir", "x", "--tls-dir", "t"],
                &["--server", "a"],
                &["--server", "a:70000"],
                &["--server", ""],
            ] {
                assert!(place_of(&[&[command], arguments].concat()).is_err(), "{arguments:?}");
            }
        }
    }

    #[test]
    fn flags_go_with_a_place() {
        for arguments in [
            &["append", "--segment-bytes", "64KiB"][..],
            &["append", "--parity", "on"],
            &["read", "--salvage"],
            &["bench", "--retain-bytes", "1"],
            &["bench", "--backend", "auto"],
        ] {
            assert!(place_of(&[arguments, &["--dir", "x"]].concat()).is_ok(), "{arguments:?}");
            let error = place_of(&[arguments, &["--server", "a:1"]].concat()).unwrap_err();
            assert!(error.to_string().contains(arguments[1]), "{error}");
        }
        for flag in [&["--visibility", "durable"][..], &["--min-lsn", "7"], &["--tls-dir", "t"]] {
            let read = [&["read"], flag].concat();
            assert!(place_of(&[&read[..], &["--server", "a:1"]].concat()).is_ok(), "{flag:?}");
            let error = place_of(&[&read[..], &["--dir", "x"]].concat()).unwrap_err();
            assert!(error.to_string().contains(flag[0]), "{error}");
        }
    }
}
