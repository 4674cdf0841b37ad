//! Who appended what, as it is read back batch by batch: `Records::next_runs`.

mod common;

use cairnlog_engine::disk::sim::SimDisk;
use cairnlog_engine::{Log, Lsn, LsnRange, ReadError};

use common::{config, sim};

/// Who, with which sequence the first record, and which records.
type Run = (u128, u64, LsnRange);

/// Reads the runs of a range.
fn runs(log: &Log, range: LsnRange) -> Result<Vec<Run>, ReadError> {
    let mut records = log.iter(range)?;
    let mut found = Vec::new();
    while let Some((lsns, runs)) = records.next_runs()? {
        assert!(lsns.start < lsns.end && lsns.end == records.next_lsn());
        for run in runs {
            let first = lsns.start.plus(run.first_record.into());
            let end = first.plus(run.record_count.into());
            assert!(end <= lsns.end);
            found.push((run.producer_id, run.first_sequence, first..end));
        }
    }
    Ok(found)
}

/// From memory and from segments, sealed ones and the last.
#[test]
fn runs_come_back_batch_by_batch() {
    for hot_bytes_max in [0, 8 << 20] {
        let mut config = config();
        config.hot_bytes_max = hot_bytes_max;
        let (log, _) = Log::open_on(sim(&SimDisk::new(7)), config).expect("a new log");
        let mut expected: Vec<Run> = Vec::new();
        let mut next = [0, 1 << 40];
        for step in 0..300_usize {
            let records = vec![vec![1; step % 1000]; 1 + step % 3];
            let (count, who) = (records.len() as u64, step % 2);
            if step % 5 == 0 {
                log.append_batch(&records).expect("nothing fails");
                continue;
            }
            let id = who as u128 + 1;
            let ticket = log.submit_batch_as(id, next[who], &records).expect("room");
            let lsns = ticket.lsns_if_durable();
            ticket.wait().expect("nothing fails");
            expected.push((id, next[who], lsns));
            next[who] += count;
        }
        assert!(log.stats().segments > 2, "sealed ones too");
        let end = log.end_lsn();
        assert_eq!(runs(&log, Lsn::FIRST..end).expect("they can be read"), expected);
        // From the start of a batch on; and no batch that is only partly in the range.
        let (_, _, middle) = expected[expected.len() / 2].clone();
        let behind = expected.iter().filter(|(_, _, lsns)| lsns.start >= middle.start);
        let found = runs(&log, middle.start..end).expect("they can be read");
        assert_eq!(found, behind.cloned().collect::<Vec<_>>());
        let is_long = |run: &&Run| run.2.end > run.2.start.next();
        let (_, _, last) = expected.iter().rfind(is_long).expect("there are many");
        let cut = runs(&log, Lsn::FIRST..Lsn::new(last.end.get() - 1)).expect("they can be read");
        assert_eq!(cut.last().map(|(_, _, lsns)| lsns.end <= last.start), Some(true));
    }
}
