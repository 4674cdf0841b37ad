//! A leader's table begins behind everything that was taken before.

use cairnlog_engine::disk::sim::SimDisk;

use super::*;
use crate::producers::Verdict;
use crate::server::tests::{begin_submit, start_on};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_on_its_way_is_waited_for() {
    let server = start_on(&SimDisk::new(1));
    let mut tickets = Vec::new();
    for producer in 0..50 {
        // Not durable yet, and never settled: its epoch might have ended meanwhile.
        tickets.push(begin_submit(&server, producer).await.expect("there is room").1);
        let shared = Arc::clone(&server.shared);
        let led = tokio::task::spawn_blocking(move || {
            let opened = shared.opened.get().expect("it has a log");
            let mut keeper = Keeper::default();
            keeper.follow_committed(opened).expect("it can be read");
            let led = opened.handle.levels().borrow().led;
            keeper.lead(opened, led).expect("it can be read");
        });
        led.await.expect("it does not panic");
        let opened = server.shared.opened.get().expect("it has a log");
        let verdict = opened.lock_end().verdict(producer.into(), 0, 1);
        assert!(matches!(verdict, Some(Verdict::Duplicate(_))), "{producer}: {verdict:?}");
    }
    for ticket in tickets {
        ticket.await.expect("there is room");
    }
    server.shutdown().await.expect("nothing failed");
}
