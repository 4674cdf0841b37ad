//! Numbered appends that are sent again: to servers in one process, through everything that can happen in between.
#![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

mod common;

use std::path::Path;
use std::sync::Arc;

use cairnlog_engine::format::checkpoint::{Kind, parse_file_name};
use cairnlog_engine::{Lsn, LsnRange};
use cairnlog_replication::server::Server;
use cairnlog_replication::transport::ClientConnection;
use cairnlog_replication::wire::request::{Ack, Outcome, Reason, Request, Response, Sequence};
use cairnlog_replication::wire::request_codec::{decode_response, encode_request};

use common::{ask, ask_over, cluster, connect, leader, promote, read_all, start_all, until};

/// An append of two records.
fn pair(producer_id: u128, first: u64, ack: Ack) -> Request {
    let sequence = Some(Sequence { producer_id, first });
    let record = |number: u64| format!("{producer_id}-{number}").into_bytes();
    let records = vec![record(first), record(first.wrapping_add(1))];
    Request::Append { ack, expected_lsn: None, sequence, records }
}

fn appended(answers: &[Response]) -> LsnRange {
    match answers {
        [Response::Appended { lsns, .. }] => lsns.clone(),
        other => panic!("{other:?}"),
    }
}

fn refused(answers: &[Response]) -> (Outcome, Reason) {
    match answers {
        [Response::Failed(failure)] => (failure.outcome, failure.reason.clone()),
        other => panic!("{other:?}"),
    }
}

fn lsns(start: u64, end: u64) -> LsnRange {
    Lsn::new(start)..Lsn::new(end)
}

/// Where the producer goes on.
async fn next_sequence(folder: &Path, server: &Server, producer_id: u128) -> Response {
    let request = Request::NextSequence { producer_id, ack: Ack::Quorum };
    ask(folder, server, request).await.pop().unwrap()
}

/// Sends an append and goes away.
async fn send_and_forget(connection: &ClientConnection, request: Request) {
    let (mut sender, _receiver) = connection.open().await.unwrap().split();
    sender.send(encode_request(&request)).await.unwrap();
    sender.finish().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_gets_the_original_lsn() {
    let folder = tempfile::tempdir().unwrap();
    let servers = start_all(&cluster(folder.path(), 3)).await;
    until("the first one leads", || leader(&servers) == Some(0)).await;
    let unknown = (Outcome::Final, Reason::UnknownProducer);
    // The answer is lost with the connection.
    let connection = connect(folder.path(), &servers[0]).await;
    send_and_forget(&connection, pair(7, 0, Ack::Quorum)).await;
    until("it is committed", || servers[0].status().commit_lsn == 3).await;
    connection.close("the answer is lost");
    let connection = connect(folder.path(), &servers[0]).await;
    for ack in [Ack::Buffered, Ack::Local, Ack::Quorum, Ack::All] {
        let answers = ask_over(&connection, pair(7, 0, ack)).await;
        assert_eq!(appended(&answers), lsns(1, 3));
        let Response::Appended { ack: reached, .. } = &answers[0] else { unreachable!() };
        assert_eq!(*reached, ack);
    }
    assert_eq!(refused(&ask_over(&connection, pair(7, 4, Ack::Quorum)).await), unknown);
    assert_eq!(refused(&ask_over(&connection, pair(8, 2, Ack::Quorum)).await), unknown);
    let invalid = (Outcome::Final, Reason::Invalid);
    assert_eq!(refused(&ask_over(&connection, pair(7, 1, Ack::Quorum)).await), invalid);
    assert_eq!(refused(&ask_over(&connection, pair(7, u64::MAX, Ack::Quorum)).await), invalid);
    // Many lanes send the same at once, of which one is first.
    for first in (2..60).step_by(2) {
        let lanes = (0..8).map(|_| {
            let connection = connection.clone();
            tokio::spawn(async move { ask_over(&connection, pair(7, first, Ack::Local)).await })
        });
        let lanes: Vec<_> = lanes.collect();
        for lane in lanes {
            assert_eq!(appended(&lane.await.unwrap()), lsns(first + 1, first + 3));
        }
    }
    assert_eq!(next_sequence(folder.path(), &servers[0], 7).await, Response::NextSequence(60));
    assert_eq!(next_sequence(folder.path(), &servers[0], 8).await, Response::NextSequence(0));
    let elsewhere = next_sequence(folder.path(), &servers[1], 7).await;
    assert!(matches!(refused(&[elsewhere]), (Outcome::Retryable, Reason::NotLeading(Some(_)))));
    let expected: Vec<_> = (0..60).map(|number| format!("7-{number}")).collect();
    assert_eq!(read_all(folder.path(), &servers[0]).await, expected);
    for server in servers {
        server.shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_leader_knows_the_producers() {
    let folder = tempfile::tempdir().unwrap();
    let configs = cluster(folder.path(), 3);
    let mut servers = start_all(&configs).await;
    until("the first one leads", || leader(&servers) == Some(0)).await;
    let mut first = 0;
    for index in [0, 1, 2, 0] {
        if index > 0 || first > 0 {
            promote(folder.path(), &servers, index).await;
        }
        for producer_id in [1, 2] {
            // What was appended last, elsewhere.
            if first > 0 {
                let again =
                    ask(folder.path(), &servers[index], pair(producer_id, first - 2, Ack::All));
                let place = 2 * first - 3 + 2 * u64::try_from(producer_id - 1).unwrap();
                assert_eq!(appended(&again.await), lsns(place, place + 2));
            }
        }
        for producer_id in [1, 2] {
            let new = ask(folder.path(), &servers[index], pair(producer_id, first, Ack::Quorum));
            let place = 2 * first + 1 + 2 * u64::try_from(producer_id - 1).unwrap();
            assert_eq!(appended(&new.await), lsns(place, place + 2));
        }
        first += 2;
    }
    // All of them end, and come back.
    until("all of them know", || servers.iter().all(|s| s.status().commit_lsn == 17)).await;
    for server in servers.drain(..) {
        server.shutdown().await.unwrap();
    }
    for config in &configs {
        let names = std::fs::read_dir(&config.directory).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let states: Vec<_> = names.filter_map(|name| parse_file_name(&name)).collect();
        assert!(
            states.contains(&(Kind::State, Lsn::new(17))),
            "not the whole log is read: {states:?}"
        );
    }
    servers = start_all(&configs).await;
    promote(folder.path(), &servers, 2).await;
    for first in (0..8).step_by(2) {
        let again = ask(folder.path(), &servers[2], pair(1, first, Ack::Quorum)).await;
        assert_eq!(appended(&again), lsns(2 * first + 1, 2 * first + 3));
    }
    assert_eq!(next_sequence(folder.path(), &servers[2], 2).await, Response::NextSequence(8));
    assert_eq!(read_all(folder.path(), &servers[2]).await.len(), 16);
    for server in servers {
        server.shutdown().await.unwrap();
    }
}

/// What a leader had alone is given up with its table, and what was appended in its place is known.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_given_up_is_new_again() {
    let folder = tempfile::tempdir().unwrap();
    let configs = cluster(folder.path(), 3);
    let mut servers = start_all(&configs).await;
    until("the first one leads", || leader(&servers) == Some(0)).await;
    let kept = ask(folder.path(), &servers[0], pair(1, 0, Ack::All)).await;
    assert_eq!(appended(&kept), lsns(1, 3));
    for server in servers.drain(1..) {
        server.shutdown().await.unwrap();
    }
    for (producer_id, first) in [(1, 2), (9, 0), (1, 4)] {
        let alone = ask(folder.path(), &servers[0], pair(producer_id, first, Ack::Local)).await;
        assert!(appended(&alone).start > Lsn::new(2));
    }
    servers.remove(0).shutdown().await.unwrap();
    servers = start_all(&configs[1..]).await;
    promote(folder.path(), &servers, 0).await;
    let unknown = (Outcome::Final, Reason::UnknownProducer);
    assert_eq!(refused(&ask(folder.path(), &servers[0], pair(1, 4, Ack::Quorum)).await), unknown);
    let other = ask(folder.path(), &servers[0], pair(3, 0, Ack::Quorum)).await;
    assert_eq!(appended(&other), lsns(3, 5));
    let again = ask(folder.path(), &servers[0], pair(1, 2, Ack::Quorum)).await;
    assert_eq!(appended(&again), lsns(5, 7), "it is new to this leader");
    // The first one comes back, gives up what it had alone, and leads again.
    servers.insert(0, Arc::new(Server::start(configs[0].clone()).await.unwrap()));
    until("it follows", || servers[0].status().commit_lsn == 7).await;
    promote(folder.path(), &servers, 0).await;
    for (producer_id, first, place) in [(1, 0, 1), (3, 0, 3), (1, 2, 5)] {
        let again = ask(folder.path(), &servers[0], pair(producer_id, first, Ack::All)).await;
        assert_eq!(appended(&again), lsns(place, place + 2));
    }
    let begins = ask(folder.path(), &servers[0], pair(9, 0, Ack::Quorum)).await;
    assert_eq!(appended(&begins), lsns(7, 9), "nobody has it any more");
    for server in servers {
        server.shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_was_forgotten_is_not_taken_for_new() {
    let folder = tempfile::tempdir().unwrap();
    let mut configs = cluster(folder.path(), 1);
    configs[0].peers.clear();
    let servers = start_all(&configs).await;
    until("it leads", || leader(&servers).is_some()).await;
    let connection = connect(folder.path(), &servers[0]).await;
    ask_over(&connection, pair(1, 0, Ack::Quorum)).await;
    // As many others as are remembered.
    let (mut sender, mut receiver) = connection.open().await.unwrap().split();
    let answers = tokio::spawn(async move {
        let mut answers = 0;
        while let Some(frame) = receiver.receive().await.unwrap() {
            appended(&[decode_response(&frame).unwrap()]);
            answers += 1;
        }
        answers
    });
    for producer_id in 2..2 + (1 << 14) {
        sender.send(encode_request(&pair(producer_id, 0, Ack::Local))).await.unwrap();
    }
    sender.finish().await.unwrap();
    assert_eq!(answers.await.unwrap(), 1 << 14);
    let unknown = (Outcome::Final, Reason::UnknownProducer);
    assert_eq!(refused(&ask_over(&connection, pair(1, 2, Ack::Quorum)).await), unknown);
    assert_eq!(appended(&ask_over(&connection, pair(2, 0, Ack::Quorum)).await), lsns(3, 5));
    assert_eq!(appended(&ask_over(&connection, pair(2, 2, Ack::Quorum)).await).start.get() % 2, 1);
    // Its name is not given to somebody who would begin again.
    let forgotten = next_sequence(folder.path(), &servers[0], 1).await;
    assert_eq!(refused(&[forgotten]), unknown);
    assert_eq!(next_sequence(folder.path(), &servers[0], 1 << 99).await, Response::NextSequence(0));
    for server in servers {
        server.shutdown().await.unwrap();
    }
}
