//! PostgreSQL as a target: a primary and two standbys, `synchronous_standby_names = 'ANY 1 (...)'`.
//!
//! Owns starting them and `pgbench`; what that wrote down is read in `pgbench`.
//!
//! Each append is one INSERT of the record as `bytea` in a transaction of its own, as a prepared statement.
//! Quorum: `synchronous_commit = on`: durable on the primary and on one standby. Local:
//! `synchronous_commit = local`. As many connections as appends in flight.
//!
//! Settings other than the defaults let it do its best: WAL is kept and recycled (`min_wal_size`), no
//! checkpoint falls into a turn (`max_wal_size`), the table is emptied before each.
//! PostgreSQL refuses to run as root: then the user `postgres`, whom the Debian package makes, runs it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use cairnlog_benches::Result;
use rustix::process::geteuid;

use crate::pgbench;
use crate::process::{Nursery, free_port, wait_until};
use crate::target::{Target, Turn, WARM_UP};
use crate::workload::{Level, Workload};

const DEBIAN_DIR: &str = "/usr/lib/postgresql";
const USER: &str = "postgres";
const STANDBYS: [&str; 2] = ["two", "three"];
const SETTINGS: [&str; 6] = [
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "max_connections=200",
    "min_wal_size=1GB",
    "max_wal_size=8GB",
    "checkpoint_timeout=1h",
];
const SCRIPT: &str = "INSERT INTO log (data) VALUES (:data);\n";

/// See the module.
pub(crate) struct Postgres {
    nursery: Arc<Nursery>,
    programs: PathBuf,
    dir: PathBuf,
    port: u16,
    processes: Vec<u32>,
}

/// Where Debian puts the programs of the newest version.
pub(crate) fn programs() -> Result<PathBuf> {
    let entries = fs::read_dir(DEBIAN_DIR).map_err(|error| format!("{DEBIAN_DIR}: {error}"))?;
    let version = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let installed = paths.filter(|path| path.join("bin/postgres").exists());
    let newest = installed.max_by_key(version).ok_or("no server is installed")?;
    Ok(newest.join("bin"))
}

impl Postgres {
    pub(crate) fn start(nursery: Arc<Nursery>) -> Result<Self> {
        let dir = nursery.make_dir("postgresql")?;
        let (port, programs) = (free_port()?, programs()?);
        let mut postgres = Self { nursery, programs, dir, port, processes: Vec::new() };
        postgres.give_dir_away()?;
        let data = postgres.dir.join("one");
        let mut initdb = postgres.as_user("initdb");
        initdb.args(["--username", USER, "--auth", "trust", "--no-sync", "--pgdata"]).arg(&data);
        postgres.nursery.run(&mut initdb)?;
        postgres.start_node("one", port, &[])?;
        for standby in STANDBYS {
            postgres.start_standby(standby)?;
        }
        postgres.ask("CREATE TABLE log (id bigserial PRIMARY KEY, data bytea)")?;
        let names = format!("ANY 1 ({})", STANDBYS.join(", "));
        postgres.ask(&format!("ALTER SYSTEM SET synchronous_standby_names = '{names}'"))?;
        postgres.ask("SELECT pg_reload_conf()")?;
        wait_until("PostgreSQL", || {
            let quorum = "SELECT count(*) FROM pg_stat_replication \
                          WHERE state = 'streaming' AND sync_state = 'quorum'";
            Ok(postgres.ask(quorum)?.trim() == STANDBYS.len().to_string())
        })?;
        fs::write(postgres.dir.join("append.sql"), SCRIPT)?;
        Ok(postgres)
    }

    fn start_standby(&mut self, name: &str) -> Result<()> {
        let primary =
            format!("host=127.0.0.1 port={} user={USER} application_name={name}", self.port);
        let mut copy = self.as_user("pg_basebackup");
        copy.args(["--dbname", &primary, "--write-recovery-conf", "--checkpoint", "fast"]);
        copy.args(["--no-sync", "--pgdata"]).arg(self.dir.join(name));
        self.nursery.run(&mut copy)?;
        self.start_node(name, free_port()?, &[&format!("primary_conninfo={primary}")])
    }

    fn start_node(&mut self, name: &str, port: u16, settings: &[&str]) -> Result<()> {
        let mut server = self.as_user("postgres");
        server.arg("-D").arg(self.dir.join(name)).args(["-p", &port.to_string()]);
        for setting in SETTINGS.iter().chain(settings) {
            server.args(["-c", setting]);
        }
        let log = self.dir.join(format!("{name}.log"));
        self.processes.push(self.nursery.serve(&mut server, &log)?);
        let is_ready = || self.ask_at(port, "SELECT 1").map(|_| true);
        wait_until("PostgreSQL", is_ready)
    }

    fn ask(&self, statement: &str) -> Result<String> {
        self.ask_at(self.port, statement)
    }

    fn ask_at(&self, port: u16, statement: &str) -> Result<String> {
        let mut psql = Command::new(self.programs.join("psql"));
        psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", USER]);
        psql.args(["-p", &port.to_string(), "-d", USER, "-c", statement]);
        self.nursery.run(&mut psql)
    }

    /// The directory belongs to the user who runs the servers, and he gets to it.
    fn give_dir_away(&self) -> Result<()> {
        if geteuid().is_root() {
            self.nursery.run(Command::new("chown").arg(format!("{USER}:")).arg(&self.dir))?;
            let mut is_there = Command::new("setpriv");
            is_there.args(switch_of_user()).arg("test").arg("-w").arg(&self.dir);
            if self.nursery.run(&mut is_there).is_err() {
                let dir = self.dir.display();
                return Err(format!("the user {USER} does not get to {dir}: say --dir").into());
            }
        }
        Ok(())
    }

    /// A program of PostgreSQL that root may not run. `setpriv` becomes it, so the process id is its own.
    fn as_user(&self, program: &str) -> Command {
        let program = self.programs.join(program);
        let mut command = if geteuid().is_root() {
            let mut command = Command::new("setpriv");
            command.args(switch_of_user()).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.current_dir(&self.dir);
        command
    }

    fn pgbench(&self, workload: &Workload, duration: Duration, log: &Path) -> Command {
        let commit = match workload.level {
            Level::Quorum => "on",
            Level::Local => "local",
        };
        let clients = workload.in_flight.to_string();
        let threads = workload.in_flight.min(2).to_string();
        let seconds = (WARM_UP + duration).as_secs_f64().ceil().to_string();
        let mut command = Command::new(self.programs.join("pgbench"));
        command.env("PGOPTIONS", format!("-c synchronous_commit={commit}"));
        command.args(["-h", "127.0.0.1", "-U", USER, "-p", &self.port.to_string()]);
        command.args(["-n", "-M", "prepared", "-c", &clients, "-j", &threads, "-T", &seconds]);
        command.arg("-D").arg(format!("data={}", pgbench::record_of(workload.record_bytes)));
        command.arg("-f").arg(self.dir.join("append.sql"));
        command.arg("-l").arg("--log-prefix").arg(log.join("log")).arg(USER);
        command
    }
}

impl Target for Postgres {
    fn processes(&self) -> &[u32] {
        &self.processes
    }

    fn turn(&mut self, workload: &Workload, duration: Duration) -> Result<Turn> {
        let log = self.nursery.make_dir("postgresql/pgbench")?;
        let said = self.nursery.run(&mut self.pgbench(workload, duration, &log))?;
        if !said.lines().any(|line| line.starts_with("number of failed transactions: 0 ")) {
            return Err("transactions failed".into());
        }
        let turn = pgbench::turn_of(&log, duration);
        fs::remove_dir_all(&log)?;
        turn
    }

    fn prepare(&mut self) -> Result<()> {
        self.ask("TRUNCATE log")?;
        self.ask("CHECKPOINT").map(drop)
    }
}

fn switch_of_user() -> [&'static str; 6] {
    ["--reuid", USER, "--regid", USER, "--init-groups", "--"]
}
