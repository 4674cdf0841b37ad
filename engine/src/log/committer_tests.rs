//! What a panic on the append path leaves behind.

use std::sync::mpsc;
use std::time::Duration;

use crate::disk::{Appendable, sim::SimDisk};
use crate::error::AppendError;
use crate::log::Log;
use crate::sync::Arc;
use crate::wal::hot::HotBatch;
use crate::{Config, Epoch, Lsn};

/// A thread that drives panics while it publishes what became durable: whoever waits for that batch, or for the
/// next, hears that the log is poisoned.
#[test]
fn nobody_waits_for_a_thread_that_panicked() {
    for round in 0..3 {
        let mut config = Config::with_segment_bytes(1 << 20);
        // All of them in one batch.
        config.commit_delay_us = 50_000;
        let disk: Arc<dyn crate::disk::Disk> = Arc::new(SimDisk::new(round));
        let (log, _) = Log::open_with_threads_on(disk, config).expect("an empty disk");
        log.append(b"all is well").expect("nothing fails");
        let mut buffer = Appendable::alone(512);
        buffer.pad_to(512);
        let (base_lsn, end_lsn) = (Lsn::new(2), Lsn::new(900));
        let bytes = buffer.freeze();
        // The next batch does not follow it.
        log.core.hot.push(HotBatch { base_lsn, end_lsn, epoch: Epoch::new(1), time_ms: 0, bytes });
        let log = Arc::new(log);
        let (send, receive) = mpsc::channel();
        for _ in 0..4 {
            let (log, send) = (Arc::clone(&log), send.clone());
            std::thread::spawn(move || {
                let appended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    log.append(b"who drives panics")
                }));
                let _ = send.send(appended.ok());
            });
        }
        let mut panics = 0;
        for _ in 0..4 {
            let answer =
                receive.recv_timeout(Duration::from_secs(20)).expect("nobody waits for ever");
            panics += u32::from(answer.is_none());
            let ended =
                matches!(answer, None | Some(Err(AppendError::Poisoned(_) | AppendError::Closed)));
            assert!(ended, "{answer:?}");
        }
        assert!(panics > 0, "somebody drove");
    }
}
