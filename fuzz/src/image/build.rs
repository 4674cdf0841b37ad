//! The directories that are damaged afterwards.
//!
//! Owns [`Image`]: the files of a real log in one of the states in which a log can be left, with its
//! model. Each is made once, by the engine itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use cairnlog_engine::disk::sim::{OperationKind, SimDisk};
use cairnlog_engine::format::batch::{BatchHeader, HEADER_BYTES};
use cairnlog_engine::format::segment::{SegmentHeader, Trailer};
use cairnlog_engine::format::superblock::Superblock;
use cairnlog_engine::format::watermark::Watermark;
use cairnlog_engine::{Log, Lsn};

use crate::model::{BLOCK_BYTES, Model, config};

const IMAGES: usize = 7;
const SMALL: usize = 300;
const LARGE: usize = 14 << 10;
const ROOT_BYTES: usize = 4096;

/// A log as it was left.
pub(super) struct Image {
    pub(super) files: BTreeMap<String, Vec<u8>>,
    pub(super) model: Model,
    /// What the watermark says to be durable.
    pub(super) promised: Lsn,
    /// A time at which the log was being written.
    pub(super) middle_ms: u64,
    /// Every structure in it with a right checksum.
    structures: BTreeSet<Vec<u8>>,
}

/// One of the images.
pub(super) fn image(number: u8) -> &'static Image {
    static ALL: [OnceLock<Image>; IMAGES] = [const { OnceLock::new() }; IMAGES];
    let number = usize::from(number) % IMAGES;
    ALL[number].get_or_init(|| build(number))
}

fn build(number: usize) -> Image {
    let mut maker = Maker { disk: SimDisk::new(7), model: Model::default(), middle_ms: 0 };
    match number {
        0 => maker.live(SMALL, 6).close().expect("nothing fails"),
        1 => {
            let log = maker.live(LARGE, 12);
            log.trim(Lsn::new(5)).expect("nothing fails");
            log.close().expect("nothing fails");
            maker.live(SMALL, 5).close().expect("nothing fails");
        }
        2 => maker.lose_power(),
        3 => {
            maker.lose_power();
            maker.live(LARGE, 3).close().expect("nothing fails");
        }
        // A truncation that a crash cut short, and one that did not.
        4 => maker.truncate(true),
        5 => maker.truncate(false),
        _ => {
            let _ = maker.live(LARGE, 9);
            let log = maker.live(SMALL, 3);
            maker.disk.restart_keeping_all();
            drop(log);
        }
    }
    maker.finish()
}

struct Maker {
    disk: SimDisk,
    model: Model,
    middle_ms: u64,
}

impl Maker {
    fn live(&mut self, bytes: usize, records: usize) -> Log {
        let opened = Log::open_on(Arc::new(self.disk.clone()), config());
        let (log, report) = opened.expect("nothing fails");
        self.model.truncate(report.end_lsn);
        for number in 0..records {
            let record = self.model.make(bytes);
            self.model.records.push(record.clone());
            log.append(&record).expect("nothing fails");
            let record = self.model.make(number);
            self.model.records.push(record.clone());
            let ticket = log.submit_batch_as(1, 7, &[&record]).expect("nothing fails");
            ticket.wait().expect("nothing fails");
        }
        self.model.acknowledge(log.durable_lsn());
        let newest = log.read(self.model.acknowledged.since(Lsn::FIRST).into());
        self.middle_ms = newest.expect("it was appended").time_ms;
        log
    }

    /// Leaves several batches on their way, over the end of a segment.
    fn lose_power(&mut self) {
        let log = self.live(LARGE, 6);
        let mut tickets = Vec::new();
        for bytes in [LARGE, LARGE, SMALL, LARGE] {
            let record = self.model.make(bytes);
            self.model.records.push(record.clone());
            tickets.push(log.submit(&record).expect("nothing fails"));
        }
        self.disk.cut_at(self.disk.operations() + 6);
        for ticket in tickets {
            let _ = ticket.wait();
        }
        self.model.acknowledge(log.durable_lsn());
        drop(log);
        self.disk.restart(4);
    }

    /// Truncates between two batches, over a segment; with `unfinished` until only the cut is recorded.
    fn truncate(&mut self, unfinished: bool) {
        let log = self.live(LARGE, 6);
        let lsn = Lsn::new(5);
        if unfinished {
            // The first file that is removed comes behind the cut.
            self.disk.fail_nth(OperationKind::Remove, 2, std::io::ErrorKind::Other);
            assert!(log.truncate(lsn).is_err());
            drop(log);
            self.disk.restart_keeping_all();
            let copies = self.disk.read_file("superblock");
            let copy = Superblock::decode(&copies[..ROOT_BYTES]).expect("a whole one");
            assert!(copy.cut.is_pending(), "the cut is recorded, and not finished");
            // Nobody was told that they are gone: without the superblock a repair finds them all.
            self.model.acknowledged = lsn;
            return;
        }
        log.truncate(lsn).expect("nothing fails");
        log.close().expect("nothing fails");
        self.model.acknowledged = lsn;
        self.model.truncate(lsn);
    }

    fn finish(self) -> Image {
        let disk = &self.disk;
        let files: BTreeMap<String, Vec<u8>> =
            disk.files().into_iter().map(|name| (name.clone(), disk.read_file(&name))).collect();
        let watermark = files["watermark"].chunks(ROOT_BYTES).flat_map(Watermark::decode);
        let newest = watermark.max_by_key(|watermark| watermark.sequence);
        let promised = newest.map_or(Lsn::FIRST, |watermark| watermark.durable_lsn);
        // What was truncated since is promised no more.
        let promised = promised.min(self.model.acknowledged);
        let structures = files.values().flat_map(|file| structures(file)).collect();
        let (model, middle_ms) = (self.model, self.middle_ms);
        Image { files, model, promised, middle_ms, structures }
    }
}

impl Image {
    /// Whether a file holds a structure with a right checksum that is not of this image: an input may
    /// find the checksum out, and what it forged proves nothing.
    pub(super) fn is_forged(&self, files: &BTreeMap<String, Vec<u8>>) -> bool {
        let changed = files.iter().filter(|(name, bytes)| self.files.get(*name) != Some(bytes));
        let mut found = changed.flat_map(|(_, bytes)| structures(bytes));
        found.any(|structure| !self.structures.contains(&structure))
    }
}

/// Everything in a file that has a right checksum.
fn structures(file: &[u8]) -> Vec<Vec<u8>> {
    let block_bytes = usize::try_from(BLOCK_BYTES).expect("a small number");
    let mut found = Vec::new();
    for start in (0..file.len()).step_by(block_bytes) {
        let rest = &file[start..];
        let block = &rest[..rest.len().min(block_bytes)];
        let bytes = if BatchHeader::decode(rest).is_ok() {
            HEADER_BYTES
        } else if SegmentHeader::decode(rest).is_ok() || Trailer::decode(block).is_ok() {
            block_bytes
        } else if Superblock::decode(rest).is_ok() || Watermark::decode(rest).is_ok() {
            ROOT_BYTES
        } else {
            continue;
        };
        found.push(rest[..bytes].to_vec());
    }
    found
}
