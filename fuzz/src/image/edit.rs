//! What can happen to the files of a directory.
//!
//! Owns [`Edit`] and its effect. Numbers of files, blocks and bytes are taken modulo what there is, so
//! that every input does something.

use std::collections::{BTreeMap, BTreeSet};

use arbitrary::Arbitrary;
use cairnlog_engine::disk::sim::SimDisk;
use cairnlog_engine::format::segment::file_name;

use super::build::Image;
use crate::forge;
use crate::model::BLOCK_BYTES;

/// Files are kept small.
const FILE_BYTES_MAX: usize = 256 << 10;
const SEGMENTS: u64 = 12;

/// One thing that happens.
#[derive(Arbitrary, Debug)]
pub(super) enum Edit {
    /// A bit flips.
    Flip { file: u8, block: u8, bit: u16 },
    /// Bytes change.
    Bytes { file: u8, block: u8, at: u16, bytes: [u8; 8], count: u8 },
    /// A field of a structure changes, and its checksums with it.
    Forge { file: u8, structure: u8, at: u8, value: u64, bytes: u8 },
    /// Blocks are lost.
    Zero { file: u8, block: u8, blocks: u8 },
    /// Blocks are written to a wrong place.
    Copy { file: u8, block: u8, blocks: u8, to_file: u8, to_block: u8 },
    /// A file gets another length, in blocks and bytes.
    Resize { file: u8, blocks: u8, bytes: u16 },
    /// Two files take each other's name.
    Swap { file: u8, other: u8 },
    /// A file is gone.
    Remove { file: u8 },
    /// A file gets another name, and keeps its own with `keeps`.
    Rename { file: u8, name: u8, keeps: bool },
    /// Something else has the name.
    Directory { name: u8 },
}

/// The files of a directory while they are damaged.
pub(super) struct Files {
    pub(super) bytes: BTreeMap<String, Vec<u8>>,
    directories: BTreeSet<String>,
}

impl Files {
    pub(super) fn of(image: &Image) -> Files {
        Files { bytes: image.files.clone(), directories: BTreeSet::new() }
    }

    /// Whether superblock and watermark are what they were.
    pub(super) fn are_roots_of(&self, image: &Image) -> bool {
        ["superblock", "watermark"].iter().all(|name| {
            self.bytes.get(*name) == image.files.get(*name) && !self.directories.contains(*name)
        })
    }

    pub(super) fn has_directories(&self) -> bool {
        !self.directories.is_empty()
    }

    pub(super) fn write_to(&self, disk: &SimDisk) {
        for (name, bytes) in &self.bytes {
            disk.write_file(name, bytes);
        }
        for name in &self.directories {
            disk.plant_directory(name);
        }
    }

    pub(super) fn apply(&mut self, edit: &Edit) {
        match *edit {
            Edit::Flip { file, block, bit } => self.change(file, |bytes| {
                let at = place(bytes, block, bit / 8);
                bytes[at] ^= 1 << (bit % 8);
            }),
            Edit::Bytes { file, block, at, bytes: ref new, count } => self.change(file, |bytes| {
                let at = place(bytes, block, at);
                put(bytes, at, &new[..=usize::from(count) % new.len()]);
            }),
            Edit::Forge { file, structure, at, value, bytes: count } => {
                let count = 1 << (count % 4);
                self.change(file, |bytes| {
                    forge_at(bytes, structure, at, &value.to_le_bytes()[..count])
                });
            }
            Edit::Zero { file, block, blocks } => self.change(file, |bytes| {
                let at = place(bytes, block, 0);
                put(bytes, at, &vec![0; block_bytes() * (1 + usize::from(blocks))]);
            }),
            Edit::Copy { file, block, blocks, to_file, to_block } => {
                let Some(from) = self.name(file).map(|name| &self.bytes[&name]) else { return };
                let end = from.len().min(block_bytes() * (1 + usize::from(blocks)));
                let copied =
                    from[place(from, block, 0)..].iter().copied().take(end).collect::<Vec<_>>();
                self.change(to_file, |bytes| {
                    let at = place(bytes, to_block, 0);
                    put(bytes, at, &copied);
                });
            }
            Edit::Resize { file, blocks, bytes } => {
                let Some(name) = self.name(file) else { return };
                let length =
                    usize::from(blocks) * block_bytes() + usize::from(bytes) % block_bytes();
                self.bytes.entry(name).or_default().resize(length.min(FILE_BYTES_MAX), 0);
            }
            _ => self.apply_to_names(edit),
        }
    }

    fn apply_to_names(&mut self, edit: &Edit) {
        match *edit {
            Edit::Swap { file, other } => {
                let (Some(one), Some(other)) = (self.name(file), self.name(other)) else { return };
                let bytes = self.bytes[&one].clone();
                let bytes = self.bytes.insert(other, bytes).expect("it has a file");
                self.bytes.insert(one, bytes);
            }
            Edit::Remove { file } => {
                self.name(file).and_then(|name| self.bytes.remove(&name));
            }
            Edit::Rename { file, name, keeps } => {
                let Some(from) = self.name(file) else { return };
                let bytes = self.bytes[&from].clone();
                if !keeps {
                    self.bytes.remove(&from);
                }
                self.directories.remove(&name_of(name));
                self.bytes.insert(name_of(name), bytes);
            }
            Edit::Directory { name } => {
                self.bytes.remove(&name_of(name));
                self.directories.insert(name_of(name));
            }
            _ => unreachable!("the others are about bytes"),
        }
    }

    fn name(&self, file: u8) -> Option<String> {
        let number = usize::from(file).checked_rem(self.bytes.len())?;
        self.bytes.keys().nth(number).cloned()
    }

    /// Changes the bytes of a file that is not empty.
    fn change(&mut self, file: u8, change: impl FnOnce(&mut [u8])) {
        let name = self.name(file);
        let bytes = name.and_then(|name| self.bytes.get_mut(&name));
        if let Some(bytes) = bytes.filter(|bytes| !bytes.is_empty()) {
            change(bytes);
        }
    }
}

/// Every name that means something, and one that does not.
fn name_of(number: u8) -> String {
    let segment = u64::from(number) % SEGMENTS + 1;
    match u64::from(number) / SEGMENTS % 9 {
        0..=3 => file_name(segment),
        4 => file_name(u64::MAX - segment + 1),
        5 => format!("{segment:020}.spare"),
        6 => [
            format!("{}.tmp", file_name(segment)),
            format!("{segment:020}.parity"),
            format!("{segment:020}.checkpoint"),
            format!("{segment:020}.segments"),
        ][usize::from(number) / 8 % 4]
            .clone(),
        7 => ["superblock", "watermark"][usize::from(number) % 2].to_owned(),
        _ => ["superblock.tmp", "watermark.tmp", "foreign"][usize::from(number) % 3].to_owned(),
    }
}

fn block_bytes() -> usize {
    usize::try_from(BLOCK_BYTES).expect("a small number")
}

/// A place in bytes that are not none.
fn place(bytes: &[u8], block: u8, at: u16) -> usize {
    if bytes.is_empty() {
        return 0;
    }
    (usize::from(block) * block_bytes() + usize::from(at) % block_bytes()) % bytes.len()
}

/// Writes as much as fits.
fn put(bytes: &mut [u8], at: usize, new: &[u8]) {
    let count = new.len().min(bytes.len() - at);
    bytes[at..at + count].copy_from_slice(&new[..count]);
}

fn forge_at(bytes: &mut [u8], structure: u8, at: u8, value: &[u8]) {
    let magics =
        [forge::BATCH, forge::SEGMENT, forge::TRAILER, forge::SUPERBLOCK, forge::WATERMARK];
    let is_start = |start: &usize| magics.iter().any(|magic| bytes[*start..].starts_with(*magic));
    let starts: Vec<usize> = (0..bytes.len()).step_by(block_bytes()).filter(is_start).collect();
    let Some(number) = usize::from(structure).checked_rem(starts.len()) else { return };
    let start = starts[number];
    put(bytes, (start + usize::from(at)).min(bytes.len()), value);
    forge::seal_any(bytes, start, block_bytes());
}
