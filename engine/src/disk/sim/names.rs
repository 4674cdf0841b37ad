//! The names of the directory: what is seen, what is durable, and the changes between the two.
//!
//! Owns which names survive a power cut, and the errors that names alone can cause. The files behind
//! them are `file`'s.
//!
//! Invariants
//!  N1. A change is applied whole or not at all, and only to the file it was made for: no file turns up
//!      under a name that it never had.                   test `no_file_takes_the_name_of_another`
//!  N2. After a failed sync of the directory nothing more becomes durable until the power comes back.
//!                                                        test `a_failed_directory_sync_is_not_mended`

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use super::digest::Digest;
use super::file::Inode;
use super::outcome::Outcome;
use crate::disk::{Entry, EntryKind};

/// What a name stands for.
#[derive(Clone)]
pub(super) enum Node {
    File(Arc<Inode>),
    /// A directory, as an example of what is not a file; named by a number.
    Directory(u64),
}

impl Node {
    fn is(&self, other: &Node) -> bool {
        match (self, other) {
            (Node::File(one), Node::File(other)) => Arc::ptr_eq(one, other),
            (Node::Directory(one), Node::Directory(other)) => one == other,
            _ => false,
        }
    }
}

type Map = BTreeMap<String, Node>;

/// A change of names: without `from` a creation, without `to` a removal.
struct Change {
    node: Node,
    from: Option<String>,
    to: Option<String>,
}

impl Change {
    /// Whether the names are as the change needs them.
    fn fits(&self, names: &Map) -> bool {
        match (&self.from, &self.to) {
            (Some(from), _) => names.get(from).is_some_and(|node| node.is(&self.node)),
            (None, Some(to)) => !names.contains_key(to),
            (None, None) => false,
        }
    }

    /// Applies the change if it fits.
    fn apply(&self, names: &mut Map) {
        if !self.fits(names) {
            return;
        }
        if let Some(from) = &self.from {
            names.remove(from);
        }
        if let Some(to) = &self.to {
            names.insert(to.clone(), self.node.clone());
        }
    }
}

/// See the module.
#[derive(Default)]
pub(super) struct Names {
    current: Map,
    durable: Map,
    /// What leads from `durable` to `current`, in order.
    pending: Vec<Change>,
    sync_failed: bool,
}

impl Names {
    pub(super) fn get(&self, name: &str) -> io::Result<&Node> {
        self.current.get(name).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn list(&self) -> Vec<Entry> {
        let kind = |node: &Node| match node {
            Node::File(inode) => EntryKind::File(bytes_of(inode)),
            Node::Directory(_) => EntryKind::Other,
        };
        let entry = |(name, node): (&String, &Node)| Entry { name: name.clone(), kind: kind(node) };
        self.current.iter().map(entry).collect()
    }

    /// What the files with a name take.
    pub(super) fn used_bytes(&self) -> u64 {
        let bytes = |node: &Node| match node {
            Node::File(inode) => bytes_of(inode),
            Node::Directory(_) => 0,
        };
        self.current.values().map(bytes).sum()
    }

    pub(super) fn create(&mut self, name: &str, inode: Arc<Inode>) {
        self.push(Change { node: Node::File(inode), from: None, to: Some(name.to_owned()) });
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let node = self.get(from)?.clone();
        match (&node, self.current.get(to)) {
            (Node::File(_), Some(Node::Directory(_))) => {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            (Node::Directory(_), Some(Node::File(_))) => {
                return Err(io::ErrorKind::NotADirectory.into());
            }
            _ => {}
        }
        self.push(Change { node, from: Some(from.to_owned()), to: Some(to.to_owned()) });
        Ok(())
    }

    pub(super) fn remove(&mut self, name: &str) -> io::Result<()> {
        let node = self.get(name)?.clone();
        if matches!(node, Node::Directory(_)) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        self.push(Change { node, from: Some(name.to_owned()), to: None });
        Ok(())
    }

    pub(super) fn sync(&mut self) {
        if !self.sync_failed {
            self.durable.clone_from(&self.current);
            self.pending.clear();
        }
    }

    pub(super) fn fail_sync(&mut self) {
        self.sync_failed = true;
    }

    /// The names and files that a power cut leaves; none of the files is one that was open before.
    pub(super) fn after_cut(&self, outcome: &mut Outcome) -> Names {
        let mut names = self.durable.clone();
        for change in &self.pending {
            if change.fits(&names) && outcome.keeps_change() {
                change.apply(&mut names);
            }
        }
        for node in names.values_mut() {
            if let Node::File(inode) = node {
                let image = inode.image().after_cut(outcome);
                *inode = Inode::new(image);
            }
        }
        Names { current: names.clone(), durable: names, pending: Vec::new(), sync_failed: false }
    }

    /// Adds every name with what it stands for to a digest.
    pub(super) fn digest(&self, digest: &mut Digest) {
        digest.length(self.current.len());
        for (name, node) in &self.current {
            digest.bytes(name.as_bytes());
            match node {
                Node::File(inode) => inode.image().digest(digest),
                Node::Directory(_) => digest.number(0),
            }
        }
    }

    /// Gives a name durably to a node, by the hand of a test.
    pub(super) fn plant(&mut self, name: &str, node: Node) {
        self.uproot(name);
        self.durable.insert(name.to_owned(), node.clone());
        self.current.insert(name.to_owned(), node);
    }

    /// Takes away durably what has a name, whatever else it is called or was to be called.
    pub(super) fn uproot(&mut self, name: &str) {
        for node in [self.current.get(name), self.durable.get(name)].map(Option::<&Node>::cloned) {
            let Some(node) = node else { continue };
            self.current.retain(|_, n| !n.is(&node));
            self.durable.retain(|_, n| !n.is(&node));
            self.pending.retain(|change| !change.node.is(&node));
        }
    }

    fn push(&mut self, change: Change) {
        change.apply(&mut self.current);
        self.pending.push(change);
    }
}

fn bytes_of(inode: &Inode) -> u64 {
    u64::try_from(inode.image().len()).expect("a length fits in 64 bits")
}
