//! Clients, and what they are told.
//!
//! Owns the appends, and which of them wait.

use cairnlog_engine::{Lsn, Ticket};

use super::driving::is_final;
use super::{AFTER_MS, Event, FAULTS_MS, Live, Operation, World};
use crate::protocol::action::Notice;
use crate::protocol::node_id::NodeId;
use crate::sim::Broken;

/// A record whose client waits.
pub(super) struct Waiting {
    /// Of the record, among all that were ever appended.
    number: u64,
    lsn: Lsn,
    record: Vec<u8>,
    /// Until the write of the record has ended.
    ticket: Option<Ticket>,
}

impl Live {
    /// What was appended before a sync that has ended is durable now, or was refused.
    pub(super) fn settle(&mut self) {
        for mut waiting in std::mem::take(&mut self.waiting) {
            if waiting.ticket.take().is_some_and(|ticket| ticket.wait().is_err()) {
                self.refused.push(waiting.number);
            } else {
                self.waiting.push_back(waiting);
            }
        }
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
        let Some(live) = self.places.get_mut(&id).and_then(|place| place.live.as_mut()) else {
            return Ok(());
        };
        self.checker.handle_refused(live.refused.drain(..));
        let commit_lsn = live.node.commit_lsn();
        while live.node.leads()
            && let Some(first) = live.waiting.front()
            && first.ticket.is_none()
            && first.lsn < commit_lsn
        {
            let Waiting { lsn, record, .. } = live.waiting.pop_front().expect("it is there");
            self.checker.handle_acknowledged(lsn, record)?;
        }
        Ok(())
    }

    pub(super) fn notice(&mut self, id: NodeId, notice: Notice) -> Result<(), Broken> {
        self.tell(id, || format!("{notice:?}"));
        match notice {
            Notice::Leads(_) => self.report.epochs += 1,
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
            let number = self.next_record;
            let bytes = usize::try_from(8 + self.random.below(3000)).unwrap_or(8);
            let Some(live) = self.live(id) else { continue };
            if !live.node.leads() || live.paused_ms > now_ms || live.waiting.len() > 50 {
                continue;
            }
            let mut record = number.to_le_bytes().to_vec();
            record.resize(bytes, number.to_le_bytes()[0]);
            self.next_record += 1;
            let live = self.live(id).expect("looked at above");
            let replica = live.storage.replica();
            let failed = |error| Broken(format!("node {id} does not append: {error}"));
            match replica.log().submit(&record) {
                Ok(ticket) => {
                    let lsn = ticket.lsns_if_durable().start;
                    live.waiting.push_back(Waiting { number, lsn, record, ticket: Some(ticket) });
                }
                Err(error) if is_final(&error) => return Err(failed(error)),
                // There is no room, which the client hears at once.
                Err(_) => self.checker.handle_refused([number]),
            }
            let live = self.live(id).expect("looked at above");
            if let Err(error) = live.storage.replica().place_all()
                && is_final(&error)
            {
                return Err(failed(error));
            }
            live.node.handle_more();
            let syncs = live.queue.iter().skip(1).any(|queued| *queued == Operation::Sync);
            if !syncs {
                self.queue(id, Operation::Sync);
            }
            self.act(id)?;
        }
        let later = self.now_ms + 1 + self.random.below(self.append_ms_max);
        self.at(later, Event::Append);
        Ok(())
    }
}
