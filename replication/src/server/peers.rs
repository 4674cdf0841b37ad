//! Connections between nodes: each pair has one, which the node with the lower number makes, again and again.
//!
//! Owns making and accepting them, and their numbers. What comes over them goes to whoever is set to hear it: the
//! node, or before there is a log the making of the cluster.
//!
//! Bounds: one connection for each peer; a newer one replaces it.
//! Units: milliseconds.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;

use super::{Shared, session};
use crate::driver::event_loop::{Event, Handle, Link};
use crate::protocol::message::Message;
use crate::protocol::node_id::NodeId;
use crate::transport::{Accepted, PeerConnection};

/// Between two attempts to reach a peer, at first and at most.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(1);

/// What is heard of peers before there is a log.
pub(super) enum PeerEvent {
    Connected(PeerConnection),
    Disconnected(NodeId),
    Message(NodeId, Box<Message>),
}

/// Who hears.
#[derive(Clone)]
pub(super) enum Sink {
    /// Nobody yet: connections are refused.
    Nobody,
    Founding(UnboundedSender<PeerEvent>),
    Node(Handle),
}

/// See the module.
pub(super) struct Peers {
    state: Mutex<State>,
    number: AtomicU64,
}

struct State {
    sink: Sink,
    connections: BTreeMap<NodeId, PeerConnection>,
}

impl Link for PeerConnection {
    fn send(&self, message: Message) {
        PeerConnection::send(self, message);
    }

    fn close(&self) {
        PeerConnection::close(self);
    }
}

impl Peers {
    pub(super) fn new() -> Arc<Peers> {
        let state = State { sink: Sink::Nobody, connections: BTreeMap::new() };
        Arc::new(Peers { state: Mutex::new(state), number: AtomicU64::new(1) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another one hears from now on: every connection begins again.
    pub(super) fn set_sink(&self, sink: Sink) {
        let mut state = self.lock();
        state.sink = sink;
        for connection in std::mem::take(&mut state.connections).into_values() {
            // What was said last still goes out.
            connection.close();
        }
    }

    pub(super) fn broadcast(&self, message: &Message) {
        for connection in self.lock().connections.values() {
            connection.send(message.clone());
        }
    }

    /// Hears what comes over a connection, to its end.
    async fn serve(&self, connection: PeerConnection) {
        let peer = connection.peer();
        let sink = {
            let mut state = self.lock();
            if matches!(state.sink, Sink::Nobody) {
                connection.close();
                return;
            }
            if let Some(replaced) = state.connections.insert(peer, connection.clone()) {
                replaced.close();
            }
            state.sink.clone()
        };
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        match &sink {
            Sink::Node(handle) => {
                let link = Box::new(connection.clone());
                handle.tell(Event::Connected { peer, number, link });
                while let Ok(message) = connection.receive().await {
                    handle.tell(Event::Message { peer, number, message });
                }
                handle.tell(Event::Disconnected { peer, number });
            }
            Sink::Founding(events) => {
                // Whoever listened may have found its log meanwhile.
                let _ = events.send(PeerEvent::Connected(connection.clone()));
                while let Ok(message) = connection.receive().await {
                    let _ = events.send(PeerEvent::Message(peer, Box::new(message)));
                }
                let _ = events.send(PeerEvent::Disconnected(peer));
            }
            Sink::Nobody => {}
        }
        connection.close();
    }
}

/// Starts the tasks that make and accept connections, of peers and of clients.
pub(super) fn spawn(shared: &Arc<Shared>) {
    tokio::spawn(accept(Arc::clone(shared)));
    let own = shared.config.node;
    for peer in shared.config.peers.keys().copied().filter(|peer| *peer > own) {
        tokio::spawn(reach(Arc::clone(shared), peer));
    }
}

async fn accept(shared: Arc<Shared>) {
    while let Some(accepted) = shared.endpoint.accept().await {
        match accepted {
            Accepted::Peer(connection) => {
                let is_known = shared.config.peers.contains_key(&connection.peer());
                if is_known && connection.peer() < shared.config.node {
                    let peers = Arc::clone(&shared.peers);
                    tokio::spawn(async move { peers.serve(connection).await });
                } else {
                    connection.close();
                }
            }
            Accepted::Client(connection) => {
                tokio::spawn(session::serve(Arc::clone(&shared), connection));
            }
        }
    }
}

/// Keeps a connection to a peer.
async fn reach(shared: Arc<Shared>, peer: NodeId) {
    let addresses = shared.config.peers.get(&peer).cloned().unwrap_or_default();
    let mut ending = shared.ending.subscribe();
    let mut pause = RETRY_MIN;
    loop {
        let connected = tokio::select! {
            _ = ending.wait_for(|ending| *ending) => return,
            connected = shared.endpoint.connect_peer(shared.config.node, peer, &addresses) => connected,
        };
        if let Ok(connection) = connected {
            pause = RETRY_MIN;
            shared.peers.serve(connection).await;
        }
        let ended = ending.wait_for(|ending| *ending);
        if tokio::time::timeout(pause, ended).await.is_ok() {
            return;
        }
        pause = (pause * 2).min(RETRY_MAX);
    }
}
