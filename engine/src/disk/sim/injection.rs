//! Faults that a test lets the simulated disk have.
//!
//! Owns the test's side of every fault but the power cut. Honest faults are reported to whoever asked
//! for the operation; lies are not: the operation says that all is well. Each fault comes once, at the
//! `nth` operation of its kind from now on (the next one is the first), or lasts until it is taken
//! back. A restart takes back all of them but unreadable sectors.
//!
//! Invariants, each with its test in `fault_tests`
//!  J1. An operation that fails for want of room, or on a disk that is read-only, changes nothing.
//!                                                        tests `no_room_for_names`, `a_read_only_disk`
//!  J2. What a lost or misdirected write should have stored never becomes durable, whatever is synced
//!      afterwards.                       tests `a_lost_write`, `a_misdirected_write`

use std::io;
use std::ops::Range;
use std::thread::ThreadId;

use super::directory::SimDisk;
use super::faults::{Effect, Target};
use super::state::OperationKind;

impl SimDisk {
    /// Lets the `nth` operation of a kind from now on fail, once; the next one is the first.
    ///
    /// What a failed write leaves is open: the cache shows it, and the medium may have any part of it.
    /// A failed sync is reported once, as by a kernel that marks pages clean after an error: a later
    /// one succeeds and mends nothing.
    ///
    /// # Panics
    /// When `nth` is 0.
    pub fn fail_nth(&self, kind: OperationKind, nth: u64, error: io::ErrorKind) {
        self.shared.state().faults.add(kind, nth, Effect::Fail(error));
    }

    /// Lets the `nth` write be acknowledged and never stored. The cache shows it until a restart, a
    /// direct read does not.
    ///
    /// # Panics
    /// When `nth` is 0.
    pub fn lose_nth_write(&self, nth: u64) {
        self.shared.state().faults.add(OperationKind::Write, nth, Effect::Lose);
    }

    /// Lets the `nth` write be acknowledged and land durably at another place: at `offset`, a whole
    /// number of sectors, of the file that has the name now, which grows if it has to. Where it should
    /// have landed the medium keeps what it had.
    ///
    /// # Panics
    /// When `nth` is 0, or there is no such file.
    pub fn misdirect_nth_write(&self, nth: u64, name: &str, offset: u64) {
        let offset = usize::try_from(offset).expect("64-bit targets");
        let target = Target { inode: self.inode(name), offset };
        self.shared.state().faults.add(OperationKind::Write, nth, Effect::Misdirect(target));
    }

    /// Lets the `nth` write store only its first `bytes` bytes, in whole sectors. The driver reports an
    /// error of the kind [`WriteZero`](io::ErrorKind::WriteZero), as it must when a transfer stays
    /// short.
    ///
    /// # Panics
    /// When `nth` is 0.
    pub fn shorten_nth_write(&self, nth: u64, bytes: usize) {
        self.shared.state().faults.add(OperationKind::Write, nth, Effect::Shorten(bytes));
    }

    /// Lets the `nth` operation of a kind never end. Whoever called it waits until the power goes,
    /// by the hand of another thread; for a write of a queue only its completion stays out, and what it
    /// stores may be there in any part.
    ///
    /// # Panics
    /// When `nth` is 0.
    pub fn hang_nth(&self, kind: OperationKind, nth: u64) {
        self.shared.state().faults.add(kind, nth, Effect::Hang);
    }

    /// The thread that asked for each operation that hung so far; for a write of a queue, whose thread goes
    /// on, the one that waited for completions.
    #[must_use]
    pub fn hung_threads(&self) -> Vec<ThreadId> {
        self.shared.state().hung.clone()
    }

    /// Leaves room for so many more bytes of files; `None` for any number.
    pub fn set_free_bytes(&self, bytes: Option<u64>) {
        let mut state = self.shared.state();
        state.capacity_bytes = bytes.map(|bytes| bytes.saturating_add(state.names.used_bytes()));
    }

    /// Lets every operation that would change the disk fail with
    /// [`ReadOnlyFilesystem`](io::ErrorKind::ReadOnlyFilesystem) and change nothing, as after an error
    /// that made the kernel remount it; or no longer.
    pub fn set_read_only(&self, read_only: bool) {
        self.shared.state().read_only = read_only;
    }

    /// Whether reads can go past the page cache, as they can unless the file system does not take
    /// `O_DIRECT`.
    pub fn set_direct_reads(&self, direct_reads: bool) {
        self.shared.state().direct_reads = direct_reads;
    }

    /// Lets every read that touches a range of a file fail, until the sectors are written again, also
    /// after a restart.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn make_unreadable(&self, name: &str, range: Range<u64>) {
        let at = |offset| usize::try_from(offset).expect("64-bit targets");
        self.inode(name).image().make_unreadable(at(range.start)..at(range.end));
    }

    /// Lets reads through the cache, and mappings made from now on, show what the file holds now,
    /// whatever is written to it, as when its pages are older than the medium; or no longer.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn set_stale(&self, name: &str, stale: bool) {
        self.inode(name).image().set_stale(stale);
    }
}
