//! How a server comes to its log: it is there, or this node is alone and makes it, or the others are waited for.
//!
//! Owns the way from an empty directory to a replica. Who makes which log is `protocol::founding`'s to say.
//!
//! Crash: an empty directory, or a log without batches that belongs to a cluster which is not made yet; both go on
//! from there at the next start.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cairnlog_engine::{Config, LeaderId, OpenError, Replica};
use tokio::sync::{Notify, Semaphore, mpsc};

use super::peers::{PeerEvent, Sink};
use super::{NodeTask, Opened, ServerConfig, ServerError, Shared, appending, producers};
use crate::driver::event_loop::{Setup, start};
use crate::driver::storage::Storage;
use crate::protocol::founding::{Founding, Step};
use crate::protocol::message::Message;
use crate::protocol::node::Settings;
use crate::protocol::node_id::NodeId;

/// A replica that has made no progress for so long is not waited for by `all`.
const OUT_OF_SERVICE_MS: u64 = 10_000;
/// A candidate for whom nothing goes on for so long gives up.
const STANDING_MS_MAX: u64 = 5000;
/// Heartbeats in a lease.
const LEASE_HEARTBEATS: u64 = 5;

/// What begins once there is a log.
pub(super) struct Opening {
    pub(super) shared: Arc<Shared>,
    pub(super) failing: mpsc::Sender<ServerError>,
    pub(super) node: NodeTask,
}

/// Opens the log if there is one, or if this node is alone.
pub(super) async fn open_if_there(config: &ServerConfig) -> Result<Option<Storage>, ServerError> {
    let mut engine = engine_config(config);
    engine.create = config.peers.len() <= 1;
    match open(config, engine).await {
        Err(ServerError::Open(OpenError::NotFound(_))) => Ok(None),
        opened => opened.map(Some),
    }
}

fn engine_config(config: &ServerConfig) -> Config {
    let mut engine = config.engine.clone();
    if config.peers.len() > 1 {
        // What is on its way to a follower that keeps up is read from memory.
        engine.feed_bytes_max = usize::try_from(config.window_bytes).unwrap_or(usize::MAX);
    }
    engine
}

/// What waits for the disk is done in a thread of its own.
async fn open(config: &ServerConfig, engine: Config) -> Result<Storage, ServerError> {
    let directory = config.directory.clone();
    let opened = tokio::task::spawn_blocking(move || {
        let (replica, _) = Replica::open(directory, engine)?;
        Ok::<_, OpenError>(Storage::new(replica))
    });
    Ok(opened.await.map_err(std::io::Error::other)??)
}

impl Opening {
    /// Waits until the others say which log it is, or that there is none yet.
    pub(super) async fn wait_for_others(self) {
        let ended = self.found().await.and_then(|storage| self.begin(storage));
        if let Err(error) = ended {
            // Nobody listens to a server that is dropped.
            let _ = self.failing.send(error).await;
        }
    }

    async fn found(&self) -> Result<Storage, ServerError> {
        let shared = &self.shared;
        let configured: BTreeSet<NodeId> = shared.config.peers.keys().copied().collect();
        let mut founding = Founding::new(shared.config.node, configured);
        self.wait_because("the other nodes, to make the cluster together".to_owned());
        let (sender, mut events) = mpsc::unbounded_channel();
        shared.peers.set_sink(Sink::Founding(sender));
        let (log_id, lineage_id) = loop {
            let Some(event) = events.recv().await else { std::future::pending().await };
            match event {
                PeerEvent::Connected(connection) => connection.send(founding.greeting()),
                PeerEvent::Disconnected(peer) => founding.handle_disconnected(peer),
                PeerEvent::Message(peer, message) => {
                    match founding.handle_message(peer, &message) {
                        Some(Step::Found) => {
                            let (log_id, lineage_id) = (random()?, random()?);
                            shared.peers.broadcast(&Message::Found { log_id, lineage_id });
                            break (log_id, lineage_id);
                        }
                        Some(Step::Join { log_id, lineage_id }) => break (log_id, lineage_id),
                        Some(Step::Disagrees(peer)) => {
                            self.wait_because(format!("node {peer}, which was given other nodes"));
                        }
                        None => {}
                    }
                }
            }
        };
        let mut engine = engine_config(&shared.config);
        engine.create = true;
        (engine.log_id, engine.lineage_id) = (Some(log_id), Some(lineage_id));
        open(&shared.config, engine).await
    }

    fn wait_because(&self, text: String) {
        *self.shared.waits_for.lock().unwrap_or_else(PoisonError::into_inner) =
            format!("it waits for {text}");
    }

    /// Starts the node on its log.
    pub(super) fn begin(&self, storage: Storage) -> Result<(), ServerError> {
        let config = &self.shared.config;
        let storage = Arc::new(storage);
        let notes = storage.notes().ok_or_else(|| {
            ServerError::Config(
                "the log's user cell holds something that is not a cluster's".to_owned(),
            )
        })?;
        let identity = storage.identity();
        let leader = LeaderId {
            node: config.node.get(),
            incarnation: identity.incarnation,
            nonce: identity.nonce,
        };
        let heartbeat_interval_ms = in_ms(config.heartbeat_interval).max(1);
        let settings = Settings {
            node: config.node,
            leader,
            members: notes.members,
            shown: notes.shown,
            window_bytes: config.window_bytes,
            heartbeat_interval_ms,
            lease_ms: heartbeat_interval_ms.saturating_mul(LEASE_HEARTBEATS),
            standing_ms_max: STANDING_MS_MAX,
        };
        let mut configured: BTreeSet<NodeId> = config.peers.keys().copied().collect();
        configured.insert(config.node);
        let setup = Setup {
            settings,
            storage: Arc::clone(&storage),
            configured,
            segment_bytes: config.engine.segment_bytes,
            out_of_service_ms: OUT_OF_SERVICE_MS,
            degrade_after_ms: config.degrade_after.map(in_ms),
        };
        let (handle, task) = start(setup)?;
        *self.node.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
        self.watch(&handle);
        self.shared.peers.set_sink(Sink::Node(handle.clone()));
        let bytes = config.engine.inflight_bytes_max / 2;
        let (room, end, changed) = (Semaphore::new(bytes), Mutex::default(), Notify::new());
        let (settling, settled) = mpsc::unbounded_channel();
        let opened = Opened { storage, handle, room, settling, end, changed };
        let is_first = self.shared.opened.set(opened).is_ok();
        assert!(is_first, "a server opens its log once");
        let settling = appending::spawn_settling(&self.shared, settled);
        let failing = self.failing.clone();
        tokio::spawn(async move {
            if settling.await.is_err() {
                let _ = failing.send(super::stopped()).await;
            }
        });
        producers::spawn(&self.shared);
        Ok(())
    }

    /// Says so when the node's loop ends by itself.
    fn watch(&self, handle: &crate::driver::event_loop::Handle) {
        let (mut levels, failing) = (handle.levels(), self.failing.clone());
        let (node, ending) = (Arc::clone(&self.node), self.shared.ending.subscribe());
        tokio::spawn(async move {
            while levels.changed().await.is_ok() {}
            if *ending.borrow() {
                return;
            }
            let task = node.lock().unwrap_or_else(PoisonError::into_inner).take();
            let Some(task) = task else { return };
            let ended = match task.await {
                Ok(Err(error)) => ServerError::Storage(error),
                _ => super::stopped(),
            };
            let _ = failing.send(ended).await;
        });
    }
}

fn in_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn random() -> Result<u128, ServerError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(std::io::Error::from)?;
    Ok(u128::from_le_bytes(bytes))
}
