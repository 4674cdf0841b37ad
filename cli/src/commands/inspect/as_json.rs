//! What was found, as one JSON object each.
//!
//! Owns the names of the fields, which are those of the format. Identities are given in hexadecimal,
//! because JSON numbers do not hold them.

use cairnlog_engine::Inspected;
use cairnlog_engine::format::batch::{BatchHeader, Kind};
use cairnlog_engine::format::checkpoint::CheckpointHeader;
use cairnlog_engine::format::fork::ForkHeader;
use cairnlog_engine::format::parity::ParityHeader;
use cairnlog_engine::format::segment::{SegmentHeader, Trailer};
use cairnlog_engine::format::superblock::Superblock;
use cairnlog_engine::format::version::Fault;
use cairnlog_engine::format::watermark::Watermark;
use serde_json::{Value, json};

use crate::commands::verify::corruption_as_json;

/// What was found, with its `kind`.
pub(super) fn object(found: &Inspected) -> Value {
    let (kind, mut value) = match found {
        Inspected::Superblock { copy, content } => {
            ("superblock", with("copy", (*copy).into(), content.as_ref().map(superblock)))
        }
        Inspected::Watermark { block, content } => {
            ("watermark", with("block", (*block).into(), content.as_ref().map(watermark)))
        }
        Inspected::Segment { number, bytes, header, trailer } => {
            let value = json!({
                "segment": number,
                "bytes": bytes,
                "sealed": trailer.is_ok(),
                "header": or_fault(header.as_ref().map(segment_header)),
                "trailer": or_fault(trailer.as_ref().map(segment_trailer)),
            });
            ("segment", value)
        }
        Inspected::Batch { header, body_is_whole } => {
            let mut value = batch(header);
            value["body_is_whole"] = (*body_is_whole).into();
            ("batch", value)
        }
        Inspected::Checkpoint { name, content } => {
            ("checkpoint", with("name", name.as_str().into(), content.as_ref().map(checkpoint)))
        }
        Inspected::Parity { name, content } => {
            ("parity", with("name", name.as_str().into(), content.as_ref().map(parity)))
        }
        Inspected::Fork { name, content } => {
            ("fork", with("name", name.as_str().into(), content.as_ref().map(fork)))
        }
        Inspected::Damage(corruption) => ("damage", corruption_as_json(corruption)),
        Inspected::Other { name } => ("other", json!({ "name": name })),
        other => ("unknown", json!({ "name": format!("{other:?}") })),
    };
    value["kind"] = kind.into();
    value
}

fn or_fault(content: Result<Value, &Fault>) -> Value {
    content.unwrap_or_else(|fault| json!({ "fault": fault.to_string() }))
}

fn with(name: &str, number: Value, content: Result<Value, &Fault>) -> Value {
    let mut value = or_fault(content);
    value[name] = number;
    value
}

fn checkpoint(header: &CheckpointHeader) -> Value {
    json!({
        "lsn": header.lsn.get(),
        "epoch": header.epoch.get(),
        "time_ms": header.time_ms,
        "content_bytes": header.content_bytes,
        "log_id": hex(header.log_id),
    })
}

fn parity(header: &ParityHeader) -> Value {
    json!({
        "segment": header.segment,
        "base_lsn": header.base_lsn.get(),
        "end_lsn": header.end_lsn.get(),
        "segment_bytes": header.segment_bytes,
        "digest": hex_digest(&header.digest),
        "log_id": hex(header.log_id),
    })
}

fn fork(header: &ForkHeader) -> Value {
    json!({
        "lsn": header.lsn.get(),
        "end_lsn": header.end_lsn.get(),
        "epoch": header.epoch.get(),
        "segment": header.segment,
        "offset": header.offset,
        "time_ms": header.time_ms,
        "content_bytes": header.content_bytes,
        "log_id": hex(header.log_id),
        "lineage_id": hex(header.lineage_id),
        "incarnation": hex(header.incarnation),
    })
}

/// A digest in hexadecimal.
pub(super) fn hex_digest(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hex(id: u128) -> String {
    format!("{id:032x}")
}

fn superblock(superblock: &Superblock) -> Value {
    let cut = &superblock.cut;
    json!({
        "sequence": superblock.sequence,
        "log_id": hex(superblock.log_id),
        "lineage_id": hex(superblock.lineage_id),
        "incarnation": hex(superblock.incarnation),
        "start_counter": superblock.start_counter,
        "promised_epoch": superblock.promised_epoch.get(),
        "block_bytes": superblock.block_bytes,
        "inflight_bytes_max": superblock.inflight_bytes_max,
        "first_lsn": superblock.first_lsn.get(),
        "first_segment": superblock.first_segment,
        "cut": {
            "lsn": cut.lsn.get(),
            "segment": cut.segment,
            "offset": cut.offset,
            "epoch": cut.epoch.get(),
        },
        "restore_end_lsn": superblock.restore.end_lsn.get(),
        "truncations": superblock.truncations.count,
        "last_truncation_lsn": superblock.truncations.last_lsn.get(),
        "cell_bytes": superblock.cell.len(),
    })
}

fn watermark(watermark: &Watermark) -> Value {
    json!({
        "sequence": watermark.sequence,
        "log_id": hex(watermark.log_id),
        "epoch": watermark.epoch.get(),
        "durable_lsn": watermark.durable_lsn.get(),
        "commit_lsn": watermark.commit_lsn.get(),
        "checksum": watermark.checksum,
    })
}

fn segment_header(header: &SegmentHeader) -> Value {
    json!({
        "log_id": hex(header.log_id),
        "segment": header.segment,
        "base_lsn": header.base_lsn.get(),
        "epoch": header.epoch.get(),
        "time_ms": header.time_ms,
        "segment_bytes": header.segment_bytes,
        "block_bytes": header.block_bytes,
        "prev_checksum": header.prev_checksum,
        "prev_end_offset": header.prev_end_offset,
    })
}

fn segment_trailer(trailer: &Trailer) -> Value {
    json!({
        "log_id": hex(trailer.log_id),
        "segment": trailer.segment,
        "base_lsn": trailer.base_lsn.get(),
        "end_lsn": trailer.end_lsn.get(),
        "end_offset": trailer.end_offset,
        "first_time_ms": trailer.first_time_ms,
        "last_time_ms": trailer.last_time_ms,
        "last_epoch": trailer.last_epoch.get(),
        "batch_count": trailer.batch_count,
        "last_checksum": trailer.last_checksum,
        "index_count": trailer.index_count,
    })
}

fn batch(header: &BatchHeader) -> Value {
    let content = match header.kind {
        Kind::Records => "records",
        Kind::EpochStart => "epoch_start",
        Kind::LostRange => "lost_range",
        _ => "unknown",
    };
    json!({
        "content": content,
        "segment": header.segment,
        "offset": header.offset,
        "length": header.length,
        "base_lsn": header.base_lsn.get(),
        "end_lsn": header.end_lsn().get(),
        "record_count": header.record_count,
        "payload_bytes": header.payload_bytes,
        "epoch": header.epoch.get(),
        "durable_lsn": header.durable_lsn.get(),
        "commit_lsn": header.commit_lsn.get(),
        "time_ms": header.time_ms,
        "prev_checksum": header.prev_checksum,
        "checksum": header.checksum,
    })
}
