//! A candidate whose peers go, wait, or take their time.

use cairnlog_engine::format::batch::EpochStart;
use cairnlog_engine::{BegunEpoch, Epoch, LeaderId, Lsn, Promise};

use super::*;

const STANDING_MS_MAX: u64 = 1000;

fn node(number: u64) -> NodeId {
    NodeId::new(number).expect("not 0")
}

fn own_promise() -> Promise {
    let leader = LeaderId { node: 1, incarnation: 1, nonce: 7 };
    Promise { epoch: Epoch::new(4), leader }
}

fn place(offset: u64) -> Place {
    let lsn = Lsn::new(offset);
    Place { segment: 1, offset, lsn, epoch: Epoch::new(3), link: 5 }
}

/// A replica that has promised, with so much of a log of epoch 3.
fn with_log(number: u64, end: u64) -> Summary {
    let start = EpochStart { lineage_id: 2, incarnation: 9, nonce: 9 };
    let begun = BegunEpoch { epoch: Epoch::new(3), start, after: (0, 0) };
    let (promised, epochs) = (own_promise(), vec![begun]);
    Summary { promised, epochs, end: place(end), ..Summary::empty(number.into()) }
}

fn actions(node: &mut Node) -> Vec<Action> {
    std::iter::from_fn(|| node.poll_action()).collect()
}

/// The first of five, which has promised itself epoch 4 and asks the others.
fn candidate() -> (Node, Summary) {
    let mine = Summary { promised: Promise::default(), ..with_log(1, 1024) };
    let settings = Settings {
        node: node(1),
        leader: own_promise().leader,
        members: (1..=5).map(|number| (node(number), number.into())).collect(),
        shown: BTreeMap::new(),
        window_bytes: 4096,
        heartbeat_interval_ms: 50,
        lease_ms: 250,
        standing_ms_max: STANDING_MS_MAX,
    };
    let mut first = Node::new(settings, &mine, 0);
    for peer in 2..=5 {
        first.handle_connected(node(peer), &mine);
    }
    first.see(Epoch::new(3));
    first.stand(0);
    let mine = with_log(1, 1024);
    first.handle_promised(own_promise(), &mine);
    actions(&mut first);
    (first, mine)
}

fn seals(first: &mut Node, peer: u64, end: u64, mine: &Summary) -> Vec<Action> {
    let summary = with_log(peer, end);
    let sealed = Message::Sealed { promised: own_promise(), summary, heard: None };
    first.handle_message(1, node(peer), sealed, mine);
    actions(first)
}

fn fetches(from: u64) -> [Action; 1] {
    let message = Message::Fetch { promised: own_promise(), from: (1, 1024) };
    [Action::Send { to: node(from), message }]
}

#[test]
fn what_one_cannot_send_another_one_may() {
    let (mut first, mine) = candidate();
    assert_eq!(seals(&mut first, 2, 4096, &mine), []);
    assert_eq!(seals(&mut first, 3, 4096 + 512, &mine), fetches(3));
    first.handle_disconnected(node(3), &mine);
    assert_eq!(actions(&mut first), [], "two are no seal quorum of five");
    assert_eq!(seals(&mut first, 4, 2048, &mine), fetches(2));
    first.handle_disconnected(node(5), &mine);
    assert_eq!(actions(&mut first), [], "nothing was to come from it");
    first.handle_disconnected(node(2), &mine);
    assert_eq!(actions(&mut first), []);
    first.handle_connected(node(5), &mine);
    actions(&mut first);
    assert_eq!(seals(&mut first, 5, 1024, &mine), fetches(4));
}

#[test]
fn who_does_not_answer_is_asked_again() {
    let (mut first, mine) = candidate();
    seals(&mut first, 2, 1024, &mine);
    let due_ms = first.poll_timeout().expect("it asks again");
    assert!(due_ms < STANDING_MS_MAX);
    first.handle_timeout(due_ms);
    let asks = |number| Action::Send { to: node(number), message: Message::Seal(own_promise()) };
    assert_eq!(actions(&mut first), [asks(3), asks(4), asks(5)]);
}

#[test]
fn it_stands_as_long_as_something_goes_on() {
    let gave_up = |actions: &[Action]| {
        let notice = |action: &Action| matches!(action, Action::Notice(Notice::DidNotLead(..)));
        actions.iter().any(notice)
    };
    let (mut first, mine) = candidate();
    seals(&mut first, 2, 4096, &mine);
    first.handle_timeout(STANDING_MS_MAX);
    assert!(!gave_up(&actions(&mut first)), "it was answered");
    first.handle_timeout(2 * STANDING_MS_MAX - 1);
    assert!(!gave_up(&actions(&mut first)));
    first.handle_timeout(2 * STANDING_MS_MAX);
    assert!(gave_up(&actions(&mut first)));
}
