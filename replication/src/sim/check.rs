//! What must be true of every run.
//!
//! Owns what clients were told, and what each node called committed.
//!  P1 what was acknowledged at quorum is there in the end, at its LSN;
//!  P6 replicas hold the same;
//!  P10 what was refused is nowhere, and nothing is there twice;
//!  P7 there is one value for each LSN that anybody ever called committed.

use std::collections::{BTreeMap, BTreeSet};

use cairnlog_engine::{Lsn, Replica};

use crate::protocol::node_id::NodeId;

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Broken(pub String);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Checker {
    /// By LSN: what somebody called committed.
    committed: BTreeMap<Lsn, Vec<u8>>,
    /// By LSN: what a client was told is stored.
    acknowledged: BTreeMap<Lsn, Vec<u8>>,
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

    /// A client is told that its record found no room.
    pub(super) fn handle_refused(&mut self, numbers: impl IntoIterator<Item = u64>) {
        self.refused.extend(numbers);
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

/// Records of the simulated clients begin with a number that no other one has.
fn number_of(record: &[u8]) -> u64 {
    record.first_chunk().map_or(0, |number| u64::from_le_bytes(*number))
}
