//! Clients, and what they are told and shown.
//!
//! Owns the appends: at which level, and whether they are wanted at one LSN only; the reads; and what clients remember.
//! The answers are those of the server: a record has reached its level when it has done so in the epoch in which it was
//! taken, and else its client does not know what became of it.

use cairnlog_engine::{Epoch, Lsn, Ticket};

use super::driving::is_final;
use super::{AFTER_MS, Event, FAULTS_MS, Live, Operation, World};
use crate::protocol::action::Notice;
use crate::protocol::node_id::NodeId;
use crate::sim::Broken;

/// Of a thousand appends so many are answered when they are durable on the leader.
const LOCAL_PER_MILLE: u64 = 300;
/// Of a thousand appends so many are wanted at one LSN only.
const EXPECTING_PER_MILLE: u64 = 200;
/// Between two reads there are at most so many milliseconds.
const READ_MS_MAX: u64 = 60;

/// What a client waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Local,
    Quorum,
}

/// A record whose client waits.
pub(super) struct Waiting {
    wanted: Wanted,
    lsn: Lsn,
    /// In which it was taken.
    epoch: Epoch,
    level: Level,
    /// Until the write of the record has ended.
    ticket: Option<Ticket>,
}

/// What a client has appended.
#[derive(Clone, Debug)]
struct Wanted {
    /// Of the record, among all that were ever appended.
    number: u64,
    record: Vec<u8>,
    /// The only LSN that it may get.
    expected_lsn: Option<Lsn>,
}

/// What clients remember.
#[derive(Debug, Default)]
pub(super) struct Clients {
    last_number: u64,
    /// Up to where each of those who read was shown what is committed.
    shown: [Lsn; 3],
    /// An append at one LSN of which its client does not know what became of it.
    expecting: Option<Wanted>,
}

impl Live {
    /// What was appended before a sync that has ended is durable now, or was refused.
    pub(super) fn settle(&mut self) {
        for mut waiting in std::mem::take(&mut self.waiting) {
            if waiting.ticket.take().is_some_and(|ticket| ticket.wait().is_err()) {
                self.refused.push(waiting);
            } else {
                self.waiting.push_back(waiting);
            }
        }
    }

    fn waits_for(&self, number: u64) -> bool {
        self.waiting.iter().any(|waiting| waiting.wanted.number == number)
    }

    /// The records that have reached their levels, or whose epoch has ended.
    fn take_answered(&mut self) -> Vec<(bool, Waiting)> {
        let (led, durable) = (self.node.led_epoch(), self.durable);
        let commit_lsn = self.node.commit_lsn();
        let mut answered = Vec::new();
        for waiting in std::mem::take(&mut self.waiting) {
            let is_durable = waiting.ticket.is_none() && waiting.lsn < durable.lsn;
            let is_there =
                is_durable && (waiting.level == Level::Local || waiting.lsn < commit_lsn);
            if led != Some(waiting.epoch) {
                answered.push((false, waiting));
            } else if is_there {
                answered.push((true, waiting));
            } else {
                self.waiting.push_back(waiting);
            }
        }
        answered
    }
}

impl World {
    pub(super) fn committed(&mut self, id: NodeId, lsn: Lsn) -> Result<(), Broken> {
        let live = self.places.get_mut(&id).and_then(|place| place.live.as_mut());
        let live = live.expect("it acts");
        live.storage.replica().set_commit_lsn(lsn);
        self.checker.handle_commit(id, live.storage.replica(), lsn)?;
        self.report.trace = self.report.trace.rotate_left(5) ^ lsn.get() ^ (id.get() << 40);
        self.answer(id)
    }

    /// Tells clients what has become of their records.
    pub(super) fn answer(&mut self, id: NodeId) -> Result<(), Broken> {
        let Some(live) = self.live(id) else { return Ok(()) };
        let (refused, answered) = (std::mem::take(&mut live.refused), live.take_answered());
        for Waiting { wanted, .. } in refused {
            self.refuse(&wanted);
        }
        let incarnation = self.places[&id].incarnation;
        for (is_there, Waiting { wanted, lsn, epoch, level, .. }) in answered {
            if !is_there {
                continue;
            }
            self.clients.expecting.take_if(|known| known.number == wanted.number);
            if wanted.expected_lsn.is_some_and(|expected| expected != lsn) {
                return Err(Broken(format!("node {id} stored a record at {lsn}: {wanted:?}")));
            }
            match level {
                Level::Quorum => self.checker.handle_acknowledged(lsn, wanted.record)?,
                Level::Local => {
                    self.checker.handle_local((lsn, epoch), wanted.record, incarnation);
                }
            }
        }
        Ok(())
    }

    /// A client hears that there was no room for its record, and does not want it any more.
    fn refuse(&mut self, wanted: &Wanted) {
        self.clients.expecting.take_if(|known| known.number == wanted.number);
        // What is wanted at one LSN may have been sent to another node as well, which took it.
        if wanted.expected_lsn.is_none() {
            self.checker.handle_refused(wanted.number);
        }
    }

    pub(super) fn notice(&mut self, id: NodeId, notice: Notice) -> Result<(), Broken> {
        self.tell(id, || format!("{notice:?}"));
        match notice {
            Notice::Leads(_) => {
                self.report.epochs += 1;
                let live = self.places.get(&id).and_then(|place| place.live.as_ref());
                let replica = live.expect("it acts").storage.replica();
                self.checker.handle_leads(id, replica)?;
            }
            Notice::Misbehaves(peer) => {
                return Err(Broken(format!("node {peer} misbehaves, says node {id}")));
            }
            Notice::CameWithLess(peer) if !self.lost.contains(&peer) => {
                return Err(Broken(format!("node {peer} has lost something, says node {id}")));
            }
            Notice::TooFarBehind(peer) => {
                return Err(Broken(format!("node {peer} is too far behind node {id}")));
            }
            _ => {}
        }
        Ok(())
    }

    /// A client appends to whoever it thinks leads.
    pub(super) fn append(&mut self) -> Result<(), Broken> {
        if self.now_ms > FAULTS_MS + AFTER_MS {
            return Ok(());
        }
        for id in self.ids() {
            let now_ms = self.now_ms;
            let Some(live) = self.live(id) else { continue };
            let Some(epoch) = live.node.led_epoch() else { continue };
            if live.paused_ms > now_ms || live.waiting.len() > 50 {
                continue;
            }
            let wanted = self.next_wanted(id);
            let is_local = self.random.per_mille(LOCAL_PER_MILLE);
            let level = if is_local { Level::Local } else { Level::Quorum };
            self.submit(id, wanted, level, epoch)?;
            self.act(id)?;
        }
        let later = self.now_ms + 1 + self.random.below(self.append_ms_max);
        self.at(later, Event::Append);
        Ok(())
    }

    /// What a client appends next: perhaps at one LSN only, and again when it does not know what became of it.
    fn next_wanted(&mut self, id: NodeId) -> Wanted {
        let bytes = usize::try_from(8 + self.random.below(3000)).unwrap_or(8);
        let expects = self.random.per_mille(EXPECTING_PER_MILLE);
        let live = self.places.get(&id).and_then(|place| place.live.as_ref());
        let live = live.expect("it leads");
        let end_lsn = live.storage.replica().log().end_lsn();
        let mut expected_lsn = expects.then_some(end_lsn);
        if let Some(before) = self.clients.expecting.take_if(|_| expects) {
            let is_past = before.expected_lsn < expected_lsn && !live.waits_for(before.number);
            if before.expected_lsn == expected_lsn {
                self.clients.expecting = Some(before.clone());
                return before;
            }
            if !is_past {
                // It may still be taken: the client asks again later.
                self.clients.expecting = Some(before);
                expected_lsn = None;
            }
        }
        self.clients.last_number += 1;
        let number = self.clients.last_number;
        let mut record = number.to_le_bytes().to_vec();
        record.resize(bytes, number.to_le_bytes()[0]);
        let wanted = Wanted { number, record, expected_lsn };
        if expected_lsn.is_some() {
            self.clients.expecting = Some(wanted.clone());
        }
        wanted
    }

    fn submit(
        &mut self,
        id: NodeId,
        wanted: Wanted,
        level: Level,
        epoch: Epoch,
    ) -> Result<(), Broken> {
        let live = self.live(id).expect("it leads");
        let failed = |error| Broken(format!("node {id} does not append: {error}"));
        let log = live.storage.replica().log();
        match log.submit(&wanted.record) {
            Ok(ticket) => {
                let lsn = ticket.lsns_if_durable().start;
                let ticket = Some(ticket);
                live.waiting.push_back(Waiting { wanted, lsn, epoch, level, ticket });
            }
            Err(error) if is_final(&error) => return Err(failed(error)),
            // There is no room, which the client hears at once.
            Err(_) => self.refuse(&wanted),
        }
        let live = self.live(id).expect("it leads");
        if let Err(error) = live.storage.replica().place_all()
            && is_final(&error)
        {
            return Err(failed(error));
        }
        live.node.handle_more();
        if !live.queue.iter().skip(1).any(|queued| *queued == Operation::Sync) {
            self.queue(id, Operation::Sync);
        }
        Ok(())
    }

    /// A client reads what is committed, from any node that has what it was shown before.
    pub(super) fn read_as_client(&mut self) -> Result<(), Broken> {
        let later = self.now_ms + 1 + self.random.below(READ_MS_MAX);
        self.at(later, Event::Read);
        let (ids, readers) = (self.ids(), [0, 1, 2]);
        let (id, reader, at) =
            (self.random.pick(&ids), self.random.pick(&readers), self.random.number());
        let live = self.places.get(&id).and_then(|place| place.live.as_ref());
        let Some(live) = live.filter(|live| live.paused_ms <= self.now_ms) else { return Ok(()) };
        let replica = live.storage.replica();
        let end = replica.commit_lsn().min(replica.log().durable_lsn());
        let shown = &mut self.clients.shown[reader];
        if end <= Lsn::FIRST || end < *shown {
            return Ok(());
        }
        *shown = end;
        let count = end.get() - 1;
        for lsn in [Lsn::new(count), Lsn::new(1 + at % count)] {
            let read = replica.log().read(lsn);
            let record = read.map_err(|e| Broken(format!("node {id} does not read {lsn}: {e}")))?;
            self.checker.handle_shown(id, lsn, record.bytes())?;
        }
        self.report.reads += 2;
        Ok(())
    }
}
