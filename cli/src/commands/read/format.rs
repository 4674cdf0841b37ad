//! How a record is shown.
//!
//! Owns the two formats, both of which give every byte back: `raw` where no record holds a newline,
//! `json` always.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use cairnlog_engine::{Epoch, Lsn, Record, RecordRef};
use cairnlog_replication::wire::request::WireRecord;

use crate::args::RecordFormat;
use crate::exit::Failure;

/// A record as it is shown, wherever it comes from.
pub(in crate::commands) struct Shown<'a> {
    lsn: Lsn,
    epoch: Epoch,
    time_ms: u64,
    data: &'a [u8],
}

impl<'a> From<&'a RecordRef<'_>> for Shown<'a> {
    fn from(record: &'a RecordRef<'_>) -> Shown<'a> {
        let (lsn, epoch, time_ms) = (record.lsn, record.epoch, record.time_ms);
        Shown { lsn, epoch, time_ms, data: record.bytes() }
    }
}

impl<'a> From<&'a Record> for Shown<'a> {
    fn from(record: &'a Record) -> Shown<'a> {
        let (lsn, epoch, time_ms) = (record.lsn, record.epoch, record.time_ms);
        Shown { lsn, epoch, time_ms, data: record.bytes() }
    }
}

impl<'a> From<&'a WireRecord> for Shown<'a> {
    fn from(record: &'a WireRecord) -> Shown<'a> {
        let (lsn, epoch, time_ms) = (record.lsn, record.epoch, record.time_ms);
        Shown { lsn, epoch, time_ms, data: &record.data }
    }
}

/// Where records go.
pub(in crate::commands) struct Sink {
    output: BufWriter<File>,
    format: RecordFormat,
}

impl Sink {
    pub(in crate::commands) fn new(output: BufWriter<File>, format: RecordFormat) -> Sink {
        Sink { output, format }
    }

    pub(in crate::commands) fn write(&mut self, record: &Shown<'_>) -> Result<(), Failure> {
        let written = match self.format {
            RecordFormat::Raw => write_raw(&mut self.output, record),
            RecordFormat::Json => write_json(&mut self.output, record),
        };
        written.map_err(|error| Failure::output(&error))
    }

    pub(in crate::commands) fn flush(&mut self) -> Result<(), Failure> {
        self.output.flush().map_err(|error| Failure::output(&error))
    }
}

fn write_raw(output: &mut impl Write, record: &Shown<'_>) -> io::Result<()> {
    output.write_all(record.data)?;
    output.write_all(b"\n")
}

fn write_json(output: &mut impl Write, record: &Shown<'_>) -> io::Result<()> {
    let (lsn, epoch, time_ms) = (record.lsn, record.epoch, record.time_ms);
    write!(output, r#"{{"lsn":{lsn},"epoch":{epoch},"time_ms":{time_ms},"#)?;
    match std::str::from_utf8(record.data) {
        Ok(text) => {
            output.write_all(br#""data":"#)?;
            serde_json::to_writer(&mut *output, text)?;
            output.write_all(b"}\n")
        }
        // The alphabet needs no escapes.
        Err(_) => {
            writeln!(output, r#""data_base64":"{}"}}"#, BASE64_STANDARD.encode(record.data))
        }
    }
}
