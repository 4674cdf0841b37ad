//! Clients, and what they are told.
//!
//! Owns the appends, and which of them wait.

use cairnlog_engine::Lsn;

use super::{Event, FAULTS_MS, Operation, QUIET_MS, REST_MS, World};
use crate::protocol::action::Notice;
use crate::protocol::node_id::NodeId;
use crate::sim::Broken;

impl World {
    pub(super) fn committed(&mut self, id: NodeId, lsn: Lsn) -> Result<(), Broken> {
        let live = self.places.get_mut(&id).and_then(|place| place.live.as_mut());
        let live = live.expect("it acts");
        live.storage.replica().set_commit_lsn(lsn);
        self.checker.handle_commit(id, live.storage.replica(), lsn)?;
        if live.node.leads() {
            let later = live.waiting.split_off(&lsn);
            for (lsn, record) in std::mem::replace(&mut live.waiting, later) {
                self.checker.handle_acknowledged(lsn, record)?;
            }
        }
        self.report.trace = self.report.trace.rotate_left(5) ^ lsn.get() ^ (id.get() << 40);
        Ok(())
    }

    pub(super) fn notice(&mut self, id: NodeId, notice: Notice) -> Result<(), Broken> {
        match notice {
            Notice::Leads(_) => self.report.epochs += 1,
            Notice::Misbehaves(peer) => {
                return Err(Broken(format!("node {peer} misbehaves, says node {id}")));
            }
            Notice::CameWithLess(peer) => {
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
        if self.now_ms > FAULTS_MS + REST_MS - QUIET_MS {
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
            let failed = |error| Broken(format!("node {id} does not append: {error}"));
            let ticket = live.storage.replica().log().submit(&record).map_err(failed)?;
            live.waiting.insert(ticket.lsns_if_durable().start, record);
            drop(ticket);
            live.storage.replica().place_all().map_err(failed)?;
            live.node.handle_more();
            let syncs = live.queue.iter().skip(1).any(|queued| *queued == Operation::Sync);
            self.next_record += 1;
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
