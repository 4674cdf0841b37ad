//! Cairnlog's engine as a target.
//!
//! Owns the wrapper, the state in which the engine is measured, and the log that is scanned. Every
//! call here is the public interface of `cairnlog-engine`, with its default configuration but for
//! `retain_bytes`.
//!
//! Durability: `append` and `Ticket::wait` return once the record is on the medium;
//! `append_buffered` returns once the engine has taken the record, which a power cut or the end of
//! the process may lose.

use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, Instant};

use cairnlog_engine::{Config, Log, Ticket};

use crate::Result;
use crate::load::record_of;
use crate::target::{Pipeline, Target, Writer};
use crate::workload::RECYCLE_BYTES;

const FILL_RECORD_BYTES: usize = 256 << 10;

/// The open log.
pub struct Engine {
    log: Log,
}

impl Engine {
    /// Opens a new log in `dir` and fills it twice over what it retains, so that it recycles
    /// segments from now on.
    pub fn open(dir: &Path) -> Result<Self> {
        let mut config = Config::default();
        config.retain_bytes = Some(RECYCLE_BYTES);
        let (log, _report) = Log::open(dir, config)?;
        fill(&log, &record_of(FILL_RECORD_BYTES), 2 * RECYCLE_BYTES)?;
        Ok(Self { log })
    }
}

/// Appends `record` until `payload_bytes` are in the log, and makes them durable.
fn fill(log: &Log, record: &[u8], payload_bytes: u64) -> Result<()> {
    let records = payload_bytes / u64::try_from(record.len())?;
    for _ in 0..records {
        let _accepted = log.append_buffered(record)?;
    }
    log.sync()?;
    Ok(())
}

impl Target for Engine {
    fn durable(&self, _writer_index: usize) -> Result<Box<dyn Writer + '_>> {
        Ok(Box::new(DurableWriter { log: &self.log }))
    }

    fn buffered(&self, _writer_index: usize) -> Result<Box<dyn Writer + '_>> {
        Ok(Box::new(BufferedWriter { log: &self.log }))
    }

    fn pipeline(&self) -> Result<Box<dyn Pipeline + '_>> {
        Ok(Box::new(TicketPipeline { log: &self.log, tickets: VecDeque::new() }))
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.log.close()?)
    }
}

struct DurableWriter<'a> {
    log: &'a Log,
}

impl Writer for DurableWriter<'_> {
    fn append(&mut self, record: &[u8]) -> Result<()> {
        self.log.append(record)?;
        Ok(())
    }
}

struct BufferedWriter<'a> {
    log: &'a Log,
}

impl Writer for BufferedWriter<'_> {
    fn append(&mut self, record: &[u8]) -> Result<()> {
        let _accepted = self.log.append_buffered(record)?;
        Ok(())
    }
}

struct TicketPipeline<'a> {
    log: &'a Log,
    tickets: VecDeque<Ticket>,
}

impl Pipeline for TicketPipeline<'_> {
    fn submit(&mut self, record: &[u8]) -> Result<()> {
        self.tickets.push_back(self.log.submit(record)?);
        Ok(())
    }

    fn wait_oldest(&mut self) -> Result<()> {
        let ticket = self.tickets.pop_front().ok_or("nothing is in flight")?;
        ticket.wait()?;
        Ok(())
    }
}

/// Writes the log that `scan` reads: `payload_bytes` in records of `record_bytes`, in `dir`, closed
/// in good order.
pub fn write_log(dir: &Path, record_bytes: usize, payload_bytes: u64) -> Result<()> {
    let (log, _report) = Log::open(dir, Config::default())?;
    fill(&log, &record_of(record_bytes), payload_bytes)?;
    log.close()?;
    Ok(())
}

/// Opens the log in `dir` and reads every record of it, each verified by the engine. Returns the
/// bytes of payload and the time that both took; closing the log is not part of it.
pub fn open_and_scan(dir: &Path) -> Result<(u64, Duration)> {
    let started = Instant::now();
    let (log, _report) = Log::open(dir, Config::default())?;
    let payload_bytes = scan(&log)?;
    let elapsed = started.elapsed();
    log.close()?;
    Ok((payload_bytes, elapsed))
}

/// Reads every record of an open log. Returns the bytes of payload.
pub fn scan(log: &Log) -> Result<u64> {
    let mut records = log.iter(..)?;
    let mut payload_bytes = 0;
    while let Some(record) = records.next_ref()? {
        payload_bytes += u64::try_from(record.bytes().len())?;
    }
    Ok(payload_bytes)
}
