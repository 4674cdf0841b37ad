//! What `pgbench` wrote down.
//!
//! Owns the record that it sends, and the reading of its logs: a line for each transaction, with the client,
//! its number, how long it took in microseconds, the script, and when it ended as seconds and microseconds.
//!
//! Its own figures include the first transactions, in which each connection prepares its statement; here those
//! that end in the warm-up do not count.

use std::fs;
use std::path::Path;
use std::time::Duration;

use cairnlog_benches::latency::{Latencies, Recorder};
use cairnlog_benches::load::{self, SAMPLES_MAX};
use cairnlog_benches::{Result, approximate};

use crate::target::{Turn, WARM_UP};

const MICROSECONDS: u64 = 1_000_000;

/// A record in letters only: as text it is as long as it is in the table.
pub(crate) fn record_of(record_bytes: usize) -> String {
    let letter = |byte: u8| char::from(b'a' + byte % 26);
    load::record_of(record_bytes).into_iter().map(letter).collect()
}

/// The figures of `duration` after the warm-up, from all files in `dir`.
pub(crate) fn turn_of(dir: &Path, duration: Duration) -> Result<Turn> {
    let mut transactions = Vec::new();
    for entry in fs::read_dir(dir)? {
        for line in fs::read_to_string(entry?.path())?.lines() {
            let transaction = parse(line).ok_or_else(|| format!("pgbench wrote {line:?}"))?;
            transactions.push(transaction);
        }
    }
    figures(&transactions, duration)
}

/// One transaction, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Transaction {
    took_us: u64,
    ended_us: u64,
}

fn parse(line: &str) -> Option<Transaction> {
    let fields: Vec<&str> = line.split(' ').collect();
    let field = |index: usize| fields.get(index)?.parse::<u64>().ok();
    let ended_us = field(4)?.checked_mul(MICROSECONDS)?.checked_add(field(5)?)?;
    Some(Transaction { took_us: field(2)?, ended_us })
}

fn figures(transactions: &[Transaction], duration: Duration) -> Result<Turn> {
    let started_us =
        |transaction: &Transaction| transaction.ended_us.saturating_sub(transaction.took_us);
    let first_us = transactions.iter().map(started_us).min().ok_or("pgbench did nothing")?;
    let began_us = first_us + u64::try_from(WARM_UP.as_micros())?;
    let ends_us = began_us + u64::try_from(duration.as_micros())?;
    let mut recorder = Recorder::new(SAMPLES_MAX);
    let mut appends = 0;
    for transaction in transactions {
        if (began_us..ends_us).contains(&transaction.ended_us) {
            appends += 1;
            recorder.record(u128::from(transaction.took_us) * 1000);
        }
    }
    let latencies = Latencies::merge(vec![recorder]);
    let percentile = |percent| latencies.percentile_ns(percent).map(approximate);
    Ok(Turn {
        appends_per_second: approximate(appends) / duration.as_secs_f64(),
        p50_ns: percentile(50).ok_or("nothing ended after the warm-up")?,
        p99_ns: percentile(99).ok_or("nothing ended after the warm-up")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_line_of_its_log() {
        let transaction = parse("0 199 2241 0 1175850568 995598");
        let expected = Transaction { took_us: 2241, ended_us: 1_175_850_568_995_598 };
        assert_eq!(transaction, Some(expected));
        assert_eq!(parse("0 199 failed 0 1175850568 995598"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn only_what_ends_in_time_counts() {
        let warm_up_us = u64::try_from(WARM_UP.as_micros()).expect("short");
        let at = |ended_us| Transaction { took_us: 100, ended_us: 1000 + ended_us };
        let mut transactions = vec![at(100), at(warm_up_us - 1)];
        transactions.extend([at(warm_up_us), at(warm_up_us + 500_000), at(warm_up_us + 1_000_000)]);
        let turn = figures(&transactions, Duration::from_secs(1)).expect("some are in time");
        assert_eq!(turn.appends_per_second.to_bits(), 2.0_f64.to_bits());
        assert_eq!(turn.p50_ns.to_bits(), 100_000.0_f64.to_bits());
        assert!(figures(&transactions[..2], Duration::from_secs(1)).is_err());
        assert!(figures(&[], Duration::from_secs(1)).is_err());
    }

    #[test]
    fn a_record_is_as_long_as_it_says() {
        assert_eq!(record_of(1024).len(), 1024);
        assert!(record_of(100).bytes().all(|byte| byte.is_ascii_lowercase()));
    }
}
