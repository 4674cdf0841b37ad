//! What simulated clusters do not come to see, step by step.

use std::collections::BTreeMap;

use cairnlog_engine::format::batch::EpochStart;
use cairnlog_engine::{BegunEpoch, Epoch, LeaderId, Lsn, Place, Promise};

use super::*;

fn node_id(number: u64) -> NodeId {
    NodeId::new(number).expect("not 0")
}

fn place(offset: u64) -> Place {
    let lsn = Lsn::new(1 + offset / 512);
    Place { segment: 1, offset, lsn, epoch: Epoch::new(1), link: 9 }
}

fn leader() -> LeaderId {
    LeaderId { node: 1, incarnation: 11, nonce: 7 }
}

fn promise() -> Promise {
    Promise { epoch: Epoch::new(1), leader: leader() }
}

fn summary(incarnation: u128, end: Place) -> Summary {
    let start = EpochStart { lineage_id: 2, incarnation: 11, nonce: 7 };
    let begun = BegunEpoch { epoch: Epoch::new(1), start, after: (0, 0) };
    Summary {
        promised: promise(),
        epochs: if end == Place::START { Vec::new() } else { vec![begun] },
        end,
        ..Summary::empty(incarnation)
    }
}

fn new_node(number: u64, mine: &Summary) -> Node {
    let leader = LeaderId { node: number, incarnation: mine.incarnation, nonce: 7 };
    let settings = Settings {
        node: node_id(number),
        leader,
        members: [(node_id(1), 11)].into(),
        shown: BTreeMap::new(),
        window_bytes: 4096,
        heartbeat_interval_ms: 50,
        lease_ms: 250,
        standing_ms_max: 1000,
    };
    Node::new(settings, mine, 0)
}

fn actions(node: &mut Node) -> Vec<Action> {
    std::iter::from_fn(|| node.poll_action()).collect()
}

/// Node 1 leads, alone in its set, with so much of its log durable; node 2 is connected.
fn leading(end: Place) -> Node {
    let new = Summary { promised: Promise::default(), ..summary(11, Place::START) };
    let mut node = new_node(1, &new);
    node.stand(0);
    node.handle_promised(promise(), &Summary { promised: promise(), ..new });
    let mine = summary(11, end);
    node.handle_began(0, promise(), &mine);
    node.handle_connected(node_id(2), &mine);
    assert!(node.leads());
    actions(&mut node);
    node
}

fn hello(node: &mut Node, end: Place, mine: &Summary) -> Vec<Action> {
    let message = Message::Hello { summary: summary(22, end), asks: false };
    node.handle_message(0, node_id(2), message, mine);
    actions(node)
}

fn finds(actions: &[Action]) -> Vec<(u64, u64)> {
    let at = |action: &Action| match action {
        Action::FindPlace { at, .. } => Some(*at),
        _ => None,
    };
    actions.iter().filter_map(at).collect()
}

/// The number of the question in it.
fn asked(actions: &[Action]) -> u64 {
    match actions {
        [Action::FindPlace { number, .. }] => *number,
        _ => panic!("{actions:?}"),
    }
}

#[test]
fn an_old_answer_is_none_to_a_new_question() {
    let mine = summary(11, place(4096));
    let mut node = leading(place(4096));
    let first = asked(&hello(&mut node, place(1024), &mine));
    let second = hello(&mut node, place(2048), &mine);
    assert_eq!(finds(&second), [(1, 2048)]);
    node.handle_place(node_id(2), first, Some(place(1024)));
    assert_eq!(actions(&mut node), []);
    // The same question again: the log may have been cut, and have grown another way.
    let third = asked(&hello(&mut node, place(2048), &mine));
    node.handle_place(node_id(2), asked(&second), Some(place(2048)));
    assert_eq!(actions(&mut node), []);
    node.handle_place(node_id(2), third, Some(place(2048)));
    let streams = actions(&mut node);
    assert!(
        matches!(streams[..], [Action::Send { message: Message::Stream { at, .. }, .. }] if at == place(2048)),
        "{streams:?}"
    );
}

#[test]
fn a_follower_that_has_more_of_the_epoch_is_waited_for() {
    let mut node = leading(place(1024));
    assert_eq!(hello(&mut node, place(2048), &summary(11, place(1024))), []);
    node.handle_durable(place(1536), &summary(11, place(1536)));
    assert_eq!(finds(&actions(&mut node)), []);
    node.handle_durable(place(2048), &summary(11, place(2048)));
    assert_eq!(finds(&actions(&mut node)), [(1, 2048)]);
    node.handle_durable(place(2560), &summary(11, place(2560)));
    assert_eq!(finds(&actions(&mut node)), [], "it has begun");
}

#[test]
fn what_was_acknowledged_in_an_epoch_is_not_given_up_in_it() {
    let mine = summary(22, place(2048));
    let mut node = new_node(2, &mine);
    node.handle_connected(node_id(1), &mine);
    actions(&mut node);
    for (offset, begins) in [(1024, false), (2048, true)] {
        let at = place(offset);
        let stream = Message::Stream { stream: 5, promised: promise(), at };
        node.handle_message(0, node_id(1), stream, &mine);
        let asked = actions(&mut node);
        assert_eq!(
            asked.iter().any(|action| matches!(action, Action::Cut { .. })),
            begins,
            "{asked:?}"
        );
    }
}
