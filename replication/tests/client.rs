//! The client over real QUIC on loopback, against a node that keeps its log in memory.
//!
//! What the client does about failures is tested in the crate, without a network.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use cairnlog_replication::client::{AppendOptions, Client, ClientConfig, ClientError, ReadOptions};
use cairnlog_replication::transport::{Accepted, Endpoint, Lane, Limits, Security};
use cairnlog_replication::wire::request::{Outcome, Request, Response, WireRecord};
use cairnlog_replication::wire::request_codec::{decode_request, encode_response};
use cairnlog_replication::{Epoch, Lsn};
use tokio::time::timeout;

type Log = Arc<Mutex<Vec<WireRecord>>>;

fn append(log: &Log, records: Vec<Vec<u8>>) -> (Lsn, Lsn) {
    let mut log = log.lock().unwrap();
    let first = Lsn::FIRST.plus(u64::try_from(log.len()).unwrap());
    let mut end = first;
    for data in records {
        log.push(WireRecord { lsn: end, epoch: Epoch::new(1), time_ms: 0, data });
        end = end.plus(1);
    }
    (first, end)
}

async fn serve(lane: Lane, log: Log) {
    let (mut sender, mut receiver) = lane.split();
    while let Ok(Some(frame)) = receiver.receive().await {
        let response = match decode_request(&frame).unwrap() {
            Request::Append { ack, records, .. } => {
                let (first, end) = append(&log, records);
                let (epoch, replicas) = (Epoch::new(1), Vec::new());
                Response::Appended { lsns: first..end, epoch, ack, replicas }
            }
            Request::Read { from, .. } => {
                let log = log.lock().unwrap().clone();
                let from = from.unwrap_or(Lsn::FIRST);
                let kept = log.into_iter().filter(|record| record.lsn >= from);
                Response::Records(kept.collect())
            }
            Request::NextSequence { .. } => Response::NextSequence(0),
            Request::Status | Request::Promote { .. } => Response::Json("{}".to_owned()),
        };
        if sender.send(encode_response(&response)).await.is_err() {
            return;
        }
    }
}

fn node() -> (Endpoint, String, Log) {
    let security = Security::throw_away().unwrap();
    let any = "127.0.0.1:0".parse().unwrap();
    let endpoint = Endpoint::bind(any, &security, &Limits::default()).unwrap();
    let address = endpoint.local_addr().to_string();
    let log = Log::default();
    let (accepting, shared) = (endpoint.clone(), log.clone());
    tokio::spawn(async move {
        while let Some(Accepted::Client(connection)) = accepting.accept().await {
            let log = shared.clone();
            tokio::spawn(async move {
                while let Ok(lane) = connection.accept().await {
                    tokio::spawn(serve(lane, log.clone()));
                }
            });
        }
    });
    (endpoint, address, log)
}

#[tokio::test]
async fn appends_and_reads() {
    let (_endpoint, address, log) = node();
    let client = Client::connect(ClientConfig::new(vec![address.clone()])).await.unwrap();
    let first = client.append(&[b"1".to_vec()], AppendOptions::default()).await.unwrap();
    assert_eq!(first.lsns, Lsn::new(1)..Lsn::new(2));
    let appender = client.appender(AppendOptions::default()).await.unwrap();
    let (mut submitter, mut answers) = appender.split();
    let submitted = tokio::spawn(async move {
        // More than may be in flight.
        for _ in 0..40 {
            submitter.submit(vec![vec![7; 1 << 20]]).await.unwrap();
        }
    });
    let mut next = Lsn::new(2);
    while let Some(answer) = answers.next().await {
        assert_eq!(answer.unwrap().lsns.start, next);
        next = next.plus(1);
    }
    submitted.await.unwrap();
    assert_eq!(next, Lsn::new(42));
    log.lock().unwrap().truncate(20);
    let mut reader =
        client.read(ReadOptions { count: Some(20), ..ReadOptions::default() }).await.unwrap();
    let mut lsns = Vec::new();
    while let Some(record) = reader.next().await.unwrap() {
        lsns.push(record.lsn.get());
    }
    assert_eq!(lsns, (1..=20).collect::<Vec<_>>());
    assert_eq!(client.status().await.unwrap(), "{}");
    assert_eq!(client.promote(&address, true).await.unwrap(), "{}");
    client.close().await;
}

#[tokio::test]
async fn a_node_that_goes_leaves_an_append_unknown() {
    let (endpoint, address, _log) = node();
    let client = Client::connect(ClientConfig::new(vec![address])).await.unwrap();
    let mut appender = client.appender(AppendOptions::default()).await.unwrap();
    appender.submit(vec![b"1".to_vec()]).await.unwrap();
    appender.next().await.unwrap().unwrap();
    endpoint.close().await;
    appender.submit(vec![b"2".to_vec()]).await.unwrap();
    // A client that heard of the end before it sent looks for another node, until the deadline.
    let answer = timeout(Duration::from_secs(1), appender.next()).await;
    if let Ok(answer) = answer {
        assert_eq!(answer.unwrap().unwrap_err().outcome(), Outcome::Unknown);
    }
}

#[tokio::test]
async fn nobody_is_there() {
    let mut config = ClientConfig::new(vec!["127.0.0.1:9".to_owned()]);
    config.deadline = Duration::from_millis(300);
    let error = Client::connect(config).await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
}
