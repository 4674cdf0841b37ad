//! The commands, and how arguments become one of them.
//!
//! Owns the list, and that `serve` takes its file into account.

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use super::{
    AppendArgs, BenchArgs, CertArgs, DoctorArgs, ForkArgs, InspectArgs, PromoteArgs, ReadArgs,
    RepairArgs, ServeArgs, StatusArgs, VerifyArgs, file,
};
use crate::exit::{Exit, Failure};

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
    Fork(ForkArgs),
    Repair(RepairArgs),
    Bench(BenchArgs),
    Doctor(DoctorArgs),
    Serve(Box<ServeArgs>),
    Status(StatusArgs),
    Promote(PromoteArgs),
    Cert(CertArgs),
}

/// What was asked for. Ends the process where clap does: for help, and for what cannot be understood.
pub(crate) fn parse() -> Result<Args, Failure> {
    let args = Args::parse();
    let Command::Serve(serve) = &args.command else { return Ok(args) };
    let Some(path) = &serve.config else { return Ok(args) };
    let text = std::fs::read_to_string(path);
    let name = path.display();
    let text = text.map_err(|error| Failure::io(&name.to_string(), &error))?;
    with_file(&text, std::env::args_os())
        .map_err(|reason| Failure::new(Exit::Failed, format!("{name}: {reason}")))
}

/// The arguments again, with what a file says in the place of defaults.
fn with_file<T: Into<std::ffi::OsString> + Clone>(
    text: &str,
    arguments: impl IntoIterator<Item = T>,
) -> Result<Args, String> {
    let command = file::as_defaults(Args::command(), "serve", text)?;
    let matches = command.try_get_matches_from(arguments);
    let args = matches.and_then(|matches| Args::from_arg_matches(&matches));
    args.map_err(|error| match error.kind() {
        // The line of the error, without the advice on usage behind it.
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => error.to_string(),
        _ => {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default();
            line.trim_start_matches("error: ").to_owned()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_consistent() {
        Args::command().debug_assert();
    }

    fn serve(text: &str, arguments: &[&str]) -> Result<Box<ServeArgs>, String> {
        let arguments = [&["cairnlog", "serve"], arguments].concat();
        match with_file(text, arguments)?.command {
            Command::Serve(serve) => Ok(serve),
            _ => Err("another command".to_owned()),
        }
    }

    #[test]
    fn a_file_is_weaker_than_a_flag() {
        let text = "dir = '/srv/log'\nnode_id = 2\npeer = ['1=a:1,b:1', '2=c:1']\n\
                    segment_bytes = '1MiB'\nretain_bytes = 4096\nparity = false\n";
        let args = serve(text, &["--node-id", "1", "--retain-bytes", "8KiB"]).unwrap();
        assert_eq!(args.directory().unwrap().to_str(), Some("/srv/log"));
        assert_eq!(args.node_id.get(), 1);
        assert_eq!(args.peers.len(), 2);
        let config = args.limits.config();
        assert_eq!(config.segment_bytes, 1 << 20);
        assert_eq!(config.retain_bytes, Some(8 << 10));
        assert!(!config.parity);
        let args = serve(text, &["--peer", "1=d:1", "--parity", "on"]).unwrap();
        assert_eq!((args.node_id.get(), args.peers.len()), (2, 1));
        assert!(args.limits.config().parity);
        assert!(serve("", &[]).unwrap().directory().is_err());
    }

    #[test]
    fn a_file_is_checked() {
        for (text, expected) in [
            ("speed = 3", "unknown key `speed`"),
            ("[limits]\nsegment_bytes = 65536", "unknown key `limits`"),
            ("help = true", "unknown key `help`"),
            ("config = 'other.toml'", "unknown key `config`"),
            ("segment-bytes = 65536", "unknown key `segment-bytes`"),
            ("segment_bytes = '64KB'", "64KB"),
            ("segment_bytes = 0.5", "segment_bytes"),
            ("node_id = -1", "-1"),
            ("node_id = [1, 2]", "one value"),
            ("peer = ['1']", "1"),
            ("dir", "line 1"),
        ] {
            let error = serve(text, &["--dir", "x"]).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }
}
