//! What a truncation gave up, read from its fork.

mod common;

use cairnlog_engine::disk::sim::SimDisk;
use cairnlog_engine::{Epoch, ForkError, ForkReader, Log, Lsn};

use common::{Model, config};

type Given = Vec<(u64, u64, Vec<u8>)>;

fn given_up(disk: &SimDisk, lsn: Lsn, epoch: Epoch) -> Result<Given, ForkError> {
    let mut fork = ForkReader::open_on(disk, lsn, epoch)?;
    let mut records = Vec::new();
    while let Some(record) = fork.next_record()? {
        records.push((record.lsn.get(), record.epoch.get(), record.to_vec()));
    }
    Ok(records)
}

fn in_log(log: &Log, from: Lsn) -> Given {
    let records = log.iter(from..).expect("it is in the log");
    let record = |r: Result<cairnlog_engine::Record, _>| r.expect("it is whole");
    records.map(record).map(|r| (r.lsn.get(), r.epoch.get(), r.to_vec())).collect()
}

#[test]
fn a_fork_shows_what_was_given_up() {
    let config = config();
    for part in 0..5 {
        let (disk, mut model) = (SimDisk::new(part), Model::default());
        let mut log = model.open(&disk, &config).expect("nothing fails");
        for _ in 0..2 {
            model.append_some(&log).expect("nothing fails");
            model.append_large(&log, 5).expect("nothing fails");
            model.append_some(&log).expect("nothing fails");
            model.close(log).expect("nothing fails");
            log = model.open(&disk, &config).expect("nothing fails");
        }
        model.sync(&log).expect("nothing fails");
        let lsn = Lsn::new(1 + (log.end_lsn().get() - 1) * part / 5);
        let expected = in_log(&log, lsn);
        assert!(!expected.is_empty());
        model.truncate(&log, lsn).expect("nothing fails").expect("there is a fork");
        let forks = ForkReader::list_on(&disk).expect("a directory");
        let [(forked, epoch)] = forks[..] else { panic!("{forks:?}") };
        assert_eq!(forked, lsn);
        assert_eq!(given_up(&disk, lsn, epoch).expect("it is whole"), expected);
        // P9: no bit of it can be changed and be taken for what was there.
        let name = format!("{:020}-{:020}.fork", lsn.get(), epoch.get());
        for bit in (0..8 * disk.read_file(&name).len() as u64).step_by(7919) {
            disk.flip_bit(&name, bit);
            match given_up(&disk, lsn, epoch) {
                Ok(records) => assert_eq!(records, expected, "zeros behind a header"),
                Err(ForkError::Damaged { .. }) => {}
                Err(error) => panic!("{error}"),
            }
            disk.flip_bit(&name, bit);
        }
        model.close(log).expect("it closes");
    }
}
