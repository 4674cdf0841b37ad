//! What all targets have in common: three nodes, and a load on them.
//!
//! Owns the trait and how a server is called and set going. Each target has a file of its own.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use cairnlog_benches::Result;

use crate::cairnlog::Cairnlog;
use crate::postgres::Postgres;
use crate::process::Nursery;
use crate::redis::Redis;
use crate::workload::{Kind, Workload};

/// How long a load runs before appends count.
pub(crate) const WARM_UP: Duration = Duration::from_millis(500);

/// Three running nodes.
pub(crate) trait Target {
    /// The processes of the nodes; theirs below them belong to them.
    fn processes(&self) -> &[u32];

    /// What is done before a turn, and does not count.
    fn prepare(&mut self) -> Result<()> {
        Ok(())
    }

    /// Puts the load of `workload` on them for `WARM_UP` and then `duration`, of which the figures are.
    fn turn(&mut self, workload: &Workload, duration: Duration) -> Result<Turn>;
}

/// The figures of one turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    pub(crate) appends_per_second: f64,
    pub(crate) p50_ns: f64,
    pub(crate) p99_ns: f64,
}

/// Name and version, as the server says itself.
pub(crate) fn version(kind: Kind, nursery: &Nursery, cairnlog: &Path) -> Result<String> {
    let program = match kind {
        Kind::Cairnlog => cairnlog.to_path_buf(),
        Kind::Redis => "redis-server".into(),
        Kind::Postgres => crate::postgres::programs()?.join("postgres"),
    };
    let said = nursery.run(Command::new(program).arg("--version"))?;
    Ok(said.lines().next().unwrap_or_default().trim().to_owned())
}

/// Starts the nodes, which serve when this returns.
pub(crate) fn start(
    kind: Kind,
    nursery: &Arc<Nursery>,
    cairnlog: &Path,
) -> Result<Box<dyn Target>> {
    let nursery = Arc::clone(nursery);
    Ok(match kind {
        Kind::Cairnlog => Box::new(Cairnlog::start(nursery, cairnlog)?),
        Kind::Redis => Box::new(Redis::start(nursery)?),
        Kind::Postgres => Box::new(Postgres::start(nursery)?),
    })
}
