//! D17: clocks that jump reorder, lose and trim nothing; and retention by age works when they do not.

use std::sync::Arc;

use cairnlog_engine::disk::sim::SimDisk;
use cairnlog_engine::{Config, Log, Lsn};

const HOUR_MS: u64 = 3600 * 1000;
const DAY_MS: u64 = 24 * HOUR_MS;
const YEAR_MS: u64 = 365 * DAY_MS;

fn open(disk: &SimDisk) -> Log {
    let mut config = Config::with_segment_bytes(64 << 10);
    config.block_bytes = 512;
    config.retain_seconds = Some(7 * DAY_MS / 1000);
    Log::open_on(Arc::new(disk.clone()), config).expect("nothing is damaged").0
}

/// Appends three segments' worth.
fn append_some(log: &Log) {
    let goal = log.stats().segments + 3;
    while log.stats().segments < goal {
        log.append(&[7; 9000]).expect("nothing fails");
    }
}

#[test]
fn segments_are_dropped_when_they_are_old() {
    let disk = SimDisk::new(1);
    let log = open(&disk);
    for _ in 0..10 {
        append_some(&log);
        disk.pass_ms(DAY_MS);
    }
    log.append(b"now").expect("nothing fails");
    let first = log.first_lsn();
    let oldest = log.read(first).expect("it is kept").time_ms;
    let newest = log.read(log.durable_lsn().get().checked_sub(1).map_or(Lsn::FIRST, Lsn::new));
    let age = newest.expect("it is kept").time_ms - oldest;
    assert!(first > Lsn::FIRST && age < 8 * DAY_MS, "{first}, {} days", age / DAY_MS);
}

/// Forward by any number of years, back again, over a reopen, and with the clock staying there.
#[test]
fn d17_a_jump_forward_drops_nothing() {
    for years in [1, 12, 1000] {
        let disk = SimDisk::new(1);
        let log = open(&disk);
        append_some(&log);
        let now = log.read(Lsn::FIRST).expect("it is kept").time_ms;
        disk.set_now_ms(now + years * YEAR_MS);
        append_some(&log);
        assert_eq!(log.first_lsn(), Lsn::FIRST, "{years} years");
        log.close().expect("nothing fails");
        let log = open(&disk);
        append_some(&log);
        assert_eq!(log.first_lsn(), Lsn::FIRST, "{years} years, after a reopen");
        disk.set_now_ms(now);
        append_some(&log);
        log.close().expect("nothing fails");
        let log = open(&disk);
        append_some(&log);
        assert_eq!(log.first_lsn(), Lsn::FIRST, "{years} years, and back");
        // Time that really passes is believed.
        disk.pass_ms(8 * DAY_MS);
        append_some(&log);
        append_some(&log);
        assert!(years > 1 || log.first_lsn() > Lsn::FIRST);
    }
}

/// The clock of records never goes back, whatever the machine's does; order is by LSN alone.
#[test]
fn d17_jumps_in_any_direction_reorder_and_lose_nothing() {
    let disk = SimDisk::new(1);
    let mut expected = Vec::new();
    let jumps = [0, 1, u64::from(u32::MAX) * 1000, 5, u64::MAX, 1 << 31, u64::MAX - 1, 0];
    for (number, now_ms) in jumps.into_iter().enumerate() {
        disk.set_now_ms(now_ms);
        let log = open(&disk);
        for sequence in 0..3 {
            let record = format!("{number}/{sequence}");
            log.append(record.as_bytes()).expect("nothing fails");
            expected.push(record);
        }
        let records: Result<Vec<_>, _> = log.iter(..).expect("in range").collect();
        let records = records.expect("all whole");
        assert!(records.is_sorted_by_key(|record| record.time_ms));
        let texts: Vec<&[u8]> = records.iter().map(|record| record.bytes()).collect();
        assert_eq!(texts, expected.iter().map(String::as_bytes).collect::<Vec<_>>());
        log.lsn_at_time(now_ms).expect("any time can be asked for");
        log.close().expect("nothing fails");
    }
}
