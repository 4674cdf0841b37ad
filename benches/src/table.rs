//! The Markdown table.
//!
//! Owns the columns and how figures are written. Does not compute anything but the cells.

use std::fmt::Write;

use crate::goal::{Verdict, judge, ratio, row_of};
use crate::run::{Report, Row, Summary};
use crate::target::Kind;
use crate::workload::Unit;

const HEADER: &str = "\
| workload | target | median | range | p50 | p99 | engine ÷ target | goal | met |
| --- | --- | ---: | ---: | ---: | ---: | ---: | --- | --- |
";

const NOTHING: &str = "–";

/// The table of all reports, ending in a line feed.
#[must_use]
pub fn markdown(reports: &[Report]) -> String {
    let mut table = HEADER.to_owned();
    for report in reports {
        for (position, row) in report.rows.iter().enumerate() {
            let title = if position == 0 { report.workload.title } else { "" };
            let cells = cells(report, row).join(" | ");
            writeln!(table, "| {title} | {} | {cells} |", row.case.kind.name())
                .expect("a string takes all that is written to it");
        }
    }
    table
}

fn cells(report: &Report, row: &Row) -> [String; 7] {
    let summary = match &row.summary {
        Ok(summary) => summary,
        Err(error) => {
            let mut cells = [NOTHING; 7].map(str::to_owned);
            cells[0] = format!("failed: {}", error.replace('|', "/").replace('\n', " "));
            return cells;
        }
    };
    let unit = report.workload.unit;
    let ratio = ratio(report, row.case.kind).filter(|_| row.case.kind != Kind::Engine);
    let goals = report.workload.goals.iter().filter(|goal| row_of(goal) == row.case.kind);
    let verdicts: Vec<Verdict> = goals.map(|goal| judge(report, goal)).collect();
    [
        format!("{}{}", figure(summary.value, unit), per_append(summary)),
        format!("{} to {}", figure(summary.lowest, unit), figure(summary.highest, unit)),
        summary.p50_ns.map_or(NOTHING.to_owned(), time),
        summary.p99_ns.map_or(NOTHING.to_owned(), time),
        ratio.map_or(NOTHING.to_owned(), |ratio| format!("{ratio:.2}×")),
        join(verdicts.iter().map(|verdict| verdict.goal.clone())),
        join(verdicts.iter().map(met)),
    ]
}

fn per_append(summary: &Summary) -> String {
    let Some(flushes) = summary.flushes else { return String::new() };
    let commits =
        summary.journal_commits.map_or("n/a".to_owned(), |commits| format!("{commits:.2}"));
    format!(" ({flushes:.2} FLUSH, {commits} journal commits an append)")
}

fn met(verdict: &Verdict) -> String {
    let word = match verdict.is_met {
        Some(true) => "yes",
        Some(false) => "**no**",
        None => "n/a",
    };
    match &verdict.measured {
        Some(measured) => format!("{word} ({measured})"),
        None => word.to_owned(),
    }
}

fn join(cells: impl Iterator<Item = String>) -> String {
    let joined = cells.collect::<Vec<_>>().join("; ");
    if joined.is_empty() { NOTHING.to_owned() } else { joined }
}

/// A figure with three digits and its unit.
#[must_use]
pub fn figure(value: f64, unit: Unit) -> String {
    match unit {
        Unit::AppendsPerSecond if value >= 1e6 => format!("{:.2}M/s", value / 1e6),
        Unit::AppendsPerSecond if value >= 1e5 => format!("{:.0}k/s", value / 1e3),
        Unit::AppendsPerSecond if value >= 1e4 => format!("{:.1}k/s", value / 1e3),
        Unit::AppendsPerSecond => format!("{value:.0}/s"),
        Unit::BytesPerSecond => format!("{:.2} GB/s", value / 1e9),
        Unit::DeviceBytesPerByte => format!("{value:.2}"),
        Unit::Bytes => format!("{:.1} MiB", value / 1_048_576.0),
    }
}

/// A time with the unit that suits it.
#[must_use]
pub fn time(nanoseconds: f64) -> String {
    if nanoseconds >= 1e6 {
        format!("{:.2} ms", nanoseconds / 1e6)
    } else if nanoseconds >= 1e4 {
        format!("{:.0} µs", nanoseconds / 1e3)
    } else {
        format!("{:.2} µs", nanoseconds / 1e3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::named;

    #[test]
    fn figures_have_three_digits() {
        assert_eq!(figure(8_512.3, Unit::AppendsPerSecond), "8512/s");
        assert_eq!(figure(95_600.0, Unit::AppendsPerSecond), "95.6k/s");
        assert_eq!(figure(139_000.0, Unit::AppendsPerSecond), "139k/s");
        assert_eq!(figure(2_110_000.0, Unit::AppendsPerSecond), "2.11M/s");
        assert_eq!(figure(5.1e9, Unit::BytesPerSecond), "5.10 GB/s");
        assert_eq!(figure(67_108_864.0, Unit::Bytes), "64.0 MiB");
        assert_eq!(time(110_400.0), "110 µs");
        assert_eq!(time(1_500_000.0), "1.50 ms");
    }

    #[test]
    fn a_table_has_a_line_for_each_row_and_the_same_cells_in_each() {
        let workload = named("append-8x1k")[0];
        let summary = Summary { value: 30_000.0, ..Summary::default() };
        let rows = vec![
            Row { case: workload.cases[0], summary: Ok(Summary { value: 60_000.0, ..summary }) },
            Row { case: workload.cases[1], summary: Ok(summary) },
            Row { case: workload.cases[2], summary: Err("a | b\nc".to_owned()) },
        ];
        let table = markdown(&[Report { workload, rows }]);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 5);
        assert!(lines.iter().all(|line| line.matches('|').count() == 10), "{table}");
        assert!(lines[3].contains("| 2.00× | ≥ 2× | yes |"), "{table}");
        assert!(lines[4].contains("failed: a / b c"), "{table}");
    }
}
