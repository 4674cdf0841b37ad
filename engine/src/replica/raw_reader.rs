//! The log as pieces for another replica, from disk.
//!
//! Owns [`RawReader`]: what is durable behind a place, segment by segment, each batch verified before it is handed
//! out; and the question whether a log goes through a place. What is newer comes from the feed.
//!
//! Invariants
//!  D1. A reader begins only at a place that this log goes through.    test `another_place_is_not_read_from`
//!
//! Bounds: what a cursor takes, and the bytes that are asked for, or one batch if that is larger.

use crate::Lsn;
use crate::error::{IoFailure, ReadError};
use crate::format::bytes::to_usize;
use crate::format::segment::file_name;
use crate::log::core::Core;
use crate::read::{Cursor, Way};
use crate::segments::Segment;
use crate::sync::Arc;
use crate::wal::place::Place;

/// Pieces of the log, for [`Replica::append_raw`](crate::Replica::append_raw) on another node.
#[derive(Clone, Debug)]
pub struct Raw {
    /// The place behind them.
    pub end: Place,
    /// The bytes: headers of segments and whole batches, as they are on disk.
    pub bytes: Vec<u8>,
}

/// Reads what is durable behind a place.
#[derive(Debug)]
pub struct RawReader {
    core: Arc<Core>,
    at: Place,
    /// The segment that is being read.
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    segment: Arc<Segment>,
    cursor: Cursor,
}

impl Open {
    fn is_at_end(&self) -> bool {
        self.cursor.offset() >= self.segment.extent().end_offset
    }
}

impl RawReader {
    /// A reader behind a place; `None` when the log does not go through it.
    pub(crate) fn new(core: &Arc<Core>, at: Place) -> Result<Option<RawReader>, ReadError> {
        let open = match find(core, at)? {
            Found::Nowhere => return Ok(None),
            Found::Start => None,
            Found::In(open) => Some(*open),
        };
        Ok(Some(RawReader { core: Arc::clone(core), at, open }))
    }

    /// Where it stands.
    #[must_use]
    pub fn place(&self) -> Place {
        self.at
    }

    /// What comes next: pieces of one segment, together at most `bytes_max` bytes if there is more than one;
    /// `None` when nothing more is durable.
    ///
    /// # Errors
    /// Whatever reading the segment gives; [`ReadError::Missing`] when it was trimmed meanwhile.
    pub fn next(&mut self, bytes_max: usize) -> Result<Option<Raw>, ReadError> {
        let mut bytes = Vec::new();
        if self.open.as_ref().is_none_or(Open::is_at_end) {
            let Some(header) = self.open_next()? else { return Ok(None) };
            bytes = header;
        }
        let open = self.open.as_mut().expect("opened above");
        while !open.is_at_end() {
            let (header, batch) = open.cursor.next(&*self.core.disk)?;
            // The cursor has moved: the first batch over the limit is taken as well.
            bytes.extend_from_slice(&batch);
            self.at.offset = header.end_offset();
            self.at.lsn = header.end_lsn();
            self.at.link = header.link();
            if header.lost.is_none() {
                self.at.epoch = header.epoch;
            }
            if bytes.len() >= bytes_max {
                break;
            }
        }
        Ok((!bytes.is_empty()).then_some(Raw { end: self.at, bytes }))
    }

    /// Goes on to the next segment, if it has begun; its header block.
    fn open_next(&mut self) -> Result<Option<Vec<u8>>, ReadError> {
        let number = self.at.segment + 1;
        let Some(segment) = self.core.segments.get(number) else {
            let first = self.core.segments.first().map_or(number, |first| first.number());
            let missing = ReadError::Missing { segment: number, lsn: self.at.lsn };
            return if first > number { Err(missing) } else { Ok(None) };
        };
        // The segment in front of it may have grown since it was looked at, up to its end.
        if self.open.as_ref().is_some_and(|open| !open.is_at_end()) {
            return Ok(None);
        }
        let header = &segment.header;
        let block_bytes = u64::from(header.block_bytes);
        let mut block = vec![0; to_usize(block_bytes)];
        header.encode(&mut block);
        (self.at.segment, self.at.offset) = (number, block_bytes);
        let cursor = Cursor::at_start(&*self.core.disk, &segment, Way::InProcess)?;
        self.open = Some(Open { segment, cursor });
        Ok(Some(block))
    }
}

enum Found {
    Nowhere,
    /// The start of a log that begins with its first segment.
    Start,
    In(Box<Open>),
}

impl Core {
    /// Whether the log goes through a place, as far as it is durable.
    pub(crate) fn holds(&self, place: Place) -> Result<bool, ReadError> {
        Ok(!matches!(find(self, place)?, Found::Nowhere))
    }
}

/// The place where a batch or a header ends; `None` when none does.
pub(super) fn place_at(
    core: &Core,
    (segment, offset): (u64, u64),
) -> Result<Option<Place>, ReadError> {
    if segment == 0 {
        let is_start = matches!(find(core, Place { offset, ..Place::START })?, Found::Start);
        return Ok(is_start.then_some(Place::START));
    }
    let Some(found) = core.segments.get(segment) else { return Ok(None) };
    let header = &found.header;
    let block = u64::from(header.block_bytes);
    let (mut lsn, mut link) = (header.base_lsn, header.prev_checksum);
    let mut epoch = core.lock_epochs().at_place(segment, block);
    if offset > found.extent().end_offset {
        return Ok(None);
    }
    let mut cursor = Cursor::at_start(&*core.disk, &found, Way::InProcess)?;
    while cursor.offset() < offset {
        let (batch, _) = cursor.next(&*core.disk)?;
        (lsn, link) = (batch.end_lsn(), batch.link());
        if batch.lost.is_none() {
            epoch = batch.epoch;
        }
    }
    let is_there = cursor.offset() == offset;
    Ok(is_there.then_some(Place { segment, offset, lsn, epoch, link }))
}

fn find(core: &Core, at: Place) -> Result<Found, ReadError> {
    if at.segment == 0 {
        let is_whole = core.segments.first().is_none_or(|first| first.number() == 1);
        let is_start = at == Place::START && is_whole;
        return Ok(if is_start { Found::Start } else { Found::Nowhere });
    }
    let Some(segment) = core.segments.get(at.segment) else { return Ok(Found::Nowhere) };
    let block = u64::from(segment.header.block_bytes);
    if !(block..=segment.extent().end_offset).contains(&at.offset) {
        return Ok(Found::Nowhere);
    }
    let header = &segment.header;
    if at.offset == block {
        let is_same = (header.base_lsn, header.prev_checksum) == (at.lsn, at.link);
        let cursor = Cursor::at_start(&*core.disk, &segment, Way::InProcess)?;
        return Ok(if is_same {
            Found::In(Box::new(Open { segment, cursor }))
        } else {
            Found::Nowhere
        });
    }
    let before = Lsn::new(at.lsn.get().saturating_sub(1)).max(header.base_lsn);
    let index = core.segments.index(&segment, &*core.disk);
    let index = index.map_err(|error| IoFailure::new("read", &file_name(at.segment), error));
    let index = index.map_err(ReadError::Io)?;
    let disk = &*core.disk;
    // Batches without records may stand in front of the first one with some.
    let index = index.as_deref().filter(|_| at.lsn > header.base_lsn);
    let mut cursor = Cursor::near(disk, &segment, Way::InProcess, index, before)?;
    let mut last = None;
    while cursor.offset() < at.offset {
        last = Some(cursor.next(disk)?.0);
    }
    let is_same = last.is_some_and(|last| {
        cursor.offset() == at.offset && (last.end_lsn(), last.link()) == (at.lsn, at.link)
    });
    Ok(if is_same { Found::In(Box::new(Open { segment, cursor })) } else { Found::Nowhere })
}
