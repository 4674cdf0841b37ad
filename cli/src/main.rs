//! The `cairnlog` binary: the engine, the server and its clients, for scripts and operators.
//!
//! Owns the way from arguments to an exit code. Standard output is data, standard error is talk; what
//! the commands do is in `commands`, what the codes mean in `exit`, what the server answers to HTTP in `http`.

#![forbid(unsafe_code)]

mod args;
mod commands;
mod exit;
mod http;
mod output;

use std::process::ExitCode;

use args::Command;
use commands::{
    append, bench, cert, doctor, fork, inspect, promote, read, repair, serve, status, verify,
};
use exit::{Exit, Failure};

fn main() -> ExitCode {
    let exit = run().unwrap_or_else(|failure| {
        if let Some(message) = &failure.message {
            output::talk(message);
        }
        failure.exit
    });
    exit.into()
}

fn run() -> Result<Exit, Failure> {
    match &args::parse()?.command {
        Command::Append(args) => append::run(args),
        Command::Read(args) => read::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Fork(args) => fork::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Repair(args) => repair::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Serve(args) => serve::run(args),
        Command::Status(args) => status::run(args),
        Command::Promote(args) => promote::run(args),
        Command::Cert(args) => cert::run(args),
    }
}
