//! A node as a server: a replica of the log, connections to its peers, and clients.
//!
//! Owns what people hold: [`ServerConfig`] and [`Server`], from the opening of the directory to its end. What peers
//! say is `peers`', what clients ask is `session`'s, and the log is led by `driver`. Two servers in one process share
//! nothing.
//!
//! Crash: as for the log; the next start takes a new epoch if this node is to lead.
//! Threads: those of the log and of `driver`; everything else is tasks of the caller's runtime, best of one with a
//! single thread: work that hops between threads costs more than it gains.

mod appending;
mod numbered;
mod opening;
mod peers;
mod producers;
mod promoting;
mod reading;
mod session;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use cairnlog_engine::{AppendError, Config, OpenError};
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::JoinHandle;

use crate::driver::event_loop::{Event, Handle};
use crate::driver::storage::{Storage, StorageError};
use crate::protocol::node_id::NodeId;
use crate::status::{FollowerStatus, Role, Status};
use crate::transport::{Endpoint, Limits, Security, TransportError};
use numbered::End;
use peers::Peers;

/// A leader that was not heard for so many heartbeats is missed.
const MISSED_HEARTBEATS: u32 = 10;
/// The smallest window to a follower.
const WINDOW_BYTES_MIN: u64 = 64 << 10;
/// Lanes of all clients together.
const LANES_MAX: u32 = 1 << 16;
/// The log is closed in so long, or not waited for.
const END_MAX: Duration = Duration::from_secs(40);
/// At the end clients get their last answers for so long.
const LAST_ANSWERS: Duration = Duration::from_secs(3);
/// The loop looks around ten times a second; one that has not for so long is stuck.
const STUCK: Duration = Duration::from_secs(5);

/// What a server is told.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Of the log. Made if it is not there.
    pub directory: PathBuf,
    /// This node.
    pub node: NodeId,
    /// Where it listens for peers and clients, by UDP.
    pub listen: SocketAddr,
    /// Where each node of the cluster is reached, this one included: addresses (`host:port`) that are tried in turn.
    /// Empty for a node alone.
    pub peers: BTreeMap<NodeId, Vec<String>>,
    /// A folder with `ca.pem`, `cert.pem` and `key.pem`. Without one only this machine is served.
    pub tls_folder: Option<PathBuf>,
    /// Of the log.
    pub engine: Config,
    /// Between two heartbeats of a leader. Default: 100 ms.
    pub heartbeat_interval: Duration,
    /// When nothing was committed for so long of what waits for a quorum, a leader acknowledges `quorum` and `all` at
    /// `local`, and says so in each answer, until a quorum has all of it. Default: `None`, to wait for ever.
    pub degrade_after: Option<Duration>,
    /// Bytes on their way to one follower. Default: 16 MiB.
    pub window_bytes: u64,
    /// Of the network, for the windows of connections. Default: 125 MB/s.
    pub bandwidth_bytes_per_second: u64,
    /// Of the network. Default: 20 ms.
    pub round_trip: Duration,
    /// Whether many packets are handed to the kernel at once. Default: yes.
    pub gso: bool,
}

impl ServerConfig {
    /// Node 1, alone, on 127.0.0.1:7400.
    #[must_use]
    pub fn new(directory: PathBuf) -> ServerConfig {
        ServerConfig {
            directory,
            node: NodeId::FIRST,
            listen: SocketAddr::from(([127, 0, 0, 1], 7400)),
            peers: BTreeMap::new(),
            tls_folder: None,
            engine: Config::default(),
            heartbeat_interval: Duration::from_millis(100),
            degrade_after: None,
            window_bytes: 16 << 20,
            bandwidth_bytes_per_second: 125_000_000,
            round_trip: Duration::from_millis(20),
            gso: true,
        }
    }

    fn limits(&self) -> Limits {
        Limits {
            bandwidth_bytes_per_second: self.bandwidth_bytes_per_second,
            round_trip_ms: u64::try_from(self.round_trip.as_millis()).unwrap_or(u64::MAX),
            gso: self.gso,
            ..Limits::default()
        }
    }
}

/// Why a server did not start, or cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// What it was told contradicts itself.
    #[error("{0}")]
    Config(String),
    /// The log does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The network cannot be had.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The storage failed: start again, after a look at the disk.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Threads cannot be had, or the system gives no random numbers.
    #[error("the system does not give what is needed: {0}")]
    System(#[from] std::io::Error),
}

impl ServerError {
    /// Whether the storage failed, so that what is on its way is in doubt.
    #[must_use]
    pub fn is_storage(&self) -> bool {
        matches!(self, ServerError::Storage(_))
    }
}

/// A node that has its log.
struct Opened {
    storage: Arc<Storage>,
    handle: Handle,
    /// Bytes of appends on their way, so that nobody waits inside of the log.
    room: Semaphore,
    /// Appends whose writes have not ended.
    settling: mpsc::UnboundedSender<appending::Settling>,
    /// Held from the look at the end of the log to the append behind it.
    end: Mutex<End>,
    /// Something was settled, or another epoch is led.
    changed: Notify,
}

/// What the tasks of a server share.
struct Shared {
    config: ServerConfig,
    endpoint: Endpoint,
    peers: Arc<Peers>,
    opened: OnceLock<Opened>,
    /// Why there is no log yet.
    waits_for: Mutex<String>,
    /// One for each lane that is served.
    lanes: Semaphore,
    /// True when the server is about to end.
    ending: watch::Sender<bool>,
}

/// The task that runs the node, until somebody waits for its end.
type NodeTask = Arc<Mutex<Option<JoinHandle<Result<(), StorageError>>>>>;

/// A server that runs.
pub struct Server {
    shared: Arc<Shared>,
    local_addr: SocketAddr,
    /// Why it cannot go on, once.
    failed: tokio::sync::Mutex<mpsc::Receiver<ServerError>>,
    node: NodeTask,
}

impl Server {
    /// Starts a node. With peers and an empty directory it waits for the others in a task of its own; its status says
    /// so meanwhile.
    ///
    /// # Errors
    /// See [`ServerError`]. Needs a runtime of tokio, with I/O and time.
    pub async fn start(config: ServerConfig) -> Result<Server, ServerError> {
        if config.window_bytes < WINDOW_BYTES_MIN {
            let text = format!("the window is below {WINDOW_BYTES_MIN} bytes");
            return Err(ServerError::Config(text));
        }
        let has_peers = !config.peers.is_empty();
        if has_peers && !config.peers.contains_key(&config.node) {
            let text = format!("the peers do not include this node, {}", config.node);
            return Err(ServerError::Config(text));
        }
        // Before the log: an address that cannot be had leaves no directory behind.
        let endpoint = bind(&config)?;
        let found = opening::open_if_there(&config).await?;
        Server::run(config, endpoint, found)
    }

    /// Starts a node whose log was found, or is yet to be made.
    fn run(
        config: ServerConfig,
        endpoint: Endpoint,
        found: Option<Storage>,
    ) -> Result<Server, ServerError> {
        let local_addr = endpoint.local_addr();
        let shared = Arc::new(Shared {
            peers: Peers::new(),
            config,
            endpoint,
            opened: OnceLock::new(),
            waits_for: Mutex::default(),
            lanes: Semaphore::new(usize::try_from(LANES_MAX).unwrap_or(usize::MAX)),
            ending: watch::channel(false).0,
        });
        let (failing, failed) = mpsc::channel(1);
        let node = Arc::new(Mutex::new(None));
        let opening =
            opening::Opening { shared: Arc::clone(&shared), failing, node: Arc::clone(&node) };
        if let Some(storage) = found {
            opening.begin(storage)?;
        } else {
            tokio::spawn(opening.wait_for_others());
        }
        peers::spawn(&shared);
        Ok(Server { shared, local_addr, failed: failed.into(), node })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// What an operator should know, in sentences.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.shared.endpoint.warnings()
    }

    /// How it is.
    #[must_use]
    pub fn status(&self) -> Status {
        self.shared.status()
    }

    /// Comes back when the server cannot go on, with the reason; once.
    pub async fn ended(&self) -> ServerError {
        match self.failed.lock().await.recv().await {
            Some(error) => error,
            // It was told, or only a shutdown ends the server any more.
            None => std::future::pending().await,
        }
    }

    /// Answers what is on its way, for a few seconds at most, makes everything durable that was taken, and closes the
    /// log: its directory can be opened again.
    ///
    /// # Errors
    /// [`ServerError::Storage`] when the last records could not be made durable.
    pub async fn shutdown(self: Arc<Self>) -> Result<(), ServerError> {
        let shared = &self.shared;
        shared.ending.send_replace(true);
        // Whoever follows a log, or waits for a quorum that is not there, is not waited for longer.
        let lanes = shared.lanes.acquire_many(LANES_MAX);
        drop(tokio::time::timeout(LAST_ANSWERS, lanes).await);
        shared.endpoint.close().await;
        let storage = shared.opened.get().map(|opened| {
            opened.handle.tell(Event::Stop);
            Arc::clone(&opened.storage)
        });
        let node = self.node.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(self);
        let ended = async move {
            if let Some(node) = node {
                node.await.map_err(std::io::Error::other)??;
            }
            let closed = tokio::task::spawn_blocking(move || storage.map_or(Ok(()), close));
            Ok::<_, ServerError>(closed.await.map_err(std::io::Error::other)??)
        };
        // A disk that does not answer keeps nobody here.
        let late = |_| std::io::Error::from(std::io::ErrorKind::TimedOut);
        tokio::time::timeout(END_MAX, ended).await.map_err(late)?
    }
}

fn bind(config: &ServerConfig) -> Result<Endpoint, ServerError> {
    let security = match &config.tls_folder {
        Some(folder) => Security::from_folder(folder)?,
        None => Security::throw_away()?,
    };
    let endpoint = Endpoint::bind(config.listen, &security, &config.limits())?;
    endpoint.answer_as(config.node);
    Ok(endpoint)
}

/// Closes the log, when whatever still looks at it has gone.
fn close(mut storage: Arc<Storage>) -> Result<(), StorageError> {
    storage.replica().follow();
    storage.replica().log().sync()?;
    let deadline = Instant::now() + LAST_ANSWERS;
    loop {
        match Arc::try_unwrap(storage) {
            Ok(storage) => return Ok(storage.close()?),
            // It is closed with the last of them.
            Err(_) if Instant::now() > deadline => return Ok(()),
            Err(shared) => storage = shared,
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn stopped() -> ServerError {
    ServerError::Storage(StorageError::Append(AppendError::Closed))
}

impl Shared {
    /// Where clients reach a node.
    fn address_of(&self, node: NodeId) -> Option<String> {
        if node == self.config.node && self.config.peers.is_empty() {
            return Some(self.endpoint.local_addr().to_string());
        }
        self.config.peers.get(&node)?.first().cloned()
    }

    fn status(&self) -> Status {
        let Some(opened) = self.opened.get() else { return self.status_without_log() };
        let (seen, log) = (opened.handle.seen(), opened.storage.replica().log());
        let stats = log.stats();
        let works = opened.storage.check().is_ok() && seen.at.elapsed() < STUCK;
        let role = Role::from(seen.role);
        let not_ready = self.not_ready(&seen, works);
        let follower = |f: &crate::driver::seen::SeenPeer| FollowerStatus {
            node_id: f.node.get(),
            durable_lsn: f.durable_lsn.get(),
            behind_bytes: f.behind_bytes,
            behind_ms: f.behind_ms,
            in_service: f.in_service,
            connected: f.connected,
        };
        Status {
            node_id: self.config.node.get(),
            role,
            leader: seen.leader.map(NodeId::get),
            epoch: seen.epoch.get(),
            first_lsn: stats.first_lsn.get(),
            durable_lsn: stats.durable_lsn.get(),
            commit_lsn: opened.storage.replica().commit_lsn().get(),
            end_lsn: stats.end_lsn.get(),
            degraded: seen.degraded,
            degraded_because: seen.degraded.then(|| {
                "too few followers keep up: `quorum` and `all` are acknowledged at `local`"
                    .to_owned()
            }),
            is_forming: !seen.is_made,
            is_live: works,
            is_ready: not_ready.is_none(),
            not_ready_because: not_ready,
            log_bytes: stats.segments * self.config.engine.segment_bytes,
            followers: seen.followers.iter().map(follower).collect(),
            counters: counters(&stats, &seen),
        }
    }

    fn not_ready(&self, seen: &crate::driver::seen::Seen, works: bool) -> Option<String> {
        let missed = self.config.heartbeat_interval * MISSED_HEARTBEATS;
        let missed_ms = u64::try_from(missed.as_millis()).unwrap_or(u64::MAX);
        match Role::from(seen.role) {
            _ if !works => Some("its storage failed, or does not answer".to_owned()),
            _ if !seen.is_made => Some("the cluster is not made yet".to_owned()),
            Role::Leader => {
                let present = seen.followers.iter().filter(|f| f.connected && f.in_service).count();
                let all = self.config.peers.len().max(1);
                let needed = crate::protocol::quorum::commit_quorum(all);
                (present + 1 < needed).then(|| {
                    format!("{} of {needed} replicas that a quorum takes are there", present + 1)
                })
            }
            Role::Candidate => Some("it stands, and does not lead yet".to_owned()),
            _ if seen.leader.is_none() => Some("nobody leads".to_owned()),
            _ if seen.heard_ms.is_none_or(|ms| ms > missed_ms) => {
                Some("its leader is not heard".to_owned())
            }
            _ => None,
        }
    }

    fn status_without_log(&self) -> Status {
        let waits_for = self.waits_for.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Status {
            node_id: self.config.node.get(),
            role: Role::Learner,
            leader: None,
            epoch: 0,
            first_lsn: 0,
            durable_lsn: 0,
            commit_lsn: 0,
            end_lsn: 0,
            degraded: false,
            degraded_because: None,
            is_forming: true,
            is_live: true,
            is_ready: false,
            not_ready_because: Some(waits_for),
            log_bytes: 0,
            followers: Vec::new(),
            counters: Vec::new(),
        }
    }
}

/// Counts as metrics do not lose anything that matters as floating point.
#[expect(clippy::cast_precision_loss)]
fn counters(
    stats: &cairnlog_engine::Stats,
    seen: &crate::driver::seen::Seen,
) -> Vec<(&'static str, &'static str, f64)> {
    let of_log = [
        ("batches_total", "Batches written by this process.", stats.batches),
        ("records_total", "Records written by this process.", stats.records),
        ("batch_bytes_total", "Bytes of batches written by this process.", stats.batch_bytes),
        ("writes_total", "Durable writes.", stats.writes),
        ("segments", "Segments of the log.", stats.segments),
        ("segments_created_total", "Segment files made.", stats.segments_created),
        ("segments_recycled_total", "Segment files used again.", stats.segments_recycled),
        ("scrubbed_bytes_total", "Bytes read by the scrub.", stats.scrubbed_bytes),
        ("scrub_rounds_total", "Rounds of the scrub.", stats.scrub_rounds),
        ("scrub_failures_total", "Segments that the scrub could not read.", stats.scrub_failures),
        ("units_damaged_total", "Damaged blocks found.", stats.units_damaged),
        ("units_mended_total", "Damaged blocks mended by parity.", stats.units_mended),
        ("segments_damaged", "Segments with damage that was not mended.", stats.segments_damaged),
    ];
    let happened = seen.notices.iter().map(|(name, count)| (*name, "How often.", *count));
    of_log
        .into_iter()
        .chain(happened)
        .map(|(name, help, value)| (name, help, value as f64))
        .collect()
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
