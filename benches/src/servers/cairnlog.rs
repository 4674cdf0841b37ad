//! Cairnlog as a target: three `cairnlog serve` with certificates of `cert dev`, over QUIC with mutual TLS.
//!
//! Owns starting them and reading what `cairnlog bench` says. All options are the defaults but for
//! `--retain-bytes`, so that the disk does not fill up.
//!
//! The load is one connection with as many appends on their way as the workload has.
//! Quorum: durable on two of three nodes when it is acknowledged. Local: durable on the leader.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use cairnlog_benches::Result;
use serde_json::Value;

use crate::process::{Nursery, free_port, wait_until};
use crate::target::{Target, Turn};
use crate::workload::{Level, Workload};

const NODES: usize = 3;
const RETAIN: &str = "256MiB";

/// See the module.
pub(crate) struct Cairnlog {
    nursery: Arc<Nursery>,
    program: PathBuf,
    /// `--server` and `--tls-dir` of a client.
    place: Vec<String>,
    processes: Vec<u32>,
}

impl Cairnlog {
    pub(crate) fn start(nursery: Arc<Nursery>, program: &Path) -> Result<Self> {
        let dir = nursery.make_dir("cairnlog")?;
        let tls = dir.join("tls");
        let nodes = NODES.to_string();
        nursery
            .run(command(program).args(["cert", "dev", "--nodes", &nodes, "--out"]).arg(&tls))?;
        let mut addresses = Vec::new();
        for _ in 0..NODES {
            addresses.push(format!("127.0.0.1:{}", free_port()?));
        }
        let mut processes = Vec::new();
        for node in 1..=NODES {
            let mut serve = command(program);
            serve.arg("serve").arg("--dir").arg(dir.join(format!("node-{node}")));
            serve.arg("--node-id").arg(node.to_string()).args(["--retain-bytes", RETAIN]);
            serve.arg("--http").arg(format!("127.0.0.1:{}", free_port()?));
            serve.arg("--tls-dir").arg(tls.join(format!("node-{node}")));
            for (position, address) in addresses.iter().enumerate() {
                serve.arg("--peer").arg(format!("{}={address}", position + 1));
            }
            processes.push(nursery.serve(&mut serve, &dir.join(format!("{node}.log")))?);
        }
        let tls = tls.join("client").display().to_string();
        let place = vec!["--server".to_owned(), addresses.join(","), "--tls-dir".to_owned(), tls];
        let program = program.to_path_buf();
        let cairnlog = Self { nursery, program, place, processes };
        wait_until("Cairnlog", || cairnlog.has_followers())?;
        Ok(cairnlog)
    }

    /// Whether the leader has both followers: `status` prints a line of JSON for each node.
    fn has_followers(&self) -> Result<bool> {
        let mut status = command(&self.program);
        let said =
            self.nursery.run(status.arg("status").args(&self.place).args(["--format", "json"]))?;
        for line in said.lines() {
            let node: Value = serde_json::from_str(line)?;
            if node["role"] == "leader" {
                return Ok(node["followers"].as_array().map_or(0, Vec::len) == NODES - 1);
            }
        }
        Ok(false)
    }
}

impl Target for Cairnlog {
    fn processes(&self) -> &[u32] {
        &self.processes
    }

    fn turn(&mut self, workload: &Workload, duration: Duration) -> Result<Turn> {
        let ack = match workload.level {
            Level::Quorum => "quorum",
            Level::Local => "local",
        };
        let mut bench = command(&self.program);
        bench.arg("bench").args(&self.place).args(["--format", "json", "--ack", ack]);
        bench.arg("--in-flight").arg(workload.in_flight.to_string());
        bench.arg("--record-bytes").arg(workload.record_bytes.to_string());
        bench.arg("--seconds").arg(duration.as_secs_f64().to_string());
        turn_of(&self.nursery.run(&mut bench)?)
    }
}

/// The program without what the environment says to it.
fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CAIRNLOG_")) {
            command.env_remove(name);
        }
    }
    command
}

fn turn_of(said: &str) -> Result<Turn> {
    let said: Value = serde_json::from_str(said)?;
    let figure = |name: &str| {
        said[name].as_f64().ok_or_else(|| format!("`cairnlog bench` does not say {name}"))
    };
    Ok(Turn {
        appends_per_second: figure("appends_per_second")?,
        p50_ns: figure("p50_us")? * 1e3,
        p99_ns: figure("p99_us")? * 1e3,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_bench_says() {
        let turn = turn_of(r#"{"appends_per_second":1234.5,"p50_us":250.5,"p99_us":900}"#);
        let turn = turn.expect("all is there");
        assert_eq!(turn.appends_per_second.to_bits(), 1234.5_f64.to_bits());
        assert_eq!(turn.p50_ns.to_bits(), 250_500.0_f64.to_bits());
        assert!(turn_of(r#"{"appends_per_second":1}"#).is_err());
        assert!(turn_of("").is_err());
    }
}
