//! Leases that are held, that run out, and that others wait for.

use std::collections::BTreeMap;

use cairnlog_engine::{LeaderId, Lsn, Place, Promise};

use super::*;
use crate::protocol::action::Action;
use crate::protocol::history::Summary;
use crate::protocol::message::Message;
use crate::protocol::node::Settings;

const LEASE_MS: u64 = 240;
const GUARD_MS: u64 = 270;

fn node(number: u64) -> NodeId {
    NodeId::new(number).expect("not 0")
}

fn promise(epoch: u64, number: u64) -> Promise {
    let leader = LeaderId { node: number, incarnation: number.into(), nonce: 7 };
    Promise { epoch: Epoch::new(epoch), leader }
}

fn place(offset: u64, epoch: u64) -> Place {
    Place { segment: 1, offset, lsn: Lsn::new(offset), epoch: Epoch::new(epoch), link: 5 }
}

fn summary(number: u64, promised: Promise) -> Summary {
    Summary { promised, ..Summary::empty(number.into()) }
}

/// One of five, which has promised that, and to whom all the others are connected.
fn one_of_five(number: u64, promised: Promise, now_ms: u64) -> Node {
    let mine = summary(number, promised);
    let settings = Settings {
        node: node(number),
        leader: promise(1, number).leader,
        members: (1..=5).map(|number| (node(number), number.into())).collect(),
        shown: BTreeMap::new(),
        window_bytes: 4096,
        heartbeat_interval_ms: 50,
        lease_ms: LEASE_MS,
        standing_ms_max: 1000,
    };
    let mut one = Node::new(settings, &mine, now_ms);
    for peer in (1..=5).filter(|peer| *peer != number) {
        one.handle_connected(node(peer), &mine);
        let summary = summary(peer, promised);
        let hello = Message::Hello { summary, asks: false };
        one.handle_message(now_ms, node(peer), hello, &mine);
    }
    actions(&mut one);
    one
}

fn actions(node: &mut Node) -> Vec<Action> {
    std::iter::from_fn(|| node.poll_action()).collect()
}

fn sealed(number: u64, promised: Promise, heard: Option<Heard>) -> Message {
    Message::Sealed { promised, summary: summary(number, promised), heard }
}

/// A candidate whose own promise is durable, and who has asked the others.
fn candidate(number: u64, now_ms: u64) -> (Node, Promise, Summary) {
    let mut one = one_of_five(number, Promise::default(), 0);
    one.stand(now_ms);
    let own = promise(1, number);
    let mine = summary(number, own);
    one.handle_promised(own, &mine);
    actions(&mut one);
    (one, own, mine)
}

#[test]
fn a_lease_counts_from_the_heartbeat_that_a_quorum_heard() {
    let (mut first, own, mine) = candidate(1, 0);
    for peer in [2, 3] {
        first.handle_message(0, node(peer), sealed(peer, own, None), &mine);
    }
    let end = place(512, 1);
    let mine = Summary { end, ..mine };
    first.handle_began(100, own, &mine);
    first.handle_durable(end, &mine);
    first.handle_timeout(100);
    let hears = |first: &mut Node, peer, sequence| {
        let heard = Message::Heard { epoch: own.epoch, sequence };
        first.handle_message(130, node(peer), heard, &mine);
    };
    for peer in [2, 3] {
        hears(&mut first, peer, 1);
    }
    assert_eq!(first.confirmed_ms(130), None, "nothing of its epoch is committed");
    for peer in [2, 3] {
        let hello = Message::Hello { summary: summary(peer, own), asks: false };
        first.handle_message(130, node(peer), hello, &mine);
        let stream = offers(&mut first, node(peer));
        first.handle_message(130, node(peer), Message::Ready { stream }, &mine);
        first.handle_sent(node(peer), stream, Some((end, 512)));
        let ack = Message::Ack { stream, durable: end };
        first.handle_message(130, node(peer), ack, &mine);
    }
    assert_eq!(first.confirmed_ms(130), Some(100), "when it was sent, not when it was heard");
    assert!(first.holds_lease(100 + LEASE_MS - 1) && !first.holds_lease(100 + LEASE_MS));
    first.handle_timeout(150);
    hears(&mut first, 2, 2);
    hears(&mut first, 2, 9);
    assert_eq!(first.confirmed_ms(160), Some(100), "two of five");
    hears(&mut first, 4, 2);
    assert_eq!(first.confirmed_ms(160), Some(150));
    first.handle_message(170, node(5), Message::Fenced(promise(2, 5)), &mine);
    assert_eq!(first.confirmed_ms(170), None, "it does not lead");
}

/// A stream from the start of the log is offered to a peer that has nothing: its number.
fn offers(first: &mut Node, peer: NodeId) -> u64 {
    let number = actions(first).into_iter().rev().find_map(|action| match action {
        Action::FindPlace { peer: asks, number, .. } if asks == peer => Some(number),
        _ => None,
    });
    first.handle_place(peer, number.expect("its place is looked for"), Some(Place::START));
    let stream = actions(first).into_iter().find_map(|action| match action {
        Action::Send { message: Message::Stream { stream, .. }, .. } => Some(stream),
        _ => None,
    });
    stream.expect("it is offered")
}

/// Begins, or when it will.
fn begins(node: &mut Node, own: Promise) -> Result<(), Option<u64>> {
    if actions(node).contains(&Action::Begin(own)) { Ok(()) } else { Err(node.poll_timeout()) }
}

/// E1.
#[test]
fn nobody_begins_while_somebody_may_hold_a_lease() {
    let (mut second, own, mine) = candidate(2, 1000);
    let heard = |lease_ms| Some(Heard { leader: Some(node(1)), lease_ms });
    second.handle_message(1000, node(3), sealed(3, own, heard(90)), &mine);
    second.handle_message(1010, node(4), sealed(4, own, heard(50)), &mine);
    // What has to be noted is.
    second.handle_timeout(1010);
    assert_eq!(begins(&mut second, own), Err(Some(1090)));
    second.handle_disconnected(node(3), &mine);
    assert_eq!(begins(&mut second, own), Err(Some(1090)), "what it heard it heard");
    second.handle_timeout(1089);
    assert_eq!(begins(&mut second, own), Err(Some(1090)));
    second.handle_timeout(1090);
    assert_eq!(begins(&mut second, own), Ok(()));
}

#[test]
fn a_leader_that_has_promised_holds_no_lease() {
    for first_answers_first in [true, false] {
        let (mut second, own, mine) = candidate(2, 1000);
        let heard = Some(Heard { leader: Some(node(1)), lease_ms: 90 });
        let mut answers = [sealed(1, own, None), sealed(3, own, heard)];
        if !first_answers_first {
            answers.reverse();
        }
        for message in answers {
            let Message::Sealed { summary, .. } = &message else { unreachable!() };
            let from = NodeId::new(u64::try_from(summary.incarnation).expect("small"));
            second.handle_message(1000, from.expect("not 0"), message, &mine);
        }
        assert_eq!(begins(&mut second, own), Ok(()));
    }
}

/// What a third says of the leader that it heard, when the second asks it to seal. It started then, with this.
fn says(started_ms: u64, mine: &Summary, heard_ms: Option<u64>, asked_ms: u64) -> Option<Heard> {
    let mut third = one_of_five(3, mine.promised, started_ms);
    third = Node::new(third.settings, mine, started_ms);
    third.handle_connected(node(1), mine);
    third.handle_connected(node(2), mine);
    let hello = Message::Hello { summary: summary(2, mine.promised), asks: false };
    third.handle_message(started_ms, node(2), hello, mine);
    if let Some(heard_ms) = heard_ms {
        let (promised, commit_lsn, acked) = (mine.promised, Lsn::NONE, Vec::new());
        let heartbeat = Message::Heartbeat { promised, commit_lsn, sequence: 1, acked };
        third.handle_message(heard_ms, node(1), heartbeat, mine);
    }
    let asked = promise(9, 2);
    third.handle_message(asked_ms, node(2), Message::Seal(asked), mine);
    third.handle_promised(asked, &Summary { promised: asked, ..mine.clone() });
    let said = actions(&mut third).into_iter().find_map(|action| match action {
        Action::Send { message: Message::Sealed { heard, .. }, .. } => Some(heard),
        _ => None,
    });
    said.expect("it has promised")
}

#[test]
fn who_heard_a_leader_says_so() {
    let mine = summary(3, promise(1, 1));
    let first = |lease_ms| Some(Heard { leader: Some(node(1)), lease_ms });
    assert_eq!(says(0, &mine, Some(1000), 1001), first(GUARD_MS - 1));
    assert_eq!(says(0, &mine, Some(1000), 1000 + GUARD_MS), None, "that is over");
}

/// It may have heard somebody just before it ended.
#[test]
fn who_restarts_may_have_heard_anybody() {
    let led = promise(2, 1);
    let left = |leader| Some(Heard { leader, lease_ms: GUARD_MS - 10 });
    let has_begun = Summary { end: place(512, 2), ..summary(3, led) };
    assert_eq!(says(2000, &has_begun, None, 2010), left(Some(node(1))), "the others were over");
    let has_not = Summary { end: place(512, 1), ..summary(3, led) };
    assert_eq!(says(2000, &has_not, None, 2010), left(None));
    // It stood itself, and the one before leads yet.
    let stood = Summary { end: place(512, 1), ..summary(3, promise(2, 3)) };
    assert_eq!(says(2000, &stood, None, 2010), left(None));
    assert_eq!(says(2000, &summary(3, Promise::default()), None, 2010), None, "it is new");
}

#[test]
fn nobody_is_excused_for_one_that_is_not_known() {
    let (mut second, own, mine) = candidate(2, 1000);
    let heard = Some(Heard { leader: None, lease_ms: 90 });
    for message in [sealed(1, own, heard), sealed(3, own, None), sealed(4, own, None)] {
        let Message::Sealed { summary, .. } = &message else { unreachable!() };
        let from = NodeId::new(u64::try_from(summary.incarnation).expect("small"));
        second.handle_message(1000, from.expect("not 0"), message, &mine);
    }
    second.handle_timeout(1089);
    assert!(begins(&mut second, own).is_err());
    second.handle_timeout(1090);
    assert_eq!(begins(&mut second, own), Ok(()));
}

/// What a peer says of a lease that has no end.
#[test]
fn nobody_waits_for_ever() {
    let (mut second, own, mine) = candidate(2, 1000);
    let heard = Some(Heard { leader: None, lease_ms: u64::MAX });
    for peer in [3, 4] {
        second.handle_message(1000, node(peer), sealed(peer, own, heard), &mine);
    }
    actions(&mut second);
    for _ in 0..10 {
        let due_ms = second.poll_timeout().expect("something is due");
        assert!(due_ms <= 1000 + 2 * 1000, "it gives up in time");
        second.handle_timeout(due_ms);
        if matches!(actions(&mut second)[..], [Action::StopLeading, Action::Notice(_)]) {
            return;
        }
    }
    panic!("it still stands");
}
