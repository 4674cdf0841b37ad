//! What a test does to the simulated disk: power, clock, and the bytes behind the engine's back.
//!
//! Owns the test's side of [`SimDisk`], without the faults, which are in `injection`. These need no power, are not counted as operations, and work
//! through a handle of any age.

use std::sync::Arc;

use super::digest::Digest;
use super::directory::SimDisk;
use super::file::Inode;
use super::names::Node;
use super::outcome::{Choices, Outcome};
use super::random::Random;

/// What a power cut leaves of what was not durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerCut {
    /// Nothing.
    LosingAll,
    /// Everything, as it was last written.
    KeepingAll,
    /// Any legal part, which follows from the seed.
    Seeded(u64),
}

impl PowerCut {
    fn outcome(self) -> Outcome {
        match self {
            PowerCut::LosingAll => Outcome::LoseAll,
            PowerCut::KeepingAll => Outcome::KeepAll,
            PowerCut::Seeded(seed) => Outcome::seeded(seed),
        }
    }
}

impl SimDisk {
    /// Operations so far: everything but reads, and for a queue both the submission of a write and its
    /// completion. A restart does not set it back.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.shared.state().operations
    }

    /// Lets the power go out during the operation with this number (the next one is
    /// `operations() + 1`), or during the next one if that number has passed. The operation may then
    /// have happened, in part or not at all, and it and all that follow give
    /// [`POWER_CUT`](super::POWER_CUT).
    pub fn cut_at(&self, operation: u64) {
        self.shared.state().cut_at = Some(operation);
    }

    /// Cuts the power, if it is still on, and brings it back; `seed` decides what of the changes that
    /// were not durable is still there. The lock, the injected faults and a cut to come are gone.
    pub fn restart(&self, seed: u64) {
        self.move_to(self.shared.restart(Outcome::seeded(seed)));
    }

    /// As [`SimDisk::restart`]; only what was durable is still there.
    pub fn restart_losing_all(&self) {
        self.move_to(self.shared.restart(Outcome::LoseAll));
    }

    /// As [`SimDisk::restart`]; everything is still there, as it was last written.
    pub fn restart_keeping_all(&self) {
        self.move_to(self.shared.restart(Outcome::KeepAll));
    }

    /// Lets the process that uses the disk die, with the power on: its handles are dead and its lock is
    /// free, and everything it wrote is where it was, in the cache or on its way.
    pub fn kill_process(&self) {
        let generation = self.shared.state().kill_process();
        self.shared.changed.notify_all();
        self.move_to(generation);
    }

    /// Lets the process die in front of the operation with this number, or of the next one if that
    /// number has passed: it does not happen, and its handles are dead. The next process starts with
    /// [`SimDisk::kill_process`].
    pub fn kill_at(&self, operation: u64) {
        self.shared.state().kill_at = Some(operation);
    }

    /// Another disk, as the power cut would leave this one now; nothing happens to this one. What
    /// follows on the other disk follows from the seed of this one.
    #[must_use]
    pub fn after(&self, cut: PowerCut) -> SimDisk {
        SimDisk::of(self.shared.after_cut(&mut cut.outcome()))
    }

    /// Every disk that a power cut could leave now, each once or more often: every subset of the
    /// changes of names that fits, of every sector every version written since it was durable, and
    /// every length in whole sectors. There may be very many: take as many as there is time for. The
    /// first has lost everything that was not durable.
    pub fn every_outcome(&self) -> impl Iterator<Item = SimDisk> {
        let shared = Arc::clone(&self.shared);
        let mut walk = Some(Choices::default());
        std::iter::from_fn(move || {
            let mut outcome = Outcome::Listed(walk.take()?);
            let disk = SimDisk::of(shared.after_cut(&mut outcome));
            if let Outcome::Listed(mut choices) = outcome
                && choices.advance()
            {
                walk = Some(choices);
            }
            Some(disk)
        })
    }

    /// What is random from now on follows from another seed: of two disks that were one, each has its own ids then.
    pub fn set_seed(&self, seed: u64) {
        self.shared.state().random = Random::new(seed);
    }

    /// A hash of every name and byte that is seen on the disk.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut digest = Digest::default();
        self.shared.state().names.digest(&mut digest);
        digest.value()
    }

    /// A hash of every operation so far but reads, with names, places and bytes: the same trace means
    /// that the same was done.
    #[must_use]
    pub fn trace(&self) -> u64 {
        self.shared.state().trace.value()
    }

    /// Lets time pass, by all clocks.
    pub fn pass_ms(&self, ms: u64) {
        let mut state = self.shared.state();
        state.now_ms = state.now_ms.saturating_add(ms);
        state.elapsed_ms = state.elapsed_ms.saturating_add(ms);
    }

    /// Sets the wall clock, which then jumps; each operation advances it by 1 ms.
    pub fn set_now_ms(&self, now_ms: u64) {
        self.shared.state().now_ms = now_ms;
    }

    /// How many writes the queues made from now on take at once: 1 for the blocking driver's way.
    pub fn set_queue_depth(&self, depth: usize) {
        self.shared.state().queue_depth = depth;
    }

    /// The names of the files, in order.
    #[must_use]
    pub fn files(&self) -> Vec<String> {
        let state = self.shared.state();
        let is_file = |name: &String| matches!(state.names.get(name), Ok(Node::File(_)));
        state.names.list().into_iter().map(|entry| entry.name).filter(is_file).collect()
    }

    /// What a file reads as.
    ///
    /// # Panics
    /// When there is no such file.
    #[must_use]
    pub fn read_file(&self, name: &str) -> Vec<u8> {
        self.inode(name).image().content()
    }

    /// Puts a durable file there, in place of what had the name.
    pub fn write_file(&self, name: &str, bytes: &[u8]) {
        let inode = Inode::durable(bytes.to_vec());
        self.shared.state().names.plant(name, Node::File(inode));
    }

    /// Takes away what has the name, durably.
    pub fn remove_file(&self, name: &str) {
        self.shared.state().names.uproot(name);
    }

    /// Gives a file another length, adding zeros or dropping bytes, and makes it durable.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn truncate_file(&self, name: &str, bytes: u64) {
        let len = usize::try_from(bytes).expect("64-bit targets");
        self.inode(name).image().truncate(len);
    }

    /// Flips a bit of a file, durably; bit 0 is the lowest of the first byte.
    ///
    /// # Panics
    /// When there is no such file, or it is shorter.
    pub fn flip_bit(&self, name: &str, bit: u64) {
        let bit = usize::try_from(bit).expect("64-bit targets");
        self.inode(name).image().flip_bit(bit);
    }

    /// Puts a directory there, durably, in place of what had the name.
    pub fn plant_directory(&self, name: &str) {
        let mut state = self.shared.state();
        let directory = Node::Directory(state.number());
        state.names.plant(name, directory);
    }

    pub(super) fn inode(&self, name: &str) -> Arc<Inode> {
        match self.shared.state().names.get(name) {
            Ok(Node::File(inode)) => Arc::clone(inode),
            _ => panic!("there is no file {name}"),
        }
    }
}
