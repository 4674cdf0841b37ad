//! What must be true of every run.
//!
//! Owns what clients were told, and what each node called committed.
//!  P1 what was acknowledged at quorum is there in the end, at its LSN; what was acknowledged at local is in the log of
//!     whoever leads later, unless another one took over in between;
//!  P6 replicas hold the same;
//!  P10 what was refused is nowhere, and nothing is there twice;
//!  P7 there is one value for each LSN that anybody ever called committed, or showed to a client as such.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use cairnlog_engine::{Epoch, Lsn, Replica};

use crate::protocol::history::EPOCHS_MAX;
use crate::protocol::node_id::NodeId;

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Broken(pub String);

/// What one replica has acknowledged by itself.
#[derive(Debug)]
struct Local {
    record: Vec<u8>,
    incarnation: u128,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Checker {
    /// By LSN: what somebody called committed.
    committed: BTreeMap<Lsn, Vec<u8>>,
    /// By LSN: what a client was told is stored.
    acknowledged: BTreeMap<Lsn, Vec<u8>>,
    /// By LSN and epoch: what a client was told is durable on the leader, until it is committed or has left the log.
    local: BTreeMap<(Lsn, Epoch), Local>,
    local_count: u64,
    /// Epochs that somebody has begun, by which directory.
    led: BTreeSet<(Epoch, u128)>,
    /// Numbers of records of which a client was told that they are not in the log.
    refused: BTreeSet<u64>,
    /// Up to where a node of this life was looked at.
    seen: BTreeMap<NodeId, Lsn>,
}

impl Checker {
    pub(super) fn handle_restart(&mut self, node: NodeId) {
        self.seen.remove(&node);
    }

    pub(super) fn acknowledged(&self) -> usize {
        self.acknowledged.len()
    }

    pub(super) fn local(&self) -> u64 {
        self.local_count
    }

    /// A node calls everything below `lsn` committed.
    pub(super) fn handle_commit(
        &mut self,
        node: NodeId,
        replica: &Replica,
        lsn: Lsn,
    ) -> Result<(), Broken> {
        let from = self.seen.get(&node).copied().unwrap_or(Lsn::FIRST);
        let mut next = from.max(replica.log().first_lsn());
        // What is committed may not be durable on this node yet: it is looked at when it is.
        let end = lsn.min(replica.log().durable_lsn());
        let failed = |next, error| Broken(format!("node {node}, LSN {next}: {error}"));
        // In one go: a reader that is made for each record looks for its place each time.
        for read in replica.log().iter(next..end.max(next)).map_err(|e| failed(next, e))? {
            let record = read.map_err(|e| failed(next, e))?;
            let known = self.committed.entry(next).or_insert_with(|| record.bytes().to_vec());
            if record.lsn != next || known != record.bytes() {
                let text = format!("LSN {next} is committed twice: node {node} has another record");
                return Err(Broken(text));
            }
            let same =
                self.local.range(all_at(next)).filter(|(_, local)| local.record == record.bytes());
            let same: Vec<_> = same.map(|(at, _)| *at).collect();
            for at in same {
                self.local.remove(&at);
            }
            next = next.next();
        }
        if next < end {
            return Err(Broken(format!("node {node} does not have LSN {next}, which is durable")));
        }
        self.seen.insert(node, next);
        Ok(())
    }

    /// A client is told that its record is on a quorum.
    pub(super) fn handle_acknowledged(&mut self, lsn: Lsn, record: Vec<u8>) -> Result<(), Broken> {
        match self.acknowledged.insert(lsn, record.clone()) {
            Some(before) if before != record => {
                Err(Broken(format!("LSN {lsn} was given to two acknowledged records")))
            }
            _ => Ok(()),
        }
    }

    /// What was acknowledged at local on a directory goes with it.
    pub(super) fn handle_lost(&mut self, incarnation: u128) {
        self.local.retain(|_, local| local.incarnation != incarnation);
    }

    /// A client is told that its record is durable on the leader of an epoch.
    pub(super) fn handle_local(&mut self, at: (Lsn, Epoch), record: Vec<u8>, incarnation: u128) {
        self.local_count += 1;
        if self.committed.get(&at.0) != Some(&record) {
            self.local.insert(at, Local { record, incarnation });
        }
    }

    /// An epoch has begun on a disk, whether or not its leader hears of that.
    pub(super) fn handle_began(&mut self, epoch: Epoch, incarnation: u128) {
        self.led.insert((epoch, incarnation));
    }

    /// A node begins to lead: what a leader acknowledged by itself is in its log, or another one has led since.
    pub(super) fn handle_leads(&mut self, node: NodeId, replica: &Replica) -> Result<(), Broken> {
        let there = self.held(node, replica)?;
        // Also those whose node lost power before it said so.
        let begun = replica.epochs(EPOCHS_MAX);
        let begun = begun.iter().map(|begun| (begun.epoch, begun.start.incarnation));
        self.led.extend(begun);
        let own = replica.identity().incarnation;
        let led = replica.promised().epoch;
        let missing = |lsn: &Lsn, local: &Local| there.get(lsn) != Some(&local.record);
        // Where one is a seal quorum, two may begin the same epoch, and one that is lower than what another one leads.
        let is_before =
            |epoch: Epoch, local: &Local| epoch < led || (epoch == led && local.incarnation == own);
        for ((lsn, epoch), local) in &self.local {
            let mut later = self.led.range((*epoch, 0)..);
            let is_taken_over = later.any(|(_, incarnation)| *incarnation != local.incarnation);
            let is_lost = is_before(*epoch, local) && missing(lsn, local);
            if is_lost && !is_taken_over {
                let text = format!(
                    "node {node} leads without LSN {lsn} of epoch {epoch}, which its leader had \
                     acknowledged, and nobody took over"
                );
                return Err(Broken(text));
            }
        }
        self.local.retain(|(lsn, epoch), local| !(is_before(*epoch, local) && missing(lsn, local)));
        Ok(())
    }

    /// What the log of a node has at the LSNs that were acknowledged at local.
    fn held(&self, node: NodeId, replica: &Replica) -> Result<BTreeMap<Lsn, Vec<u8>>, Broken> {
        let mut there = BTreeMap::new();
        let Some(((first, _), _)) = self.local.first_key_value() else { return Ok(there) };
        let failed = |error| Broken(format!("node {node} leads, and does not read: {error}"));
        let end = replica.log().durable_lsn();
        for read in replica.log().iter(*first.min(&end)..end).map_err(failed)? {
            let record = read.map_err(failed)?;
            if self.local.range(all_at(record.lsn)).next().is_some() {
                there.insert(record.lsn, record.bytes().to_vec());
            }
        }
        Ok(there)
    }

    /// A client is shown a record as committed.
    pub(super) fn handle_shown(
        &mut self,
        node: NodeId,
        lsn: Lsn,
        record: &[u8],
    ) -> Result<(), Broken> {
        let known = self.committed.entry(lsn).or_insert_with(|| record.to_vec());
        if known != record {
            return Err(Broken(format!("node {node} shows another record at LSN {lsn}")));
        }
        Ok(())
    }

    /// A client is told that its record found no room.
    pub(super) fn handle_refused(&mut self, number: u64) {
        self.refused.insert(number);
    }

    /// At the end, when every node lives and follows: `replica` has everything.
    pub(super) fn check_all(&self, node: NodeId, replica: &Replica) -> Result<(), Broken> {
        let what = [("acknowledged", &self.acknowledged), ("committed", &self.committed)];
        let failed = |error| Broken(format!("in the end node {node}: {error}"));
        let mut next = replica.log().first_lsn();
        let first = next;
        let mut numbers = BTreeSet::new();
        for read in replica.log().iter(..).map_err(failed)? {
            let record = read.map_err(failed)?;
            let number = number_of(record.bytes());
            if !numbers.insert(number) {
                return Err(Broken(format!("record {number} is on node {node} twice")));
            }
            if self.refused.contains(&number) {
                return Err(Broken(format!("record {number} was refused, and is on node {node}")));
            }
            for (what, records) in what {
                if records.get(&next).is_some_and(|known| known != record.bytes()) {
                    let text = format!("{what} record {next} is another one on node {node}");
                    return Err(Broken(text));
                }
            }
            next = next.next();
        }
        for (what, records) in what {
            let mut missing = records.range(..first).chain(records.range(next..));
            if let Some((lsn, _)) = missing.next() {
                return Err(Broken(format!("{what} record {lsn} is not on node {node}")));
            }
        }
        Ok(())
    }
}

/// Everything at one LSN, of whatever epoch.
fn all_at(lsn: Lsn) -> Range<(Lsn, Epoch)> {
    (lsn, Epoch::NONE)..(lsn.next(), Epoch::NONE)
}

/// Records of the simulated clients begin with a number that no other one has.
fn number_of(record: &[u8]) -> u64 {
    record.first_chunk().map_or(0, |number| u64::from_le_bytes(*number))
}
