//! The client of a cluster.
//!
//! Owns what programs use to append to a log, to read it and to ask nodes how they are: [`Client`]. It finds the
//! leader from any node, tries again what was not done, and says of every failure whether something may have been
//! done: [`ClientError`]. The bytes are in [`request_codec`](crate::wire::request_codec), the connections in
//! [`transport`](crate::transport).
//!
//! Decisions are apart from I/O: `retry` (whether and where to try again), `window` (appends in flight) and `cursor`
//! (where a reader is) do none. `net` is the seam to the transport; `cluster` shares connections; `append`,
//! `appender` and `reader` are the calls.
//!
//! Bounds: [`ClientConfig`]. Every call ends by its deadline, but for a reader that follows and waits for more.

mod append;
mod appender;
mod cluster;
mod cursor;
mod error;
#[cfg(test)]
mod fake;
mod net;
mod producers;
mod reader;
mod retry;
mod window;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use self::append::{AppendOptions, Appended, Numbering};
pub use self::appender::{AppendAnswers, AppendSubmitter, Appender};
use self::cluster::Cluster;
pub use self::cursor::ReadOptions;
pub use self::error::{ClientError, Why};
use self::net::{Dial, Quic};
pub use self::reader::Reader;
use crate::transport::{Endpoint, Limits, Security};
use crate::wire::request::{Ack, Request, Response};
use crate::wire::request_codec::encode_request;

/// How to reach a cluster.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Nodes of the cluster, as `host:port`: any of them, at least one.
    pub servers: Vec<String>,
    /// The folder with the certificates of this client; without one it uses a throw-away certificate, and reaches
    /// servers on this machine only.
    pub tls_folder: Option<PathBuf>,
    /// How long each call may take: 30 s.
    pub deadline: Duration,
    /// Bytes of frames that an appender holds until they are answered: 17 MiB.
    pub in_flight_bytes_max: usize,
    /// The most that is waited before the first retry: 20 ms. It doubles with each.
    pub backoff_min: Duration,
    /// The most that is waited before any retry: 2 s.
    pub backoff_max: Duration,
}

impl ClientConfig {
    /// The usual, for these servers.
    #[must_use]
    pub fn new(servers: Vec<String>) -> ClientConfig {
        ClientConfig {
            servers,
            tls_folder: None,
            deadline: Duration::from_secs(30),
            in_flight_bytes_max: 17 << 20,
            backoff_min: Duration::from_millis(20),
            backoff_max: Duration::from_secs(2),
        }
    }
}

/// A client of a cluster. Clones share its connections, and are cheap.
#[derive(Clone, Debug)]
pub struct Client {
    cluster: Arc<Cluster>,
}

impl Client {
    /// A client that has reached a node.
    ///
    /// # Errors
    /// Final when the certificates cannot be used or no server is named; [`ClientError::Unreachable`] when no node
    /// was reached before the deadline.
    pub async fn connect(config: ClientConfig) -> Result<Client, ClientError> {
        let security = match &config.tls_folder {
            Some(folder) => Security::from_folder(folder),
            None => Security::throw_away(),
        };
        let endpoint =
            security.and_then(|security| Endpoint::client(&security, &Limits::default()));
        let endpoint = endpoint.map_err(|error| ClientError::over(error.to_string()))?;
        Client::connect_by(config, Box::new(Quic(endpoint))).await
    }

    async fn connect_by(config: ClientConfig, dial: Box<dyn Dial>) -> Result<Client, ClientError> {
        if config.servers.is_empty() {
            return Err(ClientError::invalid("a client needs the address of a server"));
        }
        let cluster = Cluster::new(config, dial);
        cluster.reach(&mut cluster.route_home(), cluster.deadline()).await?;
        Ok(Client { cluster: Arc::new(cluster) })
    }

    /// Appends the records, all of them or none, one behind the other, and waits until they have reached the level
    /// that is asked for. It finds the leader, and tries again what was not done, and what may have been done unless
    /// the records have no numbers. Given up, it may be done or not.
    ///
    /// # Errors
    /// See [`ClientError`] for what each outcome asks of the caller.
    pub async fn append(
        &self,
        records: &[Vec<u8>],
        options: AppendOptions,
    ) -> Result<Appended, ClientError> {
        append::append(&self.cluster, records, options).await
    }

    /// Many appends in a row, in order, many at a time.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`]: no node can be reached. Final: the system gives no random numbers.
    pub async fn appender(&self, options: AppendOptions) -> Result<Appender, ClientError> {
        let mut route = self.cluster.route_to_leader();
        self.cluster.reach(&mut route, self.cluster.deadline()).await?;
        Appender::start(Arc::clone(&self.cluster), options)
    }

    /// The number of the next record of a producer, once everything that the log holds of it has got as far as
    /// `ack`: 0 when there is nothing. What was sent in its name before and is still on its way is not counted, and
    /// may be stored yet; then records that are sent with the same numbers are not stored a second time.
    ///
    /// # Errors
    /// Final, for [`Reason::UnknownProducer`](crate::wire::request::Reason), when the log holds records of the producer
    /// that are too long ago to go on behind; retryable when the leader was not found before the deadline.
    pub async fn next_sequence(&self, producer_id: u128, ack: Ack) -> Result<u64, ClientError> {
        let deadline = self.cluster.deadline();
        let frame = encode_request(&Request::NextSequence { producer_id, ack });
        let mut route = self.cluster.route_to_leader();
        loop {
            let target = route.target().to_owned();
            let answer = self.cluster.ask(&target, frame.clone(), deadline).await;
            // To ask again changes nothing.
            let error = match answer.and_then(sequence) {
                Err(error) if retry::may_repeat(&error, true) => error.into_undone(),
                done => return done,
            };
            let paused = self.cluster.pause(&mut route, error, deadline).await;
            self.cluster.led_no_more(&route);
            paused?;
        }
    }

    /// Reads records, from any server. Readers are spread over the servers.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`]: no node can be reached.
    pub async fn read(&self, options: ReadOptions) -> Result<Reader, ClientError> {
        Reader::start(Arc::clone(&self.cluster), options).await
    }

    /// How the node is that this client is connected to, or the next one that answers: JSON.
    ///
    /// # Errors
    /// No node answered before the deadline, or one refused for good.
    pub async fn status(&self) -> Result<String, ClientError> {
        let deadline = self.cluster.deadline();
        let mut route = self.cluster.route_home();
        loop {
            let frame = encode_request(&Request::Status);
            let answer = self.cluster.ask(route.target(), frame, deadline).await;
            // To ask again changes nothing.
            let error = match answer.and_then(json) {
                Err(error) if retry::may_repeat(&error, true) => error,
                done => return done,
            };
            self.cluster.pause(&mut route, error, deadline).await?;
        }
    }

    /// How this node is: JSON. It is asked once.
    ///
    /// # Errors
    /// It did not answer before the deadline, or refused.
    pub async fn status_of(&self, server: &str) -> Result<String, ClientError> {
        let frame = encode_request(&Request::Status);
        let answer = self.cluster.ask(server, frame, self.cluster.deadline()).await;
        answer.and_then(json).map_err(ClientError::into_undone)
    }

    /// Has this node lead, or only say what would come of it: JSON. It is asked once.
    ///
    /// # Errors
    /// It refused or cannot be reached; unknown when it did not answer before the deadline: ask for its status.
    pub async fn promote(&self, server: &str, dry_run: bool) -> Result<String, ClientError> {
        let frame = encode_request(&Request::Promote { dry_run });
        let answer = self.cluster.ask(server, frame, self.cluster.deadline()).await;
        answer.and_then(json)
    }

    /// Ends the connections, and waits a moment until the servers have heard of it. Appenders and readers that are
    /// left lose their lanes, and other clones of this client are of no more use.
    pub async fn close(self) {
        self.cluster.close().await;
    }
}

fn json(response: Response) -> Result<String, ClientError> {
    match response {
        Response::Json(text) => Ok(text),
        _ => Err(ClientError::unknown("the answer is no JSON")),
    }
}

fn sequence(response: Response) -> Result<u64, ClientError> {
    match response {
        Response::NextSequence(sequence) => Ok(sequence),
        _ => Err(ClientError::unknown("the answer is no sequence")),
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
