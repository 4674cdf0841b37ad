//! The Markdown table, and the lines below it.
//!
//! Owns the columns. Figures are written as in the table of the engine.

use std::fmt::Write;

use cairnlog_benches::table::{figure, time};
use cairnlog_benches::workload::Unit;

use crate::goal::{Verdict, judge, ratio, row_of};
use crate::rounds::{Report, Row};
use crate::workload::Kind;

const HEADER: &str = "\
| workload | target | median | range | p50 | p99 | CPU s per 100k | Cairnlog ÷ target | goal | met |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- | --- |
";

const NOTHING: &str = "–";

/// The table of all reports, ending in a line feed.
pub(crate) fn markdown(reports: &[Report]) -> String {
    let mut table = HEADER.to_owned();
    for report in reports {
        for (position, row) in report.rows.iter().enumerate() {
            let title = if position == 0 { report.workload.title } else { "" };
            let cells = cells(report, row).join(" | ");
            writeln!(table, "| {title} | {} | {cells} |", row.kind.name())
                .expect("a string takes all that is written to it");
        }
    }
    table
}

fn cells(report: &Report, row: &Row) -> [String; 8] {
    let summary = match &row.summary {
        Ok(summary) => summary,
        Err(error) => {
            let mut cells = [NOTHING; 8].map(str::to_owned);
            cells[0] = format!("failed: {}", error.replace('|', "/").replace('\n', " "));
            return cells;
        }
    };
    let rate = |value| figure(value, Unit::AppendsPerSecond);
    let ratio = ratio(report, row.kind).filter(|_| row.kind != Kind::Cairnlog);
    let goals = report.workload.goals.iter().filter(|goal| row_of(**goal) == row.kind);
    let verdicts: Vec<Verdict> = goals.map(|goal| judge(report, *goal)).collect();
    [
        rate(summary.rate),
        format!("{} to {}", rate(summary.rate_lowest), rate(summary.rate_highest)),
        time(summary.p50_ns),
        time(summary.p99_ns),
        format!("{:.2}", summary.cpu_seconds),
        ratio.map_or(NOTHING.to_owned(), |ratio| format!("{ratio:.2}×")),
        join(verdicts.iter().map(|verdict| verdict.goal.clone())),
        join(verdicts.iter().map(met)),
    ]
}

fn met(verdict: &Verdict) -> String {
    match &verdict.met {
        Some((true, figure)) => format!("yes ({figure})"),
        Some((false, figure)) => format!("**no** ({figure})"),
        None => "n/a".to_owned(),
    }
}

fn join(cells: impl Iterator<Item = String>) -> String {
    let joined = cells.collect::<Vec<_>>().join("; ");
    if joined.is_empty() { NOTHING.to_owned() } else { joined }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rounds::Summary;
    use crate::workload::WORKLOADS;

    #[test]
    fn a_table_has_a_line_for_each_row_and_the_same_cells_in_each() {
        let workload = WORKLOADS.iter().find(|workload| workload.name == "quorum-128x100");
        let summary = |rate, cpu_seconds| Summary { rate, cpu_seconds, ..Summary::default() };
        let rows = vec![
            Row { kind: Kind::Cairnlog, summary: Ok(summary(60_000.0, 1.0)) },
            Row { kind: Kind::Redis, summary: Ok(summary(30_000.0, 4.0)) },
            Row { kind: Kind::Postgres, summary: Err("a | b\nc".to_owned()) },
        ];
        let table = markdown(&[Report { workload: workload.expect("it is there"), rows }]);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 5);
        assert!(lines.iter().all(|line| line.matches('|').count() == 11), "{table}");
        let expected = "| 2.00× | ≥ 4×; CPU ≤ 0.35× | **no** (2.00×); yes (0.25×) |";
        assert!(lines[3].ends_with(expected), "{table}");
        assert!(lines[4].contains("failed: a / b c"), "{table}");
    }
}
