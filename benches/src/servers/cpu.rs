//! CPU time of servers, as the kernel counts it.
//!
//! Owns the parsing of `/proc/PID/stat` and the sum over a process and all that came from it. Does not
//! decide when to look (`rounds`).
//!
//! User and system time; of a process that has ended, what its parent has waited for. Kernel threads that
//! work for a server (io_uring's, the network's, the disk's) count where the kernel counts them: io_uring's
//! workers are threads of the process, softirqs belong to whoever runs.
//! Units: seconds, in steps of a clock tick (10 ms).

use std::fs;

use cairnlog_benches::{Result, approximate};
use rustix::param::clock_ticks_per_second;

/// One line of `/proc/PID/stat`, what we need of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    id: u32,
    parent: u32,
    ticks: u64,
}

/// CPU seconds that `roots` and all processes below them have used so far.
pub(crate) fn seconds_of(roots: &[u32]) -> Result<f64> {
    let mut stats = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path().join("stat");
        // No process, or one that has just ended.
        let Ok(line) = fs::read_to_string(path) else { continue };
        stats.extend(parse(&line));
    }
    if let Some(root) = roots.iter().find(|root| stats.iter().all(|stat| stat.id != **root)) {
        return Err(format!("the server with process id {root} has ended").into());
    }
    Ok(approximate(ticks_below(roots, &stats)) / approximate(clock_ticks_per_second()))
}

fn ticks_below(roots: &[u32], stats: &[Stat]) -> u64 {
    let mut ticks = 0;
    let mut ids = roots.to_vec();
    while let Some(id) = ids.pop() {
        ticks += stats.iter().filter(|stat| stat.id == id).map(|stat| stat.ticks).sum::<u64>();
        ids.extend(stats.iter().filter(|stat| stat.parent == id).map(|stat| stat.id));
    }
    ticks
}

/// `PID (NAME) STATE PPID ...`, where a name may hold spaces and brackets; user and system time are the
/// fields 14 and 15, those of children that were waited for 16 and 17, counted from 1.
fn parse(line: &str) -> Option<Stat> {
    let (before, after) = line.rsplit_once(") ")?;
    let id = before.split(' ').next()?.parse().ok()?;
    let fields: Vec<&str> = after.split_ascii_whitespace().collect();
    let ticks = fields.get(11..15)?.iter().map(|field| field.parse::<u64>().ok());
    Some(Stat { id, parent: fields.get(1)?.parse().ok()?, ticks: ticks.sum::<Option<u64>>()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_kernel_s_line() {
        let line = "42 (a) b (c) S 7 42 42 0 -1 4194560 1 2 3 4 100 20 3 4 20 0 1 0 99";
        assert_eq!(parse(line), Some(Stat { id: 42, parent: 7, ticks: 127 }));
        assert_eq!(parse("42 (a) S 7"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn counts_children_and_nobody_else() {
        let stat = |id, parent, ticks| Stat { id, parent, ticks };
        let stats =
            [stat(1, 0, 1), stat(5, 1, 10), stat(6, 5, 100), stat(7, 6, 1000), stat(8, 1, 1)];
        assert_eq!(ticks_below(&[5], &stats), 1110);
        assert_eq!(ticks_below(&[6, 8], &stats), 1101);
    }

    #[test]
    fn this_process_uses_time_and_one_that_is_not_there_is_told() {
        let used = || seconds_of(&[std::process::id()]).expect("it runs");
        let before = used();
        let started = std::time::Instant::now();
        while used() <= before {
            assert!(started.elapsed().as_secs() < 60, "a busy loop uses time");
        }
        assert!(seconds_of(&[u32::MAX]).is_err());
    }
}
