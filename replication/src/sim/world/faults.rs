//! What goes wrong in a run, and how it ends.
//!
//! Owns the choice of faults: nodes are killed, lose power in the middle of an operation, pause, and are parted; an
//! operator has one of them lead, also when another one does.

use super::{Event, FAULTS_MS, GIVE_UP_MS, REST_MS, World};
use crate::protocol::node_id::NodeId;
use crate::sim::Broken;

impl World {
    /// Something goes wrong, or somebody is told to lead.
    pub(super) fn fault(&mut self) -> Result<(), Broken> {
        if self.is_healed() {
            return Ok(());
        }
        let later = self.now_ms + 1 + self.random.below(self.fault_ms_max);
        self.at(later, Event::Fault);
        let ids = self.ids();
        let id = self.random.pick(&ids);
        let nobody_leads =
            !self.places.values().any(|p| p.live.as_ref().is_some_and(|live| live.node.leads()));
        if nobody_leads || self.random.per_mille(self.stand_per_mille) {
            return self.stand(id);
        }
        self.report.faults += 1;
        match self.random.below(7) {
            0 => self.kill(id),
            1 | 2 => self.cut_power(id),
            3 | 4 => {
                let other = self.random.pick(&ids);
                let both = self.random.per_mille(600);
                self.network.cut(id, other);
                if both {
                    self.network.cut(other, id);
                }
            }
            5 => self.network.heal(),
            _ => {
                let until_ms = self.now_ms + self.random.below(1500);
                if let Some(live) = self.live(id) {
                    live.paused_ms = until_ms;
                }
            }
        }
        Ok(())
    }

    /// An operator has a node lead.
    fn stand(&mut self, id: NodeId) -> Result<(), Broken> {
        let now_ms = self.now_ms;
        if let Some(live) = self.live(id).filter(|live| live.paused_ms <= now_ms) {
            live.node.stand(now_ms);
            self.act(id)?;
        }
        Ok(())
    }

    /// The process ends; what it wrote is where it was.
    fn kill(&mut self, id: NodeId) {
        let Some(place) = self.places.get_mut(&id) else { return };
        if let Some(live) = place.live.take() {
            place.disk.kill_process();
            drop(live);
        }
        self.after_crash(id);
    }

    /// The power goes, in the middle of whatever the disk is about to do.
    fn cut_power(&mut self, id: NodeId) {
        let within = 1 + self.random.below(12);
        let seed = self.random.number();
        let Some(place) = self.places.get_mut(&id) else { return };
        if let Some(mut live) = place.live.take() {
            place.disk.cut_at(place.disk.operations() + within);
            while let Some(operation) = live.queue.pop_front() {
                if live.run(operation).is_err() {
                    break;
                }
            }
            drop(live);
            place.disk.restart(seed);
        }
        self.after_crash(id);
    }

    fn after_crash(&mut self, id: NodeId) {
        for other in self.ids() {
            self.network.disconnect(id, other);
            let later = self.now_ms + self.random.below(GIVE_UP_MS);
            self.at(later, Event::GiveUp { node: other, peer: id });
        }
        let later = self.now_ms + 50 + self.random.below(1500);
        self.at(later, Event::Start { node: id });
    }

    /// The faults are over: everybody comes back, and somebody leads.
    pub(super) fn heal(&mut self) -> Result<(), Broken> {
        self.network.heal();
        let ids = self.ids();
        for id in ids.clone() {
            self.start(id)?;
            for other in ids.clone() {
                self.at(self.now_ms + 2 * GIVE_UP_MS, Event::GiveUp { node: id, peer: other });
            }
        }
        let nobody_leads =
            !self.places.values().any(|p| p.live.as_ref().is_some_and(|live| live.node.leads()));
        if self.now_ms < FAULTS_MS + REST_MS / 2 {
            if nobody_leads || self.now_ms == FAULTS_MS + 3000 {
                let id = self.random.pick(&ids);
                self.stand(id)?;
            }
            self.at(self.now_ms + 1000, Event::Heal);
        }
        Ok(())
    }
}
