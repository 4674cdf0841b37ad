//! What goes wrong in a run, and how it ends.
//!
//! Owns the choice of faults: nodes are killed, lose power in the middle of an operation, pause, and are parted, or
//! do not hear heartbeats; disks are slow, are full for a while, are wiped, or hold again what they held before; an
//! operator has one of the nodes lead, also when another one does.
//!
//! Bounds: no more nodes lose what they had than a record on a quorum survives.

use cairnlog_engine::disk::sim::PowerCut;

use super::{Event, FAULTS_MS, GIVE_UP_MS, Place, World};
use crate::protocol::node_id::NodeId;
use crate::protocol::view::RoleKind;
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
        let fault = self.random.below(24);
        self.tell(id, || format!("has fault {fault}"));
        match fault {
            0 | 1 => self.kill(id),
            2..=6 => self.cut_power(id),
            7..=12 => {
                let other = self.random.pick(&ids);
                let both = self.random.per_mille(600);
                self.network.cut(id, other);
                if both {
                    self.network.cut(other, id);
                }
            }
            13..=15 => self.network.heal(),
            16..=18 => {
                let until_ms = self.now_ms + self.random.below(1500);
                if let Some(live) = self.live(id) {
                    live.paused_ms = until_ms;
                }
            }
            19 | 20 => {
                for other in ids {
                    self.network.mute(id, other);
                }
            }
            21 => {
                let until_ms = self.now_ms + self.random.below(3000);
                if let Some(live) = self.live(id) {
                    live.slow_ms = until_ms;
                }
            }
            22 => self.fill(id),
            _ => self.lose(id),
        }
        Ok(())
    }

    /// A disk has only so much room left, for a while.
    fn fill(&mut self, id: NodeId) {
        let bytes = self.random.below(200 << 10);
        let later = self.now_ms + 100 + self.random.below(4000);
        let Some(place) = self.places.get_mut(&id) else { return };
        place.is_full = true;
        place.disk.set_free_bytes(Some(bytes));
        self.at(later, Event::MakeRoom { node: id });
    }

    pub(super) fn make_room(&mut self, id: NodeId) {
        let Some(place) = self.places.get_mut(&id) else { return };
        place.is_full = false;
        place.disk.set_free_bytes(None);
    }

    /// A node comes back with another directory: an empty one or, where that is wanted, what it had before.
    fn lose(&mut self, id: NodeId) {
        let lost_max = (self.places.len() - 1) / 2;
        if !self.lost.contains(&id) && self.lost.len() >= lost_max {
            return;
        }
        let seed = self.random.number();
        let puts_back = self.has_older_copies && self.random.per_mille(700);
        let Some(place) = self.places.get_mut(&id) else { return };
        let incarnation = place.incarnation;
        if puts_back {
            let copy = place.disk.after(PowerCut::KeepingAll);
            let Some(older) = place.older.replace(copy) else { return };
            // What is random differs from then on.
            older.set_seed(seed);
            place.disk = older;
            place.live = None;
        } else {
            *place = Place::new(seed);
        }
        self.checker.handle_lost(incarnation);
        self.lost.insert(id);
        self.after_crash(id);
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
            self.make_room(id);
            self.start(id)?;
            for other in ids.clone() {
                self.at(self.now_ms + 2 * GIVE_UP_MS, Event::GiveUp { node: id, peer: other });
            }
        }
        let is_led = |place: &Place| {
            let role = place.live.as_ref().map(|live| live.node.role());
            matches!(role, Some(RoleKind::Leader | RoleKind::Candidate))
        };
        // Who stands may have too much to fetch to come to lead in time: it has it, the next time.
        if !self.places.values().any(is_led) || self.now_ms == FAULTS_MS + 3000 {
            let counts = ids.into_iter().filter(|id| !self.lost.contains(id));
            let counts: Vec<NodeId> = counts.collect();
            let id = self.random.pick(&counts);
            self.stand(id)?;
        }
        self.at(self.now_ms + 1000, Event::Heal);
        Ok(())
    }
}
