//! The format stays what it was: a directory that was written once, `fixtures/v1`, opens and reads
//! back exactly what was appended then; and the same appends write the same bytes today.
//!
//! When the bytes change on purpose, the version is raised (FORMAT.md, "Versions"), the old directory
//! stays, and a new one is made:
//!
//! ```text
//! cargo test -p cairnlog-engine --test golden -- --ignored write_the_fixture
//! ```
//!
//! The disk is simulated, with a clock and identities of its own, so that the bytes follow from the
//! appends alone and not from how many operations the engine makes for them.

use std::any::Any;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cairnlog_engine::disk::sim::SimDisk;
use cairnlog_engine::disk::{Access, BackendChoice, Disk, DiskFile, Entry, WriteQueue};
use cairnlog_engine::format::segment::file_name;
use cairnlog_engine::format::superblock::Superblock;
use cairnlog_engine::format::version::VERSION;
use cairnlog_engine::format::watermark::Watermark;
use cairnlog_engine::{Config, Log, LogReader, Lsn, Records, Verdict, verify_on};

const START_MS: u64 = 1_700_000_000_000;
const STEP_MS: u64 = 1000;
/// Bytes of a copy of the superblock, and of a block of the watermark.
const COPY_BYTES: usize = 4096;
const CELL: &[u8] = b"golden";
/// The last of them is being written; those before are sealed.
const SEGMENTS: u64 = 2;

/// A simulated disk whose clock stands still and whose identities are counted.
#[derive(Debug)]
struct Still {
    disk: SimDisk,
    now_ms: AtomicU64,
    ids: AtomicU64,
}

impl Still {
    fn new(disk: SimDisk) -> Still {
        Still { disk, now_ms: AtomicU64::new(START_MS), ids: AtomicU64::new(0) }
    }

    fn step(&self) {
        self.now_ms.fetch_add(STEP_MS, Ordering::Relaxed);
    }
}

impl Disk for Still {
    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>> {
        self.disk.lock()
    }

    fn is_locked(&self) -> io::Result<bool> {
        self.disk.is_locked()
    }

    fn list(&self) -> io::Result<Vec<Entry>> {
        self.disk.list()
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.create(name, bytes)
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.open(name, access)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.disk.sync_directory()
    }

    fn write_queue(&self) -> io::Result<Box<dyn WriteQueue>> {
        self.disk.write_queue()
    }

    fn self_test(&self, file: &dyn DiskFile, bytes: u64) -> io::Result<()> {
        self.disk.self_test(file, bytes)
    }

    fn now_ms(&self) -> u64 {
        self.now_ms.load(Ordering::Relaxed)
    }

    fn random_id(&self) -> io::Result<u128> {
        let number = self.ids.fetch_add(1, Ordering::Relaxed) + 1;
        Ok(u128::from(number) << 64 | 0x0123_4567_89ab_cdef)
    }

    fn describe(&self) -> String {
        "golden".to_owned()
    }

    fn backend_name(&self) -> &'static str {
        self.disk.backend_name()
    }
}

/// Everything that has a say in the bytes is fixed here; defaults may change.
fn config() -> Config {
    let mut config = Config::default();
    config.segment_bytes = 64 << 10;
    config.block_bytes = 512;
    config.record_bytes_max = 32 << 10;
    config.batch_bytes_max = 16 << 10;
    config.inflight_bytes_max = 1 << 20;
    config
}

/// A record that tells its LSN.
fn record(lsn: u64, bytes: usize) -> Vec<u8> {
    let mut record = format!("record {lsn} ").into_bytes();
    while record.len() < bytes {
        let next = (lsn + record.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        record.push(next.to_le_bytes()[7]);
    }
    record.truncate(bytes);
    record
}

/// What was appended, by LSN - 1: the life that appended it, its time, and its bytes.
struct Appended {
    epoch: u64,
    time_ms: u64,
    bytes: Vec<u8>,
}

/// Two lives of a log: each way to append, an empty record, a large one, and a roll.
fn append_all(still: &Arc<Still>) -> Vec<Appended> {
    let mut appended: Vec<Appended> = Vec::new();
    for epoch in 1..=2 {
        let (log, report) =
            Log::open_on(Arc::clone(still) as Arc<dyn Disk>, config()).expect("it opens");
        assert_eq!(report.epoch.get(), epoch);
        let groups: [&[usize]; 6] =
            [&[0], &[11, 0, 300], &[20_000], &[5000, 1, 700], &[100, 100], &[9000]];
        for (way, sizes) in groups.iter().enumerate() {
            still.step();
            let group: Vec<Vec<u8>> = (appended.len() as u64 + 1..)
                .zip(*sizes)
                .map(|(lsn, bytes)| record(lsn, *bytes))
                .collect();
            append(&log, way, &group);
            let time_ms = still.now_ms();
            appended.extend(group.into_iter().map(|bytes| Appended { epoch, time_ms, bytes }));
            assert_eq!(log.durable_lsn().get(), appended.len() as u64 + 1);
        }
        log.set_cell(CELL).expect("nothing fails");
        assert_eq!(log.stats().segments, epoch.min(SEGMENTS));
        log.close().expect("nothing fails");
    }
    appended
}

/// Each batch has the records that one call gave it: how calls are gathered is no part of the format.
fn append(log: &Log, way: usize, group: &[Vec<u8>]) {
    if way.is_multiple_of(3) {
        log.append_batch(group).expect("nothing fails");
        return;
    }
    for record in group {
        if way % 3 == 1 {
            log.submit(record).expect("nothing fails").wait().expect("nothing fails");
        } else {
            log.append_buffered(record).expect("nothing fails");
            log.sync().expect("nothing fails");
        }
    }
}

/// Today's bytes.
fn written_today() -> (SimDisk, Vec<Appended>) {
    let still = Arc::new(Still::new(SimDisk::new(1)));
    let appended = append_all(&still);
    (still.disk.clone(), appended)
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/v{VERSION}"))
}

/// The files of the fixture: all but segments that are only prepared.
fn names() -> Vec<String> {
    let names = ["superblock", "watermark"].map(str::to_owned);
    names.into_iter().chain((1..=SEGMENTS).map(file_name)).collect()
}

fn read_fixture(name: &str) -> Vec<u8> {
    let path = fixture().join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn check_records(records: Records, appended: &[Appended]) {
    let mut lsn = Lsn::FIRST;
    for record in records {
        let record = record.expect("nothing is damaged");
        let expected = &appended[usize::try_from(lsn.get()).expect("64-bit targets") - 1];
        assert_eq!(record.lsn, lsn);
        assert_eq!((record.epoch.get(), record.time_ms), (expected.epoch, expected.time_ms));
        assert!(record.bytes() == expected.bytes, "LSN {lsn}");
        lsn = lsn.next();
    }
    assert_eq!(lsn.get(), appended.len() as u64 + 1);
}

#[test]
fn old_bytes_open_and_read_back() {
    let (_, appended) = written_today();
    let disk = SimDisk::new(2);
    for name in names() {
        disk.write_file(&name, &read_fixture(&name));
    }
    let verified = verify_on(&disk, &mut |_, _| {}).expect("there is a log");
    assert!(verified.is_whole() && verified.notes.is_empty(), "{verified:?}");
    assert_eq!((verified.segments, verified.records), (SEGMENTS, appended.len() as u64));
    let reader = LogReader::open_on(Arc::new(disk.clone())).expect("there is a log");
    check_records(reader.iter(..).expect("the range is the log's own"), &appended);

    let (log, report) = Log::open_on(Arc::new(disk), config()).expect("nothing is damaged");
    assert_eq!(report.verdict, Verdict::Clean);
    assert_eq!((report.segments, report.segments_scanned), (SEGMENTS, 1));
    assert_eq!((report.epoch.get(), report.start_counter), (3, 3));
    assert_eq!(report.end_lsn.get(), appended.len() as u64 + 1);
    assert_eq!(report.evidence_lsn, report.end_lsn, "the watermark is understood");
    assert_eq!(log.cell(), CELL);
    check_records(log.iter(..).expect("the range is the log's own"), &appended);
    let times: Vec<u64> = appended.iter().map(|a| a.time_ms).collect();
    for (time_ms, lsn) in times.iter().zip(1..) {
        let first = times.partition_point(|t| t < time_ms) as u64 + 1;
        assert_eq!(log.lsn_at_time(*time_ms).expect("nothing is damaged").get(), first, "{lsn}");
    }
    assert_eq!(log.append(b"more").expect("the log goes on"), report.end_lsn);
}

#[test]
fn old_bytes_open_on_a_real_disk() {
    let (_, appended) = written_today();
    let name = format!("golden-{}", std::process::id());
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&directory).expect("the target directory can be written");
    for name in names() {
        std::fs::write(directory.join(&name), read_fixture(&name)).expect("there is room");
    }
    let mut config = config();
    config.backend = BackendChoice::Blocking;
    let reader = LogReader::open(&directory).expect("there is a log");
    check_records(reader.iter(..).expect("the range is the log's own"), &appended);
    let (log, report) = Log::open(&directory, config).expect("nothing is damaged");
    assert_eq!(report.verdict, Verdict::Clean);
    check_records(log.iter(..).expect("the range is the log's own"), &appended);
    log.close().expect("nothing fails");
    std::fs::remove_dir_all(&directory).expect("it is ours");
}

/// Headers, batches, index and trailer, byte for byte, and the zeros between them.
#[test]
fn segments_are_written_as_before() {
    let (disk, _) = written_today();
    for name in (1..=SEGMENTS).map(file_name) {
        let (old, new) = (read_fixture(&name), disk.read_file(&name));
        assert_eq!(old.len(), new.len(), "{name}");
        let differs = old.iter().zip(&new).position(|(old, new)| old != new);
        assert_eq!(differs, None, "{name} differs at this byte");
    }
}

/// The roots beside them, but for their counters and what follows from these: how often the engine
/// writes a root is not part of the format.
#[test]
fn roots_are_written_as_before() {
    let (disk, _) = written_today();
    for name in ["superblock", "watermark"] {
        let (old, new) = (newest(name, &read_fixture(name)), newest(name, &disk.read_file(name)));
        let differs = old.iter().zip(&new).position(|(old, new)| old != new);
        assert_eq!(differs, None, "{name} differs at this byte");
    }
}

/// The newest block of a root, without its counter and checksum.
fn newest(name: &str, content: &[u8]) -> Vec<u8> {
    let sequence = |block: &[u8]| match name {
        "superblock" => Superblock::decode(block).map(|superblock| superblock.sequence),
        _ => Watermark::decode(block).map(|watermark| watermark.sequence),
    };
    let newest = content.chunks(COPY_BYTES).max_by_key(|block| sequence(block).unwrap_or_default());
    let mut block = newest.expect("the file has two blocks").to_vec();
    assert!(sequence(&block).is_ok(), "{name} has a whole block");
    block[8..16].fill(0);
    block[COPY_BYTES - 4..].fill(0);
    block
}

#[test]
#[ignore = "makes the fixture; only for a new version of the format"]
fn write_the_fixture() {
    let (disk, _) = written_today();
    std::fs::create_dir_all(fixture()).expect("the source can be written");
    for name in names() {
        std::fs::write(fixture().join(&name), disk.read_file(&name)).expect("there is room");
    }
}
