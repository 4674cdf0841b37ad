//! A disk that is slow, and one that does not answer.
//!
//! What the engine does with a disk that hangs: nothing is acknowledged, what can be read without the
//! disk's answer is read, and everything goes on when the disk does, unless it took longer than
//! `stall_deadline_ms`: then the log is poisoned, and whoever waits, but for the thread that is inside of
//! the system call, gets the error. The tests hold the disk for a short time only.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use cairnlog_engine::disk::DurableWrite;
use cairnlog_engine::{AppendError, Log, Lsn, OpenError};

use crate::common::serving::Node;
use crate::common::{Random, Running, answer, assert_code, bare, cairnlog, feed, lines_of};
use crate::faults::{Faults, Operation};
use crate::filesystem::Way;
use crate::mount::{Mount, under_both_drivers};
use crate::program::{append, flag, lines_in};
use crate::store::{Lost, Store};
use crate::workload::{Model, config};

/// Long enough that an answer that comes at all has come.
const A_WHILE: Duration = Duration::from_millis(250);

#[test]
fn d18_slow_disk_stays_bounded() {
    under_both_drivers(|backend| {
        let mount = Mount::new(Store::default(), Way::Direct);
        let mut config = config(backend, DurableWrite::Dsync);
        config.segment_bytes = 1 << 20;
        (config.record_bytes_max, config.batch_bytes_max) = (4096, 16 << 10);
        config.inflight_bytes_max = (16 << 10) + (256 << 10) + 4;
        let (log, _) = Log::open(mount.log(), config.clone()).unwrap();
        log.append(b"the segment is ready").unwrap();
        mount.device.faults(|faults| faults.delay = Some(Duration::from_millis(4)));
        let mut tickets = Vec::new();
        let mut most = 0;
        for _ in 0..600 {
            tickets.push(log.submit(&[7; 4096]).unwrap());
            // In this order: what becomes durable in between makes the difference smaller.
            let end_lsn = log.end_lsn();
            most = most.max(end_lsn.since(log.durable_lsn()) * 4096);
        }
        let bytes_max = config.inflight_bytes_max as u64;
        assert!(most <= bytes_max, "{most} bytes were on their way, {bytes_max} may be");
        assert!(most > bytes_max / 2, "{most}: the disk was not slow");
        for ticket in tickets {
            ticket.wait().unwrap();
        }
        mount.device.faults(Faults::lift);
        log.close().unwrap();
    });
}

#[test]
fn d19_hung_disk_acknowledges_nothing_and_goes_on_when_it_answers() {
    under_both_drivers(|backend| {
        let mount = Mount::that_hangs(Way::Direct);
        let config = config(backend, DurableWrite::WriteThenSync);
        let (log, _) = Log::open(mount.log(), config.clone()).unwrap();
        let mut model = Model::default();
        model.append_together(&log, 3).unwrap();
        for held in [Operation::Write, Operation::Sync] {
            let durable_lsn = log.durable_lsn();
            mount.device.faults(|faults| faults.held.push(held));
            let (appended, answer) = channel();
            std::thread::scope(|scope| {
                let (log, model) = (&log, &mut model);
                scope.spawn(move || {
                    let result = model.append_together(log, 2).and_then(|()| model.append(log));
                    appended.send(result).unwrap();
                });
                let waited = answer.recv_timeout(A_WHILE);
                assert!(matches!(waited, Err(RecvTimeoutError::Timeout)), "{waited:?}");
                assert_eq!(log.durable_lsn(), durable_lsn);
                assert_eq!(log.read(Lsn::FIRST).unwrap().lsn, Lsn::FIRST);
                mount.device.faults(Faults::lift);
                answer.recv_timeout(Duration::from_secs(30)).unwrap().unwrap();
            });
            assert!(log.durable_lsn() > durable_lsn);
        }
        log.close().unwrap();
        model.check(&mount.log(), &config);
    });
}

#[test]
fn d19_a_deadline_turns_a_hung_disk_into_an_error() {
    under_both_drivers(|backend| {
        let mount = Mount::that_hangs(Way::Direct);
        let mut config = config(backend, DurableWrite::Dsync);
        config.stall_deadline_ms = 200;
        let (log, _) = Log::open(mount.log(), config.clone()).unwrap();
        let mut model = Model::default();
        model.append_together(&log, 3).unwrap();
        let durable_lsn = log.durable_lsn();
        mount.device.faults(|faults| faults.held.extend([Operation::Write, Operation::Sync]));
        // Whoever drives is inside of the system call; the others, and tickets, are not.
        let tickets: Vec<_> = (0..3).map(|_| log.submit(b"in doubt").unwrap()).collect();
        std::thread::scope(|scope| {
            let appends: Vec<_> = (0..3).map(|_| scope.spawn(|| log.append(b"in doubt"))).collect();
            for ticket in tickets {
                let error = ticket.wait().unwrap_err();
                let AppendError::Poisoned(failure) = &error else { panic!("{error:?}") };
                assert_eq!(failure.source.kind(), std::io::ErrorKind::TimedOut, "{failure}");
            }
            assert!(matches!(log.append(b"later"), Err(AppendError::Poisoned(_))));
            assert_eq!(log.durable_lsn(), durable_lsn);
            assert_eq!(log.read(Lsn::FIRST).unwrap().lsn, Lsn::FIRST, "reads go on");
            mount.device.faults(Faults::lift);
            for append in appends {
                // What the disk did in the end was not acknowledged.
                assert!(matches!(append.join().unwrap(), Err(AppendError::Poisoned(_))));
            }
        });
        assert!(matches!(log.close(), Err(AppendError::Poisoned(_))));
    });
}

#[test]
fn d19_a_log_on_a_hung_disk_can_be_closed() {
    under_both_drivers(|backend| {
        let mount = Mount::that_hangs(Way::Direct);
        let mut config = config(backend, DurableWrite::Dsync);
        config.stall_deadline_ms = 200;
        let (log, _) = Log::open(mount.log(), config.clone()).unwrap();
        log.append(b"one").unwrap();
        mount.device.faults(|faults| faults.held.extend([Operation::Write, Operation::Sync]));
        let ticket = log.submit(b"in doubt").unwrap();
        let (closed, answer) = channel();
        let closing = std::thread::spawn(move || closed.send(log.close()).unwrap());
        let ended = answer.recv_timeout(Duration::from_secs(20)).unwrap();
        assert!(matches!(ended, Err(AppendError::Poisoned(_))), "{ended:?}");
        closing.join().unwrap();
        assert!(ticket.wait().is_err());
        // The write may still land: nobody else may write before that.
        let opened = Log::open(mount.log(), config.clone());
        assert!(matches!(opened, Err(OpenError::Locked(_))), "{opened:?}");
        mount.device.faults(Faults::lift);
        let deadline = Instant::now() + Duration::from_secs(20);
        let log = loop {
            match Log::open(mount.log(), config.clone()) {
                Ok((log, _)) => break log,
                Err(OpenError::Locked(_)) if Instant::now() < deadline => {}
                Err(error) => panic!("{error}"),
            }
        };
        assert_eq!(log.read(Lsn::FIRST).unwrap().bytes(), b"one");
    });
}

#[test]
fn d19_hung_disk_that_dies_poisons_and_lets_go() {
    under_both_drivers(|backend| {
        let mount = Mount::that_hangs(Way::Cached);
        let config = config(backend, DurableWrite::Dsync);
        let (log, _) = Log::open(mount.log(), config.clone()).unwrap();
        let mut model = Model::default();
        model.append_together(&log, 3).unwrap();
        mount.device.faults(|faults| faults.held.extend([Operation::Write, Operation::Sync]));
        std::thread::scope(|scope| {
            let appending = scope.spawn(|| model.append_together(&log, 4));
            std::thread::sleep(A_WHILE);
            assert!(!appending.is_finished());
            mount.device.cut();
            assert!(appending.join().unwrap().is_err());
        });
        assert!(matches!(log.close(), Err(AppendError::Poisoned(_))));
        let mount = mount.after_power_cut(Lost::Some, &mut Random::new());
        model.check(&mount.log(), &config);
    });
}

#[test]
fn d19_hung_read_holds_up_no_append() {
    under_both_drivers(|backend| {
        let mount = Mount::that_hangs(Way::Direct);
        let config = config(backend, DurableWrite::Dsync);
        let mut model = Model::default();
        model.run(&mount.log(), &config).unwrap();
        let (log, _) = Log::open(mount.log(), config.clone()).unwrap();
        mount.device.faults(|faults| faults.held.push(Operation::Read));
        std::thread::scope(|scope| {
            let reading = scope.spawn(|| log.iter(..).unwrap().all(|record| record.is_ok()));
            std::thread::sleep(A_WHILE);
            assert!(!reading.is_finished(), "nothing was read from the disk");
            for _ in 0..3 {
                model.append(&log).unwrap();
            }
            mount.device.faults(Faults::lift);
            assert!(reading.join().unwrap());
        });
        log.close().unwrap();
        model.check(&mount.log(), &config);
    });
}

#[test]
fn d19_hung_disk_under_the_program() {
    under_both_drivers(|backend| {
        let mount = Mount::that_hangs(Way::Cached);
        let mut running = Running::start(&mut append(&mount.log(), backend));
        running.say("one\n");
        assert_eq!(running.hear(), "1\n");
        mount.device.faults(|faults| faults.held.push(Operation::Write));
        running.say("two\n");
        let (heard, answer) = channel();
        let hearing = std::thread::spawn(move || {
            let line = running.hear();
            heard.send(()).unwrap();
            (line, running)
        });
        assert_eq!(answer.recv_timeout(A_WHILE), Err(RecvTimeoutError::Timeout), "no LSN");
        mount.device.cut();
        let (line, mut running) = hearing.join().unwrap();
        assert_eq!(line, "", "an LSN that is not durable");
        assert_eq!(running.child.wait().unwrap().code(), Some(3));
        let mount = mount.after_power_cut(Lost::All, &mut Random::new());
        assert_eq!(lines_in(&mount.log()), ["one"]);
    });
}

/// A client's records wait for a segment that the disk does not give: the node answers everybody else meanwhile, and
/// takes them when it does.
#[test]
fn d19_a_server_on_a_hung_disk_goes_on() {
    under_both_drivers(|backend| {
        let mount = Mount::that_hangs(Way::Direct);
        let mut serve = cairnlog("serve", &mount.log());
        serve.args(["--segment-bytes", "64KiB", "--backend", flag(backend)]);
        serve.args(["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
        let node = Node::start(&mut serve);
        node.wait_until_ready();
        mount.device.faults(|faults| faults.held.extend([Operation::Write, Operation::Create]));
        let mut client = bare("append");
        client.args(["--server", &node.quic, "--ack", "buffered"]);
        // More than two segments hold.
        let lines = lines_of(0..40_000);
        std::thread::scope(|scope| {
            let appending = scope.spawn(|| feed(&mut client, lines.as_bytes()));
            let start = Instant::now();
            // A node whose loop stands still for five seconds says that it is stuck.
            while start.elapsed() < Duration::from_secs(7) {
                let (code, body) = node.get_within("/livez", Duration::from_secs(2)).unwrap();
                assert_eq!(code, 200, "{body}");
                let mut status = bare("status");
                let asked = Instant::now();
                answer(status.args(["--server", &node.quic]));
                assert!(asked.elapsed() < Duration::from_secs(4));
                std::thread::sleep(A_WHILE);
            }
            assert!(!appending.is_finished(), "the log had room for everything");
            mount.device.faults(Faults::lift);
            assert_code(&appending.join().unwrap(), 0);
        });
        node.stop();
    });
}
