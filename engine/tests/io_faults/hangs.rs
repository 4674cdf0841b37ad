//! D19: each operation of a workload never ends, in turn.
//!
//! Whoever is inside of the operation returns with the disk, not before. Everybody else gets a typed error
//! when the deadline is over, nothing piles up meanwhile, and after a power cut everything that was
//! acknowledged is there. The clock is the disk's: time passes when the test says so.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use cairnlog_engine::disk::sim::{OperationKind, SimDisk};
use cairnlog_engine::{AppendError, ChangeError, Config, Log, Lsn};

const RECORD_BYTES: usize = 3000;
const DEADLINE_MS: u32 = 40;
/// Long enough, on a busy machine, for whatever comes at all.
const A_WHILE: Duration = Duration::from_secs(3);
/// So often is tried what depends on which of two threads comes first.
const ATTEMPTS: u32 = 100;

fn config() -> Config {
    let mut config = Config::with_segment_bytes(64 << 10);
    config.block_bytes = 512;
    config.record_bytes_max = 4 << 10;
    config.batch_bytes_max = 8 << 10;
    config.inflight_bytes_max = 300 << 10;
    config.watermark_interval_ms = 1;
    config.stall_deadline_ms = DEADLINE_MS;
    config
}

/// Records are numbered as they are made: two threads append at once.
#[derive(Default)]
struct Appended {
    made: AtomicU64,
    /// By LSN: the number of each record that was acknowledged.
    acknowledged: Mutex<BTreeMap<Lsn, u64>>,
}

impl Appended {
    fn make(&self) -> (u64, Vec<u8>) {
        let number = self.made.fetch_add(1, Ordering::SeqCst);
        let mut record = vec![7; RECORD_BYTES];
        record[..8].copy_from_slice(&number.to_le_bytes());
        (number, record)
    }

    fn acknowledge(&self, lsn: Lsn, number: u64) {
        self.acknowledged.lock().expect("nobody panics").insert(lsn, number);
    }

    fn append(&self, log: &Log) -> Option<()> {
        let (number, record) = self.make();
        self.acknowledge(went_on(log.append(&record))?, number);
        Some(())
    }

    fn submit_some(&self, log: &Log) -> Option<()> {
        let mut tickets = Vec::new();
        for _ in 0..8 {
            let (number, record) = self.make();
            tickets.push((number, went_on(log.submit(&record))?));
            let bytes = log.end_lsn().since(log.durable_lsn()) * RECORD_BYTES as u64;
            assert!(bytes <= config().inflight_bytes_max as u64, "{bytes} are on their way");
        }
        for (number, ticket) in tickets {
            self.acknowledge(went_on(ticket.wait())?, number);
        }
        Some(())
    }

    fn append_buffered(&self, log: &Log) -> Option<()> {
        let (number, record) = self.make();
        let buffered = went_on(log.append_buffered(&record))?;
        went_on(log.sync())?;
        self.acknowledge(buffered.lsn_if_durable(), number);
        Some(())
    }

    /// Everything that was acknowledged is there.
    fn check(&self, disk: &SimDisk) {
        let (log, _) = Log::open_on(Arc::new(disk.clone()), config()).expect("nothing is damaged");
        for (lsn, number) in self.acknowledged.lock().expect("nobody panics").iter() {
            if *lsn >= log.first_lsn() {
                let found = log.read(*lsn).expect("it was acknowledged");
                assert_eq!(found.bytes()[..8], number.to_le_bytes(), "LSN {lsn}");
            }
        }
        log.close().expect("nothing hangs any more");
    }
}

/// What a call gave; any error but that of a disk that does not answer ends the test, and that of the power
/// cut which frees whoever is inside of the operation.
fn went_on<T>(result: Result<T, AppendError>) -> Option<T> {
    match result {
        Ok(answer) => Some(answer),
        Err(AppendError::Poisoned(failure) | AppendError::NoSegment(failure)) => {
            let timed_out = failure.source.kind() == io::ErrorKind::TimedOut;
            assert!(timed_out || failure.to_string().contains("power"), "{failure}");
            None
        }
        Err(other) => panic!("{other:?}"),
    }
}

fn changed<T>(result: Result<T, ChangeError>) -> Option<()> {
    match result {
        Ok(_) => Some(()),
        Err(ChangeError::Poisoned(failure) | ChangeError::NotTaken(failure)) => {
            went_on(Err(AppendError::Poisoned(failure)))
        }
        Err(other) => panic!("{other:?}"),
    }
}

/// The workload, until the log is poisoned.
fn run(log: &Log, appended: &Appended) -> Option<()> {
    for _ in 0..3 {
        appended.submit_some(log)?;
        for _ in 0..4 {
            appended.append(log)?;
        }
        changed(log.set_cell(b"cell"))?;
        changed(log.checkpoint(log.durable_lsn(), |out| out.write_all(b"state")))?;
        changed(log.trim(log.durable_lsn()))?;
        appended.append_buffered(log)?;
        changed(log.scrub())?;
    }
    Some(())
}

/// Lets time pass until a thread has ended; false when it does not, or is itself inside of the operation.
fn ends<T>(disk: &SimDisk, thread: &JoinHandle<T>) -> bool {
    let start = Instant::now();
    let is_inside = || disk.hung_threads().contains(&thread.thread().id());
    while !thread.is_finished() && !is_inside() && start.elapsed() < A_WHILE {
        disk.pass_ms(u64::from(DEADLINE_MS));
        sleep(Duration::from_millis(1));
    }
    thread.is_finished()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// The workload has fewer operations of this kind.
    NotReached,
    /// Everybody got an error.
    InTime,
    /// One thread was inside of the operation, everybody else got an error.
    ButOne,
}

fn one_hang(kind: OperationKind, nth: u64) -> Ended {
    let what = format!("{kind:?} {nth}");
    let disk = SimDisk::new(1);
    let opened = Log::open_with_threads_on(Arc::new(disk.clone()), config());
    let log = Arc::new(opened.expect("an empty disk opens").0);
    let appended = Arc::new(Appended::default());
    disk.hang_nth(kind, nth);
    let worker = {
        let (log, appended) = (Arc::clone(&log), Arc::clone(&appended));
        std::thread::spawn(move || _ = run(&log, &appended))
    };
    while !worker.is_finished() && disk.hung_threads().is_empty() {
        sleep(Duration::from_micros(100));
    }
    let mut is_inside = disk.hung_threads().contains(&worker.thread().id());
    if !disk.hung_threads().is_empty() {
        let witness = {
            let (log, appended) = (Arc::clone(&log), Arc::clone(&appended));
            std::thread::spawn(move || _ = appended.append(&log))
        };
        assert!(ends(&disk, &witness), "{what}: an append waits for ever");
        witness.join().expect("every error is typed");
        let ended = is_inside || ends(&disk, &worker);
        // Whoever opens or reads a sealed segment holds its lock, and another call may want that one.
        let holds_a_segment = matches!(kind, OperationKind::Open | OperationKind::Read);
        assert!(ended || holds_a_segment, "{what}: a call waits for ever");
        is_inside |= !ended;
    }
    if is_inside {
        disk.restart_losing_all();
        worker.join().expect("the power cut ends the operation");
        drop(log);
    } else {
        worker.join().expect("every error is typed");
        let log = Arc::into_inner(log).expect("the others are done with it");
        let closing = std::thread::spawn(move || _ = went_on(log.close()));
        let ended = ends(&disk, &closing);
        disk.restart_losing_all();
        let is_inside = disk.hung_threads().contains(&closing.thread().id());
        assert!(ended || is_inside, "{what}: it cannot be closed");
        closing.join().expect("every error is typed");
    }
    appended.check(&disk);
    match disk.hung_threads().len() {
        0 => Ended::NotReached,
        _ if is_inside => Ended::ButOne,
        _ => Ended::InTime,
    }
}

#[test]
fn d19_each_operation_hangs() {
    use OperationKind::{
        Create, List, Open, Read, Remove, Rename, Submit, Sync, SyncDirectory, Write,
    };
    for kind in [Create, Open, Rename, Remove, List, SyncDirectory, Read, Write, Sync, Submit] {
        let (mut in_time, mut but_one) = (0, 0);
        for nth in 1.. {
            let ended = one_hang(kind, nth);
            println!("{kind:?} {nth}: {ended:?}");
            match ended {
                Ended::NotReached => break,
                Ended::InTime => in_time += 1,
                Ended::ButOne => but_one += 1,
            }
        }
        println!("{kind:?}: {in_time} times everybody got an error, {but_one} times all but one");
    }
}

/// A log whose background work hangs: the second write from an append on is mostly that of the watermark.
/// When it was the append's own, because the note of what was before came late, that is no such log.
fn hung_in_the_background(config: Config) -> Option<(SimDisk, Log, Appended)> {
    let disk = SimDisk::new(1);
    let opened = Log::open_with_threads_on(Arc::new(disk.clone()), config);
    let (log, appended) = (opened.expect("an empty disk opens").0, Appended::default());
    appended.append(&log).expect("nothing hangs yet");
    sleep(Duration::from_millis(20));
    disk.hang_nth(OperationKind::Write, 2);
    let appending = std::thread::spawn(move || {
        appended.append(&log);
        (log, appended)
    });
    while disk.hung_threads().is_empty() {
        sleep(Duration::from_millis(1));
    }
    if disk.hung_threads().contains(&appending.thread().id()) {
        disk.restart_losing_all();
        return None;
    }
    let (log, appended) = appending.join().expect("nobody panics");
    Some((disk, log, appended))
}

/// Nobody waits for the note of how far the log is durable, but whoever closes the log does.
#[test]
fn d19_a_log_whose_background_work_hangs_can_be_closed() {
    let hung = (0..100).find_map(|_| hung_in_the_background(config()));
    let (disk, log, appended) = hung.expect("mostly it is the background");
    let closing = std::thread::spawn(move || went_on(log.close()).is_none());
    assert!(ends(&disk, &closing), "it cannot be closed");
    assert!(closing.join().expect("the error is typed"), "it is poisoned");
    disk.restart_losing_all();
    appended.check(&disk);
}

/// A record that is durable is acknowledged though the next one waits for a segment, which the disk does not
/// give; and there is no deadline here that could end that wait.
#[test]
fn a_durable_record_is_not_kept_waiting_for_the_next_segment() {
    for _ in 0..ATTEMPTS {
        let mut config = config();
        (config.parity, config.scrub_bytes_per_second) = (false, 0);
        config.stall_deadline_ms = 0;
        let disk = SimDisk::new(1);
        let opened = Log::open_with_threads_on(Arc::new(disk.clone()), config);
        let log = Arc::new(opened.expect("an empty disk opens").0);
        let record = [7; RECORD_BYTES];
        let fill = |segments: u64| {
            let mut appends = 0;
            while log.stats().segments < segments {
                log.append(&record).expect("nothing hangs yet");
                appends += 1;
            }
            appends
        };
        fill(2);
        let in_a_segment = fill(3);
        while log.stats().segments_created < 4 {
            sleep(Duration::from_micros(100));
        }
        disk.hang_nth(OperationKind::Create, 1);
        // Up to the last record that the fourth segment has room for.
        fill(4);
        for _ in 2..in_a_segment {
            log.append(&record).expect("there is room");
        }
        let last = log.submit(&record).expect("there is room");
        let waits_for_a_segment = log.submit(&record).expect("it is taken");
        let waiting = std::thread::spawn(move || last.wait());
        let start = Instant::now();
        while !waiting.is_finished() && start.elapsed() < A_WHILE {
            sleep(Duration::from_millis(1));
        }
        let was_told = waiting.is_finished();
        disk.restart_losing_all();
        assert!(waits_for_a_segment.wait().is_err());
        let last = waiting.join().expect("nobody panics");
        assert!(was_told && last.is_ok(), "it was durable, and nobody was told");
    }
}

/// Whoever must not wait for the disk is told that there is no room, and hears when there is.
#[test]
fn trying_to_submit_waits_for_no_segment() {
    let mut config = config();
    (config.parity, config.scrub_bytes_per_second) = (false, 0);
    let disk = SimDisk::new(1);
    let opened = Log::open_with_threads_on(Arc::new(disk.clone()), config);
    let log = Arc::new(opened.expect("an empty disk opens").0);
    disk.hang_nth(OperationKind::Create, 1);
    let lane = log.in_order();
    let mut tickets = Vec::new();
    // Two segments at most are there.
    while let Some(ticket) = lane.try_submit_batch(&[[7; RECORD_BYTES]]).expect("nothing failed") {
        tickets.push(ticket);
        assert!(tickets.len() < 100, "records went where no segment is");
    }
    assert!(!tickets.is_empty());
    let waiting = {
        let log = Arc::clone(&log);
        std::thread::spawn(move || log.wait_for_room())
    };
    assert!(ends(&disk, &waiting), "the disk is waited for in vain");
    let waited = waiting.join().expect("nobody panics");
    assert!(matches!(waited, Err(AppendError::Poisoned(_) | AppendError::NoSegment(_))));
    disk.restart_losing_all();
    // The last of them had no segment.
    assert!(tickets.pop().expect("there are some").wait().is_err());

    let (log, _) =
        Log::open_on(Arc::new(disk.clone()), self::config()).expect("nothing is damaged");
    let lane = log.in_order();
    for _ in 0..100 {
        while lane.try_submit_batch(&[[7; RECORD_BYTES]]).expect("nothing failed").is_none() {
            log.wait_for_room().expect("the disk gives one");
        }
    }
    log.close().expect("nothing hangs any more");
}

/// The first of several that wait for a batch writes it, and hangs; so does the only thread that looks at the
/// time in the background.
#[test]
fn of_many_that_wait_some_watch_the_disk() {
    let mut config = config();
    (config.parity, config.scrub_bytes_per_second) = (false, 0);
    (config.batch_bytes_max, config.commit_delay_us) = (32 << 10, 50_000);
    let hung = (0..100).find_map(|_| hung_in_the_background(config.clone()));
    let (disk, log, appended) = hung.expect("mostly it is the background");
    let shared = Arc::new((log, appended));
    disk.hang_nth(OperationKind::Write, 1);
    let append =
        |shared: Arc<(Log, Appended)>| std::thread::spawn(move || _ = shared.1.append(&shared.0));
    let appending: Vec<_> = (0..6).map(|_| append(Arc::clone(&shared))).collect();
    while disk.hung_threads().len() < 2 {
        sleep(Duration::from_micros(100));
    }
    let writes = disk.hung_threads()[1];
    for thread in appending.iter().filter(|thread| thread.thread().id() != writes) {
        assert!(ends(&disk, thread), "an append waits for ever");
    }
    disk.restart_losing_all();
    for thread in appending {
        thread.join().expect("every error is typed");
    }
    shared.1.check(&disk);
}
