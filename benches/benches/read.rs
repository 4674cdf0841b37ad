//! Reads of the engine alone, from the page cache.
//!
//! Owns one log of `LOG_BYTES` for all benchmarks here.

use std::path::Path;

use cairnlog_benches::engine::{open_and_scan, scan, write_log};
use cairnlog_benches::workload::SCAN_RECORD_BYTES;
use cairnlog_engine::{Config, Log};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const LOG_BYTES: u64 = 128 << 20;

fn read(criterion: &mut Criterion) {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("read");
    // What an interrupted run left behind.
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).expect("the target directory is writable");
    write_log(&dir, SCAN_RECORD_BYTES, LOG_BYTES).expect("the engine writes a log");

    let mut group = criterion.benchmark_group("read");
    group.throughput(Throughput::Bytes(LOG_BYTES)).sample_size(20);
    group.bench_function("open_and_scan", |bencher| {
        bencher.iter_custom(|iterations| {
            (0..iterations).map(|_| open_and_scan(&dir).expect("the log is whole").1).sum()
        });
    });
    let (log, _report) = Log::open(&dir, Config::default()).expect("the log is whole");
    group.bench_function("scan", |bencher| {
        bencher.iter(|| scan(&log).expect("the log is whole"));
    });
    group.finish();
    log.close().expect("the engine closes in good order");
    std::fs::remove_dir_all(&dir).expect("the directory is ours");
}

criterion_group!(benches, read);
criterion_main!(benches);
