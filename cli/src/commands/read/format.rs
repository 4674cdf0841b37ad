//! How a record is shown.
//!
//! Owns the two formats, both of which give every byte back: `raw` where no record holds a newline,
//! `json` always.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use cairnlog_engine::RecordRef;

use crate::args::RecordFormat;
use crate::exit::Failure;

/// Where records go.
pub(super) struct Sink {
    output: BufWriter<File>,
    format: RecordFormat,
}

impl Sink {
    pub(super) fn new(output: BufWriter<File>, format: RecordFormat) -> Sink {
        Sink { output, format }
    }

    pub(super) fn write(&mut self, record: &RecordRef<'_>) -> Result<(), Failure> {
        let written = match self.format {
            RecordFormat::Raw => write_raw(&mut self.output, record),
            RecordFormat::Json => write_json(&mut self.output, record),
        };
        written.map_err(|error| Failure::output(&error))
    }

    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        self.output.flush().map_err(|error| Failure::output(&error))
    }
}

fn write_raw(output: &mut impl Write, record: &RecordRef<'_>) -> io::Result<()> {
    output.write_all(record.bytes())?;
    output.write_all(b"\n")
}

fn write_json(output: &mut impl Write, record: &RecordRef<'_>) -> io::Result<()> {
    let (lsn, epoch, time_ms) = (record.lsn, record.epoch, record.time_ms);
    write!(output, r#"{{"lsn":{lsn},"epoch":{epoch},"time_ms":{time_ms},"#)?;
    match std::str::from_utf8(record.bytes()) {
        Ok(text) => {
            output.write_all(br#""data":"#)?;
            serde_json::to_writer(&mut *output, text)?;
            output.write_all(b"}\n")
        }
        // The alphabet needs no escapes.
        Err(_) => {
            writeln!(output, r#""data_base64":"{}"}}"#, BASE64_STANDARD.encode(record.bytes()))
        }
    }
}
