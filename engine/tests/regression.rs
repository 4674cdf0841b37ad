//! One test for each bug that a review found: it failed first, and holds the fix since.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::any::Any;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cairnlog_engine::disk::sim::{OperationKind, SimDisk};
use cairnlog_engine::disk::{Access, Disk, DiskFile, Entry, WriteQueue};
use cairnlog_engine::*;

mod common;

use common::{config as small, sim, within};

fn scratch(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("cairn-finding-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    path
}

/// A disk in front of another one, with hooks.
#[derive(Debug)]
struct Front {
    inner: SimDisk,
    skip_directory_syncs: AtomicBool,
    on_list: Mutex<Option<Hook>>,
}
struct Hook(Box<dyn FnOnce() + Send>);
impl std::fmt::Debug for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hook")
    }
}
impl Front {
    fn new(inner: &SimDisk) -> Arc<Front> {
        Arc::new(Front {
            inner: inner.clone(),
            skip_directory_syncs: AtomicBool::new(false),
            on_list: Mutex::new(None),
        })
    }
}
impl Disk for Front {
    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>> {
        self.inner.lock()
    }
    fn is_locked(&self) -> io::Result<bool> {
        self.inner.is_locked()
    }
    fn list(&self) -> io::Result<Vec<Entry>> {
        if let Some(hook) = self.on_list.lock().unwrap().take() {
            (hook.0)();
        }
        self.inner.list()
    }
    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        self.inner.create(name, bytes)
    }
    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        self.inner.open(name, access)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.inner.remove(name)
    }
    fn sync_directory(&self) -> io::Result<()> {
        if self.skip_directory_syncs.load(Ordering::SeqCst) {
            return Err(io::Error::other("the process was killed here"));
        }
        self.inner.sync_directory()
    }
    fn write_queue(&self) -> io::Result<Box<dyn WriteQueue>> {
        self.inner.write_queue()
    }
    fn self_test(&self, file: &dyn DiskFile, bytes: u64) -> io::Result<()> {
        self.inner.self_test(file, bytes)
    }
    fn now_ms(&self) -> u64 {
        self.inner.now_ms()
    }
    fn random_id(&self) -> io::Result<u128> {
        self.inner.random_id()
    }
    fn describe(&self) -> String {
        self.inner.describe()
    }
    fn backend_name(&self) -> &'static str {
        "front"
    }
}

/// `kill -9` between rename and directory sync of a prepared segment; the next life uses the file
/// without syncing the directory; a power cut takes it away with what was acknowledged in it.
#[test]
fn prepared_segment_of_an_earlier_life_is_synced() {
    let disk = SimDisk::new(1);
    let front = Front::new(&disk);
    let (log, _) = Log::open_on(front.clone(), small()).unwrap();
    log.append(b"first").unwrap();
    // From here on every directory sync fails as if the process had been killed just before it.
    front.skip_directory_syncs.store(true, Ordering::SeqCst);
    // Segment 2 was prepared already; fill segment 1 and roll, so that segment 3 is prepared (and killed).
    let record = vec![7; 15 << 10];
    // The log takes the failed sync for what it is; what it acknowledged before was durable already.
    while log.append(&record).is_ok() {}
    assert!(disk.files().iter().any(|f| f.ends_with("3.seg")), "{:?}", disk.files());
    drop(log);
    front.skip_directory_syncs.store(false, Ordering::SeqCst);
    // A new process on the same, still powered machine.
    let (log, _) = Log::open_on(sim(&disk), small()).unwrap();
    // The disk is full, so that no later segment can be made (which would sync the directory by the way).
    disk.set_free_bytes(Some(0));
    let mut acked = Lsn::NONE;
    while let Ok(lsn) = log.append(&record) {
        acked = lsn;
    }
    std::mem::forget(log);
    disk.restart_losing_all();
    let opened = Log::open_on(sim(&disk), small());
    let (_, report) = opened.unwrap_or_else(|e| panic!("acknowledged {acked}: {e}"));
    assert!(report.end_lsn > acked, "acknowledged {acked}, kept below {}", report.end_lsn);
}

/// A failed directory sync is retried by the next append, which is then acknowledged.
#[test]
fn a_failed_directory_sync_is_final() {
    let disk = SimDisk::new(1);
    let (log, _) = Log::open_on(sim(&disk), small()).unwrap();
    let record = vec![7; 15 << 10];
    let mut acked = log.append(&record).unwrap();
    disk.fail_nth(OperationKind::SyncDirectory, 1, io::ErrorKind::Other);
    let mut refused = 0;
    for _ in 0..12 {
        match log.append(&record) {
            Ok(lsn) => acked = lsn,
            Err(_) => refused += 1,
        }
    }
    eprintln!("refused {refused}, acknowledged up to {acked}");
    std::mem::forget(log);
    disk.restart_losing_all();
    let (_, report) = Log::open_on(sim(&disk), small()).expect("opens");
    assert!(report.end_lsn > acked, "acknowledged {acked}, kept below {}", report.end_lsn);
}

/// Buffered records are given up without a word, and `sync` says that they are durable.
#[test]
fn buffered_records_are_not_lost_silently() {
    let disk = SimDisk::new(1);
    let (log, _) = Log::open_on(sim(&disk), small()).unwrap();
    disk.set_free_bytes(Some(0));
    // Fill the segments that there are to the last block.
    for bytes in [15 << 10, 4 << 10, 100] {
        while log.append(&vec![7; bytes]).is_ok() {}
    }
    let buffered = log.append_buffered(b"buffered").unwrap();
    // An append of somebody else runs into the full disk and takes the buffered record down.
    let other = log.append(b"other");
    assert!(matches!(other, Err(AppendError::Full(_))));
    disk.set_free_bytes(None);
    let later = log.append_buffered(b"later").unwrap();
    assert_eq!(later, buffered, "this is how it shows: the LSN is given out again");
    // The one that was given up is told, once; the later one is durable all the same.
    assert!(matches!(log.sync(), Err(AppendError::Full(_))));
    log.sync().unwrap();
    assert_eq!(log.read(later.lsn_if_durable()).unwrap().bytes(), b"later");
}

/// A power cut while the footers are written leaves a gap in the sealed ones: retention is stuck.
#[test]
fn unsealed_segment_behind_sealed_ones_is_sealed() {
    let record = vec![7; 15 << 10];
    let mut stuck = Vec::new();
    let run = |cut: Option<u64>| -> (SimDisk, u64, u64) {
        let disk = SimDisk::new(1);
        let (log, _) = Log::open_on(sim(&disk), small()).unwrap();
        let before = disk.operations();
        if let Some(cut) = cut {
            disk.cut_at(cut);
        }
        let tickets: Vec<_> = (0..14).map_while(|_| log.submit(&record).ok()).collect();
        for ticket in tickets {
            let _ = ticket.wait();
        }
        std::mem::forget(log);
        let after = disk.operations();
        (disk, before, after)
    };
    let (_, before, after) = run(None);
    for cut in before + 1..=after {
        let (disk, ..) = run(Some(cut));
        disk.restart_losing_all();
        let Ok((log, _)) = Log::open_on(sim(&disk), small()) else { continue };
        for _ in 0..14 {
            log.append(&record).unwrap();
        }
        let end = log.durable_lsn();
        let first = log.trim(end).unwrap();
        if end.since(first) > 8 {
            stuck.push((cut, first, end));
        }
    }
    assert!(stuck.is_empty(), "trim to the end leaves whole segments behind: {stuck:?}");
}

/// A torn tail behind a roll is called damage, because the unused end of a segment counts as bytes
/// in flight.
#[test]
fn a_torn_tail_over_a_roll_is_torn() {
    let mut config = Config::with_segment_bytes(1 << 20);
    config.record_bytes_max = 300 << 10;
    config.batch_bytes_max = 32 << 10;
    config.inflight_bytes_max = (300 << 10) + 4 + 4 * 65536;
    let mut refused = Vec::new();
    let rounds = 400;
    for seed in 0..rounds {
        let disk = SimDisk::new(seed);
        let (log, _) = Log::open_on(sim(&disk), config.clone()).unwrap();
        for bytes in [300 << 10, 300 << 10, 80_000] {
            log.append(&vec![1; bytes]).unwrap();
        }
        // On their way: a small batch, the header of segment 2 (because the large batch misses room by
        // one block), the large batch, another one: 395 KiB, well within `inflight_bytes_max`.
        let tickets: Vec<_> = [16 << 10, 300 << 10, 66 << 10]
            .iter()
            .map(|bytes| log.submit(&vec![2; *bytes]).unwrap())
            .collect();
        disk.cut_at(disk.operations() + 5 + seed % 3);
        for ticket in tickets {
            let _ = ticket.wait();
        }
        std::mem::forget(log);
        disk.restart(seed);
        if let Err(error) = Log::open_on(sim(&disk), config.clone()) {
            refused.push(format!("seed {seed}: {error}"));
        }
    }
    let count = refused.len();
    refused.truncate(3);
    assert_eq!(count, 0, "of {rounds} power cuts: {refused:#?}");
}

/// A missing number in front of a segment that nobody started is called damage.
#[test]
fn a_prepared_file_behind_a_gap_is_no_damage() {
    let disk = SimDisk::new(1);
    let (log, _) = Log::open_on(sim(&disk), small()).unwrap();
    log.append(b"one").unwrap();
    log.close().unwrap();
    // What a crash in `clean_up` leaves when only some of its removals reach the medium.
    disk.remove_file("00000000000000000002.seg");
    disk.write_file("00000000000000000003.seg", &vec![0; 64 << 10]);
    let opened = Log::open_on(sim(&disk), small());
    assert!(opened.is_ok(), "{}", opened.unwrap_err());
}

/// verify and LogReader beside a busy writer see damage where there is none.
#[test]
fn verify_beside_a_writer_sees_no_damage() {
    let path = scratch("verify");
    let mut config = Config::with_segment_bytes(64 << 20);
    config.retain_bytes = None;
    let (log, _) = Log::open(&path, config).unwrap();
    log.append(b"first").unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let log = Arc::new(log);
    let writers: Vec<_> = (0..2)
        .map(|_| {
            let (log, stop) = (Arc::clone(&log), Arc::clone(&stop));
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    log.append(&[1; 100]).unwrap();
                }
            })
        })
        .collect();
    let mut damaged = Vec::new();
    let start = Instant::now();
    let mut looks = 0;
    while start.elapsed() < Duration::from_secs(4) {
        looks += 1;
        let report = verify(&path, &mut |_, _| {}).unwrap();
        if !report.is_whole() {
            damaged.push(report.verdict.to_string());
        }
        let reader = LogReader::open(&path).unwrap();
        if !matches!(reader.verdict(), Verdict::Clean | Verdict::TornTail { .. }) {
            damaged.push(reader.verdict().to_string());
        }
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.join().unwrap();
    }
    let _ = std::fs::remove_dir_all(&path);
    let count = damaged.len();
    damaged.truncate(2);
    assert_eq!(count, 0, "of {looks} verifies and {looks} readers: {damaged:#?}");
}

/// A segment dropped between a reader's look at the superblock and at the directory is damage to it.
#[test]
fn a_trim_under_a_look_is_no_damage() {
    let disk = SimDisk::new(1);
    let (log, _) = Log::open_on(sim(&disk), small()).unwrap();
    let log = Arc::new(log);
    let record = vec![7; 15 << 10];
    for _ in 0..12 {
        log.append(&record).unwrap();
    }
    let front = Front::new(&disk);
    let trimmer = Arc::clone(&log);
    let trim = move || {
        trimmer.trim(Lsn::new(6)).unwrap();
    };
    *front.on_list.lock().unwrap() = Some(Hook(Box::new(trim)));
    let reader = LogReader::open_on(front.clone()).unwrap();
    assert_eq!(*reader.verdict(), Verdict::Clean, "readable: {:?}", reader.range());
}

/// A reader in another process marks a file after the writer looked, and before it is reused.
#[test]
fn a_marked_file_is_not_recycled_under_its_reader() {
    let path = scratch("recycle");
    let config = Config::with_segment_bytes(64 << 10);
    let (log, _) = Log::open(&path, config).unwrap();
    let record = vec![7; 15 << 10];
    for _ in 0..12 {
        log.append(&record).unwrap();
    }
    while log.trim(Lsn::new(1)).is_err() {}
    std::thread::sleep(Duration::from_millis(50));
    // What `Segment::file_locked` does, with the trim at its worst moment: after the open, before the mark.
    let file = std::fs::File::open(path.join("00000000000000000001.seg")).unwrap();
    log.trim(Lsn::new(6)).unwrap();
    file.try_lock_shared().expect("a reader marks it, and it is marked from now on");
    use std::os::unix::fs::FileExt;
    let mut before = vec![0; 64 << 10];
    file.read_exact_at(&mut before, 0).unwrap();
    for _ in 0..12 {
        log.append(&[9; 15 << 10]).unwrap();
    }
    let mut after = vec![0; 64 << 10];
    file.read_exact_at(&mut after, 0).unwrap();
    let same = before == after;
    drop(log);
    let _ = std::fs::remove_dir_all(&path);
    assert!(same, "the file was written again under the shared lock of its reader");
}

/// The segment that was active when a reader looked is never marked: it is recycled under the reader.
#[test]
fn the_active_segment_of_a_reader_is_not_recycled() {
    let disk = SimDisk::new(1);
    let (log, _) = Log::open_on(sim(&disk), small()).unwrap();
    for _ in 0..3 {
        log.append(&[7; 15 << 10]).unwrap();
    }
    let reader = LogReader::open_on(sim(&disk)).unwrap();
    let range = reader.range();
    let mut records = reader.iter(..).unwrap();
    for _ in 0..9 {
        log.append(&[8; 15 << 10]).unwrap();
    }
    log.trim(Lsn::new(5)).unwrap();
    for _ in 0..12 {
        log.append(&[9; 15 << 10]).unwrap();
    }
    let mut next = range.start;
    for record in &mut records {
        match record {
            Ok(record) => {
                assert_eq!(record.lsn, next);
                next = next.next();
            }
            Err(ReadError::Corrupt(corruption)) => panic!("corrupt, of {range:?}: {corruption}"),
            // Gone is an answer.
            Err(_) => return,
        }
    }
}

/// A segment of another log is taken for a file that can be written over.
#[test]
fn a_foreign_segment_is_left_alone() {
    let (one, other) = (SimDisk::new(1), SimDisk::new(2));
    for (disk, text) in [(&one, &b"one"[..]), (&other, b"other")] {
        let (log, _) = Log::open_on(sim(disk), small()).unwrap();
        for _ in 0..8 {
            log.append(&[text, &[0; 14 << 10]].concat()).unwrap();
        }
        log.close().unwrap();
    }
    eprintln!("{:?} {:?}", one.files(), other.files());
    let next = "00000000000000000004.seg";
    one.remove_file(next);
    let foreign = other.read_file("00000000000000000002.seg");
    one.write_file(next, &foreign);
    if let Ok((log, _)) = Log::open_on(sim(&one), small()) {
        for _ in 0..10 {
            log.append(&[1; 14 << 10]).unwrap();
        }
    }
    assert_eq!(one.read_file(next), foreign, "records of another log were written over");
}

/// An open that is refused rewrites a copy of the superblock.
#[test]
fn a_refused_open_changes_nothing() {
    let disk = SimDisk::new(1);
    let (log, _) = Log::open_on(sim(&disk), small()).unwrap();
    for _ in 0..3 {
        log.append(b"one").unwrap();
    }
    log.close().unwrap();
    disk.flip_bit("superblock", 8 * 4200);
    disk.flip_bit("00000000000000000001.seg", 8 * 1100);
    let before = disk.read_file("superblock");
    let Err(error) = Log::open_on(sim(&disk), small()) else { panic!("opened") };
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    assert_eq!(disk.read_file("superblock"), before, "{error}");
}

/// One sector that cannot be read ends verify and open with an I/O error.
#[test]
fn verify_goes_on_behind_an_unreadable_sector() {
    let disk = SimDisk::new(1);
    let (log, _) = Log::open_on(sim(&disk), small()).unwrap();
    for _ in 0..12 {
        log.append(&[1; 15 << 10]).unwrap();
    }
    log.close().unwrap();
    let mut ended = Vec::new();
    for nth in 1..60 {
        disk.fail_nth(OperationKind::Read, nth, io::ErrorKind::Other);
        if let Err(error) = verify_on(&disk.clone(), &mut |_, _| {})
            && error.to_string().contains(".seg")
        {
            ended.push(format!("read {nth}: {error}"));
        }
    }
    ended.truncate(3);
    assert!(ended.is_empty(), "verify gave up: {ended:#?}");
}

/// Records of many producers make a batch that fits in no segment.
#[test]
fn runs_count_against_the_batch() {
    let disk = SimDisk::new(1);
    let config = Config::with_segment_bytes(64 << 10);
    let (log, _) = Log::open_on(sim(&disk), config).unwrap();
    let mut tickets = Vec::new();
    for n in 0..4000u64 {
        tickets.push(log.submit_batch_as(u128::from(n), 0, &[b""]).unwrap());
    }
    for ticket in tickets {
        ticket.wait().unwrap();
    }
}

/// Two threads use a log without threads of its own.
#[test]
fn a_log_without_threads_takes_two_threads() {
    within(60, || {
        let path = scratch("inline");
        let disk = disk::OsDisk::open(&path, true, disk::BackendChoice::Blocking).unwrap();
        let (log, _) = Log::open_on(Arc::new(disk), small()).unwrap();
        let log = Arc::new(log);
        let threads: Vec<_> = (0..2)
            .map(|t| {
                let log = Arc::clone(&log);
                std::thread::spawn(move || {
                    for _ in 0..2000 {
                        if t == 0 {
                            log.append(b"a").map(|_| ()).unwrap();
                        } else {
                            log.submit(b"b").unwrap().wait().map(|_| ()).unwrap();
                        }
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().expect("no panic");
        }
        let _ = std::fs::remove_dir_all(&path);
    });
}

/// A tail misses the last records when the log is closed at that moment.
#[test]
fn a_tail_gets_the_last_record() {
    within(120, || {
        let mut missed = 0;
        for round in 0..300 {
            let path = scratch(&format!("tail-{round}"));
            let mut config = Config::with_segment_bytes(64 << 10);
            config.durable_write = Some(disk::DurableWrite::Dsync);
            config.watermark_interval_ms = 1;
            let (log, _) = Log::open(&path, config).unwrap();
            let mut tail = log.tail(Lsn::FIRST).unwrap();
            let got = Arc::new(AtomicU64::new(0));
            let reader = {
                let got = Arc::clone(&got);
                std::thread::spawn(move || {
                    while let Some(record) = tail.next_record().unwrap() {
                        got.store(record.lsn.get(), Ordering::SeqCst);
                    }
                })
            };
            let lsn = log.append(b"x").unwrap();
            log.close().unwrap();
            reader.join().unwrap();
            if got.load(Ordering::SeqCst) != lsn.get() {
                missed += 1;
            }
            let _ = std::fs::remove_dir_all(&path);
        }
        assert_eq!(missed, 0, "of 300");
    });
}

/// Closing waits for the whole of `watermark_interval_ms`.
#[test]
fn closing_does_not_wait_for_the_watermark() {
    let path = scratch("close");
    let mut config = Config::with_segment_bytes(64 << 10);
    config.watermark_interval_ms = 3000;
    let (log, _) = Log::open(&path, config).unwrap();
    log.append(b"x").unwrap();
    std::thread::sleep(Duration::from_millis(100));
    let start = Instant::now();
    log.close().unwrap();
    let _ = std::fs::remove_dir_all(&path);
    assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
}

/// A disk that was not asked for longer than the deadline is not a disk that does not answer.
#[test]
fn an_idle_log_is_not_stalled() {
    let scratch = scratch("idle");
    let mut config = Config::with_segment_bytes(64 << 10);
    // A busy disk may take its time: with 40 ms this failed now and then.
    config.stall_deadline_ms = 200;
    // The first thread drives for a while before it asks the disk.
    config.commit_delay_us = 150_000;
    let (log, _) = Log::open(&scratch, config).expect("it is made");
    for round in 0..5 {
        std::thread::sleep(Duration::from_millis(300));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| log.append(b"after a pause").expect("nothing fails"));
            }
        });
        log.submit(b"a ticket").expect("nothing fails").wait().expect("nothing fails");
        assert_eq!(log.durable_lsn().get(), (round + 1) * 9 + 1);
    }
    log.close().expect("nothing fails");
    std::fs::remove_dir_all(&scratch).expect("it is there");
}
