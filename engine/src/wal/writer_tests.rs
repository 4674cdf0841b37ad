//! The writer without a disk: what it hands out, in what order it acknowledges.

use super::*;
use crate::disk::Disk;
use crate::disk::sim::SimDisk;
use crate::format::bytes::to_u64;

const BLOCK: u32 = 512;
const SEGMENT: u64 = 64 << 10;

fn writer() -> Writer {
    let limits = Limits {
        block_bytes: BLOCK,
        segment_bytes: SEGMENT,
        batch_bytes_max: 8 << 10,
        inflight_bytes_max: 32 << 10,
    };
    let start = Start {
        log_id: 1,
        epoch: Epoch::new(1),
        epoch_start: Some(EpochStart { lineage_id: 1, incarnation: 2, nonce: 3 }),
        end_lsn: Lsn::FIRST,
        checksum: 0,
        last_epoch: Epoch::NONE,
        time_ms: 0,
        segment: None,
        segment_number: 0,
        end_offset: 0,
    };
    let mut writer = Writer::new(limits, Pool::new(64 << 10, 2), Arc::default(), start);
    prepare(&mut writer);
    writer
}

fn prepare(writer: &mut Writer) {
    let number = writer.next_segment_number();
    let file = SimDisk::new(number).create("segment", SEGMENT).unwrap();
    writer.handle_prepared(PreparedSegment { number, file, bytes: SEGMENT });
}

fn push(writer: &mut Writer, bytes: usize) -> (Lsn, Arc<Commit>) {
    match writer.push(&[vec![1; bytes]], None) {
        Push::Pushed(lsn) => (lsn, Arc::clone(writer.open_commit())),
        other => panic!("{other:?}"),
    }
}

fn writes(writer: &mut Writer) -> Vec<Write> {
    let mut writes = Vec::new();
    while let Poll::Write(write) = writer.poll_write(7) {
        writes.push(write);
    }
    writes
}

#[test]
fn acks_are_in_order() {
    let mut writer = writer();
    let mut all = Vec::new();
    for _ in 0..3 {
        push(&mut writer, 100);
        all.extend(writes(&mut writer));
    }
    // The segment's header, the epoch start, three batches.
    assert_eq!(all.len(), 5);
    let mut durable = Vec::new();
    for write in all.iter().rev() {
        assert_eq!(writer.durable_lsn(), Lsn::FIRST);
        writer.handle_completion(write.id, Ok(()), &mut durable);
    }
    assert_eq!(writer.durable_lsn(), Lsn::new(4));
    let commits = durable.iter().filter(|d| d.commit.is_some()).count();
    assert_eq!((durable.len(), commits), (5, 3));
}

#[test]
fn poison_is_final() {
    let mut writer = writer();
    push(&mut writer, 100);
    let first = writes(&mut writer);
    push(&mut writer, 100);
    let mut durable = Vec::new();
    let error = io::Error::other("broken");
    let failed = writer.handle_completion(first[0].id, Err(error), &mut durable);
    assert_eq!(failed.len(), 2, "the batch on its way and the open one");
    for write in &first[1..] {
        assert!(writer.handle_completion(write.id, Ok(()), &mut durable).is_empty());
    }
    assert!(durable.is_empty() && writer.poison().is_some());
    assert_eq!(writer.durable_lsn(), Lsn::FIRST);
    assert!(matches!(writer.poll_write(7), Poll::Nothing));
}

#[test]
fn writes_do_not_overlap() {
    let mut writer = writer();
    let mut end = std::collections::HashMap::new();
    let mut durable = Vec::new();
    for round in 0..200 {
        if !writer.has_next_segment(SEGMENT) {
            prepare(&mut writer);
        }
        push(&mut writer, 37 * round % 7000);
        for write in writes(&mut writer) {
            let file = Arc::as_ptr(&write.file).cast::<()>() as usize;
            let behind = end.entry(file).or_insert(0);
            assert!(write.offset >= *behind, "round {round}");
            assert_eq!(write.offset % u64::from(BLOCK), 0);
            *behind = write.offset + to_u64(write.bytes.len());
            assert!(*behind <= crate::format::segment::data_end(SEGMENT, BLOCK));
            writer.handle_completion(write.id, Ok(()), &mut durable);
        }
    }
    assert_eq!(writer.durable_lsn(), Lsn::new(201));
    assert!(end.len() > 5, "segments were rolled");
}

#[test]
fn without_a_segment_the_open_batch_is_given_up() {
    let mut writer = writer();
    let mut durable = Vec::new();
    loop {
        push(&mut writer, 7000);
        let writes = writes(&mut writer);
        if writes.is_empty() {
            break;
        }
        for write in writes {
            writer.handle_completion(write.id, Ok(()), &mut durable);
        }
    }
    let Poll::NeedSegment = writer.poll_write(99) else { panic!("a segment is needed") };
    assert_eq!(writer.time_ms, 7, "no batch has that time: another's may be earlier");
    let end_lsn = writer.end_lsn();
    let (commit, has_unheard) = writer.give_up_open().unwrap();
    assert!(commit.ended().is_none() && !has_unheard);
    assert_eq!(end_lsn.since(writer.end_lsn()), 1);
    prepare(&mut writer);
    let (lsn, _) = push(&mut writer, 7000);
    assert_eq!(lsn, writer.durable_lsn());
    assert_eq!(writes(&mut writer).len(), 2, "a header and the batch");
}

#[test]
fn what_is_on_its_way_is_bounded() {
    let mut writer = writer();
    let mut in_flight = 0;
    let backlogged = (0..100).any(|_| {
        let backlogged = match writer.push(&[vec![1; 6000]], None) {
            Push::Backlogged => true,
            Push::Full => writer.close(7).is_err(),
            Push::Pushed(..) => false,
        };
        in_flight += writes(&mut writer).iter().map(|w| w.bytes.len()).sum::<usize>();
        backlogged
    });
    assert!(backlogged && in_flight <= 32 << 10);
}

#[test]
fn runs_of_one_producer_join() {
    let mut writer = writer();
    let mut push = |id, first_sequence| {
        writer.push(&[b"x"], Some(Producer { id, first_sequence }));
    };
    push(7, 0);
    push(7, 1);
    push(9, 0);
    push(7, 2);
    push(7, 5);
    let written = writes(&mut writer);
    let batch = &written.last().unwrap().bytes;
    let header = BatchHeader::decode(batch).unwrap();
    let runs = crate::format::batch::producer_runs(&header, batch);
    let seen: Vec<_> = runs
        .iter()
        .map(|r| (r.producer_id, r.first_sequence, r.first_record, r.record_count))
        .collect();
    assert_eq!(seen, [(7, 0, 0, 2), (9, 0, 2, 1), (7, 2, 3, 1), (7, 5, 4, 1)]);
}
