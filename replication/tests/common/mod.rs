//! Servers in one process, over QUIC on loopback, each with its directory.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cairnlog_engine::Config;
use cairnlog_replication::protocol::node_id::NodeId;
use cairnlog_replication::server::{Server, ServerConfig};
use cairnlog_replication::status::Role;
use cairnlog_replication::transport::{
    ClientConnection, Endpoint, Limits, Security, make_development_certificates,
};
use cairnlog_replication::wire::request::{Ack, Request, Response, Visibility};
use cairnlog_replication::wire::request_codec::{decode_response, encode_request};

pub(crate) fn node(number: u64) -> NodeId {
    NodeId::new(number).unwrap()
}

/// The configuration of each node of a cluster in a folder.
pub(crate) fn cluster(folder: &Path, nodes: u64) -> Vec<ServerConfig> {
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

pub(crate) async fn start_all(configs: &[ServerConfig]) -> Vec<Arc<Server>> {
    let mut servers = Vec::new();
    for config in configs {
        servers.push(Arc::new(Server::start(config.clone()).await.unwrap()));
    }
    servers
}

pub(crate) async fn until(what: &str, mut ready: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !ready() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) fn leader(servers: &[Arc<Server>]) -> Option<usize> {
    let ready = |s: &Arc<Server>| s.status().role == Role::Leader && s.status().is_ready;
    servers.iter().position(ready)
}

pub(crate) async fn connect(folder: &Path, server: &Server) -> ClientConnection {
    let security = Security::from_folder(&folder.join("tls/client")).unwrap();
    let endpoint = Endpoint::client(&security, &Limits::default()).unwrap();
    endpoint.connect_server(&server.local_addr().to_string()).await.unwrap()
}

/// Asks a node, and takes every answer.
pub(crate) async fn ask(folder: &Path, server: &Server, request: Request) -> Vec<Response> {
    ask_over(&connect(folder, server).await, request).await
}

pub(crate) async fn ask_over(connection: &ClientConnection, request: Request) -> Vec<Response> {
    let (mut sender, mut receiver) = connection.open().await.unwrap().split();
    sender.send(encode_request(&request)).await.unwrap();
    sender.finish().await.unwrap();
    let mut responses = Vec::new();
    while let Some(frame) = receiver.receive().await.unwrap() {
        responses.push(decode_response(&frame).unwrap());
    }
    responses
}

pub(crate) fn append(ack: Ack, text: &str) -> Request {
    let records = vec![text.as_bytes().to_vec()];
    Request::Append { ack, expected_lsn: None, sequence: None, records }
}

pub(crate) fn read(visibility: Visibility) -> Request {
    let (from, to, count, min_lsn) = (None, None, None, None);
    Request::Read { from, to, count, min_lsn, visibility, follows: false }
}

pub(crate) async fn read_all(folder: &Path, server: &Server) -> Vec<String> {
    let mut texts = Vec::new();
    for response in ask(folder, server, read(Visibility::Committed)).await {
        if let Response::Records(records) = response {
            texts.extend(records.into_iter().map(|r| String::from_utf8(r.data).unwrap()));
        }
    }
    texts
}

/// Has a node lead, and waits until it does. One that leads by itself at that moment may be in its way.
pub(crate) async fn promote(folder: &Path, servers: &[Arc<Server>], index: usize) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let answers = ask(folder, &servers[index], Request::Promote { dry_run: false }).await;
        if matches!(&answers[..], [Response::Json(text)] if text.contains("\"leads\":true")) {
            break;
        }
        assert!(Instant::now() < deadline, "{answers:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    until("it leads", || leader(servers) == Some(index)).await;
}
