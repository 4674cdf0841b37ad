//! A node alone: what simulated clusters see too seldom, or never, because every node in them is an honest one.

use std::collections::BTreeMap;

use cairnlog_engine::{Epoch, LeaderId, Lsn, Place, Promise};

use super::{Node, Settings};
use crate::protocol::action::Action;
use crate::protocol::history::Summary;
use crate::protocol::message::Message;
use crate::protocol::node_id::NodeId;

/// Of a directory that is no member.
const STRANGE: u128 = 99;

fn node(number: u64) -> NodeId {
    NodeId::new(number).expect("not 0")
}

fn promise(epoch: u64, number: u64) -> Promise {
    let leader = LeaderId { node: number, incarnation: number.into(), nonce: 1 };
    Promise { epoch: Epoch::new(epoch), leader }
}

fn place(offset: u64, epoch: u64) -> Place {
    Place { segment: 1, offset, lsn: Lsn::new(offset), epoch: Epoch::new(epoch), link: 5 }
}

fn summary(incarnation: u128, promised: Promise, end: Place) -> Summary {
    Summary { promised, end, ..Summary::empty(incarnation) }
}

/// The first of three, with such a log, and the others have said hello.
fn first(mine: &Summary) -> Node {
    let leader = LeaderId { node: 1, incarnation: mine.incarnation, nonce: 1 };
    let settings = Settings {
        node: node(1),
        leader,
        members: (1..=3).map(|number| (node(number), number.into())).collect(),
        shown: BTreeMap::new(),
        window_bytes: 4096,
        heartbeat_interval_ms: 50,
        lease_ms: 250,
        standing_ms_max: 1000,
    };
    let mut first = Node::new(settings, mine, 0);
    for peer in [2, 3] {
        first.handle_connected(node(peer), mine);
        let theirs = summary(peer.into(), Promise::default(), Place::START);
        let hello = Message::Hello { summary: theirs, asks: false };
        first.handle_message(0, node(peer), hello, mine);
    }
    actions(&mut first);
    first
}

fn actions(node: &mut Node) -> Vec<Action> {
    std::iter::from_fn(|| node.poll_action()).collect()
}

/// What is sealed to somebody.
fn sealed(actions: &[Action]) -> Vec<(u64, Promise)> {
    let sealed = |action: &Action| match action {
        Action::Send { to, message: Message::Sealed { promised, .. } } => {
            Some((to.get(), *promised))
        }
        _ => None,
    };
    actions.iter().filter_map(sealed).collect()
}

fn begins(actions: &[Action]) -> bool {
    actions.iter().any(|action| matches!(action, Action::Begin(_)))
}

/// N1.
#[test]
fn a_promise_is_answered_when_it_is_durable() {
    let mine = summary(1, Promise::default(), Place::START);
    let mut first = first(&mine);
    let asked = promise(4, 2);
    for _ in 0..2 {
        first.handle_message(0, node(2), Message::Seal(asked), &mine);
    }
    assert_eq!(actions(&mut first), [Action::Promise(asked)], "and no answer yet");
    let mine = Summary { promised: asked, ..mine };
    first.handle_promised(asked, &mine);
    assert_eq!(sealed(&actions(&mut first)), [(2, asked)]);
    first.handle_message(0, node(2), Message::Seal(asked), &mine);
    assert_eq!(sealed(&actions(&mut first)), [(2, asked)], "the same again");
}

#[test]
fn an_epoch_is_promised_once() {
    let (given, other) = (promise(4, 2), promise(4, 3));
    let mine = summary(1, given, Place::START);
    let mut first = first(&mine);
    first.handle_message(0, node(3), Message::Seal(other), &mine);
    let said = actions(&mut first);
    assert_eq!((sealed(&said), said.len()), (vec![(3, given)], 1));
}

#[test]
fn a_later_life_takes_a_later_epoch() {
    let mut before = promise(4, 1);
    before.leader.nonce = 7;
    let mine = summary(1, before, place(512, 4));
    let mut first = first(&mine);
    first.stand(0);
    assert_eq!(actions(&mut first), [Action::Promise(promise(5, 1))]);
}

/// One that stands, and has promised itself epoch 4.
fn standing() -> (Node, Summary) {
    let mine = summary(1, Promise::default(), Place::START);
    let mut first = first(&mine);
    first.see(Epoch::new(3));
    first.stand(0);
    let mine = Summary { promised: promise(4, 1), ..mine };
    first.handle_promised(promise(4, 1), &mine);
    assert!(!begins(&actions(&mut first)), "one of three");
    (first, mine)
}

/// K5.
#[test]
fn only_members_seal() {
    let (mut first, mine) = standing();
    let promised = promise(4, 1);
    let theirs = |incarnation| summary(incarnation, promised, Place::START);
    let seals =
        |incarnation| Message::Sealed { promised, summary: theirs(incarnation), heard: None };
    first.handle_message(0, node(2), seals(STRANGE), &mine);
    assert!(!begins(&actions(&mut first)), "its directory may have forgotten something");
    first.handle_message(0, node(3), seals(3), &mine);
    assert!(begins(&actions(&mut first)));
}

/// K5.
#[test]
fn a_stranger_promises_nothing() {
    let mine = summary(STRANGE, Promise::default(), Place::START);
    let mut first = first(&mine);
    first.handle_message(0, node(2), Message::Seal(promise(4, 2)), &mine);
    first.stand(0);
    assert_eq!(actions(&mut first), []);
}

/// A stream from the start of the log is offered to a peer that has nothing: what was done before, and its number.
fn offers(first: &mut Node, peer: NodeId) -> (Vec<Action>, u64) {
    let mut done = actions(first);
    let number = done.iter().rev().find_map(|action| match action {
        Action::FindPlace { peer: asks, number, .. } if *asks == peer => Some(*number),
        _ => None,
    });
    first.handle_place(peer, number.expect("its place is looked for"), Some(Place::START));
    let offered = actions(first);
    let stream = offered.iter().find_map(|action| match action {
        Action::Send { message: Message::Stream { stream, .. }, .. } => Some(*stream),
        _ => None,
    });
    done.extend(offered);
    (done, stream.expect("it is offered"))
}

/// A stream to the second, whose directory this is: has its own start, and then its end, when it is ready and
/// has acknowledged all.
fn commits(incarnation: u128) -> Vec<Lsn> {
    let (mut first, mine) = standing();
    let promised = promise(4, 1);
    let theirs = |incarnation| summary(incarnation, promised, Place::START);
    first.handle_message(
        0,
        node(3),
        Message::Sealed { promised, summary: theirs(3), heard: None },
        &mine,
    );
    let end = place(1024, 4);
    let mine = Summary { end, ..mine };
    first.handle_began(0, promised, &mine);
    first.handle_durable(end, &mine);
    let hello = Message::Hello { summary: theirs(incarnation), asks: false };
    first.handle_message(0, node(2), hello, &mine);
    let (_, stream) = offers(&mut first, node(2));
    first.handle_message(0, node(2), Message::Ready { stream }, &mine);
    first.handle_sent(node(2), stream, Some((end, 1024)));
    first.handle_message(0, node(2), Message::Ack { stream, durable: end }, &mine);
    let commit = |action: &Action| match action {
        Action::Commit(lsn) => Some(*lsn),
        _ => None,
    };
    actions(&mut first).iter().filter_map(commit).collect()
}

#[test]
fn only_acks_of_members_count() {
    assert_eq!(commits(2), [Lsn::new(1024)]);
    assert_eq!(commits(STRANGE), []);
}

/// The number of the cut that is asked for.
fn cut_number(node: &mut Node) -> u64 {
    let number = |action: &Action| match action {
        Action::Cut { number, .. } => Some(*number),
        _ => None,
    };
    actions(node).iter().find_map(number).expect("something is cut")
}

#[test]
fn a_replica_is_ready_when_its_cut_is_done() {
    let promised = promise(4, 2);
    let mine = summary(1, promised, place(4096, 3));
    let mut first = first(&mine);
    let at = place(512, 2);
    first.handle_message(0, node(2), Message::Stream { stream: 6, promised, at }, &mine);
    let number = cut_number(&mut first);
    first.handle_cut(number, true);
    let message = Message::Ready { stream: 6 };
    assert_eq!(actions(&mut first), [Action::Send { to: node(2), message }]);
}

/// Streams of two leaders may have the same number, and a disk may be slow.
#[test]
fn a_cut_for_an_earlier_stream_is_none_for_this_one() {
    let (old, new) = (promise(4, 2), promise(5, 3));
    let mine = summary(1, old, place(4096, 3));
    let mut first = first(&mine);
    let (old_at, new_at) = (place(2048, 2), place(512, 2));
    let stream = Message::Stream { stream: 1, promised: old, at: old_at };
    first.handle_message(0, node(2), stream, &mine);
    let earlier = cut_number(&mut first);
    let mine = Summary { promised: new, ..mine };
    let stream = Message::Stream { stream: 1, promised: new, at: new_at };
    first.handle_message(0, node(3), stream.clone(), &mine);
    first.handle_promised(new, &mine);
    first.handle_message(0, node(3), stream, &mine);
    let later = cut_number(&mut first);
    first.handle_cut(earlier, true);
    assert_eq!(actions(&mut first), [], "what stands behind the place is there yet");
    first.handle_cut(later, true);
    let message = Message::Ready { stream: 1 };
    assert_eq!(actions(&mut first), [Action::Send { to: node(3), message }]);
}

/// What is committed, for instance.
#[test]
fn a_cut_may_be_refused() {
    let promised = promise(4, 2);
    let mine = summary(1, promised, place(4096, 3));
    let mut first = first(&mine);
    let at = place(512, 2);
    first.handle_message(0, node(2), Message::Stream { stream: 6, promised, at }, &mine);
    let number = cut_number(&mut first);
    first.handle_cut(number, false);
    let message = Message::Unready { stream: 6 };
    assert_eq!(actions(&mut first), [Action::Send { to: node(2), message }]);
}

/// One that follows the second in epoch 4, promises epoch 5 to the third, and hears this of the second.
fn hears_of_the_old_leader(message: Message, is_durable: bool) -> Vec<Action> {
    let old = promise(4, 2);
    let at = place(512, 4);
    let mine = summary(1, old, at);
    let mut first = first(&mine);
    first.handle_message(0, node(2), Message::Stream { stream: 6, promised: old, at }, &mine);
    let number = cut_number(&mut first);
    first.handle_cut(number, true);
    let later = promise(5, 3);
    first.handle_message(0, node(3), Message::Seal(later), &mine);
    if is_durable {
        first.handle_promised(later, &Summary { promised: later, ..mine.clone() });
    }
    actions(&mut first);
    first.handle_message(0, node(2), message, &mine);
    actions(&mut first)
}

/// N1, N2.
#[test]
fn nothing_of_an_earlier_epoch_is_taken() {
    let (promised, at, end) = (promise(4, 2), place(512, 4), place(1024, 4));
    let commit_lsn = end.lsn;
    let batches = Message::Batches { stream: 6, after: (1, 512), end, commit_lsn, bytes: vec![1] };
    for is_durable in [false, true] {
        assert_eq!(hears_of_the_old_leader(batches.clone(), is_durable), []);
    }
    let fenced = Action::Send { to: node(2), message: Message::Fenced(promise(5, 3)) };
    let stream = Message::Stream { stream: 7, promised, at };
    let heartbeat = Message::Heartbeat { promised, commit_lsn, sequence: 1, acked: Vec::new() };
    for message in [stream, heartbeat] {
        let said = hears_of_the_old_leader(message.clone(), true);
        assert_eq!(said, std::slice::from_ref(&fenced));
        let said = hears_of_the_old_leader(message, false);
        assert_eq!(said, [], "a crash may forget that promise yet");
    }
}
