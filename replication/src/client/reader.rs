//! Records, one after the other, from whatever server has them.
//!
//! Owns the lane of a reader, and goes on elsewhere when it breaks; which records the caller gets is decided by
//! `cursor`.
//!
//! Invariant R1: a reader that goes on elsewhere leaves nothing out and gives nothing twice. tests
//! `a_reader_survives_broken_lanes`, `a_follower_goes_on_elsewhere`
//!
//! Bounds: the records of one frame, and the frames that wait on a lane.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use super::cluster::{Cluster, decode_answer};
use super::cursor::{Cursor, ReadOptions};
use super::error::ClientError;
use super::net::Lane;
use super::retry::Route;
use crate::Lsn;
use crate::wire::request::{Outcome, Response, WireRecord};
use crate::wire::request_codec::encode_request;

/// Reads a log, forwards.
#[derive(Debug)]
pub struct Reader {
    cluster: Arc<Cluster>,
    cursor: Cursor,
    route: Route,
    lane: Option<OpenLane>,
    /// Records that came and were not given yet.
    came: VecDeque<WireRecord>,
}

#[derive(Debug)]
struct OpenLane {
    lane: Lane,
    since: Instant,
}

impl Reader {
    /// A reader that has its first lane.
    ///
    /// # Errors
    /// No server can be reached.
    pub(super) async fn start(
        cluster: Arc<Cluster>,
        options: ReadOptions,
    ) -> Result<Reader, ClientError> {
        let mut route = cluster.route_anywhere();
        cluster.reach(&mut route, cluster.deadline()).await?;
        let (cursor, came) = (Cursor::new(options), VecDeque::new());
        Ok(Reader { cluster, cursor, route, lane: None, came })
    }

    /// The next record; none at the end, which with [`ReadOptions::follows`] never comes. A record that is there
    /// comes before the deadline of the client, and waiting for more at the end has none. May be given up and
    /// called again.
    ///
    /// # Errors
    /// Nothing was lost: the next call goes on where this one was. Final: the records are not kept any more, or the
    /// request is not allowed. Otherwise no server gave them before the deadline.
    pub async fn next(&mut self) -> Result<Option<WireRecord>, ClientError> {
        let mut deadline = self.cluster.deadline();
        loop {
            let error = match self.step(deadline).await {
                Ok(Some(record)) => return Ok(Some(record)),
                Ok(None) if self.cursor.is_done() => {
                    self.lane = None;
                    return Ok(None);
                }
                Ok(None) => continue,
                Err(error) => error,
            };
            self.came.clear();
            let lane = self.lane.take();
            if error.outcome() == Outcome::Final {
                return Err(error);
            }
            // A lane that was good for long was not part of a series of failures.
            let long = self.cluster.config.backoff_max;
            if self.cursor.follows() && lane.is_some_and(|lane| lane.since.elapsed() > long) {
                deadline = self.cluster.deadline();
                self.route.worked();
            }
            self.cluster.pause(&mut self.route, error, deadline).await?;
        }
    }

    /// The LSN of the record that [`next`](Self::next) gives next; none before the first of a reader that began
    /// at the oldest.
    #[must_use]
    pub fn next_lsn(&self) -> Option<Lsn> {
        self.cursor.next_lsn()
    }

    /// A record that is there, or one step nearer to one.
    async fn step(&mut self, deadline: Instant) -> Result<Option<WireRecord>, ClientError> {
        while let Some(record) = self.came.pop_front() {
            let gap = |_| ClientError::retryable("the server left records out");
            if let Some(record) = self.cursor.take(record).map_err(gap)? {
                self.route.worked();
                return Ok(Some(record));
            }
        }
        if self.cursor.is_done() {
            return Ok(None);
        }
        let follows = self.cursor.follows();
        let lane = self.open(deadline).await?;
        let answer = if follows {
            lane.answer().await
        } else {
            let late = |_| ClientError::late("no record came in time");
            timeout_at(deadline, lane.answer()).await.map_err(late)?
        };
        let broke = |text| ClientError::retryable(format!("the lane broke: {text}"));
        let response = decode_answer(&answer.map_err(broke)?);
        // To read again changes nothing.
        let response = response.map_err(|error| error.with_outcome(Outcome::Retryable))?;
        self.hear(response)?;
        Ok(None)
    }

    fn hear(&mut self, response: Response) -> Result<(), ClientError> {
        match response {
            Response::Records(records) => {
                self.came = records.into();
                Ok(())
            }
            Response::End(lsn) if self.cursor.end(lsn) => Ok(()),
            Response::End(_) => {
                Err(ClientError::retryable("the server ended the records too early"))
            }
            Response::Failed(failure) => {
                let error = ClientError::from(failure);
                let is_elsewhere = self.cursor.is_behind(error.reason());
                if is_elsewhere || error.outcome() == Outcome::Unknown {
                    Err(error.with_outcome(Outcome::Retryable))
                } else {
                    Err(error)
                }
            }
            _ => Err(ClientError::retryable("the answer is none to a read")),
        }
    }

    /// The lane, with the request on it.
    async fn open(&mut self, deadline: Instant) -> Result<&mut Lane, ClientError> {
        let open = match self.lane.take() {
            Some(open) => open,
            None => {
                let lane = self.cluster.lane(self.route.target(), deadline).await?;
                // A broken lane shows when the answer is waited for.
                let _ = lane.frames.send(encode_request(&self.cursor.request()));
                OpenLane { lane, since: Instant::now() }
            }
        };
        Ok(&mut self.lane.insert(open).lane)
    }
}
