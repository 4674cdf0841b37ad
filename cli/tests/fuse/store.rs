//! Files in memory with two states: what programs see, and what survives a power cut.
//!
//! Owns the bytes, the names, and which of both are durable. Knows nothing of FUSE and of faults.
//!
//! The model, stricter than most file systems:
//!  - bytes and the length of a file are durable after a sync of that file, and not before;
//!  - a name is durable after a sync of its directory, and not before: a sync of the file does nothing
//!    for its name;
//!  - a sync that failed loses what it should have written: the bytes are still to be seen, and no later
//!    sync makes them durable, until they are written again;
//!  - a power cut keeps nothing else, or any subset of the unsynced sectors and any first part of the
//!    unsynced changes of names ([`Lost`]).
//!
//! Bounds: nothing is freed before the file system is dropped; tests are short, and files small.

use std::collections::{BTreeMap, BTreeSet};

use crate::common::Random;

pub(crate) type Ino = u64;
pub(crate) const ROOT: Ino = 1;
/// What a medium writes whole or not at all.
const SECTOR: usize = 512;

/// What a power cut takes of what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    All,
    /// Every unsynced sector and every change of names at random.
    Some,
    /// Nothing: the machine stays on, and only the process ends.
    Nothing,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Store {
    nodes: BTreeMap<Ino, Node>,
    next: Ino,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    File(Content),
    Directory(Names),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Content {
    live: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
    /// The last name it had, to choose faults by.
    name: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Names {
    live: BTreeMap<String, Ino>,
    durable: BTreeMap<String, Ino>,
    /// Changes since the last sync, each with all that it changes at once.
    pending: Vec<Vec<(String, Option<Ino>)>>,
}

impl Names {
    fn change(&mut self, change: Vec<(String, Option<Ino>)>) {
        apply(&mut self.live, &change);
        self.pending.push(change);
    }
}

fn apply(names: &mut BTreeMap<String, Ino>, change: &[(String, Option<Ino>)]) {
    for (name, ino) in change {
        match ino {
            Some(ino) => names.insert(name.clone(), *ino),
            None => names.remove(name),
        };
    }
}

impl Content {
    fn mark(&mut self, offset: usize, length: usize) {
        self.dirty.extend(offset / SECTOR..(offset + length).div_ceil(SECTOR));
    }

    /// Makes one sector durable.
    fn keep(&mut self, sector: usize) {
        let start = sector * SECTOR;
        let end = (start + SECTOR).min(self.live.len()).min(self.durable.len());
        if start < end {
            self.durable[start..end].copy_from_slice(&self.live[start..end]);
        }
    }

    fn sync(&mut self) {
        self.durable.resize(self.live.len(), 0);
        for sector in std::mem::take(&mut self.dirty) {
            self.keep(sector);
        }
    }

    fn cut(&mut self, lost: Lost, random: &mut Random) {
        match lost {
            Lost::All => {}
            Lost::Nothing => self.durable.clone_from(&self.live),
            Lost::Some => {
                if random.below(2) == 0 {
                    self.durable.resize(self.live.len(), 0);
                }
                for sector in self.dirty.clone() {
                    if random.below(2) == 0 {
                        self.keep(sector);
                    }
                }
            }
        }
        self.live.clone_from(&self.durable);
        self.dirty.clear();
    }
}

impl Default for Store {
    fn default() -> Store {
        let root = Node::Directory(Names::default());
        Store { nodes: BTreeMap::from([(ROOT, root)]), next: ROOT + 1 }
    }
}

impl Store {
    /// What is left after the power was cut now.
    pub(crate) fn after_power_cut(&self, lost: Lost, random: &mut Random) -> Store {
        let mut left = self.clone();
        for node in left.nodes.values_mut() {
            match node {
                Node::File(content) => content.cut(lost, random),
                Node::Directory(names) => {
                    let kept = match lost {
                        Lost::All => 0,
                        Lost::Nothing => names.pending.len(),
                        Lost::Some => below(random, names.pending.len() + 1),
                    };
                    for change in &names.pending[..kept] {
                        apply(&mut names.durable, change);
                    }
                    names.live.clone_from(&names.durable);
                    names.pending.clear();
                }
            }
        }
        left
    }

    pub(crate) fn is_directory(&self, ino: Ino) -> bool {
        matches!(self.nodes.get(&ino), Some(Node::Directory(_)))
    }

    /// The length of a file; 0 for a directory.
    pub(crate) fn len(&self, ino: Ino) -> u64 {
        self.file(ino).map_or(0, |content| to_u64(content.live.len()))
    }

    /// The last name of a file; empty for a directory.
    pub(crate) fn name_of(&self, ino: Ino) -> &str {
        self.file(ino).map_or("", |content| &content.name)
    }

    pub(crate) fn find(&self, directory: Ino, name: &str) -> Option<Ino> {
        self.names(directory)?.live.get(name).copied()
    }

    /// Every name in a directory.
    pub(crate) fn list(&self, directory: Ino) -> Vec<(String, Ino)> {
        let names = self.names(directory).into_iter().flat_map(|names| &names.live);
        names.map(|(name, ino)| (name.clone(), *ino)).collect()
    }

    /// Bytes of all files that have a name.
    pub(crate) fn bytes_used(&self) -> u64 {
        let directories = self.nodes.values().filter_map(|node| match node {
            Node::Directory(names) => Some(names),
            Node::File(_) => None,
        });
        directories.flat_map(|names| names.live.values()).map(|ino| self.len(*ino)).sum()
    }

    pub(crate) fn make(&mut self, directory: Ino, name: &str, is_directory: bool) -> Option<Ino> {
        let ino = self.next;
        self.names_mut(directory)?.change(vec![(name.to_owned(), Some(ino))]);
        self.next += 1;
        let file = Content { name: name.to_owned(), ..Content::default() };
        let node = if is_directory { Node::Directory(Names::default()) } else { Node::File(file) };
        self.nodes.insert(ino, node);
        Some(ino)
    }

    pub(crate) fn unlink(&mut self, directory: Ino, name: &str) -> Option<()> {
        self.find(directory, name)?;
        self.names_mut(directory)?.change(vec![(name.to_owned(), None)]);
        Some(())
    }

    /// Within one directory.
    pub(crate) fn rename(&mut self, directory: Ino, from: &str, to: &str) -> Option<()> {
        let ino = self.find(directory, from)?;
        let change = vec![(from.to_owned(), None), (to.to_owned(), Some(ino))];
        self.names_mut(directory)?.change(change);
        if let Some(content) = self.file_mut(ino) {
            to.clone_into(&mut content.name);
        }
        Some(())
    }

    /// Up to `size` bytes from `offset` on; `None` when it is no file.
    pub(crate) fn read(&self, ino: Ino, offset: u64, size: u32) -> Option<&[u8]> {
        let live = &self.file(ino)?.live;
        let start = to_usize(offset).min(live.len());
        let end = live.len().min(start + to_usize(size.into()));
        Some(&live[start..end])
    }

    pub(crate) fn write(&mut self, ino: Ino, offset: u64, bytes: &[u8]) -> Option<()> {
        let content = self.file_mut(ino)?;
        let start = to_usize(offset);
        let end = start + bytes.len();
        if content.live.len() < end {
            content.live.resize(end, 0);
        }
        content.live[start..end].copy_from_slice(bytes);
        content.mark(start, bytes.len());
        Some(())
    }

    /// Changes a file's length; new bytes are zero.
    pub(crate) fn resize(&mut self, ino: Ino, bytes: u64) -> Option<()> {
        let content = self.file_mut(ino)?;
        content.live.resize(to_usize(bytes), 0);
        Some(())
    }

    /// Makes a file or the names of a directory durable.
    pub(crate) fn sync(&mut self, ino: Ino) -> Option<()> {
        match self.nodes.get_mut(&ino)? {
            Node::File(content) => content.sync(),
            Node::Directory(names) => {
                names.durable.clone_from(&names.live);
                names.pending.clear();
            }
        }
        Some(())
    }

    /// Makes a part of a file durable, and its length: what `O_DSYNC` promises for one write.
    pub(crate) fn sync_range(&mut self, ino: Ino, offset: u64, length: usize) -> Option<()> {
        let content = self.file_mut(ino)?;
        content.durable.resize(content.live.len(), 0);
        let start = to_usize(offset);
        for sector in start / SECTOR..(start + length).div_ceil(SECTOR) {
            content.dirty.remove(&sector);
            content.keep(sector);
        }
        Some(())
    }

    /// A sync of a file failed: see the module. Names stay pending: nothing may depend on them.
    pub(crate) fn forget_unsynced(&mut self, ino: Ino) {
        if let Some(content) = self.file_mut(ino) {
            content.dirty.clear();
        }
    }

    fn file(&self, ino: Ino) -> Option<&Content> {
        match self.nodes.get(&ino) {
            Some(Node::File(content)) => Some(content),
            _ => None,
        }
    }

    fn file_mut(&mut self, ino: Ino) -> Option<&mut Content> {
        match self.nodes.get_mut(&ino) {
            Some(Node::File(content)) => Some(content),
            _ => None,
        }
    }

    fn names(&self, ino: Ino) -> Option<&Names> {
        match self.nodes.get(&ino) {
            Some(Node::Directory(names)) => Some(names),
            _ => None,
        }
    }

    fn names_mut(&mut self, ino: Ino) -> Option<&mut Names> {
        match self.nodes.get_mut(&ino) {
            Some(Node::Directory(names)) => Some(names),
            _ => None,
        }
    }
}

fn below(random: &mut Random, limit: usize) -> usize {
    to_usize(random.below(to_u64(limit)))
}

fn to_u64(number: usize) -> u64 {
    u64::try_from(number).expect("64-bit targets")
}

fn to_usize(number: u64) -> usize {
    usize::try_from(number).expect("64-bit targets")
}
