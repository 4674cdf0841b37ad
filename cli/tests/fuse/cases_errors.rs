//! Single failures of the disk, and what exactly follows from each: errors of writes, syncs and reads, short
//! writes, and a file system that turns read-only.

use cairnlog_engine::disk::{BackendChoice, DurableWrite};
use cairnlog_engine::{AppendError, Log, LogReader, Lsn, OpenError, ReadError, Record, Verdict};
use fuser::Errno;

use crate::common::{Random, answer, assert_code, cairnlog};
use crate::faults::{Effect, Faults, Operation};
use crate::filesystem::Way;
use crate::mount::{Mount, under_both_drivers};
use crate::program::{append_lines, assert_refused, line, lines_in, lsns};
use crate::store::{Lost, Store};
use crate::workload::{Model, config};

const EIO: Effect = Effect::Fail(Errno::EIO);

fn lines(count: u64) -> Vec<String> {
    (0..count).map(|number| line(0, number)).collect()
}

/// One failure under the binary: it ends with the code that belongs to it, and every printed LSN is there
/// after a power cut. The exit code; `None` when there was no n-th operation.
fn program_meets(backend: BackendChoice, operation: Operation, nth: u64) -> Option<i32> {
    let mount = Mount::new(Store::default(), Way::Cached);
    let first = lines(10);
    assert_code(&append_lines(&mount.log(), backend, &first), 0);
    mount.device.faults(|faults| faults.arm(operation, ".seg", nth, EIO, false));
    let output = append_lines(&mount.log(), backend, &lines(1000));
    let struck = mount.device.faults(|faults| faults.hits() > 0);
    let printed = lsns(&output.stdout);
    let code = output.status.code().unwrap();
    match code {
        // A segment that could not be made ready, and then could.
        0 => assert_eq!(printed.len(), 1000),
        // The log could not be opened, or no segment could be made ready when it was needed.
        2 => assert_refused(&output, 2, "Input/output error"),
        _ => assert_refused(&output, 3, "poisoned"),
    }
    let mount = mount.after_power_cut(Lost::All, &mut Random::new());
    let there = lines_in(&mount.log());
    assert_eq!(there[..10], first);
    assert_eq!(printed, (11..11 + printed.len()).collect::<Vec<_>>());
    assert!(there.len() >= 10 + printed.len(), "{} of {}", there.len(), 10 + printed.len());
    for (number, shown) in (0..).zip(&there[10..]) {
        assert_eq!(*shown, line(0, number));
    }
    assert_code(&append_lines(&mount.log(), backend, &first), 0);
    struck.then_some(code)
}

fn program_is_poisoned(operation: Operation) {
    under_both_drivers(|backend| {
        // The first ten may belong to the self-test of a segment, which is then made again.
        let nths = (1..40).step_by(4);
        let codes: Vec<i32> =
            nths.map_while(|nth| program_meets(backend, operation, nth)).collect();
        assert!(codes.contains(&3), "{codes:?}");
    });
}

#[test]
fn d2_eio_on_write_ends_the_program() {
    program_is_poisoned(Operation::Write);
}

#[test]
fn d3_eio_on_fsync_ends_the_program() {
    program_is_poisoned(Operation::Sync);
}

#[test]
fn d3_eio_on_fsync_is_final() {
    under_both_drivers(|backend| {
        for together in [1, 4] {
            let mount = Mount::new(Store::default(), Way::Direct);
            let config = config(backend, DurableWrite::WriteThenSync);
            let (log, _) = Log::open(mount.log(), config.clone()).unwrap();
            let mut model = Model::default();
            model.append_together(&log, 3).unwrap();
            // The next segment is ready, and nothing goes on in the background.
            std::thread::sleep(std::time::Duration::from_millis(50));
            mount.device.faults(|faults| faults.arm(Operation::Sync, ".seg", 1, EIO, false));
            assert!(model.append_together(&log, together).is_err());
            // Every sync would succeed now. None is tried: the page cache has forgotten the bytes.
            let syncs = || mount.device.faults(|faults| faults.count(Operation::Sync));
            let before = syncs();
            model.check_poisoned(&log);
            model.check_open(&log);
            assert!(matches!(log.close(), Err(AppendError::Poisoned(_))));
            assert_eq!(syncs(), before, "a sync after the one that failed");
            let mount = mount.after_power_cut(Lost::All, &mut Random::new());
            model.check(&mount.log(), &config);
        }
    });
}

#[test]
fn d1_short_write_is_completed() {
    under_both_drivers(|backend| {
        let uring = backend == BackendChoice::Uring;
        let mount = Mount::new(Store::default(), if uring { Way::Cached } else { Way::Direct });
        if uring {
            // Some of them, because FUSE cannot do with more: see `cases_nth`.
            for nth in [3, 10, 17, 24] {
                mount.device.faults(|f| f.arm(Operation::Write, ".seg", nth, Effect::Short, false));
            }
        } else {
            mount.device.faults(|f| f.arm(Operation::Write, "", 1, Effect::Short, true));
        }
        let all = lines(300);
        let output = append_lines(&mount.log(), backend, &all);
        assert_code(&output, 0);
        assert_eq!(lsns(&output.stdout), (1..=300).collect::<Vec<_>>());
        assert!(mount.device.faults(|faults| faults.hits()) > 2);
        let mount = mount.after_power_cut(Lost::All, &mut Random::new());
        assert_eq!(lines_in(&mount.log()), all);
    });
}

/// A log of some segments, seen by nobody yet; and the first LSN of each of its segments.
fn segments(backend: BackendChoice) -> (Mount, Model, Vec<Lsn>) {
    let mount = Mount::new(Store::default(), Way::Cached);
    let mut model = Model::default();
    let (log, _) = Log::open(mount.log(), config(backend, DurableWrite::Dsync)).unwrap();
    let mut starts = Vec::new();
    while starts.len() < 5 {
        let lsn = log.end_lsn();
        model.append(&log).unwrap();
        if log.stats().segments > starts.len() as u64 {
            starts.push(lsn);
        }
    }
    log.close().unwrap();
    // A new mount, so that the page cache holds nothing.
    let mount = mount.after_power_cut(Lost::All, &mut Random::new());
    (mount, model, starts)
}

/// Reads from `from` to the first error; the LSN after the last record, and the error.
fn read_on(
    records: impl Iterator<Item = Result<Record, ReadError>>,
    from: Lsn,
) -> (Lsn, Option<ReadError>) {
    let mut next = from;
    for record in records {
        match record {
            Ok(record) => {
                assert_eq!(record.lsn, next);
                next = next.next();
            }
            Err(error) => return (next, Some(error)),
        }
    }
    (next, None)
}

#[test]
fn d4_eio_on_read_of_a_sealed_segment() {
    under_both_drivers(|backend| {
        let (mount, mut model, starts) = segments(backend);
        let name = "00000000000000000002.seg";
        let (log, _) = Log::open(mount.log(), config(backend, DurableWrite::Dsync)).unwrap();
        let reader = LogReader::open(mount.log()).unwrap();
        mount.device.faults(|faults| faults.arm(Operation::Read, name, 1, EIO, true));
        let read_live = |from: Lsn| read_on(log.iter(from..).unwrap(), from);
        let read_other = |from: Lsn| read_on(reader.iter(from..).unwrap(), from);
        for read in [&read_live as &dyn Fn(Lsn) -> (Lsn, Option<ReadError>), &read_other] {
            let (next, error) = read(starts[0]);
            assert_eq!(next, starts[1], "{error:?}");
            let Some(ReadError::Io(failure)) = error else { panic!("{error:?}") };
            assert!(failure.target.contains(name), "{failure}");
            // Other ranges stay readable.
            let (next, error) = read(starts[2]);
            assert!(error.is_none() && next > starts[4], "{next} {error:?}");
        }
        // Appends go on, and who comes now reads what is in front of it.
        model.append(&log).unwrap();
        let reader = LogReader::open(mount.log()).unwrap();
        let (next, error) = read_on(reader.iter(..).unwrap(), starts[0]);
        assert_eq!(next, starts[1], "{error:?}");
        // With a checkpoint behind the segment, it was not looked at.
        let looked = matches!(reader.verdict(), Verdict::Damaged(_));
        assert!(looked || matches!(error, Some(ReadError::Io(_))), "{error:?}");
        drop(reader);
        log.close().unwrap();
        // Closed, it has a checkpoint, and nobody looks at sealed segments before they are read.
        let output = cairnlog("read", &mount.log()).output().unwrap();
        let talk = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{talk}");
        assert!(talk.contains(name), "{talk}");
        let records = output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        assert_eq!(records.count() as u64, starts[1].since(starts[0]));
        let from = starts[2].to_string();
        answer(cairnlog("read", &mount.log()).args(["--from", &from]));
        let output = cairnlog("verify", &mount.log()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("segment 2"), "{said}");
        mount.device.faults(Faults::lift);
        model.check(&mount.log(), &config(backend, DurableWrite::Dsync));
    });
}

#[test]
fn d4_eio_on_read_of_the_end_of_the_log_is_no_torn_tail() {
    under_both_drivers(|backend| {
        let (mount, mut model, _) = segments(backend);
        let config = config(backend, DurableWrite::Dsync);
        let last = "00000000000000000005.seg";
        mount.device.faults(|faults| faults.arm(Operation::Read, last, 1, EIO, true));
        let before = mount.device.left(Lost::Nothing, &mut Random::new());
        let opened = Log::open(mount.log(), config.clone());
        assert!(matches!(opened, Err(OpenError::Io(_) | OpenError::Damaged { .. })), "{opened:?}");
        let after = mount.device.left(Lost::Nothing, &mut Random::new());
        assert!(before == after, "a refused open changed something");
        mount.device.faults(Faults::lift);
        model.check(&mount.log(), &config);
    });
}

#[test]
fn d20_read_only_remount() {
    under_both_drivers(|backend| {
        for durable_write in [DurableWrite::Dsync, DurableWrite::WriteThenSync] {
            let (mount, mut model, _) = segments(backend);
            let config = config(backend, durable_write);
            let (log, _) = Log::open(mount.log(), config.clone()).unwrap();
            model.append(&log).unwrap();
            mount.device.faults(|faults| faults.read_only = true);
            assert!(model.append_together(&log, 2).is_err());
            model.check_poisoned(&log);
            // Reads go on, here and elsewhere.
            model.check_open(&log);
            assert!(matches!(log.close(), Err(AppendError::Poisoned(_))));
            for command in ["verify", "inspect", "read"] {
                answer(&mut cairnlog(command, &mount.log()));
            }
            let opened = Log::open(mount.log(), config.clone());
            assert!(matches!(opened, Err(OpenError::Io(_))), "{opened:?}");
            assert_refused(&append_lines(&mount.log(), backend, &lines(1)), 2, "Read-only");
            mount.device.faults(|faults| faults.read_only = false);
            model.check(&mount.log(), &config);
        }
    });
}
