//! Servers in one process, over QUIC on loopback, each with its directory.
#![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use cairnlog_engine::Lsn;
use cairnlog_replication::server::Server;
use cairnlog_replication::status::Role;
use cairnlog_replication::wire::request::{Ack, Reason, Request, Response, Visibility};

use common::{
    append, ask, ask_over, cluster, connect, leader, node, promote, read, read_all, start_all,
    until,
};

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
    promote(folder.path(), &servers, 1).await;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_quorum_it_degrades_if_that_is_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let mut configs = cluster(folder.path(), 3);
    for config in &mut configs {
        config.degrade_after = Some(Duration::from_millis(300));
    }
    let mut servers = start_all(&configs).await;
    until("the first one leads", || leader(&servers) == Some(0)).await;
    let level = |answers: &[Response]| match answers {
        [Response::Appended { ack, replicas, .. }] => (*ack, replicas.len()),
        _ => panic!("{answers:?}"),
    };
    let answers = ask(folder.path(), &servers[0], append(Ack::Quorum, "one")).await;
    assert_eq!(level(&answers).0, Ack::Quorum);
    for _ in 0..2 {
        servers.pop().unwrap().shutdown().await.unwrap();
    }
    for ack in [Ack::Quorum, Ack::All, Ack::Local] {
        let answers = ask(folder.path(), &servers[0], append(ack, "alone")).await;
        assert_eq!(level(&answers), (Ack::Local, 1));
    }
    let status = servers[0].status();
    assert!(status.degraded && status.degraded_because.is_some(), "{status:?}");
    assert_eq!(status.commit_lsn, 2, "nothing of that is committed");
    for config in &configs[1..] {
        servers.push(Arc::new(Server::start(config.clone()).await.unwrap()));
    }
    until("it is over", || !servers[0].status().degraded).await;
    assert!(servers[0].status().commit_lsn >= 5, "the backlog came first");
    let answers = ask(folder.path(), &servers[0], append(Ack::Quorum, "more")).await;
    assert_eq!(level(&answers).0, Ack::Quorum);
    for server in servers {
        server.shutdown().await.unwrap();
    }
}
