//! A client that appends numbered records at `quorum`, for as long as a test wants, and keeps a journal.
//!
//! Owns what a client may conclude from each answer, and the check of a log against it: a record is there
//! once if it was acknowledged, at the LSN that was said; once more, perhaps, for each attempt of which the
//! outcome is not known; and not at all for attempts that were refused or not made.
//!
//! Bounds: [`IN_FLIGHT`] appends; each ends by [`DEADLINE`]. Short records come a [`PAUSE`] apart.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cairnlog_replication::client::{AppendOptions, Appended, Client, ClientConfig, ClientError};
use cairnlog_replication::wire::request::{Ack, Outcome};

use crate::common::serving::{PATIENCE, within};
use crate::network::{HEALED, Network, Spot};
use crate::replicas::{Cluster, NODES, by_lsn};

const IN_FLIGHT: usize = 32;
/// Enough to see what happens, and to leave the machine to what is tested.
const PAUSE: Duration = Duration::from_millis(1);
/// Of every call.
pub(crate) const DEADLINE: Duration = Duration::from_secs(2);
/// What a call may take beyond its deadline, on a machine that is busy.
const LATE: Duration = Duration::from_secs(5);

/// What a client knows of one record.
#[derive(Clone, Debug, Default)]
struct Fate {
    acknowledged: Option<u64>,
    /// Attempts whose outcome is not known.
    unknown: usize,
}

/// What a client knows of all its records.
#[derive(Default)]
struct Journal {
    fates: Vec<Fate>,
    /// Those to be sent again.
    again: VecDeque<usize>,
    acknowledged: u64,
    unknown: u64,
    /// The longest that any call took.
    longest: Duration,
}

impl Journal {
    /// The number of the next record to send.
    fn next(&mut self) -> usize {
        self.again.pop_front().unwrap_or_else(|| {
            self.fates.push(Fate::default());
            self.fates.len() - 1
        })
    }

    fn note(&mut self, number: usize, answer: Result<Appended, ClientError>) {
        match answer {
            Ok(appended) => {
                assert_eq!(appended.ack, Ack::Quorum, "nothing less was asked for");
                assert!(appended.replicas.len() >= 2, "{appended:?}");
                self.fates[number].acknowledged = Some(appended.lsns.start.get());
                self.acknowledged += 1;
            }
            Err(error) => {
                if error.outcome() == Outcome::Unknown {
                    self.fates[number].unknown += 1;
                    self.unknown += 1;
                }
                self.again.push_back(number);
            }
        }
    }
}

struct Shared {
    name: &'static str,
    record_bytes: usize,
    pause: Duration,
    journal: Mutex<Journal>,
    stop: AtomicBool,
}

/// See the module.
pub(crate) struct Producer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Producer {
    /// Begins to append, from this spot, with short records.
    pub(crate) fn start(cluster: &Cluster<Network>, name: &'static str, spot: Spot) -> Producer {
        Producer::begin(cluster, name, spot, (100, PAUSE))
    }

    /// The same with records of so many bytes, as fast as they are taken.
    pub(crate) fn with(
        cluster: &Cluster<Network>,
        name: &'static str,
        spot: Spot,
        record_bytes: usize,
    ) -> Producer {
        Producer::begin(cluster, name, spot, (record_bytes, Duration::ZERO))
    }

    fn begin(
        cluster: &Cluster<Network>,
        name: &'static str,
        spot: Spot,
        (record_bytes, pause): (usize, Duration),
    ) -> Producer {
        let (journal, stop) = (Mutex::default(), AtomicBool::new(false));
        let shared = Arc::new(Shared { name, record_bytes, pause, journal, stop });
        let mut config = ClientConfig::new(cluster.addresses.clone());
        config.tls_folder = Some(cluster.certificates("client"));
        config.deadline = DEADLINE;
        let appending = Arc::clone(&shared);
        // A thread that is started at a spot is there.
        let thread = cluster.ground.at(spot, || {
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.unwrap().block_on(appending.run(&config));
            })
        });
        Producer { shared, thread: Some(thread) }
    }

    /// Records that were acknowledged so far.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.shared.journal.lock().unwrap().acknowledged
    }

    fn unknown(&self) -> u64 {
        self.shared.journal.lock().unwrap().unknown
    }

    /// Waits until so many more were acknowledged.
    pub(crate) fn wait_for(&self, records: u64, most: Duration) {
        let start = self.acknowledged();
        within(most, "acknowledgements", || match self.acknowledged() - start {
            more if more >= records => Ok(()),
            more => Err(format!("{}: {more} of {records}", self.shared.name)),
        });
    }

    /// Waits until it hears of an append that its outcome is not known.
    pub(crate) fn wait_for_doubt(&self) {
        let start = self.unknown();
        within(DEADLINE + LATE, "an outcome that is not known", || {
            if self.unknown() > start { Ok(()) } else { Err(format!("{start} so far")) }
        });
    }

    /// Sends again what is left, until all is acknowledged; what it knows then.
    pub(crate) fn end(mut self) -> Known {
        self.shared.stop.store(true, Ordering::SeqCst);
        let thread = self.thread.take().unwrap();
        within(PATIENCE, "the last acknowledgements", || {
            if thread.is_finished() { Ok(()) } else { Err(self.shared.name.to_owned()) }
        });
        thread.join().unwrap();
        let journal = std::mem::take(&mut *self.shared.journal.lock().unwrap());
        let Journal { acknowledged, unknown, longest, .. } = journal;
        let name = self.shared.name;
        println!("{name}: {acknowledged} acknowledged, {unknown} in doubt, longest {longest:?}");
        assert!(longest < DEADLINE + LATE, "{name}: a call took {longest:?}");
        assert!(acknowledged > 0, "{name} did something");
        let record_bytes = self.shared.record_bytes;
        Known { name, record_bytes, fates: journal.fates }
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        // Ends soon by itself.
        self.shared.stop.store(true, Ordering::SeqCst);
    }
}

impl Shared {
    fn is_done(&self) -> bool {
        self.stop.load(Ordering::SeqCst) && self.journal.lock().unwrap().again.is_empty()
    }

    async fn run(&self, config: &ClientConfig) {
        let started = Instant::now();
        while !self.is_done() {
            // A test that has failed waits for nobody.
            if self.stop.load(Ordering::SeqCst) && started.elapsed() > 4 * PATIENCE {
                return;
            }
            // A new client each time: what it knows of servers is learnt again.
            let began = Instant::now();
            let client = Client::connect(config.clone()).await;
            self.took(began);
            let Ok(client) = client else { continue };
            self.append(&client).await;
            client.close().await;
        }
    }

    fn took(&self, since: Instant) {
        let mut journal = self.journal.lock().unwrap();
        journal.longest = journal.longest.max(since.elapsed());
    }

    /// Appends until something fails, or all is done.
    async fn append(&self, client: &Client) {
        let options = AppendOptions { ack: Ack::Quorum, ..AppendOptions::default() };
        let Ok(mut appender) = client.appender(options).await else { return };
        let mut on_the_way: VecDeque<(usize, Instant)> = VecDeque::new();
        let mut failed = false;
        loop {
            while !failed && appender.in_flight() < IN_FLIGHT {
                if self.stop.load(Ordering::SeqCst) && self.is_done() {
                    break;
                }
                let number = self.journal.lock().unwrap().next();
                let record = line(self.name, number, self.record_bytes).into_bytes();
                if appender.submit(vec![record]).await.is_err() {
                    self.journal.lock().unwrap().again.push_back(number);
                    failed = true;
                } else {
                    on_the_way.push_back((number, Instant::now()));
                }
                if self.pause > Duration::ZERO {
                    tokio::time::sleep(self.pause).await;
                }
            }
            let Some(answer) = appender.next().await else { break };
            let (number, since) = on_the_way.pop_front().unwrap();
            self.took(since);
            failed |= answer.is_err();
            self.journal.lock().unwrap().note(number, answer);
        }
        assert!(on_the_way.is_empty(), "every append is answered");
    }
}

/// The record with this number.
fn line(name: &str, number: usize, bytes: usize) -> String {
    let head = format!("{name} {number} ");
    let rest = bytes.saturating_sub(head.len());
    head + &"x".repeat(rest)
}

/// What a client knew in the end.
pub(crate) struct Known {
    name: &'static str,
    record_bytes: usize,
    fates: Vec<Fate>,
}

impl Known {
    /// Attempts whose outcome is not known.
    pub(crate) fn in_doubt(&self) -> usize {
        self.fates.iter().map(|fate| fate.unknown).sum()
    }
}

/// Holds what a node shows, as [`Cluster::read`] gives it, against what clients know; besides their records
/// there are `others`, each once.
fn check(records: &str, clients: &[&Known], others: &[&str]) {
    let log = by_lsn(records);
    let lsns: Vec<u64> = log.keys().copied().collect();
    assert_eq!(lsns, (1..=log.len() as u64).collect::<Vec<_>>(), "no gap");
    let mut places: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for (lsn, record) in &log {
        places.entry(record).or_default().push(*lsn);
    }
    for client in clients {
        for (number, fate) in client.fates.iter().enumerate() {
            let record = line(client.name, number, client.record_bytes);
            let found = places.remove(&record[..]).unwrap_or_default();
            let is_there = fate.acknowledged.is_none_or(|lsn| found.contains(&lsn));
            let most = fate.unknown + usize::from(fate.acknowledged.is_some());
            let name = client.name;
            assert!(is_there && found.len() <= most, "{name} {number}: {fate:?}, found {found:?}");
        }
    }
    for other in others {
        assert_eq!(places.remove(other).map(|lsns| lsns.len()), Some(1), "{other}");
    }
    assert!(places.is_empty(), "nobody sent {:?}", places.keys().next());
}

/// Who leads, when all nodes have promised the same and say the same.
pub(crate) fn agreed_leader(cluster: &Cluster<Network>) -> Result<usize, String> {
    let statuses: Vec<_> = (1..=NODES).map(|number| cluster.status(number)).collect();
    let first = &statuses[0];
    let agrees = |key| statuses.iter().all(|status| status[key] == first[key]);
    let leader = statuses.iter().position(|status| status["role"] == "leader");
    match leader {
        Some(index) if agrees("epoch") && agrees("leader") => Ok(index + 1),
        _ => Err(format!("{statuses:?}")),
    }
}

/// All logs become the same by themselves, hold what was acknowledged, and are the same on disk.
pub(crate) fn compare(
    cluster: Cluster<Network>,
    leader: usize,
    clients: &[&Known],
    others: &[&str],
) {
    cluster.wait_until_equal_within(leader, HEALED);
    let log = cluster.read(leader);
    check(&log, clients, others);
    for number in 1..=NODES {
        assert!(cluster.read(number) == log, "node {number} shows what the leader does");
    }
    cluster.stop_and_compare(leader);
}
