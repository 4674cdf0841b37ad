//! Who is waited for, and how far behind it is.

use std::collections::BTreeMap;

use cairnlog_engine::format::batch::EpochStart;
use cairnlog_engine::{BegunEpoch, LeaderId, Promise};

use super::*;
use crate::protocol::action::Action;
use crate::protocol::history::Summary;
use crate::protocol::message::Message;
use crate::protocol::node::Settings;

const SEGMENT_BYTES: u64 = 1 << 20;
const OUT_OF_SERVICE_MS: u64 = 1000;

fn node_id(number: u64) -> NodeId {
    NodeId::new(number).expect("not 0")
}

fn place(segment: u64, offset: u64, lsn: u64) -> Place {
    Place { segment, offset, lsn: Lsn::new(lsn), epoch: Epoch::new(1), link: 9 }
}

fn summary(incarnation: u128, promise: Promise, end: Place) -> Summary {
    let start = EpochStart { lineage_id: 2, incarnation: 11, nonce: 7 };
    let begun = BegunEpoch { epoch: Epoch::new(1), start, after: (0, 0) };
    Summary {
        promised: promise,
        epochs: if end == Place::START { Vec::new() } else { vec![begun] },
        end,
        ..Summary::empty(incarnation)
    }
}

/// Node 1 leads three, with its log durable up to `end`; node 2 has it up to `theirs`, and node 3 was never heard.
fn leading(end: Place, theirs: Place) -> Node {
    let leader = LeaderId { node: 1, incarnation: 11, nonce: 7 };
    let promise = Promise { epoch: Epoch::new(1), leader };
    let settings = Settings {
        node: node_id(1),
        leader,
        members: [(node_id(1), 11), (node_id(2), 22), (node_id(3), 33)].into(),
        shown: BTreeMap::new(),
        window_bytes: 4096,
        heartbeat_interval_ms: 50,
        lease_ms: 250,
        standing_ms_max: 1000,
    };
    let new = summary(11, Promise::default(), Place::START);
    let mut node = Node::new(settings, &new, 0);
    node.handle_connected(node_id(2), &new);
    let say = |node: &mut Node, message, mine: &Summary| {
        node.handle_message(0, node_id(2), message, mine);
    };
    let hello = summary(22, Promise::default(), Place::START);
    say(&mut node, Message::Hello { summary: hello, asks: false }, &new);
    node.stand(0);
    let mine = summary(11, promise, Place::START);
    node.handle_promised(promise, &mine);
    let sealed = summary(22, promise, Place::START);
    say(&mut node, Message::Sealed { promised: promise, summary: sealed, heard: None }, &mine);
    let mine = summary(11, promise, end);
    node.handle_began(0, promise, &mine);
    node.handle_durable(end, &mine);
    let hello = summary(22, promise, theirs);
    say(&mut node, Message::Hello { summary: hello, asks: false }, &mine);
    let asked = std::iter::from_fn(|| node.poll_action()).find_map(|action| match action {
        Action::FindPlace { number, .. } => Some(number),
        _ => None,
    });
    node.handle_place(node_id(2), asked.expect("its place is looked for"), Some(theirs));
    let offered = std::iter::from_fn(|| node.poll_action()).find_map(|action| match action {
        Action::Send { message: Message::Stream { stream, .. }, .. } => Some(stream),
        _ => None,
    });
    say(&mut node, Message::Ready { stream: offered.expect("it is offered") }, &mine);
    assert!(node.leads());
    node
}

#[test]
fn all_waits_for_who_was_not_heard_until_it_is_out_of_service() {
    let end = place(1, 8192, 9);
    let node = leading(end, end);
    let mut snapshot = Snapshot::new(SEGMENT_BYTES, OUT_OF_SERVICE_MS, None);
    let all = |snapshot: &mut Snapshot, now_ms| {
        snapshot.levels(&node, (node_id(1), end), end.lsn, now_ms).all_lsn
    };
    assert_eq!(all(&mut snapshot, 0), Place::START.lsn, "node 3 is waited for");
    assert_eq!(all(&mut snapshot, OUT_OF_SERVICE_MS - 1), Place::START.lsn);
    assert_eq!(all(&mut snapshot, OUT_OF_SERVICE_MS), end.lsn, "and not for ever");
    let seen = snapshot.seen(&node, OUT_OF_SERVICE_MS, end);
    let service = |f: &SeenPeer| (f.node.get(), f.in_service, f.connected);
    assert_eq!(
        seen.followers.iter().map(service).collect::<Vec<_>>(),
        [(2, true, true), (3, false, false)]
    );
}

#[test]
fn a_follower_that_makes_progress_is_behind_all_the_same() {
    let (end, theirs) = (place(3, 8192, 90), place(1, 4096, 5));
    let node = leading(end, theirs);
    let mut snapshot = Snapshot::new(SEGMENT_BYTES, OUT_OF_SERVICE_MS, None);
    snapshot.levels(&node, (node_id(1), end), theirs.lsn, 0);
    let seen = snapshot.seen(&node, 700, end);
    let follower = seen.followers[0];
    assert_eq!((follower.node, follower.durable_lsn), (node_id(2), theirs.lsn));
    assert_eq!((follower.behind_ms, follower.in_service), (700, true));
    assert_eq!(follower.behind_bytes, 2 * SEGMENT_BYTES + 4096);
}

#[test]
fn without_a_quorum_local_does_after_a_while() {
    const AFTER_MS: u64 = 500;
    let (end, theirs) = (place(1, 8192, 9), place(1, 4096, 5));
    let node = leading(end, theirs);
    let mut snapshot = Snapshot::new(SEGMENT_BYTES, OUT_OF_SERVICE_MS, Some(AFTER_MS));
    let mut degraded = |durable: u64, commit: u64, now_ms| {
        let durable = place(1, 8192, durable);
        snapshot.levels(&node, (node_id(1), durable), Lsn::new(commit), now_ms).degraded
    };
    assert!(!degraded(9, 9, 1000), "all is committed");
    assert!(!degraded(20, 9, 2000), "for how long it waits is counted from here");
    assert!(!degraded(20, 12, 2400));
    assert!(!degraded(30, 12, 2400 + AFTER_MS - 1));
    assert!(degraded(30, 12, 2400 + AFTER_MS));
    assert!(degraded(40, 12, 9000), "as long as nothing is committed");
    assert!(degraded(50, 20, 9010), "the backlog comes first");
    assert!(degraded(60, 39, 9020));
    assert!(!degraded(70, 40, 9030), "what waited when the quorum came back is committed");
    assert!(!degraded(70, 40, 9030 + AFTER_MS - 1));
    assert!(degraded(70, 40, 9030 + AFTER_MS));
    let counted = snapshot.seen(&node, 9999, end).notices;
    assert_eq!(counted, [("degraded_total", 2)]);
}
