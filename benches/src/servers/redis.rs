//! Redis as a target: a primary and two replicas, `appendfsync always` on each.
//!
//! Owns starting them; the load on them is in `resp`.
//!
//! Quorum: XADD, then WAIT 1 0 on the same connection. The primary writes and syncs its file before it
//! answers, and so does a replica before it confirms; the latter is what its event loop does, not what its
//! manual promises. WAITAOF of Redis 7.2, which promises it, lets a lone append wait for a timer.
//! Local: XADD alone. As many connections as appends in flight: WAIT blocks its connection.
//!
//! Nothing but the append-only file is written (`save ""`), and it is rewritten between turns only. The
//! stream is emptied before each turn.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use cairnlog_benches::Result;
use cairnlog_benches::load::record_of;

use crate::process::{Nursery, free_port, wait_until};
use crate::resp;
use crate::target::{Target, Turn};
use crate::workload::{Level, Workload};

const NODES: usize = 3;

/// See the module.
pub(crate) struct Redis {
    nursery: Arc<Nursery>,
    /// The primary's first.
    ports: Vec<u16>,
    processes: Vec<u32>,
}

impl Redis {
    pub(crate) fn start(nursery: Arc<Nursery>) -> Result<Self> {
        let dir = nursery.make_dir("redis")?;
        let mut redis = Self { nursery, ports: Vec::new(), processes: Vec::new() };
        for node in 1..=NODES {
            redis.start_node(&dir, node)?;
        }
        wait_until("Redis", || {
            let said = redis.ask(redis.ports[0], &["INFO", "replication"])?;
            Ok(said.matches("state=online").count() == NODES - 1)
        })?;
        Ok(redis)
    }

    fn start_node(&mut self, dir: &Path, node: usize) -> Result<()> {
        let own_dir = self.nursery.make_dir(&format!("redis/{node}"))?;
        let port = free_port()?;
        let mut server = Command::new("redis-server");
        server.args(["--bind", "127.0.0.1", "--port", &port.to_string()]);
        server.arg("--dir").arg(own_dir);
        server.args(["--appendonly", "yes", "--appendfsync", "always", "--save", ""]);
        server.args(["--auto-aof-rewrite-percentage", "0", "--repl-diskless-sync-delay", "0"]);
        if let Some(primary) = self.ports.first() {
            server.args(["--replicaof", "127.0.0.1", &primary.to_string()]);
        }
        self.processes.push(self.nursery.serve(&mut server, &dir.join(format!("{node}.log")))?);
        self.ports.push(port);
        wait_until("Redis", || Ok(self.ask(port, &["PING"])?.trim() == "PONG"))
    }

    fn ask(&self, port: u16, words: &[&str]) -> Result<String> {
        let mut client = Command::new("redis-cli");
        client.args(["-h", "127.0.0.1", "-e", "-p", &port.to_string()]);
        self.nursery.run(client.args(words))
    }
}

impl Target for Redis {
    fn processes(&self) -> &[u32] {
        &self.processes
    }

    /// An empty stream on each node, and append-only files without history.
    fn prepare(&mut self) -> Result<()> {
        self.ask(self.ports[0], &["DEL", resp::STREAM])?;
        for &port in &self.ports {
            wait_until("Redis", || Ok(self.ask(port, &["EXISTS", resp::STREAM])?.trim() == "0"))?;
            self.ask(port, &["BGREWRITEAOF"])?;
            wait_until("Redis", || {
                let said = self.ask(port, &["INFO", "persistence"])?;
                let is_idle = |name| said.contains(&format!("{name}:0"));
                Ok(is_idle("aof_rewrite_in_progress") && is_idle("aof_rewrite_scheduled"))
            })?;
        }
        Ok(())
    }

    fn turn(&mut self, workload: &Workload, duration: Duration) -> Result<Turn> {
        let is_quorum = workload.level == Level::Quorum;
        let record = record_of(workload.record_bytes);
        resp::drive(self.ports[0], workload.in_flight, is_quorum, &record, duration)
    }
}
