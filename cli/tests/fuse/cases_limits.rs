//! What runs out: room on the disk, and descriptors.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::common::{Random, assert_code, cairnlog, feed};
use crate::faults::Faults;
use crate::filesystem::Way;
use crate::mount::{Mount, under_both_drivers};
use crate::program::{append, append_lines, assert_refused, line, lines_in, lsns};
use crate::store::{Lost, Store};
use crate::workload::{Model, Stop, config};
use cairnlog_engine::disk::DurableWrite;
use cairnlog_engine::{AppendError, Log, OpenError};

/// The program opens fewer files than this.
const DESCRIPTORS_MAX: u32 = 60;

#[test]
fn d5_enospc_is_retryable_and_appends_resume() {
    under_both_drivers(|backend| {
        for durable_write in [DurableWrite::Dsync, DurableWrite::WriteThenSync] {
            let mount = Mount::new(Store::default(), Way::Cached);
            let config = config(backend, durable_write);
            let (log, _) = Log::open(mount.log(), config.clone()).unwrap();
            let mut model = Model::default();
            model.append(&log).unwrap();
            // Room for two segments more.
            mount.device.faults(|faults| faults.bytes_max = Some(300 << 10));
            while model.refused() < 5 {
                model.append_together(&log, 2).unwrap();
            }
            assert!(model.errors[0].starts_with("the disk is full"), "{:?}", model.errors);
            let refused = log.append(&[0; 40_000]);
            assert!(matches!(refused, Err(AppendError::Full(_))), "{refused:?}");
            // Reads go on; what was acknowledged is there.
            model.check_open(&log);
            let (acknowledged, refused) = (model.acknowledged(), model.refused());
            mount.device.faults(|faults| faults.bytes_max = None);
            for _ in 0..10 {
                model.append(&log).unwrap();
            }
            assert_eq!((model.acknowledged(), model.refused()), (acknowledged + 10, refused));
            log.close().unwrap();
            let mount = mount.after_power_cut(Lost::All, &mut Random::new());
            model.check(&mount.log(), &config);
        }
    });
}

#[test]
fn d5_a_log_on_a_full_disk_opens_and_reads() {
    under_both_drivers(|backend| {
        let mount = Mount::new(Store::default(), Way::Direct);
        let config = config(backend, DurableWrite::Dsync);
        let mut model = Model::default();
        model.run(&mount.log(), &config).unwrap();
        mount.device.faults(|faults| faults.bytes_max = Some(0));
        let (log, _) = Log::open(mount.log(), config.clone()).unwrap();
        model.check_open(&log);
        drop(log);
        mount.device.faults(|faults| faults.bytes_max = None);
        model.check(&mount.log(), &config);

        let mount = Mount::new(Store::default(), Way::Direct);
        for bytes_max in [0, 4096, 10_000, 20_000] {
            mount.device.faults(|faults| faults.bytes_max = Some(bytes_max));
            match Model::default().run(&mount.log(), &config) {
                Err(Stop::Open(OpenError::Full(_))) => {}
                // There was room for the log, and for no segment.
                Ok(()) => assert!(bytes_max > 4096, "{bytes_max}"),
                other => panic!("{bytes_max}: {other:?}"),
            }
        }
        mount.device.faults(|faults| faults.bytes_max = None);
        Model::default().check(&mount.log(), &config);
    });
}

#[test]
fn d5_the_program_says_that_the_disk_is_full() {
    under_both_drivers(|backend| {
        let mount = Mount::new(Store::default(), Way::Cached);
        mount.device.faults(|faults| faults.bytes_max = Some(300 << 10));
        let all: Vec<String> = (0..1500).map(|number| line(0, number)).collect();
        let output = append_lines(&mount.log(), backend, &all);
        assert_refused(&output, 2, "the disk is full");
        let printed = lsns(&output.stdout);
        assert!(printed.len() > 100, "{}", printed.len());
        assert_eq!(lines_in(&mount.log()), all[..printed.len()]);
        mount.device.faults(|faults| faults.bytes_max = None);
        let rest = &all[printed.len()..];
        assert_code(&append_lines(&mount.log(), backend, rest), 0);
        let mount = mount.after_power_cut(Lost::All, &mut Random::new());
        assert_eq!(lines_in(&mount.log()), all);
    });
}

/// The log never holds a line without those in front of it, however room comes and goes: else the next
/// run, which goes on behind the last line it finds, would leave a hole.
#[test]
fn d5_an_import_that_was_refused_and_runs_again_is_whole() {
    under_both_drivers(|backend| {
        let input: Vec<String> = (0..2500).map(|number| line(0, number)).collect();
        let mount = Mount::new(Store::default(), Way::Direct);
        let done = AtomicBool::new(false);
        let mut refused = 0;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::SeqCst) {
                    mount.device.faults(|faults| faults.bytes_max = Some(0));
                    std::thread::sleep(Duration::from_millis(5));
                    mount.device.faults(|faults| faults.bytes_max = None);
                    std::thread::sleep(Duration::from_millis(2));
                }
            });
            let _ends = Raise(&done);
            loop {
                let mut command = append(&mount.log(), backend);
                command.args(["--producer", "import"]);
                let output = feed(&mut command, (input.join("\n") + "\n").as_bytes());
                if output.status.success() {
                    break;
                }
                assert_refused(&output, 2, "the disk is full");
                refused += 1;
                assert!(refused < 500, "it gets nowhere");
            }
        });
        println!("{backend:?}: {refused} were refused");
        let there = lines_in(&mount.log());
        for (number, (there, appended)) in there.iter().zip(&input).enumerate() {
            assert_eq!(there, appended, "line {number}");
        }
        assert_eq!(there.len(), input.len());
    });
}

/// Also when a test fails.
struct Raise<'a>(&'a AtomicBool);

impl Drop for Raise<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn d5_tickets_in_order_leave_no_hole() {
    under_both_drivers(|backend| {
        let mount = Mount::new(Store::default(), Way::Direct);
        let (log, _) = Log::open(mount.log(), config(backend, DurableWrite::Dsync)).unwrap();
        // The first segment is full, and there is room for no other.
        log.append(b"the segment is ready").unwrap();
        mount.device.faults(|faults| faults.bytes_max = Some(0));
        while log.append(&[1; 3000]).is_ok() {}
        let in_order = log.in_order();
        let first = in_order.submit_batch(&[[2; 3000]]).unwrap();
        // Refused, and nobody was told yet.
        while log.end_lsn() > first.lsns_if_durable().start {
            std::thread::yield_now();
        }
        mount.device.faults(Faults::lift);
        let behind = in_order.submit_batch(&[[3; 3000]]);
        assert!(matches!(behind, Err(AppendError::Full(_))), "{behind:?}");
        let lsn = first.lsns_if_durable().start;
        assert!(matches!(first.wait(), Err(AppendError::Full(_))));
        // From the first one on, with a new handle.
        let again = log.in_order();
        for fill in [2, 3] {
            again.submit_batch(&[[fill; 3000]]).unwrap().wait().unwrap();
        }
        assert_eq!(log.read(lsn).unwrap()[0], 2);
        assert_eq!(log.read(lsn.next()).unwrap()[0], 3);
        log.close().unwrap();
    });
}

/// With 4 descriptors, 5, and so on, until there are enough.
#[test]
fn d21_emfile() {
    under_both_drivers(|backend| {
        let mount = Mount::new(Store::default(), Way::Cached);
        let mut there = Vec::new();
        for (refused, descriptors) in (4..DESCRIPTORS_MAX).enumerate() {
            let new: Vec<String> =
                (0..400).map(|number| line(descriptors.into(), number)).collect();
            let mut shell = limited(&append(&mount.log(), backend), descriptors);
            shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = shell.spawn().unwrap();
            let mut stdin = child.stdin.take().unwrap();
            let input = new.join("\n") + "\n";
            let output = std::thread::scope(|scope| {
                scope.spawn(move || stdin.write_all(input.as_bytes()).is_ok());
                child.wait_with_output().unwrap()
            });
            let printed = lsns(&output.stdout);
            if mount.log().join("superblock").exists() {
                there = look(&mount, there, &new, &printed);
            } else {
                assert_eq!(printed, []);
            }
            if output.status.success() {
                assert_eq!(printed.len(), new.len());
                assert!(refused > 5, "{refused} limits were too low");
                return;
            }
            assert_refused(&output, output.status.code().unwrap_or(-1), "open files");
            assert!(matches!(output.status.code(), Some(2 | 3)), "{output:?}");
        }
        panic!("it needs more than {DESCRIPTORS_MAX} descriptors");
    });
}

/// What the commands that only look cannot open is no damage.
#[test]
fn d21_emfile_is_no_damage() {
    under_both_drivers(|backend| {
        let mount = Mount::new(Store::default(), Way::Cached);
        let all: Vec<String> = (0..400).map(|number| line(0, number)).collect();
        assert_code(&append_lines(&mount.log(), backend, &all), 0);
        for command in ["verify", "read", "inspect"] {
            let codes = (4..30).map(|descriptors| {
                let output =
                    limited(&cairnlog(command, &mount.log()), descriptors).output().unwrap();
                let talk = String::from_utf8_lossy(&output.stderr).into_owned();
                let code = output.status.code().unwrap();
                assert!(code == 0 || talk.contains("open files"), "{descriptors} {output:?}");
                code
            });
            let codes: Vec<i32> = codes.collect();
            assert!(codes.is_sorted_by(|a, b| a >= b), "{command}: {codes:?}");
            assert_eq!((codes.iter().max(), codes.iter().min()), (Some(&2), Some(&0)));
        }
    });
}

/// The same command, with a limit for its descriptors.
fn limited(command: &Command, descriptors: u32) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -n $0 && exec \"$@\"", &descriptors.to_string()]);
    shell.arg(command.get_program()).args(command.get_args());
    shell
}

/// What is in the log now: what was there, and the first of the new lines, the printed ones among them.
fn look(mount: &Mount, there: Vec<String>, new: &[String], printed: &[usize]) -> Vec<String> {
    let now = lines_in(&mount.log());
    assert!(now.len() >= there.len(), "{} of {}", now.len(), there.len());
    let (old, added) = now.split_at(there.len());
    assert!(old == there, "not what it was");
    for (number, (added, new)) in added.iter().zip(new).enumerate() {
        assert_eq!(added, new, "line {number}, {} printed", printed.len());
    }
    assert!(added.len() >= printed.len(), "an acknowledged line is lost");
    assert_eq!(*printed, (there.len() + 1..=there.len() + printed.len()).collect::<Vec<_>>());
    now
}

#[test]
fn s6_a_second_process_is_refused_and_a_killed_one_is_no_obstacle() {
    under_both_drivers(|backend| {
        let mount = Mount::new(Store::default(), Way::Cached);
        let writer = crate::program::Writer::start(&mount.log(), backend, 0, 1);
        writer.wait_for_first_lsn();
        assert_refused(&append_lines(&mount.log(), backend, &[line(1, 1)]), 2, "another writer");
        assert_code(&cairnlog("verify", &mount.log()).output().unwrap(), 0);
        let printed = writer.kill();
        assert_code(&append_lines(&mount.log(), backend, &[line(1, 1)]), 0);
        assert!(lines_in(&mount.log()).len() > printed.len());
    });
}
