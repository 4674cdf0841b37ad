//! Servers in one process, over QUIC on loopback, each with its directory.
#![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cairnlog_engine::{Config, Lsn};
use cairnlog_replication::protocol::node_id::NodeId;
use cairnlog_replication::server::{Server, ServerConfig};
use cairnlog_replication::status::Role;
use cairnlog_replication::transport::{
    ClientConnection, Endpoint, Limits, Security, make_development_certificates,
};
use cairnlog_replication::wire::request::{Ack, Reason, Request, Response, Visibility};
use cairnlog_replication::wire::request_codec::{decode_response, encode_request};

fn node(number: u64) -> NodeId {
    NodeId::new(number).unwrap()
}

/// The configuration of each node of a cluster in a folder.
fn cluster(folder: &Path, nodes: u64) -> Vec<ServerConfig> {
    let tls = folder.join("tls");
    make_development_certificates(&tls, nodes).unwrap();
    // Held together, so that they are different ones.
    let sockets: Vec<UdpSocket> =
        (0..nodes).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    let addresses: Vec<_> = sockets.iter().map(|s| s.local_addr().unwrap()).collect();
    let peers: BTreeMap<NodeId, Vec<String>> =
        (1..=nodes).zip(&addresses).map(|(n, a)| (node(n), vec![a.to_string()])).collect();
    let config = |(n, address): (u64, &std::net::SocketAddr)| {
        let mut config = ServerConfig::new(folder.join(format!("data-{n}")));
        config.node = node(n);
        config.listen = *address;
        config.peers = peers.clone();
        config.tls_folder = Some(tls.join(format!("node-{n}")));
        config.engine = Config::with_segment_bytes(1 << 20);
        config
    };
    (1..=nodes).zip(&addresses).map(config).collect()
}

async fn start_all(configs: &[ServerConfig]) -> Vec<Arc<Server>> {
    let mut servers = Vec::new();
    for config in configs {
        servers.push(Arc::new(Server::start(config.clone()).await.unwrap()));
    }
    servers
}

async fn until(what: &str, mut ready: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !ready() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn leader(servers: &[Arc<Server>]) -> Option<usize> {
    let ready = |s: &Arc<Server>| s.status().role == Role::Leader && s.status().is_ready;
    servers.iter().position(ready)
}

async fn connect(folder: &Path, server: &Server) -> ClientConnection {
    let security = Security::from_folder(&folder.join("tls/client")).unwrap();
    let endpoint = Endpoint::client(&security, &Limits::default()).unwrap();
    endpoint.connect_server(&server.local_addr().to_string()).await.unwrap()
}

/// Asks a node, and takes every answer.
async fn ask(folder: &Path, server: &Server, request: Request) -> Vec<Response> {
    ask_over(&connect(folder, server).await, request).await
}

async fn ask_over(connection: &ClientConnection, request: Request) -> Vec<Response> {
    let (mut sender, mut receiver) = connection.open().await.unwrap().split();
    sender.send(encode_request(&request)).await.unwrap();
    sender.finish().await.unwrap();
    let mut responses = Vec::new();
    while let Some(frame) = receiver.receive().await.unwrap() {
        responses.push(decode_response(&frame).unwrap());
    }
    responses
}

fn append(ack: Ack, text: &str) -> Request {
    let records = vec![text.as_bytes().to_vec()];
    Request::Append { ack, expected_lsn: None, sequence: None, records }
}

fn read(visibility: Visibility) -> Request {
    let (from, to, count, min_lsn) = (None, None, None, None);
    Request::Read { from, to, count, min_lsn, visibility, follows: false }
}

async fn read_all(folder: &Path, server: &Server) -> Vec<String> {
    let mut texts = Vec::new();
    for response in ask(folder, server, read(Visibility::Committed)).await {
        if let Response::Records(records) = response {
            texts.extend(records.into_iter().map(|r| String::from_utf8(r.data).unwrap()));
        }
    }
    texts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_alone_serves() {
    let folder = tempfile::tempdir().unwrap();
    let mut configs = cluster(folder.path(), 1);
    configs[0].peers.clear();
    let servers = start_all(&configs).await;
    until("it leads", || leader(&servers).is_some()).await;
    for ack in [Ack::Buffered, Ack::Local, Ack::Quorum, Ack::All] {
        let answers = ask(folder.path(), &servers[0], append(ack, "one")).await;
        assert!(
            matches!(&answers[..], [Response::Appended { ack: a, .. }] if *a == ack),
            "{answers:?}"
        );
    }
    assert_eq!(read_all(folder.path(), &servers[0]).await, ["one"; 4]);
    for server in servers {
        server.shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_replicate_and_another_one_leads() {
    let folder = tempfile::tempdir().unwrap();
    let configs = cluster(folder.path(), 3);
    let mut servers = start_all(&configs).await;
    until("the first one leads", || leader(&servers) == Some(0)).await;
    let mut all = Vec::new();
    let connection = connect(folder.path(), &servers[0]).await;
    for number in 0..200 {
        let text = format!("record {number}");
        let answers = ask_over(&connection, append(Ack::Quorum, &text)).await;
        let [Response::Appended { lsns, replicas, .. }] = &answers[..] else {
            panic!("{answers:?}")
        };
        assert_eq!(lsns.start, Lsn::new(number + 1));
        assert!(replicas.len() >= 2, "{replicas:?}");
        all.push(text);
    }
    until("all of them know", || servers.iter().all(|s| s.status().commit_lsn == 201)).await;
    for server in &servers {
        assert_eq!(read_all(folder.path(), server).await, all);
    }
    // Another one is named.
    let answers = ask(folder.path(), &servers[1], Request::Promote { dry_run: true }).await;
    assert!(matches!(&answers[..], [Response::Json(text)] if text.contains("\"would_lead\":true")));
    let answers = ask(folder.path(), &servers[1], Request::Promote { dry_run: false }).await;
    assert!(
        matches!(&answers[..], [Response::Json(text)] if text.contains("\"leads\":true")),
        "{answers:?}"
    );
    until("the second one leads", || leader(&servers) == Some(1)).await;
    let answers = ask(folder.path(), &servers[0], append(Ack::Quorum, "no")).await;
    assert!(matches!(&answers[..], [Response::Failed(_)]), "{answers:?}");
    // The first one ends, misses something, and comes back as a follower.
    servers.remove(0).shutdown().await.unwrap();
    let answers = ask(folder.path(), &servers[0], append(Ack::Quorum, "later")).await;
    assert!(matches!(&answers[..], [Response::Appended { .. }]), "{answers:?}");
    all.push("later".to_owned());
    servers.insert(0, Arc::new(Server::start(configs[0].clone()).await.unwrap()));
    until("it follows", || servers[0].status().commit_lsn == 202).await;
    assert_eq!(servers[0].status().role, Role::Follower);
    assert_eq!(read_all(folder.path(), &servers[0]).await, all);
    for server in servers {
        server.shutdown().await.unwrap();
    }
}

/// N10: a leader that may have been replaced does not say what is committed now.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_leader_that_is_heard_tells_all() {
    let folder = tempfile::tempdir().unwrap();
    let configs = cluster(folder.path(), 3);
    let mut servers = start_all(&configs).await;
    until("the first one leads", || leader(&servers) == Some(0)).await;
    let latest = || read(Visibility::Linearizable);
    let count = |responses: &[Response]| -> Option<usize> {
        let [records @ .., Response::End(_)] = responses else { return None };
        let records = records.iter().map(|response| match response {
            Response::Records(records) => records.len(),
            _ => 0,
        });
        Some(records.sum())
    };
    for number in 1..=20 {
        ask(folder.path(), &servers[0], append(Ack::Quorum, "one")).await;
        let answers = ask(folder.path(), &servers[0], latest()).await;
        assert_eq!(count(&answers), Some(number), "{answers:?}");
    }
    let answers = ask(folder.path(), &servers[1], latest()).await;
    let Some(Response::Failed(failure)) = answers.first() else { panic!("{answers:?}") };
    assert!(matches!(failure.reason, Reason::NotLeading(Some((first, _))) if first == node(1)));
    for _ in 0..2 {
        servers.pop().unwrap().shutdown().await.unwrap();
    }
    let answers = ask(folder.path(), &servers[0], latest()).await;
    let since = Instant::now();
    let answers = if count(&answers).is_some() {
        // It held its lease.
        assert!(since.elapsed() < Duration::from_millis(600));
        tokio::time::sleep(Duration::from_millis(600)).await;
        ask(folder.path(), &servers[0], latest()).await
    } else {
        answers
    };
    assert!(matches!(answers[..], [Response::Failed(_)]), "{answers:?}");
    assert_eq!(read_all(folder.path(), &servers[0]).await.len(), 20, "what is known is shown");
    servers.pop().unwrap().shutdown().await.unwrap();
}
