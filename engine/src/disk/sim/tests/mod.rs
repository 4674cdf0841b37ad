//! The contract of the simulated disk, clause by clause.

mod bytes;
mod names;
mod queue;
mod whole;

use std::io;
use std::sync::Arc;

use super::random::Random;
use super::{OperationKind, POWER_CUT, SECTOR_BYTES, SimDisk};
use crate::disk::{Access, Aligned, Disk, DiskFile, Entry, EntryKind, Pool, Write, WriteQueue};

const SEEDS: u64 = 200;

/// `count` sectors full of one byte.
fn sectors_of(count: usize, fill: u8) -> Aligned {
    let mut bytes = Aligned::zeroed(count * SECTOR_BYTES);
    bytes.fill(fill);
    bytes
}

/// The first byte of each sector; each sector is seen not to be torn.
fn fills(bytes: &[u8]) -> Vec<u8> {
    let whole = |sector: &[u8]| {
        assert!(sector.iter().all(|byte| *byte == sector[0]), "a torn sector");
        sector[0]
    };
    bytes.chunks(SECTOR_BYTES).map(whole).collect()
}

/// A disk with one durable file `f` of `count` sectors full of 1.
fn disk_with_file(seed: u64, count: usize) -> (SimDisk, Arc<dyn DiskFile>) {
    let disk = SimDisk::new(seed);
    disk.write_file("f", &sectors_of(count, 1));
    let file = disk.open("f", Access::Write).unwrap();
    (disk, file)
}

fn sector(number: usize) -> u64 {
    u64::try_from(number * SECTOR_BYTES).unwrap()
}

fn submit(queue: &mut dyn WriteQueue, file: &Arc<dyn DiskFile>, id: u64, at: usize, bytes: &[u8]) {
    queue.submit(write(file, id, at, bytes)).unwrap();
}

fn write(file: &Arc<dyn DiskFile>, id: u64, at: usize, bytes: &[u8]) -> Write {
    let mut buffer = Pool::new(bytes.len(), 1).appendable(bytes.len());
    buffer.push(bytes);
    Write { id, file: Arc::clone(file), offset: sector(at), bytes: buffer.freeze() }
}

fn kind<T>(result: io::Result<T>) -> Option<io::ErrorKind> {
    result.err().map(|error| error.kind())
}
