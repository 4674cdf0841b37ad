//! Asking servers.
//!
//! Owns the way from a command, which is one thread, to a client, which is asynchronous.

use std::time::Duration;

use cairnlog_replication::client::{Client, ClientConfig};
use serde_json::Value;
use tokio::runtime::Builder;

use crate::args::Cluster;
use crate::exit::{Exit, Failure};

/// A question about a server that does not answer ends after so long.
pub(super) const QUESTION_MAX: Duration = Duration::from_secs(5);

/// Runs this to its end, in this thread: work that hops between threads costs more than a second one gains.
pub(super) fn run<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    run_on(&mut Builder::new_current_thread(), work)
}

/// The same with another thread for the network, for work that waits for whoever reads its output.
pub(super) fn run_apart<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    run_on(Builder::new_multi_thread().worker_threads(1), work)
}

fn run_on<T>(
    builder: &mut Builder,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let runtime = builder.enable_all().build();
    let runtime = runtime.map_err(|error| Failure::io("start the network", &error))?;
    let ended = runtime.block_on(work);
    // What still waits is not waited for: the process is about to end.
    runtime.shutdown_background();
    ended
}

/// How to reach these servers.
pub(super) fn config(cluster: &Cluster) -> ClientConfig {
    let mut config = ClientConfig::new(cluster.servers.clone());
    config.tls_folder.clone_from(&cluster.tls_dir);
    config
}

pub(super) async fn connect(cluster: &Cluster) -> Result<Client, Failure> {
    Ok(Client::connect(config(cluster)).await?)
}

/// For questions about one server, each of which is answered within `deadline`.
pub(super) async fn connect_to(
    cluster: &Cluster,
    server: &str,
    deadline: Duration,
) -> Result<Client, Failure> {
    let mut config = config(cluster);
    config.servers = vec![server.to_owned()];
    config.deadline = deadline;
    Ok(Client::connect(config).await?)
}

/// An answer in JSON.
pub(super) fn parse(text: &str) -> Result<Value, Failure> {
    let parsed = serde_json::from_str(text);
    parsed.map_err(|error| Failure::new(Exit::Failed, format!("the answer is no JSON: {error}")))
}
