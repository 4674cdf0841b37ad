//! A socket that calls others and is called.
//!
//! Owns the socket, the handshakes of those who call, and the search for an address that answers. Who may come in is
//! decided by `security` and `greeting`.
//!
//! Invariants
//!  E1. A handshake that is slow or fails delays no other: each runs in a task of its own.
//!  E2. Not more than `Limits::connections_max` connections and handshakes of callers are open at once.
//!                                                  test `too_many_connections_are_refused` in tests/quic.rs
//!  E3. A throw-away certificate is used with loopback addresses only.
//!                                                  test `throw_away_is_for_loopback` in tests/quic.rs
//!
//! Bounds: [`HANDSHAKE_MAX`] for a handshake with its greeting, on either side; [`ACCEPTED_MAX`] connections wait to be
//! accepted.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, EndpointConfig, Incoming, ServerConfig, TokioRuntime, VarInt};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::client::ClientConnection;
use super::error::TransportError;
use super::greeting;
use super::limits::{Limits, PACKET_BYTES_MAX};
use super::peer::PeerConnection;
use super::security::{CLIENT_PROTOCOL, PEER_PROTOCOL, Security};
use super::socket;
use crate::protocol::node_id::NodeId;

const HANDSHAKE_MAX: Duration = Duration::from_secs(2);
/// For the others to hear that this one ends.
const CLOSE_MAX: Duration = Duration::from_secs(1);
const ACCEPTED_MAX: usize = 64;
const CLOSED: VarInt = VarInt::from_u32(0);
/// TLS wants a name to call; which node answers is compared afterwards, and the name is not sent.
const CALLED_NAME: &str = "node.cairnlog";

/// A connection that somebody else has opened.
#[derive(Debug)]
pub enum Accepted {
    /// A node.
    Peer(PeerConnection),
    /// A client.
    Client(ClientConnection),
}

/// A socket that calls others and is called. Clones share it. When the last one is dropped nobody is accepted any
/// more; connections live on until they are dropped.
#[derive(Clone, Debug)]
pub struct Endpoint {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    quinn: quinn::Endpoint,
    is_throw_away: bool,
    local_addr: SocketAddr,
    warnings: Vec<String>,
    calling_peers: ClientConfig,
    calling_servers: ClientConfig,
    /// The number by which this one answers.
    own: Arc<OnceLock<NodeId>>,
    accepted: Mutex<mpsc::Receiver<Accepted>>,
    /// Of the task that takes callers.
    acceptor: Option<AbortHandle>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(acceptor) = &self.acceptor {
            acceptor.abort();
        }
        self.quinn.set_server_config(None);
    }
}

impl Endpoint {
    /// Listens on this address, within a tokio runtime.
    ///
    /// # Errors
    /// [`TransportError::Bind`] when the address cannot be had; [`TransportError::NotLoopback`] for a throw-away
    /// certificate and an address that others reach.
    pub fn bind(
        listen: SocketAddr,
        security: &Security,
        limits: &Limits,
    ) -> Result<Endpoint, TransportError> {
        if security.is_throw_away() && !is_loopback(listen) {
            return Err(TransportError::NotLoopback(listen));
        }
        let crypto = QuicServerConfig::try_from(security.for_being_called()?)
            .map_err(|error| TransportError::Making(error.to_string()))?;
        let mut server = ServerConfig::with_crypto(Arc::new(crypto));
        server.transport_config(limits.transport(limits.lanes_max.max(1)));
        // Handshakes run as soon as they come: these are for the moment in between only.
        server.max_incoming(limits.connections_max.max(1));
        Endpoint::open(listen, security, limits, Some(server))
    }

    /// For calling others only, from a port that the system chooses, within a tokio runtime.
    ///
    /// # Errors
    /// [`TransportError::Bind`] when there is no socket to be had.
    pub fn client(security: &Security, limits: &Limits) -> Result<Endpoint, TransportError> {
        let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
        Endpoint::open(any, security, limits, None).or_else(|_| {
            // Machines without IPv6.
            let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
            Endpoint::open(any, security, limits, None)
        })
    }

    fn open(
        address: SocketAddr,
        security: &Security,
        limits: &Limits,
        server: Option<ServerConfig>,
    ) -> Result<Endpoint, TransportError> {
        let bind = |source| TransportError::Bind { address, source };
        Handle::try_current().map_err(|error| bind(io::Error::other(error)))?;
        let is_called = server.is_some();
        let (socket, warnings) = socket::open(address, limits.udp_buffer_bytes).map_err(bind)?;
        let runtime = Arc::new(TokioRuntime);
        let mut config = EndpointConfig::default();
        let taken = config.max_udp_payload_size(PACKET_BYTES_MAX);
        taken.expect("it is above the least that QUIC allows");
        let quinn = quinn::Endpoint::new(config, server, socket, runtime).map_err(bind)?;
        let own = Arc::new(security.node().map_or_else(OnceLock::new, OnceLock::from));
        let (sender, receiver) = mpsc::channel(ACCEPTED_MAX);
        let acceptor = is_called.then(|| {
            let acceptor = Acceptor {
                quinn: quinn.clone(),
                is_throw_away: security.is_throw_away(),
                own: own.clone(),
                permits: Arc::new(Semaphore::new(
                    limits.connections_max.min(Semaphore::MAX_PERMITS),
                )),
                connections_max: limits.connections_max,
                accepted: sender,
            };
            tokio::spawn(acceptor.run()).abort_handle()
        });
        let inner = Inner {
            is_throw_away: security.is_throw_away(),
            local_addr: quinn.local_addr().map_err(bind)?,
            warnings,
            calling_peers: calling(security, PEER_PROTOCOL, limits)?,
            calling_servers: calling(security, CLIENT_PROTOCOL, limits)?,
            own,
            accepted: Mutex::new(receiver),
            acceptor,
            quinn,
        };
        Ok(Endpoint { inner: Arc::new(inner) })
    }

    /// The number by which a node with a throw-away certificate answers, so that one who calls another node notices.
    /// With certificates, the certificate says it, and this is ignored; so is a second call.
    pub fn answer_as(&self, own: NodeId) {
        let _known = self.inner.own.set(own);
    }

    /// Where this one is.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.inner.local_addr
    }

    /// What is not as it should be, and costs throughput.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.inner.warnings.clone()
    }

    /// The next connection that was let in; `None` when this one was closed, or is for calling only.
    pub async fn accept(&self) -> Option<Accepted> {
        self.inner.accepted.lock().await.recv().await
    }

    /// Calls a node: its addresses in turn (`host:port`), each for at most two seconds, those of IPv4 first. `own` is
    /// the number of this node.
    ///
    /// # Errors
    /// [`TransportError::NotThatNode`] when another one answered somewhere and this one nowhere; otherwise what
    /// happened at the last address.
    pub async fn connect_peer(
        &self,
        own: NodeId,
        peer: NodeId,
        addresses: &[String],
    ) -> Result<PeerConnection, TransportError> {
        let mut failure = connect_error(&format!("node {peer}"), "it has no address");
        for address in addresses {
            let targets = match self.resolve(address).await {
                Ok(targets) => targets,
                Err(error) => vec![Err(error)],
            };
            for target in targets {
                let called = match target {
                    Ok(target) => self.call_peer(own, peer, target).await,
                    Err(error) => Err(error),
                };
                match called {
                    Ok(connection) => return Ok(connection),
                    // Says more than that nobody answered elsewhere.
                    Err(_) if matches!(failure, TransportError::NotThatNode { .. }) => {}
                    Err(error) => failure = error,
                }
            }
        }
        Err(failure)
    }

    async fn call_peer(
        &self,
        own: NodeId,
        peer: NodeId,
        target: SocketAddr,
    ) -> Result<PeerConnection, TransportError> {
        within(target, async {
            let connection = self.call(&self.inner.calling_peers, target).await?;
            greeting::call_peer(connection, self.inner.is_throw_away, own, peer).await
        })
        .await
    }

    /// Calls a node as a client, by `host:port`.
    ///
    /// # Errors
    /// [`TransportError::Connect`] when nobody answers, or does not let this client in.
    pub async fn connect_server(&self, address: &str) -> Result<ClientConnection, TransportError> {
        let mut failure = connect_error(address, "it has no address");
        for target in self.resolve(address).await? {
            let target = target?;
            let called = within(target, async {
                let connection = self.call(&self.inner.calling_servers, target).await?;
                greeting::call_server(connection).await
            });
            match called.await {
                Ok(connection) => return Ok(connection),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// The addresses behind a name that may be called from here.
    async fn resolve(
        &self,
        address: &str,
    ) -> Result<Vec<Result<SocketAddr, TransportError>>, TransportError> {
        let found = timeout(HANDSHAKE_MAX, tokio::net::lookup_host(address)).await;
        let found = found.map_err(|_| connect_error(address, "its name was not found in time"))?;
        let found = found.map_err(|error| connect_error(address, &error.to_string()))?;
        let mut targets: Vec<_> = found.collect();
        // Where nobody listens nobody says so, and many listen on IPv4 only.
        targets.sort_by_key(SocketAddr::is_ipv6);
        targets.dedup();
        Ok(targets.into_iter().map(|target| self.check(target)).collect())
    }

    fn check(&self, target: SocketAddr) -> Result<SocketAddr, TransportError> {
        if self.inner.is_throw_away && !is_loopback(target) {
            return Err(TransportError::NotLoopback(target));
        }
        Ok(target)
    }

    async fn call(
        &self,
        config: &ClientConfig,
        target: SocketAddr,
    ) -> Result<quinn::Connection, TransportError> {
        let connecting = self.inner.quinn.connect_with(config.clone(), target, CALLED_NAME);
        let connecting =
            connecting.map_err(|error| connect_error(&target.to_string(), &error.to_string()))?;
        connecting.await.map_err(|error| TransportError::of_connection(&error))
    }

    /// Ends all connections and accepts no more; waits a moment for the others to hear it.
    pub async fn close(&self) {
        self.inner.quinn.close(CLOSED, b"the endpoint is closed");
        // Those who do not hear it notice the silence.
        let _not_all = timeout(CLOSE_MAX, self.inner.quinn.wait_idle()).await;
    }
}

fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

fn connect_error(address: &str, reason: &str) -> TransportError {
    TransportError::Connect { address: address.to_owned(), reason: reason.to_owned() }
}

fn calling(
    security: &Security,
    protocol: &[u8],
    limits: &Limits,
) -> Result<ClientConfig, TransportError> {
    let crypto = QuicClientConfig::try_from(security.for_calling(protocol)?)
        .map_err(|error| TransportError::Making(error.to_string()))?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    // Whoever is called opens no stream in both directions.
    config.transport_config(limits.transport(0));
    Ok(config)
}

async fn within<T>(
    target: SocketAddr,
    call: impl Future<Output = Result<T, TransportError>>,
) -> Result<T, TransportError> {
    match timeout(HANDSHAKE_MAX, call).await {
        Ok(Err(TransportError::Closed(reason))) => Err(connect_error(&target.to_string(), &reason)),
        Ok(result) => result,
        Err(_) => Err(connect_error(&target.to_string(), "it did not answer in time")),
    }
}

/// Takes those who call.
struct Acceptor {
    quinn: quinn::Endpoint,
    is_throw_away: bool,
    own: Arc<OnceLock<NodeId>>,
    permits: Arc<Semaphore>,
    connections_max: usize,
    accepted: mpsc::Sender<Accepted>,
}

impl Acceptor {
    async fn run(self) {
        while let Some(incoming) = self.quinn.accept().await {
            let Ok(permit) = self.permits.clone().try_acquire_owned() else {
                incoming.refuse();
                continue;
            };
            // When it gets crowded, whoever calls has to show that the address is its own.
            let is_crowded = self.permits.available_permits() < self.connections_max / 2;
            if is_crowded && incoming.may_retry() && !incoming.remote_address_validated() {
                // It fails only when it may not retry.
                let _checked = incoming.retry();
                continue;
            }
            let accepted = self.accepted.clone();
            let answer = self.answer(incoming, permit);
            tokio::spawn(async move {
                // Whoever was not let in has been told why.
                if let Ok(Ok(connection)) = timeout(HANDSHAKE_MAX, answer).await {
                    // It fails only when the endpoint is gone.
                    let _nobody = accepted.send(connection).await;
                }
            });
        }
    }

    fn answer(
        &self,
        incoming: Incoming,
        permit: OwnedSemaphorePermit,
    ) -> impl Future<Output = Result<Accepted, TransportError>> + use<> {
        let (is_throw_away, own) = (self.is_throw_away, self.own.get().copied());
        async move {
            let connection =
                incoming.await.map_err(|error| TransportError::of_connection(&error))?;
            greeting::answer(connection, is_throw_away, own, permit).await
        }
    }
}
