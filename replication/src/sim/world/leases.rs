//! Leases of simulated clusters: all nodes have the same clock here.
//!
//! Owns the comparison of those that lead.

use super::World;
use crate::sim::Broken;

impl World {
    /// E1: while a leader holds a lease no other one leads a later epoch.
    pub(super) fn check_leases(&self) -> Result<(), Broken> {
        let lives = self.places.values().filter_map(|place| place.live.as_ref());
        let leaders = lives.filter_map(|live| Some((live.node.led_epoch()?, &live.node)));
        let newest = leaders.clone().map(|(epoch, _)| epoch).max();
        for (epoch, node) in leaders {
            if Some(epoch) < newest && node.holds_lease(self.now_ms) {
                let text =
                    format!("the leader of epoch {epoch} holds a lease, and a later one began");
                return Err(Broken(text));
            }
        }
        Ok(())
    }
}
