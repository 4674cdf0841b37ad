//! Real QUIC on loopback: who is let in, and in what order things arrive.
//!
//! Every test has its own endpoints, and most their own certificates. Times are generous: they say that something
//! happens at all, except where a limit of the transport is the point.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use cairnlog_engine::{Epoch, LeaderId, Lsn, Place, Promise};
use cairnlog_replication::protocol::history::Summary;
use cairnlog_replication::protocol::message::Message;
use cairnlog_replication::protocol::node_id::NodeId;
use cairnlog_replication::transport::{
    Accepted, ClientConnection, Endpoint, Limits, PeerConnection, Security, TransportError,
    make_development_certificates,
};
use cairnlog_replication::wire::frame::{FRAME_BYTES_MAX, Fault};
use tempfile::TempDir;
use tokio::time::timeout;

const ANY: &str = "127.0.0.1:0";
const SOON: Duration = Duration::from_secs(20);

fn node(number: u64) -> NodeId {
    NodeId::new(number).unwrap()
}

fn certificates() -> TempDir {
    let out = tempfile::tempdir().unwrap();
    make_development_certificates(out.path(), 3).unwrap();
    out
}

fn security(out: &Path, folder: &str) -> Security {
    Security::from_folder(&out.join(folder)).unwrap()
}

/// A busy machine may keep a test from running for longer than a node may be silent.
fn patient() -> Limits {
    Limits { idle_ms: 15_000, ..Limits::default() }
}

fn bind(security: &Security) -> Endpoint {
    Endpoint::bind(ANY.parse().unwrap(), security, &patient()).unwrap()
}

fn calling(security: &Security) -> Endpoint {
    Endpoint::client(security, &patient()).unwrap()
}

fn at(endpoint: &Endpoint) -> String {
    endpoint.local_addr().to_string()
}

async fn accept_peer(endpoint: &Endpoint) -> PeerConnection {
    match timeout(SOON, endpoint.accept()).await.unwrap() {
        Some(Accepted::Peer(peer)) => peer,
        other => panic!("{other:?}"),
    }
}

async fn accept_client(endpoint: &Endpoint) -> ClientConnection {
    match timeout(SOON, endpoint.accept()).await.unwrap() {
        Some(Accepted::Client(client)) => client,
        other => panic!("{other:?}"),
    }
}

async fn next(peer: &PeerConnection) -> Message {
    timeout(SOON, peer.receive()).await.unwrap().unwrap()
}

/// A message that is there already.
async fn at_once(peer: &PeerConnection) -> Message {
    tokio::select! {
        biased;
        message = peer.receive() => message.unwrap(),
        () = std::future::ready(()) => panic!("nothing had arrived"),
    }
}

/// Nodes 1 and 2, each with its end of one connection that 1 has opened.
struct Pair {
    one: PeerConnection,
    two: PeerConnection,
    _endpoints: (Endpoint, Endpoint),
    _files: TempDir,
}

async fn pair() -> Pair {
    let files = certificates();
    let first = bind(&security(files.path(), "node-1"));
    let second = bind(&security(files.path(), "node-2"));
    let one = first.connect_peer(node(1), node(2), &[at(&second)]).await.unwrap();
    let two = accept_peer(&second).await;
    Pair { one, two, _endpoints: (first, second), _files: files }
}

fn promise() -> Promise {
    let leader = LeaderId { node: 3, incarnation: u128::MAX - 7, nonce: 9 };
    Promise { epoch: Epoch::new(12), leader }
}

fn place(offset: u64) -> Place {
    Place { segment: 7, offset, lsn: Lsn::new(1 << 40), epoch: Epoch::new(11), link: 0xdead_beef }
}

fn batches(stream: u64, number: u64, bytes: Vec<u8>) -> Message {
    Message::Batches { stream, after: (number, 2), end: place(3), commit_lsn: Lsn::new(9), bytes }
}

fn heartbeat(sequence: u64) -> Message {
    Message::Heartbeat {
        promised: promise(),
        commit_lsn: Lsn::new(10),
        sequence,
        acked: Vec::new(),
    }
}

fn every_message() -> Vec<Message> {
    let summary = Summary {
        log_id: 1,
        lineage_id: 2,
        incarnation: 3,
        start_counter: 4,
        nonce: 5,
        promised: promise(),
        epochs: Vec::new(),
        end: place(5),
        first_lsn: Lsn::new(5),
        commit_lsn: Lsn::new(6),
        members: BTreeMap::new(),
        shown: BTreeMap::new(),
    };
    vec![
        Message::Hello { summary: summary.clone(), asks: true },
        Message::Seal(promise()),
        Message::Sealed { promised: promise(), summary, heard: None },
        Message::Fetch { promised: promise(), from: (8, 9) },
        Message::Stream { stream: 5, promised: promise(), at: place(6) },
        Message::Ready { stream: 6 },
        Message::Unready { stream: 7 },
        batches(8, 1, vec![1, 2, 3]),
        Message::Ack { stream: 9, durable: place(7) },
        heartbeat(1),
        Message::Heard { epoch: Epoch::new(11), sequence: 2 },
        Message::Fenced(promise()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_message_arrives_both_ways() {
    let pair = pair().await;
    assert_eq!((pair.one.peer(), pair.two.peer()), (node(2), node(1)));
    for message in every_message() {
        pair.one.send(message.clone());
        assert_eq!(next(&pair.two).await, message);
        pair.two.send(message.clone());
        assert_eq!(next(&pair.one).await, message);
    }
    assert!(pair.one.round_trip() < Duration::from_secs(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_keep_their_order() {
    let pair = pair().await;
    for number in 0..2000 {
        pair.one.send(Message::Ready { stream: number });
        let length = usize::try_from(number % 97).unwrap() * 300;
        pair.one.send(batches(1, number, vec![7; length]));
    }
    let (mut control, mut data) = (0, 0);
    while (control, data) != (2000, 2000) {
        match next(&pair.two).await {
            Message::Ready { stream } => {
                assert_eq!(stream, control);
                control += 1;
            }
            Message::Batches { after, bytes, .. } => {
                assert_eq!(after.0, data);
                assert_eq!(u64::try_from(bytes.len()).unwrap(), data % 97 * 300);
                data += 1;
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Nobody receives while the pieces are sent: they fill every window, and what is small still gets through first.
#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_pass_a_large_batch() {
    let pair = pair().await;
    let bytes: Vec<u8> = (0..20_u32 << 20).map(|i| i.to_le_bytes()[1]).collect();
    pair.one.send(batches(1, 0, bytes.clone()));
    tokio::time::sleep(Duration::from_millis(300)).await;
    pair.one.send(heartbeat(1));
    pair.one.send(Message::Ready { stream: 1 });
    tokio::time::sleep(Duration::from_millis(1000)).await;
    assert_eq!(at_once(&pair.two).await, heartbeat(1));
    assert_eq!(at_once(&pair.two).await, Message::Ready { stream: 1 });

    // Round trips beside the rest of it.
    let two = pair.two.clone();
    let receiving = tokio::spawn(async move {
        let mut heard = 0_u64;
        loop {
            match next(&two).await {
                Message::Heartbeat { sequence, .. } => {
                    heard += 1;
                    two.send(Message::Heard { epoch: Epoch::new(12), sequence });
                }
                Message::Batches { bytes, .. } => return (heard, bytes),
                other => panic!("{other:?}"),
            }
        }
    });
    let mut sequence = 1;
    while !receiving.is_finished() {
        sequence += 1;
        pair.one.send(heartbeat(sequence));
        // Its answer, or the end of the other task.
        let _answer = timeout(Duration::from_millis(50), pair.one.receive()).await;
    }
    let (heard, got) = receiving.await.unwrap();
    assert!(heard > 0, "heartbeats arrived before the batch was complete");
    assert!(got == bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_stream_ends_the_older() {
    let pair = pair().await;
    // More than any window takes: it cannot be through when the next one begins.
    pair.one.send(batches(1, 0, vec![1; 30 << 20]));
    tokio::time::sleep(Duration::from_millis(100)).await;
    pair.one.send(batches(2, 0, vec![2; 100]));
    pair.one.send(batches(1, 1, vec![3; 100]));
    for number in 1..20 {
        pair.one.send(batches(2, number, vec![2; 100]));
    }
    for number in 0..20 {
        assert_eq!(next(&pair.two).await, batches(2, number, vec![2; 100]));
    }
    // Many in a row: streams that are given up make room for others.
    for stream in 3..50 {
        pair.one.send(batches(stream, 0, vec![4; 1 << 20]));
    }
    let last = batches(49, 0, vec![4; 1 << 20]);
    while next(&pair.two).await != last {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_does_not_speak_as_a_node() {
    let files = certificates();
    let server = bind(&security(files.path(), "node-1"));
    let client = calling(&security(files.path(), "client"));
    let refused = client.connect_peer(node(2), node(1), &[at(&server)]).await;
    let error = refused.unwrap_err();
    assert!(matches!(&error, TransportError::Connect { .. }), "{error}");
    assert!(error.to_string().contains("not the certificate of a node"), "{error}");
    // As a client it is welcome, and so is a node as a client.
    client.connect_server(&at(&server)).await.unwrap();
    let other = bind(&security(files.path(), "node-2"));
    other.connect_server(&at(&server)).await.unwrap();
    accept_client(&server).await;
    accept_client(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_cannot_pass_for_another() {
    let files = certificates();
    let one = bind(&security(files.path(), "node-1"));
    let two = bind(&security(files.path(), "node-2"));
    let found = one.connect_peer(node(1), node(3), &[at(&two)]).await;
    assert!(
        matches!(found, Err(TransportError::NotThatNode { wanted, found: Some(found) })
            if wanted == node(3) && found == node(2)),
        "{found:?}"
    );
    let claimed = one.connect_peer(node(3), node(2), &[at(&two)]).await;
    assert!(matches!(claimed, Err(TransportError::Connect { .. })), "{claimed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_authority_is_refused() {
    let (files, others) = (certificates(), certificates());
    let server = bind(&security(files.path(), "node-1"));
    let stranger = calling(&security(others.path(), "client"));
    let refused = stranger.connect_server(&at(&server)).await;
    assert!(matches!(refused, Err(TransportError::Connect { .. })), "{refused:?}");
    // One that believes the server, and is not believed.
    let mixed = others.path().join("client");
    std::fs::copy(files.path().join("ca/ca.pem"), mixed.join("ca.pem")).unwrap();
    let stranger = calling(&security(others.path(), "client"));
    let refused = stranger.connect_server(&at(&server)).await;
    assert!(matches!(refused, Err(TransportError::Connect { .. })), "{refused:?}");
    // And the other way round: a server that believes the client.
    let mixed = others.path().join("node-1");
    std::fs::copy(files.path().join("ca/ca.pem"), mixed.join("ca.pem")).unwrap();
    let impostor = bind(&security(others.path(), "node-1"));
    let client = calling(&security(files.path(), "client"));
    let refused = client.connect_server(&at(&impostor)).await;
    assert!(matches!(refused, Err(TransportError::Connect { .. })), "{refused:?}");
    // The certificate of a client is none for servers.
    let disguised = bind(&security(files.path(), "client"));
    let refused = client.connect_server(&at(&disguised)).await;
    assert!(matches!(refused, Err(TransportError::Connect { .. })), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_certificate_is_refused() {
    let files = certificates();
    let server = bind(&security(files.path(), "node-1"));
    let nobody = calling(&Security::throw_away().unwrap());
    let refused = nobody.connect_server(&at(&server)).await;
    assert!(matches!(refused, Err(TransportError::Connect { .. })), "{refused:?}");
    let refused = nobody.connect_peer(node(2), node(1), &[at(&server)]).await;
    assert!(matches!(refused, Err(TransportError::Connect { .. })), "{refused:?}");
    // And the other way round: a client does not believe a server that nobody has signed for.
    let server = bind(&Security::throw_away().unwrap());
    let client = calling(&security(files.path(), "client"));
    let refused = client.connect_server(&at(&server)).await;
    assert!(matches!(refused, Err(TransportError::Connect { .. })), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn throw_away_is_for_loopback() {
    let throw_away = Security::throw_away().unwrap();
    assert!(throw_away.is_throw_away());
    let anywhere: SocketAddr = "0.0.0.0:0".parse().unwrap();
    let bound = Endpoint::bind(anywhere, &throw_away, &Limits::default());
    assert!(matches!(bound, Err(TransportError::NotLoopback(_))), "{bound:?}");
    let client = calling(&throw_away);
    let far = client.connect_server("192.0.2.1:7400").await;
    assert!(matches!(far, Err(TransportError::NotLoopback(_))), "{far:?}");
    let far = client.connect_peer(node(1), node(2), &["192.0.2.1:7400".to_owned()]).await;
    assert!(matches!(far, Err(TransportError::NotLoopback(_))), "{far:?}");

    let server = bind(&throw_away);
    let one = client.connect_peer(node(1), node(2), &[at(&server)]).await.unwrap();
    let two = accept_peer(&server).await;
    assert_eq!((one.peer(), two.peer()), (node(2), node(1)));
    server.answer_as(node(3));
    let found = client.connect_peer(node(1), node(2), &[at(&server)]).await;
    assert!(matches!(found, Err(TransportError::NotThatNode { .. })), "{found:?}");
}

/// The other node vanishes with its runtime: nobody says goodbye.
#[test]
fn silence_is_noticed() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).enable_all().build().unwrap()
    };
    let files = certificates();
    let (here, there) = (runtime(), runtime());
    let _entered = here.enter();
    let (any, limits) = (ANY.parse().unwrap(), Limits::default());
    let server = Endpoint::bind(any, &security(files.path(), "node-1"), &limits).unwrap();
    let address = at(&server);
    let security = security(files.path(), "node-2");
    let connected = there.block_on(async {
        let endpoint = bind(&security);
        let connection = endpoint.connect_peer(node(2), node(1), &[address]).await.unwrap();
        (endpoint, connection)
    });
    let peer = here.block_on(accept_peer(&server));
    there.shutdown_background();
    let since = Instant::now();
    let ended = here.block_on(async { timeout(SOON, peer.receive()).await.unwrap() });
    let idle = Duration::from_millis(Limits::default().idle_ms);
    assert!(matches!(ended, Err(TransportError::Closed(_))), "{ended:?}");
    assert!(since.elapsed() < 2 * idle, "{:?}", since.elapsed());
    drop(connected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_connection_ends() {
    let pair = pair().await;
    let clone = pair.one.clone();
    drop(pair.one);
    clone.send(heartbeat(1));
    assert_eq!(next(&pair.two).await, heartbeat(1), "it lives as long as one of them");
    drop(clone);
    let since = Instant::now();
    let ended = timeout(SOON, pair.two.receive()).await.unwrap();
    assert!(matches!(ended, Err(TransportError::Closed(_))), "{ended:?}");
    assert!(since.elapsed() < Duration::from_millis(1000), "without waiting for silence");
    pair.two.send(heartbeat(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn lanes_carry_frames() {
    let files = certificates();
    let server = bind(&security(files.path(), "node-1"));
    let client = calling(&security(files.path(), "client"));
    let here = client.connect_server(&at(&server)).await.unwrap();
    let there = accept_client(&server).await;
    assert!(there.remote_addr().ip().is_loopback() && here.remote_addr() == server.local_addr());

    let framed = |body: &[u8]| {
        let length = u32::try_from(body.len()).unwrap().to_le_bytes();
        [&length[..], body].concat()
    };
    let (mut send, mut receive) = here.open().await.unwrap().split();
    let bodies = [vec![1; 10], Vec::new(), vec![2; 1 << 20], vec![3]];
    let all = bodies.clone();
    let sending = tokio::spawn(async move {
        for body in &all {
            send.send(framed(body)).await.unwrap();
        }
        send.finish().await.unwrap();
        assert!(send.finish().await.is_err());
    });
    let (mut answer, mut asked) = there.accept().await.unwrap().split();
    for body in &bodies {
        // A future that is dropped early loses nothing.
        let _early = timeout(Duration::from_micros(50), std::future::pending::<()>()).await;
        assert_eq!(timeout(SOON, asked.receive()).await.unwrap().unwrap().as_ref(), Some(body));
    }
    assert_eq!(asked.receive().await.unwrap(), None);
    sending.await.unwrap();
    answer.send(framed(b"yes")).await.unwrap();
    assert_eq!(receive.receive().await.unwrap().as_deref(), Some(&b"yes"[..]));
    answer.send(vec![9, 0, 0, 0, 1]).await.unwrap();
    answer.finish().await.unwrap();
    let short = receive.receive().await;
    assert!(matches!(short, Err(TransportError::Frame(Fault::Short))), "{short:?}");

    here.close("enough");
    timeout(SOON, there.closed()).await.unwrap();
    let ended = there.accept().await.map(|_| ()).unwrap_err();
    assert!(ended.to_string().contains("enough"), "{ended}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_future_loses_nothing() {
    let throw_away = Security::throw_away().unwrap();
    let (server, client) = (bind(&throw_away), calling(&throw_away));
    let here = client.connect_server(&at(&server)).await.unwrap();
    let there = accept_client(&server).await;
    let (mut send, _) = here.open().await.unwrap().split();
    let frame = [&5000_u32.to_le_bytes()[..], &[6; 5000]].concat();
    send.send(frame[..2].to_vec()).await.unwrap();
    let (_, mut asked) = there.accept().await.unwrap().split();
    for part in [2..3000, 3000..5004] {
        assert!(timeout(Duration::from_millis(30), asked.receive()).await.is_err());
        send.send(frame[part].to_vec()).await.unwrap();
    }
    let received = timeout(SOON, asked.receive()).await.unwrap().unwrap();
    assert_eq!(received.as_deref(), Some(&frame[4..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_length_over_the_limit_is_refused() {
    let throw_away = Security::throw_away().unwrap();
    let (server, client) = (bind(&throw_away), calling(&throw_away));
    let here = client.connect_server(&at(&server)).await.unwrap();
    let there = accept_client(&server).await;
    let (mut send, _) = here.open().await.unwrap().split();
    let length = u32::try_from(FRAME_BYTES_MAX + 1).unwrap();
    send.send(length.to_le_bytes().to_vec()).await.unwrap();
    let (_, mut asked) = there.accept().await.unwrap().split();
    for _ in 0..2 {
        let refused = timeout(SOON, asked.receive()).await.unwrap();
        assert!(matches!(refused, Err(TransportError::Frame(Fault::Field))), "{refused:?}");
    }
    // Other lanes go on.
    let (mut send, _) = here.open().await.unwrap().split();
    send.send(vec![1, 0, 0, 0, 9]).await.unwrap();
    let (_, mut asked) = there.accept().await.unwrap().split();
    assert_eq!(asked.receive().await.unwrap(), Some(vec![9]));
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_are_tried_in_turn() {
    let files = certificates();
    let one = bind(&security(files.path(), "node-1"));
    let two = bind(&security(files.path(), "node-2"));
    let three = bind(&security(files.path(), "node-3"));
    let gone = bind(&security(files.path(), "node-3"));
    let silent = at(&gone);
    gone.close().await;
    drop(gone);
    let addresses = ["no host at all".to_owned(), silent, at(&two), at(&three)];
    let connection = one.connect_peer(node(1), node(3), &addresses).await.unwrap();
    assert_eq!(connection.peer(), node(3));
    assert_eq!(accept_peer(&three).await.peer(), node(1));
    let none = one.connect_peer(node(1), node(3), &[]).await;
    assert!(matches!(none, Err(TransportError::Connect { .. })), "{none:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_connections_are_refused() {
    let throw_away = Security::throw_away().unwrap();
    let limits = Limits { connections_max: 2, ..Limits::default() };
    let server = Endpoint::bind(ANY.parse().unwrap(), &throw_away, &limits).unwrap();
    let client = calling(&throw_away);
    let _first = client.connect_server(&at(&server)).await.unwrap();
    let second = client.connect_server(&at(&server)).await.unwrap();
    let _held = accept_client(&server).await;
    let other = accept_client(&server).await;
    let third = client.connect_server(&at(&server)).await;
    assert!(matches!(third, Err(TransportError::Connect { .. })), "{third:?}");
    drop((second, other));
    client.connect_server(&at(&server)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_endpoint_accepts_nobody() {
    let pair = pair().await;
    let (first, second) = (&pair._endpoints.0, &pair._endpoints.1);
    assert!(first.warnings().iter().all(|warning| warning.contains("UDP buffer")));
    second.close().await;
    assert!(timeout(SOON, second.accept()).await.unwrap().is_none());
    let ended = timeout(SOON, pair.one.receive()).await.unwrap();
    assert!(matches!(ended, Err(TransportError::Closed(_))), "{ended:?}");
}

/// Many packets are handed to the system at once, which takes no more than 64 KiB together.
#[tokio::test(flavor = "multi_thread")]
async fn many_long_packets_go_out_at_once() {
    let pair = pair().await;
    let two = pair.two.clone();
    let receiving = tokio::spawn(async move {
        for _ in 0..100 {
            next(&two).await;
        }
    });
    for number in 0..100 {
        // More than the system takes at once, and less than the smallest buffers of sockets hold.
        pair.one.send(batches(1, number, vec![7; 96 << 10]));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    timeout(SOON, receiving).await.unwrap().unwrap();
    assert!(pair.one.packet_bytes() > 6000, "{} fit on loopback", pair.one.packet_bytes());
    assert_eq!(pair.one.black_holes(), 0);
}
