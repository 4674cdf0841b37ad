//! `compare`: runs the workloads and prints one Markdown table.
//!
//! Owns the command line. The table goes to standard output, everything else to standard error.
//! Exit codes: 0 the table is complete, 1 something failed (the table says what), 2 wrong usage.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use cairnlog_benches::run::{Settings, run};
use cairnlog_benches::target::Kind;
use cairnlog_benches::workload::{Task, WORKLOADS, Workload, named};
use cairnlog_benches::{Result, memory, table};
use clap::Parser;

/// Runs the Cairnlog engine beside its peers and prints one Markdown table of medians, ratios and
/// goals.
///
/// Every target of a workload has its turn in each round, in a directory of its own, after a
/// warm-up of 0.3 s that is not counted. Ratios are of medians over the rounds: the engine's figure
/// divided by the target's. Peers are only in a build with `--features peers`. Run it while nothing
/// else builds or writes: an absolute figure means little on a shared machine, a ratio from one run
/// means something, and one round proves nothing.
///
/// Durable appends are on the medium when they return; what each peer's call really promises is
/// written at the top of its file in `src/peers`. `direct` is no log but the plain loop of one
/// thread: `pwritev2` with `O_DIRECT` and `RWF_DSYNC`, or for a scan reads of 1 MiB, four at a
/// time.
#[derive(Parser)]
#[command(name = "compare")]
struct Arguments {
    /// How long each target works in each round, after the warm-up.
    #[arg(long, default_value = "2", value_parser = seconds)]
    seconds: Duration,

    /// How often each target has its turn.
    #[arg(long, default_value = "3", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,

    /// Run only the workload of this name, or those whose names begin with it; may be repeated.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,

    /// Where to write; must be on the device that is to be measured. A directory is made in it, and
    /// removed at the end.
    #[arg(long, default_value = ".")]
    dir: PathBuf,

    /// Size of the log that is scanned, in MiB.
    #[arg(long, default_value = "1024", value_parser = clap::value_parser!(u32).range(1..))]
    scan_mib: u32,

    /// List the workloads and their targets, and do nothing.
    #[arg(long)]
    list: bool,

    /// How this program starts itself to watch the memory of one target.
    #[arg(long, hide = true, value_name = "TARGET", id = memory::CHILD_OPTION)]
    resident_of: Option<String>,
}

fn seconds(text: &str) -> Result<Duration> {
    let duration = Duration::try_from_secs_f64(text.parse()?)?;
    if duration.is_zero() { Err("must be more than 0".into()) } else { Ok(duration) }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.list {
        list();
        return ExitCode::SUCCESS;
    }
    let outcome = match &arguments.resident_of {
        Some(target) => watch_memory(target, &arguments),
        None => compare(&arguments),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::FAILURE
        }
    }
}

fn list() {
    for workload in WORKLOADS {
        let targets: Vec<&str> = workload.cases.iter().map(|case| case.kind.name()).collect();
        println!("{:<18} {}", workload.name, targets.join(", "));
    }
}

fn compare(arguments: &Arguments) -> Result<ExitCode> {
    let workloads = match selected(&arguments.only) {
        Ok(workloads) => workloads,
        Err(error) => {
            eprintln!("compare: {error}");
            return Ok(ExitCode::from(2));
        }
    };
    let dir = arguments.dir.join(format!("cairnlog-benches-{}", std::process::id()));
    fs::create_dir(&dir)?;
    let settings = Settings {
        dir: fs::canonicalize(&dir)?,
        rounds: usize::try_from(arguments.rounds)?,
        duration: arguments.seconds,
        scan_bytes: u64::from(arguments.scan_mib) << 20,
    };
    let outcome = compare_in(&settings, &workloads);
    fs::remove_dir_all(&dir)?;
    outcome
}

fn compare_in(settings: &Settings, workloads: &[&'static Workload]) -> Result<ExitCode> {
    for kind in Kind::ALL.into_iter().filter(|kind| !kind.is_built()) {
        eprintln!("{} is not in this build", kind.name());
    }
    let mut reports = Vec::new();
    for workload in workloads {
        if workload.is_scan() && !Kind::Engine.is_built() {
            eprintln!("{}: left out, its log is the engine's", workload.name);
            continue;
        }
        reports.push(run(workload, settings, &mut |line| eprintln!("{line}"))?);
    }
    print!("{}", table::markdown(&reports));
    let mut rows = reports.iter().flat_map(|report| &report.rows);
    let has_failed = rows.any(|row| row.summary.is_err());
    Ok(if has_failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The workloads that were asked for, in the order of the table.
fn selected(only: &[String]) -> Result<Vec<&'static Workload>> {
    for name in only {
        if named(name).is_empty() {
            return Err(format!("no workload is called {name}; --list shows them").into());
        }
    }
    let is_wanted = |workload: &Workload| {
        let mut wanted = only.iter().flat_map(|name| named(name));
        only.is_empty() || wanted.any(|found| found.name == workload.name)
    };
    Ok(WORKLOADS.iter().filter(|workload| is_wanted(workload)).collect())
}

/// What the process does that `memory::growth_bytes` starts: prints one number.
fn watch_memory(target: &str, arguments: &Arguments) -> Result<ExitCode> {
    let kind = Kind::from_name(target)?;
    let workload = arguments.only.first().and_then(|name| named(name).pop());
    let workload = workload.ok_or("--resident-of needs --only")?;
    let case = workload.cases.iter().find(|case| case.kind == kind);
    let Some(Task::Memory(load)) = case.map(|case| case.task) else {
        return Err(format!("{} does not watch {target}", workload.name).into());
    };
    let dir: &Path = &arguments.dir;
    let grown_bytes = memory::watch(kind, load, workload.record_bytes, dir, arguments.seconds)?;
    println!("{grown_bytes}");
    Ok(ExitCode::SUCCESS)
}
