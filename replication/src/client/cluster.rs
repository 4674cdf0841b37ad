//! The servers of a client, and the connections to them.
//!
//! Owns one connection for each address that was used, which every call shares, and what was last heard of who
//! leads. It leaves retries to the calls. A connection that failed is forgotten, and made anew when it is asked for.
//!
//! Bounds: one attempt to connect takes at most [`CONNECT_MAX`]; as many connections as addresses that were given
//! by the caller or by servers.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::ClientConfig;
use super::error::ClientError;
use super::net::{Dial, Lane, Link};
use super::producers::Producers;
use super::retry::{Backoff, Route};
use crate::wire::request::{Outcome, Response};
use crate::wire::request_codec::decode_response;

/// How long a server may take to be connected to, before it is the turn of the next.
const CONNECT_MAX: Duration = Duration::from_secs(3);

/// What all clones of a client share.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) config: ClientConfig,
    /// For appends that the client numbers.
    pub(super) producers: Producers,
    dial: Box<dyn Dial>,
    known: Mutex<Known>,
    dice: RandomState,
    rolls: AtomicU64,
}

#[derive(Debug, Default)]
struct Known {
    links: HashMap<String, Arc<dyn Link>>,
    leader: Option<String>,
    /// The number of the server that answered last.
    home: usize,
}

impl Cluster {
    pub(super) fn new(config: ClientConfig, dial: Box<dyn Dial>) -> Cluster {
        let (dice, rolls) = (RandomState::new(), AtomicU64::new(0));
        let producers = Producers::default();
        Cluster { config, producers, dial, known: Mutex::default(), dice, rolls }
    }

    /// Any number. It spreads load; nothing secret is made of it.
    pub(super) fn roll(&self) -> u64 {
        self.dice.hash_one(self.rolls.fetch_add(1, Ordering::Relaxed))
    }

    /// When a call that begins now must have ended.
    pub(super) fn deadline(&self) -> Instant {
        let now = Instant::now();
        // A deadline that is further than clocks go is as good as none.
        now.checked_add(self.config.deadline).unwrap_or(now + Duration::from_secs(1 << 30))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Nothing is half done under the lock, so that a panic of another holder leaves it whole.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn route(&self, turn: usize, hint: Option<String>) -> Route {
        let backoff = Backoff { min: self.config.backoff_min, max: self.config.backoff_max };
        Route::new(self.config.servers.clone(), turn, hint, backoff)
    }

    /// The way of an append: to the leader, as far as it is known.
    pub(super) fn route_to_leader(&self) -> Route {
        let known = self.known();
        self.route(known.home, known.leader.clone())
    }

    /// The way to any node, from the one that answered last on.
    pub(super) fn route_home(&self) -> Route {
        let home = self.known().home;
        self.route(home, None)
    }

    /// The way of a reader: from a random server on.
    pub(super) fn route_anywhere(&self) -> Route {
        self.route(usize::try_from(self.roll() >> 33).unwrap_or(0), None)
    }

    /// This one leads.
    pub(super) fn led(&self, address: &str) {
        let mut known = self.known();
        if known.leader.as_deref() != Some(address) {
            known.leader = Some(address.to_owned());
        }
    }

    /// An append did not succeed: what is known of the leader is what the way of that append says now.
    pub(super) fn led_no_more(&self, route: &Route) {
        self.known().leader = route.hint().cloned();
    }

    /// Goes on to the next target of the route, after its wait.
    ///
    /// # Errors
    /// The one that was given, when the deadline ends before the wait does.
    pub(super) async fn pause(
        &self,
        route: &mut Route,
        error: ClientError,
        deadline: Instant,
    ) -> Result<(), ClientError> {
        let wait = route.failed(&error, self.roll());
        if Instant::now() + wait >= deadline {
            return Err(error);
        }
        sleep(wait).await;
        Ok(())
    }

    /// Connects to one of the servers.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] when none could be reached before `deadline`.
    pub(super) async fn reach(
        &self,
        route: &mut Route,
        deadline: Instant,
    ) -> Result<(), ClientError> {
        loop {
            let target = route.target().to_owned();
            let Err(error) = self.link(&target, deadline).await else { return Ok(()) };
            if let Err(error) = self.pause(route, error, deadline).await {
                let servers = self.config.servers.clone();
                let text = match error {
                    ClientError::Unreachable { text, .. } => text,
                    error => error.to_string(),
                };
                return Err(ClientError::Unreachable { servers, text });
            }
        }
    }

    /// A connection to this address, at the latest at `deadline`.
    async fn link(&self, address: &str, deadline: Instant) -> Result<Arc<dyn Link>, ClientError> {
        if let Some(link) = self.known().links.get(address) {
            return Ok(Arc::clone(link));
        }
        let unreachable =
            |text| ClientError::Unreachable { servers: vec![address.to_owned()], text };
        let until = deadline.min(Instant::now() + CONNECT_MAX);
        let connected = timeout_at(until, self.dial.connect(address)).await;
        let link = connected
            .unwrap_or_else(|_| Err("it did not answer in time".to_owned()))
            .map_err(unreachable)?;
        let mut known = self.known();
        if let Some(home) = self.config.servers.iter().position(|server| server == address) {
            known.home = home;
        }
        // Another call may have connected meanwhile; one connection is enough.
        Ok(Arc::clone(known.links.entry(address.to_owned()).or_insert(link)))
    }

    fn forget(&self, address: &str, link: &Arc<dyn Link>) {
        let mut known = self.known();
        if known.links.get(address).is_some_and(|there| Arc::ptr_eq(there, link)) {
            known.links.remove(address);
        }
    }

    /// A new lane to this address.
    ///
    /// # Errors
    /// It cannot be reached before `deadline`. Nothing was sent.
    pub(super) async fn lane(&self, address: &str, deadline: Instant) -> Result<Lane, ClientError> {
        let mut text = String::new();
        // A connection that was kept may have broken long ago, which says nothing about the server.
        for _ in 0..2 {
            let link = self.link(address, deadline).await?;
            match timeout_at(deadline, link.open()).await {
                Ok(Ok(lane)) => return Ok(lane),
                Ok(Err(error)) => text = error,
                Err(_) => "no lane could be opened in time".clone_into(&mut text),
            }
            self.forget(address, &link);
        }
        Err(ClientError::Unreachable { servers: vec![address.to_owned()], text })
    }

    /// One request on a lane of its own, and its one answer.
    ///
    /// # Errors
    /// That of the node; otherwise retryable when nothing was sent, and unknown when it was.
    pub(super) async fn ask(
        &self,
        address: &str,
        frame: Vec<u8>,
        deadline: Instant,
    ) -> Result<Response, ClientError> {
        let mut lane = self.lane(address, deadline).await?;
        // Whether the lane is broken shows when the answer is waited for.
        let _ = lane.frames.send(frame);
        let answer = timeout_at(deadline, lane.answer()).await;
        let answer = answer.map_err(|_| {
            ClientError::late(format!("{address} did not answer in time"))
                .with_outcome(Outcome::Unknown)
        })?;
        let broke = |text| ClientError::unknown(format!("the lane to {address} broke: {text}"));
        match decode_answer(&answer.map_err(broke)?)? {
            Response::Failed(failure) => Err(failure.into()),
            response => Ok(response),
        }
    }

    /// Ends all connections, for good.
    pub(super) async fn close(&self) {
        self.known().links.clear();
        self.dial.close().await;
    }
}

/// A frame as an answer; one that is none leaves open what was done.
pub(super) fn decode_answer(frame: &[u8]) -> Result<Response, ClientError> {
    decode_response(frame)
        .map_err(|fault| ClientError::unknown(format!("the answer cannot be understood: {fault}")))
}
