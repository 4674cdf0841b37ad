//! A cluster in memory, for the tests of the client.
//!
//! Owns nodes that share one log: enough of a server to answer every request, and faults that tests put in its way.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};

use tokio::sync::{Notify, mpsc};

use super::net::{Answers, Dial, Lane, Link, Wait};
use crate::protocol::node_id::NodeId;
use crate::wire::frame::LENGTH_BYTES;
use crate::wire::request::{Failure, Outcome, Reason, Request, Response, Sequence, WireRecord};
use crate::wire::request_codec::{decode_request, encode_response};
use crate::{Epoch, Lsn};

/// What becomes of one append.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// It is done.
    None,
    /// The lane breaks before it is done.
    BreakBefore,
    /// The lane breaks after it was done.
    BreakAfter,
    /// It is refused.
    Refuse(Outcome, Reason),
    /// It is done and never answered.
    Silence,
}

/// What the nodes share.
#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) up: BTreeSet<String>,
    pub(super) leader: Option<String>,
    /// Whether nodes say who leads.
    pub(super) hints: bool,
    pub(super) log: Vec<WireRecord>,
    producers: BTreeMap<u128, Producer>,
    /// For the next appends that reach the leader.
    pub(super) faults: VecDeque<Fault>,
    /// A lane that reads breaks after so many records.
    pub(super) read_breaks_after: Option<usize>,
    /// Who was asked for what.
    pub(super) asked: Vec<String>,
}

/// What the log holds of a producer.
#[derive(Debug, Default)]
struct Producer {
    /// The first LSN of each append, by its first sequence.
    appends: BTreeMap<u64, Lsn>,
    next: u64,
}

/// A handle on the cluster.
#[derive(Clone, Debug, Default)]
pub(super) struct Fake {
    world: Arc<Mutex<World>>,
    changed: Arc<Notify>,
}

impl Fake {
    /// Nodes `a`, `b` and `c`; `b` leads.
    pub(super) fn new() -> Fake {
        let fake = Fake::default();
        fake.with(|world| {
            world.up = ["a", "b", "c"].map(str::to_owned).into();
            world.leader = Some("b".to_owned());
            world.hints = true;
        });
        fake
    }

    pub(super) fn with<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        let done = self.look(change);
        self.changed.notify_waiters();
        done
    }

    /// What is so now; followers are not woken.
    fn look<T>(&self, at: impl FnOnce(&mut World) -> T) -> T {
        at(&mut self.world.lock().expect("no test panics with it"))
    }

    pub(super) fn texts(&self) -> Vec<String> {
        let text = |record: &WireRecord| String::from_utf8_lossy(&record.data).into_owned();
        self.with(|world| world.log.iter().map(text).collect())
    }
}

impl Dial for Fake {
    fn connect<'a>(&'a self, address: &'a str) -> Wait<'a, Result<Arc<dyn Link>, String>> {
        Box::pin(async move {
            if !self.look(|world| world.up.contains(address)) {
                return Err("nobody is there".to_owned());
            }
            let node = Node { address: address.to_owned(), fake: self.clone() };
            Ok(Arc::new(node) as Arc<dyn Link>)
        })
    }

    fn close(&self) -> Wait<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

#[derive(Clone, Debug)]
struct Node {
    address: String,
    fake: Fake,
}

/// The lane breaks.
struct Broken;

impl Link for Node {
    fn open(&self) -> Wait<'_, Result<Lane, String>> {
        Box::pin(async move {
            if !self.fake.look(|world| world.up.contains(&self.address)) {
                return Err("it went away".to_owned());
            }
            let (lane, sent, answers) = Lane::pair();
            tokio::spawn(self.clone().serve(sent, answers));
            Ok(lane)
        })
    }
}

impl Node {
    async fn serve(self, mut sent: mpsc::UnboundedReceiver<Vec<u8>>, answers: Answers) {
        while let Some(frame) = sent.recv().await {
            let request = decode_request(&frame[LENGTH_BYTES..]).expect("a client sends requests");
            if self.answer(request, &answers).await.is_err() {
                let _ = answers.send(Err("the cable was cut".to_owned())).await;
                return;
            }
        }
    }

    async fn answer(&self, request: Request, answers: &Answers) -> Result<(), Broken> {
        let response = match request {
            Request::Append { expected_lsn, sequence, records, ack } => {
                self.note("append");
                match self.append(expected_lsn, sequence, records)? {
                    Some(Ok((first, end))) => Response::Appended {
                        lsns: first..end,
                        epoch: Epoch::new(1),
                        ack,
                        replicas: NodeId::new(1).into_iter().collect(),
                    },
                    Some(Err((outcome, reason))) => failed(outcome, reason),
                    None => return Ok(()),
                }
            }
            Request::Read { from, follows, .. } => {
                self.note("read");
                return self.read(from, follows, answers).await;
            }
            Request::NextSequence { producer_id, .. } => {
                self.note("next");
                self.next_sequence(producer_id)
            }
            Request::Status => Response::Json(format!("{{\"at\":\"{}\"}}", self.address)),
            Request::Promote { .. } => {
                self.fake.look(|world| world.leader = Some(self.address.clone()));
                Response::Json("{}".to_owned())
            }
        };
        self.say(&response, answers).await
    }

    fn note(&self, what: &str) {
        self.fake.look(|world| world.asked.push(format!("{what} {}", self.address)));
    }

    async fn say(&self, response: &Response, answers: &Answers) -> Result<(), Broken> {
        if !self.fake.look(|world| world.up.contains(&self.address)) {
            return Err(Broken);
        }
        let frame = encode_response(response).split_off(LENGTH_BYTES);
        answers.send(Ok(VecDeque::from([frame]))).await.map_err(|_| Broken)
    }

    /// The LSNs, or why not; none when there is to be no answer.
    #[allow(clippy::type_complexity, reason = "read once")]
    fn append(
        &self,
        expected: Option<Lsn>,
        sequence: Option<Sequence>,
        records: Vec<Vec<u8>>,
    ) -> Result<Option<Result<(Lsn, Lsn), (Outcome, Reason)>>, Broken> {
        self.fake.with(|world| {
            if world.leader.as_deref() != Some(&self.address) {
                let leader = world.leader.clone().filter(|_| world.hints);
                let leader = NodeId::new(7).zip(leader);
                return Ok(Some(Err((Outcome::Retryable, Reason::NotLeading(leader)))));
            }
            let fault = world.faults.pop_front().unwrap_or(Fault::None);
            match fault {
                Fault::BreakBefore => return Err(Broken),
                Fault::Refuse(outcome, reason) => return Ok(Some(Err((outcome, reason)))),
                Fault::None | Fault::BreakAfter | Fault::Silence => {}
            }
            let done = world.append(expected, sequence, records);
            match fault {
                Fault::BreakAfter => Err(Broken),
                Fault::Silence => Ok(None),
                _ => Ok(Some(done)),
            }
        })
    }

    fn next_sequence(&self, producer_id: u128) -> Response {
        self.fake.look(|world| {
            if world.leader.as_deref() != Some(&self.address) {
                return failed(Outcome::Retryable, Reason::NotLeading(None));
            }
            let known = world.producers.get(&producer_id);
            Response::NextSequence(known.map_or(0, |known| known.next))
        })
    }

    async fn read(
        &self,
        from: Option<Lsn>,
        follows: bool,
        answers: &Answers,
    ) -> Result<(), Broken> {
        let mut next = from.unwrap_or(Lsn::FIRST);
        let mut given = 0;
        loop {
            let changed = self.fake.changed.notified();
            let (record, breaks) = self.fake.look(|world| {
                let at = usize::try_from(next.get() - 1).expect("it is small");
                (world.log.get(at).cloned(), world.read_breaks_after == Some(given))
            });
            if breaks {
                return Err(Broken);
            }
            match record {
                Some(record) => {
                    // What was given before is sent as well, as a careless server would.
                    let repeated = WireRecord { lsn: Lsn::new(next.get() - 1), ..record.clone() };
                    next = next.plus(1);
                    given += 1;
                    let records = if given > 1 { vec![repeated, record] } else { vec![record] };
                    self.say(&Response::Records(records), answers).await?;
                }
                None if follows => {
                    changed.await;
                    if !self.fake.look(|world| world.up.contains(&self.address)) {
                        return Err(Broken);
                    }
                }
                None => return self.say(&Response::End(next), answers).await,
            }
        }
    }
}

impl World {
    /// Forgets who has appended what.
    pub(super) fn forget(&mut self) {
        self.producers.clear();
    }

    /// Where each producer goes on.
    pub(super) fn producers_next(&self) -> Vec<u64> {
        self.producers.values().map(|producer| producer.next).collect()
    }

    fn append(
        &mut self,
        expected: Option<Lsn>,
        sequence: Option<Sequence>,
        records: Vec<Vec<u8>>,
    ) -> Result<(Lsn, Lsn), (Outcome, Reason)> {
        let count = u64::try_from(records.len()).expect("it is small");
        let next = Lsn::FIRST.plus(u64::try_from(self.log.len()).expect("it is small"));
        if let Some(sequence) = sequence {
            let known = self.producers.get(&sequence.producer_id);
            if let Some(first) = known.and_then(|known| known.appends.get(&sequence.first)) {
                return Ok((*first, first.plus(count)));
            }
            if known.map_or(0, |known| known.next) != sequence.first {
                return Err((Outcome::Final, Reason::UnknownProducer));
            }
        }
        if expected.is_some_and(|expected| expected != next) {
            return Err((Outcome::Final, Reason::Unexpected(next)));
        }
        if let Some(sequence) = sequence {
            let known = self.producers.entry(sequence.producer_id).or_default();
            known.appends.insert(sequence.first, next);
            known.next = sequence.first + count;
        }
        for (lsn, data) in (next.get()..).zip(records) {
            self.log.push(WireRecord {
                lsn: Lsn::new(lsn),
                epoch: Epoch::new(1),
                time_ms: 0,
                data,
            });
        }
        Ok((next, next.plus(count)))
    }
}

fn failed(outcome: Outcome, reason: Reason) -> Response {
    Response::Failed(Failure { outcome, reason, text: "the fake says no".to_owned() })
}
