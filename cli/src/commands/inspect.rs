//! `inspect`: what is in the files of a log.
//!
//! Owns how it is shown: one line for each thing found, as text here, as JSON in `inspect::as_json`.

mod as_json;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;

use cairnlog_engine::Inspected;
use cairnlog_engine::format::batch::{BatchHeader, Kind};
use cairnlog_engine::format::segment::{SegmentHeader, Trailer};
use cairnlog_engine::format::superblock::Superblock;
use cairnlog_engine::format::version::Fault;

use crate::args::{Format, InspectArgs};
use crate::exit::{Exit, Failure};
use crate::output;

pub(crate) fn run(args: &InspectArgs) -> Result<Exit, Failure> {
    let directory = &args.directory.path;
    let mut output = output::stdout()?;
    let mut written = Ok(());
    let inspected = cairnlog_engine::inspect(directory, &mut |found| {
        written = show(&mut output, &found, args.format);
        // Without a reader, or with a full disk behind the output, the rest is walked for nothing.
        if written.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    written.and_then(|()| output.flush()).map_err(|error| Failure::output(&error))?;
    inspected.map_err(|error| Failure::open(directory, &error))?;
    Ok(Exit::Done)
}

fn show(output: &mut BufWriter<File>, found: &Inspected, format: Format) -> io::Result<()> {
    if format == Format::Json {
        return writeln!(output, "{}", as_json::object(found));
    }
    match found {
        Inspected::Superblock { copy, content: Ok(superblock) } => {
            write!(output, "superblock copy {copy}: ")?;
            write_superblock(output, superblock)
        }
        Inspected::Superblock { copy, content: Err(fault) } => {
            writeln!(output, "superblock copy {copy}: {fault}")
        }
        Inspected::Watermark { block, content: Ok(watermark) } => writeln!(
            output,
            "watermark block {block}: sequence {}, epoch {}, durable below LSN {}",
            watermark.sequence, watermark.epoch, watermark.durable_lsn
        ),
        Inspected::Watermark { block, content: Err(fault) } => {
            writeln!(output, "watermark block {block}: {fault}")
        }
        Inspected::Segment { number, bytes, header, trailer } => {
            write!(output, "segment {number}: {bytes} bytes, ")?;
            write_segment(output, header, trailer)
        }
        Inspected::Batch { header, body_is_whole } => write_batch(output, header, *body_is_whole),
        Inspected::Checkpoint { name, content: Ok(header) } => writeln!(
            output,
            "{name}: checkpoint at LSN {}, epoch {}, {} bytes of content",
            header.lsn, header.epoch, header.content_bytes
        ),
        Inspected::Parity { name, content: Ok(header) } => writeln!(
            output,
            "{name}: parity of segment {}, LSN {}..{}, digest {}",
            header.segment,
            header.base_lsn,
            header.end_lsn,
            as_json::hex_digest(&header.digest)
        ),
        Inspected::Checkpoint { name, content: Err(fault) }
        | Inspected::Parity { name, content: Err(fault) }
        | Inspected::Fork { name, content: Err(fault) } => writeln!(output, "{name}: {fault}"),
        Inspected::Fork { name, content: Ok(header) } => writeln!(
            output,
            "{name}: records {}..{} given up at segment {}, offset {}, {} bytes of batches",
            header.lsn, header.end_lsn, header.segment, header.offset, header.content_bytes
        ),
        Inspected::Damage(corruption) => writeln!(output, "  damage: {corruption}"),
        Inspected::Other { name } => writeln!(output, "other: {}", name.escape_debug()),
        other => writeln!(output, "{other:?}"),
    }
}

fn write_superblock(output: &mut impl Write, superblock: &Superblock) -> io::Result<()> {
    write!(
        output,
        "sequence {}, log {:032x}, opened {} times, epoch {}, from LSN {} in segment {}, blocks of {} \
         bytes, cell of {} bytes",
        superblock.sequence,
        superblock.log_id,
        superblock.start_counter,
        superblock.promised_epoch,
        superblock.first_lsn,
        superblock.first_segment,
        superblock.block_bytes,
        superblock.cell.len()
    )?;
    let cut = &superblock.cut;
    if cut.is_pending() {
        let (segment, offset, lsn) = (cut.segment, cut.offset, cut.lsn);
        write!(output, ", unfinished cut at segment {segment}, offset {offset}, LSN {lsn}")?;
    }
    let truncations = &superblock.truncations;
    if truncations.count > 0 {
        let (count, lsn) = (truncations.count, truncations.last_lsn);
        write!(output, ", truncated {count} times, last to LSN {lsn}")?;
    }
    output.write_all(b"\n")
}

fn write_segment(
    output: &mut impl Write,
    header: &Result<SegmentHeader, Fault>,
    trailer: &Result<Trailer, Fault>,
) -> io::Result<()> {
    match header {
        Ok(header) => write!(output, "from LSN {}, epoch {}", header.base_lsn, header.epoch)?,
        Err(fault) => write!(output, "no header: {fault}")?,
    }
    match trailer {
        Ok(trailer) => writeln!(
            output,
            ", sealed with {} batches up to offset {}, before LSN {}",
            trailer.batch_count, trailer.end_offset, trailer.end_lsn
        ),
        Err(_) => output.write_all(b", not sealed\n"),
    }
}

fn write_batch(output: &mut impl Write, header: &BatchHeader, is_whole: bool) -> io::Result<()> {
    let BatchHeader { offset, length, epoch, base_lsn, durable_lsn, .. } = header;
    write!(output, "  batch at {offset}: {length} bytes, epoch {epoch}, ")?;
    match header.kind {
        Kind::EpochStart => write!(output, "epoch start before LSN {base_lsn}")?,
        Kind::LostRange => {
            write!(output, "stands for lost records {base_lsn}..{}", header.end_lsn())?;
        }
        _ => write!(output, "{} records from LSN {base_lsn}", header.record_count)?,
    }
    write!(output, ", durable below {durable_lsn}")?;
    output.write_all(if is_whole { b"\n" } else { b", body damaged\n" })
}
