//! The bytes of one file: what is durable, and every version of a sector written since.
//!
//! Owns the rules by which versions become durable or are lost. Knows nothing of names, power or faults.
//!
//! Invariants
//!  I1. `durable` changes only by a landed durable write, a sync, or the hand of a test.
//!                                                        test `a_durable_write_covers_only_itself`
//!  I2. A sync does not cover writes that are on their way.
//!                                                        test `a_sync_does_not_cover_writes_in_flight`
//!  I3. What a failed sync left behind becomes durable by a later one only if the medium was seen to
//!      have it.                                          test `a_failed_sync_is_not_mended`
//!  I4. `durable` is never longer than `len`.             asserted in `after_cut`
//!
//! Units: offsets and lengths are bytes, sectors are counted from the start of the file.
//! Bounds: none of its own; `file` refuses files above 4 GiB.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use super::digest::Digest;
use super::outcome::{Candidate, Outcome};

/// What the medium writes whole or not at all.
pub const SECTOR_BYTES: usize = 512;

/// Where a version that is not durable stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Part of a durable write that did not complete.
    InFlight,
    /// In the cache, to be made durable by the next sync.
    Dirty,
    /// Its write or sync failed: in the cache, perhaps on the medium.
    Doubtful,
    /// As `Doubtful`, and the medium was seen not to have it; or the write never arrived, and nobody
    /// said so.
    CacheOnly,
}

/// Whose view of a file a read gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    /// The page cache's.
    Cache,
    /// The medium's.
    Medium,
}

struct Version {
    /// The number of the write it is part of.
    write: u64,
    /// The bytes of the whole write.
    bytes: Arc<[u8]>,
    /// Where in them this sector starts.
    start: usize,
    standing: Standing,
}

impl Version {
    fn sector(&self) -> &[u8] {
        &self.bytes[self.start..self.start + SECTOR_BYTES]
    }
}

/// See the module.
pub(super) struct Image {
    durable: Vec<u8>,
    /// The length that is seen; between the end of `durable` and it, what has no version is zero.
    len: usize,
    /// By sector, oldest version first.
    unsynced: BTreeMap<usize, Vec<Version>>,
    /// Sectors that the medium does not give until they are written again.
    bad: BTreeSet<usize>,
    /// What the cache shows instead of newer bytes.
    stale: Option<Vec<u8>>,
}

impl Image {
    /// A new file, its length not yet durable.
    pub(super) fn zeros(len: usize) -> Image {
        Image { len, ..Image::durable(Vec::new()) }
    }

    pub(super) fn durable(bytes: Vec<u8>) -> Image {
        let (unsynced, bad) = (BTreeMap::new(), BTreeSet::new());
        Image { len: bytes.len(), durable: bytes, unsynced, bad, stale: None }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Reads up to the end of the file; the answer is how many bytes.
    pub(super) fn read(&self, out: &mut [u8], offset: usize, view: View) -> usize {
        let end = self.len.min(offset.saturating_add(out.len()));
        if offset >= end {
            return 0;
        }
        let out = &mut out[..end - offset];
        out.fill(0);
        if let (View::Cache, Some(stale)) = (view, &self.stale) {
            let known = stale.get(offset..end.min(stale.len())).unwrap_or_default();
            out[..known.len()].copy_from_slice(known);
            return out.len();
        }
        let known = self.durable.get(offset..end.min(self.durable.len())).unwrap_or_default();
        out[..known.len()].copy_from_slice(known);
        for (sector, versions) in self.unsynced.range(sectors(offset..end)) {
            let mut seen = versions.iter().rev();
            let visible = |v: &&Version| view == View::Cache || v.standing != Standing::CacheOnly;
            let Some(version) = seen.find(visible) else { continue };
            let start = sector * SECTOR_BYTES;
            let shown = offset.max(start)..end.min(start + SECTOR_BYTES);
            let part = &version.sector()[shown.start - start..shown.end - start];
            out[shown.start - offset..shown.end - offset].copy_from_slice(part);
        }
        out.len()
    }

    /// Everything that the cache shows.
    pub(super) fn content(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len];
        self.read(&mut bytes, 0, View::Cache);
        bytes
    }

    /// Settles which doubtful versions of a range the medium has, because it is about to be looked at.
    pub(super) fn look_at_medium(&mut self, range: Range<usize>, outcome: &mut Outcome) {
        for (_, versions) in self.unsynced.range_mut(sectors(range)) {
            for version in versions.iter_mut().filter(|v| v.standing == Standing::Doubtful) {
                let there = outcome.keeps_sector(version.write);
                version.standing = if there { Standing::Dirty } else { Standing::CacheOnly };
            }
        }
    }

    /// Adds versions; offset and length are whole sectors.
    pub(super) fn write(&mut self, write: u64, bytes: &[u8], offset: usize, standing: Standing) {
        let bytes: Arc<[u8]> = bytes.into();
        self.len = self.len.max(offset + bytes.len());
        for start in (0..bytes.len()).step_by(SECTOR_BYTES) {
            let version = Version { write, bytes: Arc::clone(&bytes), start, standing };
            let sector = (offset + start) / SECTOR_BYTES;
            self.unsynced.entry(sector).or_default().push(version);
            self.bad.remove(&sector);
        }
    }

    /// Makes a write that ends at `end` durable, and its own bytes only.
    pub(super) fn land(&mut self, write: u64, end: usize) {
        self.grow_durable(end);
        self.settle(|v| v.write == write);
    }

    /// Changes where a write stands.
    pub(super) fn set_standing(&mut self, write: u64, range: Range<usize>, standing: Standing) {
        for (_, versions) in self.unsynced.range_mut(sectors(range)) {
            for version in versions.iter_mut().filter(|v| v.write == write) {
                version.standing = standing;
            }
        }
    }

    /// Takes back what a write left in a range: it never got there.
    pub(super) fn forget(&mut self, write: u64, range: Range<usize>) {
        for sector in sectors(range) {
            if let Some(versions) = self.unsynced.get_mut(&sector) {
                versions.retain(|version| version.write != write);
            }
        }
        self.unsynced.retain(|_, versions| !versions.is_empty());
    }

    /// Puts whole sectors on the medium, whatever the cache holds of them.
    pub(super) fn put_on_medium(&mut self, bytes: &[u8], offset: usize) {
        let end = offset + bytes.len();
        self.grow_durable(end);
        self.len = self.len.max(end);
        self.durable[offset..end].copy_from_slice(bytes);
    }

    /// Makes the length and everything dirty durable.
    pub(super) fn sync(&mut self) {
        self.grow_durable(self.len);
        self.settle(|v| v.standing == Standing::Dirty);
    }

    /// Leaves everything dirty to its fate.
    pub(super) fn fail_sync(&mut self) {
        for version in self.unsynced.values_mut().flatten() {
            if version.standing == Standing::Dirty {
                version.standing = Standing::Doubtful;
            }
        }
    }

    /// The file that a power cut leaves.
    pub(super) fn after_cut(&self, outcome: &mut Outcome) -> Image {
        assert!(self.durable.len() <= self.len, "I4");
        let mut bytes = self.durable.clone();
        bytes.resize(self.len, 0);
        for (sector, versions) in &self.unsynced {
            let possible: Vec<&Version> =
                versions.iter().filter(|v| v.standing != Standing::CacheOnly).collect();
            let candidates: Vec<Candidate<'_>> =
                possible.iter().map(|v| Candidate { write: v.write, bytes: v.sector() }).collect();
            let start = sector * SECTOR_BYTES;
            let before = &bytes[start..start + SECTOR_BYTES];
            if let Some(landed) = outcome.landed(before, &candidates) {
                put(&mut bytes, *sector, possible[landed]);
            }
        }
        bytes.truncate(outcome.len(self.durable.len(), self.len));
        Image { bad: self.bad.clone(), ..Image::durable(bytes) }
    }

    /// Adds what the file reads as to a digest.
    pub(super) fn digest(&self, digest: &mut Digest) {
        if self.unsynced.is_empty() && self.durable.len() == self.len {
            digest.bytes(&self.durable);
        } else {
            digest.bytes(&self.content());
        }
    }

    /// Lets the medium refuse the sectors that a range touches, until they are written again.
    pub(super) fn make_unreadable(&mut self, range: Range<usize>) {
        self.bad.extend(sectors(range));
    }

    /// Whether the medium gives every byte of a range.
    pub(super) fn is_readable(&self, range: Range<usize>) -> bool {
        self.bad.range(sectors(range)).next().is_none()
    }

    /// The ranges that the medium does not give.
    pub(super) fn unreadable(&self) -> Vec<Range<usize>> {
        self.bad.iter().map(|s| s * SECTOR_BYTES..(s + 1) * SECTOR_BYTES).collect()
    }

    /// Lets the cache show what it shows now, whatever is written, or no longer.
    pub(super) fn set_stale(&mut self, stale: bool) {
        self.stale = stale.then(|| self.content());
    }

    /// Flips a bit on the medium and in every version.
    pub(super) fn flip_bit(&mut self, bit: usize) {
        let (at, mask) = (bit / 8, 1 << (bit % 8));
        assert!(at < self.len, "the file is shorter");
        if let Some(byte) = self.durable.get_mut(at) {
            *byte ^= mask;
        }
        for version in self.unsynced.get_mut(&(at / SECTOR_BYTES)).into_iter().flatten() {
            Arc::make_mut(&mut version.bytes)[version.start + at % SECTOR_BYTES] ^= mask;
        }
    }

    /// Changes the length, and makes everything durable.
    pub(super) fn truncate(&mut self, len: usize) {
        let mut bytes = self.content();
        bytes.resize(len, 0);
        *self = Image::durable(bytes);
    }

    fn grow_durable(&mut self, len: usize) {
        self.durable.resize(len.max(self.durable.len()), 0);
    }

    /// Makes the newest matching version of each sector durable and forgets the older ones.
    fn settle(&mut self, matches: impl Fn(&Version) -> bool) {
        self.unsynced.retain(|sector, versions| {
            if let Some(newest) = versions.iter().rposition(&matches) {
                put(&mut self.durable, *sector, &versions[newest]);
                versions.drain(..=newest);
            }
            !versions.is_empty()
        });
    }
}

/// The sectors that a range of bytes touches.
fn sectors(range: Range<usize>) -> Range<usize> {
    range.start / SECTOR_BYTES..range.end.div_ceil(SECTOR_BYTES)
}

fn put(bytes: &mut [u8], sector: usize, version: &Version) {
    let start = sector * SECTOR_BYTES;
    bytes[start..start + SECTOR_BYTES].copy_from_slice(version.sector());
}
