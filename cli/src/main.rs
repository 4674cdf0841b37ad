//! The `cairnlog` binary: the engine, for scripts and operators.
//!
//! Owns the way from arguments to an exit code. Standard output is data, standard error is talk; what
//! the commands do is in `commands`, what the codes mean in `exit`.

#![forbid(unsafe_code)]

mod args;
mod commands;
mod exit;
mod output;

use std::process::ExitCode;

use clap::Parser;

use args::{Args, Command};
use commands::{append, bench, doctor, inspect, read, repair, verify};

fn main() -> ExitCode {
    let ended = match &Args::parse().command {
        Command::Append(args) => append::run(args),
        Command::Read(args) => read::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Repair(args) => repair::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Doctor(args) => doctor::run(args),
    };
    let exit = ended.unwrap_or_else(|failure| {
        if let Some(message) = &failure.message {
            output::talk(message);
        }
        failure.exit
    });
    exit.into()
}
