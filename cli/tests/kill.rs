//! `kill -9` at random moments: every LSN that was printed is readable afterwards, with the right
//! content, and the log has no gap, no duplicate and nothing that nobody appended.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc::channel;
use std::time::Duration;

use common::{Random, SEGMENT, Scratch, answer, cairnlog};

const ROUNDS: u64 = 50;

fn line(round: u64, number: u64) -> String {
    // Lengths differ, so that batches end everywhere.
    let padding = (round * 7 + number * 13) % 90;
    format!("{round} {number} {}", "x".repeat(usize::try_from(padding).unwrap()))
}

/// Feeds lines without end until the process is killed; the LSNs it printed.
fn append_until_killed(log: &Path, backend: &str, round: u64, random: &mut Random) -> Vec<u64> {
    let mut command = cairnlog("append", log);
    command.args(SEGMENT).args(["--print-lsn", "--backend", backend]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let lines_at_once = 1 + random.below(200);
    // Most rounds are killed while they append, some while they open.
    let wait_for_first = random.below(4) > 0;
    let delay = Duration::from_micros(random.below(40_000));
    let (first_is_printed, first) = channel();
    let feeding = std::thread::spawn(move || {
        for first in (0..).step_by(usize::try_from(lines_at_once).unwrap()) {
            let lines: String =
                (first..first + lines_at_once).map(|n| line(round, n) + "\n").collect();
            // Killed.
            if stdin.write_all(lines.as_bytes()).is_err() {
                break;
            }
        }
    });
    let hearing = std::thread::spawn(move || {
        let mut text = String::new();
        stdout.read_line(&mut text).unwrap();
        // Nobody may be waiting for it.
        let _ = first_is_printed.send(());
        stdout.read_to_string(&mut text).unwrap();
        text
    });
    if wait_for_first {
        first.recv_timeout(Duration::from_secs(60)).unwrap();
    }
    std::thread::sleep(delay);
    child.kill().unwrap();
    feeding.join().unwrap();
    let text = hearing.join().unwrap();
    child.wait().unwrap();
    // The last line may be cut off in the middle: it was not printed yet.
    let whole = text.rfind('\n').map_or(0, |end| end + 1);
    text[..whole].lines().map(|lsn| lsn.parse().unwrap()).collect()
}

/// C1.
#[test]
fn printed_lsns_survive_with_the_best_driver() {
    printed_lsns_survive("auto");
}

#[test]
fn printed_lsns_survive_with_the_blocking_driver() {
    printed_lsns_survive("blocking");
}

fn printed_lsns_survive(backend: &str) {
    let scratch = Scratch::new();
    let log = scratch.log();
    let mut random = Random::new();
    let mut expected: Vec<String> = Vec::new();
    let mut killed_with_lsns = 0;
    for round in 0..ROUNDS {
        let printed = append_until_killed(&log, backend, round, &mut random);
        if !log.join("superblock").exists() {
            assert_eq!(printed, []);
            continue;
        }
        killed_with_lsns += u32::from(!printed.is_empty());
        let from = expected.len() as u64 + 1;
        // Dense, and nothing left out: the first line of the round got the first free LSN.
        assert_eq!(printed, (from..from + printed.len() as u64).collect::<Vec<_>>());
        let shown = answer(cairnlog("read", &log).args(["--from", &from.to_string()]));
        let shown = String::from_utf8(shown).unwrap();
        assert!(shown.lines().count() >= printed.len(), "round {round}: an LSN was lost");
        for (number, shown) in (0..).zip(shown.lines()) {
            assert_eq!(shown, line(round, number), "round {round}");
            expected.push(shown.to_owned());
        }
        if round % 5 == 0 {
            answer(&mut cairnlog("verify", &log));
        }
    }
    assert!(killed_with_lsns > 20, "{killed_with_lsns} rounds got that far");
    answer(&mut cairnlog("verify", &log));
    let shown = String::from_utf8(answer(&mut cairnlog("read", &log))).unwrap();
    assert!(shown.lines().eq(expected.iter().map(String::as_str)));
}
