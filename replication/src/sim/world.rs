//! The run of a simulated cluster.
//!
//! Owns time, the order of events, and what happens to the nodes: they lose power, are killed, paused, parted,
//! and told to lead. All of it follows from the seed.
//!
//! Invariants
//!  W1. The same seed gives the same run.                              test `the_same_seed_gives_the_same_run`
//!
//! Units: milliseconds of simulated time.

mod clients;
mod config;
mod driving;
mod faults;
mod leases;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use cairnlog_engine::disk::sim::SimDisk;
use cairnlog_engine::{BegunEpoch, LeaderId, OpenError, Place as LogPlace, Replica};

use self::clients::{Clients, Waiting};
use self::driving::Lookup;
use super::check::{Broken, Checker};
use super::network::{Network, Weather};
use super::random::Random;
use crate::driver::storage::{Done, Operation, Storage};
use crate::protocol::history::Summary;
use crate::protocol::message::Message;
use crate::protocol::node::{Node, Settings};
use crate::protocol::node_id::NodeId;
use crate::wire::frame::{LENGTH_BYTES, decode};
use config::config;

/// Faults come until then; afterwards everything heals.
const FAULTS_MS: u64 = 20_000;
/// So long after that clients append.
const AFTER_MS: u64 = 4000;
/// So long after that the cluster may take to come to rest: a replica that was wiped gets the whole log in a small
/// window.
const REST_MS: u64 = 30_000;
/// It is looked at so often whether it has.
const REST_LOOK_MS: u64 = 250;
/// A connection to which nothing gets through is given up after at least so long.
const GIVE_UP_MS: u64 = 300;

/// What came of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Simulated time.
    pub milliseconds: u64,
    /// Events.
    pub events: u64,
    /// Faults of every kind: power cuts, kills, links cut and muted, pauses, slow and full and wiped disks, failed
    /// lookups.
    pub faults: u64,
    /// Epochs that somebody led.
    pub epochs: u64,
    /// Records whose clients were told that they are on a quorum.
    pub acknowledged: u64,
    /// Records whose clients were told that they are durable on their leader.
    pub local: u64,
    /// Records that clients were shown as committed.
    pub reads: u64,
    /// A number that follows from all that happened.
    pub trace: u64,
}

impl Report {
    /// Adds what came of another run; the order does not matter.
    pub fn add(&mut self, other: &Report) {
        self.milliseconds += other.milliseconds;
        self.events += other.events;
        self.faults += other.faults;
        self.epochs += other.epochs;
        self.acknowledged += other.acknowledged;
        self.local += other.local;
        self.reads += other.reads;
        self.trace = self.trace.wrapping_add(other.trace);
    }
}

#[derive(Clone, Debug)]
enum Event {
    Deliver {
        from: NodeId,
        to: NodeId,
        number: u64,
        frame: Vec<u8>,
    },
    /// The disk of a node has finished the operation in front of its queue.
    Finish {
        node: NodeId,
        life: u64,
    },
    /// The node hears of it.
    Ended {
        node: NodeId,
        life: u64,
    },
    /// What a node looks up for others is found, in the order in which it was asked for.
    Look {
        node: NodeId,
        life: u64,
    },
    Timeout {
        node: NodeId,
        life: u64,
    },
    /// A pause may be over.
    Wake {
        node: NodeId,
        life: u64,
    },
    Start {
        node: NodeId,
    },
    Connect {
        one: NodeId,
        other: NodeId,
    },
    GiveUp {
        node: NodeId,
        peer: NodeId,
    },
    /// A disk has room again.
    MakeRoom {
        node: NodeId,
    },
    Append,
    Read,
    Fault,
    Heal,
    /// Everything may have come to rest.
    Rest,
}

/// A node whose process runs.
struct Live {
    life: u64,
    node: Node,
    storage: Storage,
    /// What the loop knows of its log, which may have gone on.
    mine: Summary,
    durable: LogPlace,
    queue: VecDeque<Operation>,
    /// The disk does nothing before.
    disk_free_ms: u64,
    /// Until then the disk takes up to seconds for everything.
    slow_ms: u64,
    /// Ends of operations that the node has not heard of.
    ended: VecDeque<Done>,
    lookups: VecDeque<Lookup>,
    /// What has come and was not read: from whom, over which connection.
    inbox: VecDeque<(NodeId, u64, Message)>,
    /// Records of clients that wait, in the order of their LSNs.
    waiting: VecDeque<Waiting>,
    /// Records that the log refused, of which the clients are told next.
    refused: Vec<Waiting>,
    /// Until when it does nothing.
    paused_ms: u64,
    due_ms: Option<u64>,
}

struct Place {
    disk: SimDisk,
    /// Of the directory on it.
    incarnation: u128,
    /// Whether there is an end to the room on it.
    is_full: bool,
    /// The same disk at an earlier time.
    older: Option<SimDisk>,
    live: Option<Live>,
}

/// See the module.
pub struct World {
    random: Random,
    now_ms: u64,
    events: BTreeMap<(u64, u64), Event>,
    next_event: u64,
    network: Network,
    places: BTreeMap<NodeId, Place>,
    checker: Checker,
    report: Report,
    /// The directories that count.
    members: BTreeMap<NodeId, u128>,
    /// Nodes whose directory was wiped, or is an older one: so many that the others still commit.
    lost: BTreeSet<NodeId>,
    /// Whether directories are put back as they were.
    has_older_copies: bool,
    /// Who is told what happens, line by line.
    listener: Option<fn(&str)>,
    next_life: u64,
    clients: Clients,
    /// Between two faults there are at most so many milliseconds.
    fault_ms_max: u64,
    /// So often in a thousand times somebody is told to lead instead.
    stand_per_mille: u64,
    /// Between two appends there are at most so many milliseconds.
    append_ms_max: u64,
    window_bytes: u64,
}

impl Place {
    /// A disk with a directory, as a cluster is made of.
    fn new(seed: u64) -> Place {
        let disk = SimDisk::new(seed);
        let (replica, _) = Replica::open_on(Arc::new(disk.clone()), config()).expect("it is new");
        let incarnation = replica.identity().incarnation;
        Place { disk, incarnation, is_full: false, older: None, live: None }
    }
}

impl World {
    /// A cluster of so many nodes, all of them new.
    #[must_use]
    pub fn new(seed: u64, nodes: u64) -> World {
        let mut random = Random::new(seed);
        let delay_ms_min = 1 + random.below(3);
        let weather = Weather {
            delay_ms_min,
            delay_ms_max: delay_ms_min + random.below(20),
            loss_per_mille: random.below(200),
        };
        let fault_ms_max = random.pick(&[800, 300, 100]);
        let stand_per_mille = random.pick(&[150, 400]);
        // Faster appends with a window that lets a follower keep up.
        let (window_bytes, append_ms_max) = random.pick(&[(8 << 10, 30), (128 << 10, 10)]);
        let ids: Vec<NodeId> = (1..=nodes).filter_map(NodeId::new).collect();
        let places: BTreeMap<NodeId, Place> =
            ids.iter().map(|id| (*id, Place::new(seed ^ id.get()))).collect();
        let members = places.iter().map(|(id, place)| (*id, place.incarnation)).collect();
        let mut world = World {
            random,
            now_ms: 0,
            events: BTreeMap::new(),
            next_event: 0,
            network: Network::new(weather),
            places,
            checker: Checker::default(),
            report: Report::default(),
            members,
            lost: BTreeSet::new(),
            has_older_copies: false,
            listener: None,
            next_life: 1,
            clients: Clients::default(),
            fault_ms_max,
            stand_per_mille,
            append_ms_max,
            window_bytes,
        };
        for id in ids {
            world.at(0, Event::Start { node: id });
        }
        world.at(500, Event::Append);
        world.at(500, Event::Read);
        world.at(1000, Event::Fault);
        world.at(FAULTS_MS, Event::Heal);
        world.at(FAULTS_MS + AFTER_MS + REST_LOOK_MS, Event::Rest);
        world
    }

    /// Directories are also put back as they were some time before: nodes that do not hold what others have shown against
    /// them lose what they had acknowledged.
    #[must_use]
    pub fn with_older_copies(mut self) -> World {
        self.has_older_copies = true;
        self
    }

    /// What happens is told, line by line.
    #[must_use]
    pub fn with_listener(mut self, listener: fn(&str)) -> World {
        self.listener = Some(listener);
        self
    }

    /// Runs to the end.
    ///
    /// # Errors
    /// The first promise that was broken.
    pub fn run(mut self) -> Result<Report, Broken> {
        while let Some(((time_ms, _), event)) = self.events.pop_first() {
            self.now_ms = time_ms;
            self.report.events += 1;
            if matches!(event, Event::Rest) {
                if time_ms > FAULTS_MS + AFTER_MS + REST_MS || self.is_at_rest().is_ok() {
                    break;
                }
                self.at(time_ms + REST_LOOK_MS, Event::Rest);
            } else {
                self.handle(event)?;
            }
        }
        self.check_end()?;
        self.report.milliseconds = self.now_ms;
        self.report.acknowledged = self.checker.acknowledged() as u64;
        self.report.local = self.checker.local();
        self.report.trace ^= self.random.number();
        Ok(self.report)
    }

    /// Of a node, or of one and another.
    fn tell(&self, id: NodeId, what: impl FnOnce() -> String) {
        if let Some(listener) = self.listener {
            listener(&format!("{:>6} node {id} {}", self.now_ms, what()));
        }
    }

    fn at(&mut self, time_ms: u64, event: Event) {
        self.next_event += 1;
        self.events.insert((time_ms, self.next_event), event);
    }

    fn ids(&self) -> Vec<NodeId> {
        self.places.keys().copied().collect()
    }

    fn live(&mut self, node: NodeId) -> Option<&mut Live> {
        self.places.get_mut(&node)?.live.as_mut()
    }

    fn is_healed(&self) -> bool {
        self.now_ms >= FAULTS_MS
    }

    fn handle(&mut self, event: Event) -> Result<(), Broken> {
        match event {
            Event::Deliver { from, to, number, frame } => {
                let message = decode(&frame[LENGTH_BYTES..]);
                let message = message.map_err(|fault| Broken(format!("from node {from}: {fault}")));
                self.deliver(from, to, number, message?)?;
            }
            Event::Finish { node, life } => self.finish(node, life)?,
            Event::Ended { node, life } => self.ended(node, life)?,
            Event::Look { node, life } => self.look(node, life)?,
            Event::Timeout { node, life } => self.timeout(node, life)?,
            Event::Wake { node, life } => self.wake(node, life)?,
            Event::Start { node } => self.start(node)?,
            Event::Connect { one, other } => self.connect(one, other)?,
            Event::GiveUp { node, peer } => self.give_up(node, peer)?,
            Event::MakeRoom { node } => self.make_room(node),
            Event::Append => self.append()?,
            Event::Read => self.read_as_client()?,
            Event::Fault => self.fault()?,
            Event::Heal => self.heal()?,
            Event::Rest => {}
        }
        Ok(())
    }

    /// Opens a node's directory, and lets it look for the others.
    fn start(&mut self, id: NodeId) -> Result<(), Broken> {
        if self.live(id).is_some() {
            return Ok(());
        }
        let disk = self.places[&id].disk.clone();
        let replica = match Replica::open_on(Arc::new(disk), config()) {
            Ok((replica, _)) => replica,
            Err(OpenError::Full(_)) if self.places[&id].is_full => {
                self.at(self.now_ms + 200, Event::Start { node: id });
                return Ok(());
            }
            Err(error) => return Err(Broken(format!("node {id} does not open: {error}"))),
        };
        let storage = Storage::new(replica);
        let mut notes = storage.notes().ok_or_else(|| Broken(format!("node {id} has no notes")))?;
        if notes.members.is_empty() {
            notes.members.clone_from(&self.members);
        }
        let identity = storage.replica().identity();
        let (incarnation, nonce) = (identity.incarnation, identity.nonce);
        let settings = Settings {
            node: id,
            leader: LeaderId { node: id.get(), incarnation, nonce },
            members: notes.members,
            shown: notes.shown,
            window_bytes: self.window_bytes,
            heartbeat_interval_ms: 50,
            lease_ms: 250,
            standing_ms_max: 1000,
        };
        let mine = storage.summary();
        let node = Node::new(settings, &mine, self.now_ms);
        let life = self.next_life;
        self.next_life += 1;
        self.checker.handle_restart(id);
        let live = Live {
            life,
            node,
            storage,
            durable: mine.end,
            mine,
            queue: VecDeque::new(),
            disk_free_ms: 0,
            slow_ms: 0,
            ended: VecDeque::new(),
            lookups: VecDeque::new(),
            inbox: VecDeque::new(),
            waiting: VecDeque::new(),
            refused: Vec::new(),
            paused_ms: 0,
            due_ms: None,
        };
        self.tell(id, || format!("starts with {:?}", live.mine.end));
        self.places.get_mut(&id).expect("it is one of them").live = Some(live);
        for other in self.ids() {
            if other != id {
                let soon = self.now_ms + 1 + self.random.below(50);
                self.at(soon, Event::Connect { one: id, other });
            }
        }
        Ok(())
    }

    fn connect(&mut self, one: NodeId, other: NodeId) -> Result<(), Broken> {
        if self.live(one).is_none() {
            return Ok(());
        }
        if self.live(other).is_none() || !self.network.connect(self.now_ms, one, other) {
            let later = self.now_ms + 100 + self.random.below(200);
            self.at(later, Event::Connect { one, other });
            return Ok(());
        }
        for (node, peer) in [(one, other), (other, one)] {
            let live = self.live(node).expect("looked at above");
            live.mine = live.storage.summary();
            live.node.handle_connected(peer, &live.mine);
            self.act(node)?;
        }
        Ok(())
    }

    /// A side looks whether its connection is still one.
    fn give_up(&mut self, node: NodeId, peer: NodeId) -> Result<(), Broken> {
        if !self.network.is_stale(node, peer) {
            return Ok(());
        }
        self.network.disconnect(node, peer);
        if let Some(live) = self.live(node) {
            live.mine = live.storage.summary();
            live.mine = live.storage.summary();
            live.node.handle_disconnected(peer, &live.mine);
            self.act(node)?;
            let soon = self.now_ms + 1 + self.random.below(100);
            self.at(soon, Event::Connect { one: node, other: peer });
        }
        Ok(())
    }

    fn deliver(
        &mut self,
        from: NodeId,
        to: NodeId,
        number: u64,
        message: Message,
    ) -> Result<(), Broken> {
        let now_ms = self.now_ms;
        if !self.network.delivers(from, to, &message, number) {
            self.look_at(from, to);
            return Ok(());
        }
        let Some(live) = self.live(to) else { return Ok(()) };
        live.inbox.push_back((from, number, message));
        if live.paused_ms > now_ms {
            let (later, life) = (live.paused_ms, live.life);
            self.at(later, Event::Wake { node: to, life });
            return Ok(());
        }
        let life = live.life;
        self.wake(to, life)
    }

    /// A node reads what has come, in the order in which it came.
    fn wake(&mut self, id: NodeId, life: u64) -> Result<(), Broken> {
        let now_ms = self.now_ms;
        loop {
            let Some(live) = self.live(id).filter(|live| live.life == life) else { return Ok(()) };
            if live.paused_ms > now_ms {
                return Ok(());
            }
            let Some((from, number, message)) = live.inbox.pop_front() else { return Ok(()) };
            // Its own side of the connection may be another one by now.
            if self.network.is_over(id, from, number) {
                continue;
            }
            self.tell(id, || format!("gets from {from}: {}", brief(&message)));
            let live = self.live(id).expect("looked at above");
            live.handle_message(now_ms, from, message);
            self.act(id)?;
        }
    }

    /// Both sides find out, each at its own time, that nothing gets through.
    fn look_at(&mut self, one: NodeId, other: NodeId) {
        for (node, peer) in [(one, other), (other, one)] {
            let later = self.now_ms + GIVE_UP_MS + self.random.below(GIVE_UP_MS);
            self.at(later, Event::GiveUp { node, peer });
        }
    }

    fn timeout(&mut self, id: NodeId, life: u64) -> Result<(), Broken> {
        let now_ms = self.now_ms;
        let Some(live) = self.live(id).filter(|live| live.life == life) else { return Ok(()) };
        live.due_ms = None;
        if live.paused_ms > now_ms {
            let later = live.paused_ms;
            live.due_ms = Some(later);
            self.at(later, Event::Timeout { node: id, life });
            return Ok(());
        }
        live.node.handle_timeout(now_ms);
        self.act(id)?;
        self.check_leases()
    }

    /// At rest there is one leader, and everybody has what it has.
    fn is_at_rest(&self) -> Result<(), Broken> {
        let leaders: Vec<NodeId> = self
            .places
            .iter()
            .filter(|(_, place)| place.live.as_ref().is_some_and(|live| live.node.leads()))
            .map(|(id, _)| *id)
            .collect();
        let [leader] = leaders[..] else {
            return Err(Broken(format!("in the end there is not one leader: {leaders:?}")));
        };
        let commit_lsn = |place: &Place| place.live.as_ref().map(|live| live.node.commit_lsn());
        let commit_lsn = commit_lsn(&self.places[&leader]).expect("it leads");
        for (id, place) in &self.places {
            let Some(live) = place.live.as_ref() else {
                return Err(Broken(format!("node {id} did not come back")));
            };
            let replica = live.storage.replica();
            let ends = (replica.log().durable_lsn(), live.node.commit_lsn());
            if ends != (commit_lsn, commit_lsn) {
                let text = format!("in the end node {id} has {ends:?}, the leader {commit_lsn}");
                return Err(Broken(text));
            }
        }
        Ok(())
    }

    /// And nothing is missing.
    fn check_end(&mut self) -> Result<(), Broken> {
        self.is_at_rest()?;
        for (id, place) in &self.places {
            let live = place.live.as_ref().expect("it is at rest");
            if live.node.leads() {
                self.checker.handle_leads(*id, live.storage.replica())?;
            }
            self.checker.check_all(*id, live.storage.replica())?;
        }
        Ok(())
    }
}

/// A message without the bytes that it brings.
fn brief(message: &Message) -> String {
    match message {
        Message::Batches { stream, after, end, bytes, .. } => {
            format!("Batches {stream} {after:?} to {end:?}, {} bytes", bytes.len())
        }
        Message::Hello { summary, .. } => {
            let begun = |begun: &BegunEpoch| {
                (begun.epoch.get(), begun.start.incarnation % 10_000, begun.after)
            };
            let epochs: Vec<_> = summary.epochs.iter().map(begun).collect();
            format!("Hello {:?} {:?} {epochs:?}", summary.promised, summary.end)
        }
        other => format!("{other:?}"),
    }
}
