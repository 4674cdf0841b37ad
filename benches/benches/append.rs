//! Appends of the engine alone.
//!
//! Owns one log per benchmark, opened as `compare` opens it: recycling its segments. For a
//! comparison with anything but an earlier run of itself use `compare`: the device drifts.

use std::hint::black_box;
use std::path::Path;

use cairnlog_benches::load::record_of;
use cairnlog_benches::target::{Kind, Target};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const IN_FLIGHT: usize = 256;

/// Opens a new engine, lends it to `body`, and removes it.
fn with_engine(name: &str, body: impl FnOnce(&dyn Target)) {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("append-{name}"));
    // What an interrupted run left behind.
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).expect("the target directory is writable");
    let engine = Kind::Engine.open(&dir).expect("the engine opens an empty directory");
    body(&*engine);
    engine.close().expect("the engine closes in good order");
    std::fs::remove_dir_all(&dir).expect("the directory is ours");
}

fn bytes(record: &[u8]) -> Throughput {
    Throughput::Bytes(u64::try_from(record.len()).expect("a length fits"))
}

fn durable(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("durable");
    for record_bytes in [100, 1024, 16 << 10] {
        let record = record_of(record_bytes);
        group.throughput(bytes(&record));
        with_engine("durable", |engine| {
            let mut writer = engine.durable(0).expect("the engine appends durably");
            group.bench_function(BenchmarkId::from_parameter(record_bytes), |bencher| {
                bencher.iter(|| writer.append(black_box(&record)).expect("the disk works"));
            });
        });
    }
    group.finish();
}

fn in_flight(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("in_flight");
    let record = record_of(1024);
    group.throughput(bytes(&record));
    with_engine("in-flight", |engine| {
        let mut pipeline = engine.pipeline().expect("the engine has tickets");
        for _ in 0..IN_FLIGHT {
            pipeline.submit(&record).expect("the disk works");
        }
        group.bench_function(BenchmarkId::from_parameter(IN_FLIGHT), |bencher| {
            bencher.iter(|| {
                pipeline.wait_oldest().expect("the disk works");
                pipeline.submit(black_box(&record)).expect("the disk works");
            });
        });
        for _ in 0..IN_FLIGHT {
            pipeline.wait_oldest().expect("the disk works");
        }
    });
    group.finish();
}

fn buffered(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("buffered");
    let record = record_of(1024);
    group.throughput(bytes(&record));
    with_engine("buffered", |engine| {
        let mut writer = engine.buffered(0).expect("the engine appends buffered");
        group.bench_function(BenchmarkId::from_parameter(record.len()), |bencher| {
            bencher.iter(|| writer.append(black_box(&record)).expect("the disk works"));
        });
    });
    group.finish();
}

criterion_group!(benches, durable, in_flight, buffered);
criterion_main!(benches);
