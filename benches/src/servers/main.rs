//! `servers`: measures Cairnlog beside other replicated log servers and prints one Markdown table.
//!
//! Owns the command line, and the end: whatever happens, servers are stopped and their files removed.
//! The table goes to standard output, everything else to standard error.
//! Exit codes: 0 the table is complete but for peers that are not there, 1 something failed (the table says
//! what), 2 wrong usage, 130 stopped by Ctrl-C or SIGTERM.
//!
//! etcd is a Debian package too and is left out: it is spoken to by gRPC. Its JSON gateway would be measured
//! instead of it, and a client of its own, or the crates that make one, would be more code than all the rest here.

mod cairnlog;
mod cpu;
mod goal;
mod pgbench;
mod postgres;
mod process;
mod redis;
mod resp;
mod rounds;
mod table;
mod target;
mod workload;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use cairnlog_benches::Result;
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use crate::process::Nursery;
use crate::rounds::{Report, Running, Settings};
use crate::workload::{Kind, WORKLOADS, Workload};

/// Measures three nodes of Cairnlog beside three of Redis and PostgreSQL, all on this machine, and
/// prints one Markdown table of medians, ratios and goals.
///
/// All targets run all the time; each has its turn in each round, after a warm-up of half a second
/// that is not counted. What each promises when it acknowledges an append is written at the top of
/// its file in `src/servers`. CPU seconds are those of its three nodes, without the client. Run it
/// while nothing else builds or writes: an absolute figure means little, a ratio from one run means
/// something, and one round proves nothing.
#[derive(Parser)]
#[command(name = "servers")]
struct Arguments {
    /// How long each target works in each round, after the warm-up; at least 1.
    #[arg(long, default_value = "5", value_parser = seconds)]
    seconds: Duration,

    /// How often each target has its turn.
    #[arg(long, default_value = "3", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,

    /// Run only the workload of this name, or those whose names begin with it; may be repeated.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,

    /// Where to write; must be on the device that is to be measured, and for PostgreSQL, when root
    /// runs this, where the user postgres gets to. A directory is made in it, and removed at the end.
    #[arg(long, default_value = ".")]
    dir: PathBuf,

    /// The `cairnlog` to measure. [default: the one beside this program]
    #[arg(long, value_name = "PATH")]
    cairnlog: Option<PathBuf>,

    /// List the workloads, and do nothing.
    #[arg(long)]
    list: bool,
}

fn seconds(text: &str) -> Result<Duration> {
    let duration = Duration::try_from_secs_f64(text.parse()?)?;
    if duration < Duration::from_secs(1) { Err("must be at least 1".into()) } else { Ok(duration) }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.list {
        WORKLOADS.iter().for_each(|workload| println!("{:<16} {}", workload.name, workload.title));
        return ExitCode::SUCCESS;
    }
    let workloads = match selected(&arguments.only) {
        Ok(workloads) => workloads,
        Err(error) => {
            eprintln!("servers: {error}");
            return ExitCode::from(2);
        }
    };
    match compare(&arguments, &workloads) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("servers: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The workloads that were asked for, in the order of the table.
fn selected(only: &[String]) -> Result<Vec<&'static Workload>> {
    let is_named = |workload: &Workload, name: &String| workload.name.starts_with(name.as_str());
    for name in only {
        if !WORKLOADS.iter().any(|workload| is_named(workload, name)) {
            return Err(format!("no workload is called {name}; --list shows them").into());
        }
    }
    let is_wanted =
        |workload: &&Workload| only.is_empty() || only.iter().any(|name| is_named(workload, name));
    Ok(WORKLOADS.iter().filter(is_wanted).collect())
}

fn compare(arguments: &Arguments, workloads: &[&'static Workload]) -> Result<ExitCode> {
    let cairnlog = match &arguments.cairnlog {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("cairnlog"),
    };
    let cairnlog = cairnlog.canonicalize().map_err(|error| {
        format!("{}: {error}; `cargo build --release -p cairnlog` makes it", cairnlog.display())
    })?;
    let nursery = Nursery::new(&arguments.dir)?;
    // Before the first server: afterwards a signal stops them.
    let ended = end_on_signals(&nursery).and_then(|()| {
        let settings =
            Settings { rounds: usize::try_from(arguments.rounds)?, duration: arguments.seconds };
        compare_in(&nursery, &cairnlog, workloads, &settings)
    });
    nursery.end();
    ended
}

/// A thread that stops everything when a signal comes, and ends this process.
fn end_on_signals(nursery: &Arc<Nursery>) -> Result<()> {
    let nursery = Arc::clone(nursery);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let entered = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    drop(entered);
    thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => (),
                _ = terminate.recv() => (),
            }
        });
        eprintln!("servers: stopping");
        nursery.end();
        std::process::exit(130);
    });
    Ok(())
}

fn compare_in(
    nursery: &Arc<Nursery>,
    cairnlog: &std::path::Path,
    workloads: &[&'static Workload],
    settings: &Settings,
) -> Result<ExitCode> {
    let mut notes = Vec::new();
    let mut targets = Vec::new();
    for kind in Kind::ALL {
        eprintln!("starting {}", kind.name());
        let version = target::version(kind, nursery, cairnlog);
        let started =
            version.and_then(|version| Ok((version, target::start(kind, nursery, cairnlog)?)));
        match started {
            Ok((version, target)) => {
                notes.push(format!("- {}: `{version}`", kind.name()));
                targets.push(Running { kind, target });
            }
            Err(error) if kind == Kind::Cairnlog => return Err(error),
            Err(error) => notes.push(format!("- {}: left out: {error}", kind.name())),
        }
    }
    rounds::fill(&mut targets, nursery.dir());
    let run =
        |workload: &&'static Workload| rounds::run(workload, &mut targets, settings, nursery.dir());
    let reports: Vec<Report> = workloads.iter().map(run).collect();
    println!("{}\n{}", table::markdown(&reports), notes.join("\n"));
    let mut rows = reports.iter().flat_map(|report| &report.rows);
    let has_failed = rows.any(|row| row.summary.is_err());
    Ok(if has_failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
