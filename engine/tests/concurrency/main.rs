//! Many threads on one log, on a real disk, with each driver:
//!  P1 every acknowledged record comes back once, in the order of its thread;
//!  P2 tails and readers see every record once, in LSN order, while it is being written;
//!  P8 a slow reader does not keep the log from recycling, and gets its records or a typed error;
//!  and what happens at the edges: the lock, the limits, tickets that outlive the log.
//!
//! Where the kernel gives no io_uring, `BackendChoice::Auto` is the blocking driver once more.

mod edges;
mod everybody;
mod retention;

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use cairnlog_engine::Config;
use cairnlog_engine::disk::BackendChoice;

const LOAD: Duration = Duration::from_millis(1000);
/// Nobody has to wait for so long.
const SILENCE: Duration = Duration::from_secs(20);

/// A directory of its own, removed in the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let name = format!("concurrency-{name}-{}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = std::fs::remove_dir_all(&path);
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn config(backend: BackendChoice) -> Config {
    let mut config = Config::with_segment_bytes(1 << 20);
    config.backend = backend;
    config.batch_bytes_max = 128 << 10;
    // Small, so that readers at the tail leave the memory.
    config.hot_bytes_max = 512 << 10;
    config
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The smallest runtime there is. A task that nobody wakes for [`SILENCE`] is a lost one.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        let parked = Instant::now();
        std::thread::park_timeout(SILENCE);
        assert!(parked.elapsed() < SILENCE, "nobody woke the task");
    }
}

/// The record that a writer appends as its `sequence`th one.
pub(crate) fn record(writer: u32, sequence: u64) -> Vec<u8> {
    let mut record = writer.to_le_bytes().to_vec();
    record.extend_from_slice(&sequence.to_le_bytes());
    let mixed = (sequence + u64::from(writer)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let bytes = usize::try_from(mixed >> 53).expect("11 bits");
    record.resize(12 + bytes, mixed.to_le_bytes()[3]);
    record
}

/// Who appended a record, and as which of its own.
pub(crate) fn origin(bytes: &[u8]) -> (u32, u64) {
    let (writer, rest) = bytes.split_first_chunk().expect("a record has a writer");
    let sequence = rest.first_chunk().expect("a record has a sequence");
    let (writer, sequence) = (u32::from_le_bytes(*writer), u64::from_le_bytes(*sequence));
    assert!(bytes == record(writer, sequence), "writer {writer}, record {sequence}");
    (writer, sequence)
}

/// Names and lengths of the files, and when they were last written to.
fn directory(path: &Path) -> BTreeMap<PathBuf, (u64, std::time::SystemTime)> {
    let entries = std::fs::read_dir(path).expect("it is a directory");
    let file = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.expect("it can be read");
        // Without metadata it is gone since it was listed.
        let metadata = entry.metadata().ok()?;
        Some((entry.path(), (metadata.len(), metadata.modified().expect("the system has times"))))
    };
    entries.filter_map(file).filter(|(path, _)| !path.ends_with("watermark")).collect()
}

/// The same, once the background work has come to rest.
fn settled(path: &Path) -> BTreeMap<PathBuf, (u64, std::time::SystemTime)> {
    let mut before = directory(path);
    loop {
        std::thread::sleep(Duration::from_millis(100));
        let now = directory(path);
        if now == before {
            return now;
        }
        before = now;
    }
}
