//! Directories that come back with less, and some that only seem to.

use cairnlog_engine::{Epoch, LeaderId, Lsn, Place, Promise};

use super::*;
use crate::protocol::node::Settings;

fn node(number: u64) -> NodeId {
    NodeId::new(number).expect("not 0")
}

fn promise(epoch: u64, number: u64) -> Promise {
    let leader = LeaderId { node: number, incarnation: number.into(), nonce: 7 };
    Promise { epoch: Epoch::new(epoch), leader }
}

/// A place up to which a log of epoch 1 goes.
fn place(offset: u64) -> Place {
    Place { segment: 1, offset, lsn: Lsn::new(offset), epoch: Epoch::new(1), link: 5 }
}

/// What the directory of that node says.
fn summary(number: u64, epoch: u64, end: Place) -> Summary {
    Summary {
        promised: promise(epoch, 1),
        end,
        start_counter: 3,
        nonce: 30,
        ..Summary::empty(number.into())
    }
}

fn new_node(number: u64, shown: BTreeMap<NodeId, Shown>) -> Node {
    let mine = summary(number, 1, place(512));
    let settings = Settings {
        node: node(number),
        leader: LeaderId { node: number, incarnation: number.into(), nonce: 7 },
        members: (1..=3).map(|number| (node(number), number.into())).collect(),
        shown,
        window_bytes: 4096,
        heartbeat_interval_ms: 50,
        lease_ms: 250,
        standing_ms_max: 1000,
    };
    Node::new(settings, &mine, 0)
}

fn actions(node: &mut Node) -> Vec<Action> {
    std::iter::from_fn(|| node.poll_action()).collect()
}

/// The third node, to whom the second has said this, and whose leader is the first.
fn third_that_heard(said: &Summary) -> Node {
    let mut third = new_node(3, BTreeMap::new());
    let mine = summary(3, 1, place(512));
    for peer in [1, 2] {
        third.handle_connected(node(peer), &mine);
    }
    third.handle_message(0, node(1), hello(&summary(1, 1, place(512))), &mine);
    third.handle_message(0, node(2), hello(said), &mine);
    let acked = vec![(node(2), (1, 2048))];
    let (promised, commit_lsn) = (promise(1, 1), Lsn::NONE);
    let heartbeat = Message::Heartbeat { promised, commit_lsn, sequence: 1, acked };
    third.handle_message(0, node(1), heartbeat, &mine);
    assert!(third.counts(node(2)));
    third
}

fn hello(said: &Summary) -> Message {
    Message::Hello { summary: said.clone(), asks: false }
}

/// The second comes again, over another connection, and answers what it is asked: whether it still counts, and what is
/// done about it.
fn comes_again(third: &mut Node, said: &Summary) -> (bool, Vec<Action>) {
    let mine = summary(3, 1, place(512));
    let asked = comes_with_less(third, said);
    let mut done = actions(third);
    if let Some(number) = asked {
        assert!(!third.counts(node(2)), "not as long as it has not answered");
        let answer = Message::Answer { number, summary: said.clone() };
        third.handle_message(9, node(2), answer, &mine);
        done.append(&mut actions(third));
    }
    (third.counts(node(2)), done)
}

/// The second comes again; the number of the question that it is asked.
fn comes_with_less(third: &mut Node, said: &Summary) -> Option<u64> {
    let mine = summary(3, 1, place(512));
    actions(third);
    third.handle_disconnected(node(2), &mine);
    third.handle_connected(node(2), &mine);
    third.handle_message(9, node(2), hello(said), &mine);
    let number = |action: Action| match action {
        Action::Send { message: Message::Question { number }, .. } => Some(number),
        _ => None,
    };
    actions(third).into_iter().find_map(number)
}

fn forgets(change: impl Fn(&mut Summary)) -> bool {
    let first = summary(2, 1, place(2048));
    let mut third = third_that_heard(&first);
    let mut again = Summary { start_counter: 4, nonce: 40, ..first };
    change(&mut again);
    let (counts, actions) = comes_again(&mut third, &again);
    let noticed = actions.contains(&Action::Notice(Notice::CameWithLess(node(2))));
    let noted = actions.iter().any(|action| match action {
        Action::Note(notes) => notes.members[&node(2)] == NO_DIRECTORY,
        _ => false,
    });
    assert_eq!((noticed, noted), (!counts, !counts));
    !counts
}

/// K6.
#[test]
fn k6_an_old_copy_does_not_count() {
    assert!(!forgets(|_| {}), "it has all that it had");
    assert!(forgets(|again| again.end = place(1024)), "it acknowledged more");
    assert!(forgets(|again| again.promised = promise(0, 1)), "it promised more");
    assert!(forgets(|again| again.start_counter = 2), "it was started more often");
    assert!(forgets(|again| again.start_counter = 3), "that was another life");
    assert!(!forgets(|again| (again.start_counter, again.nonce) = (3, 30)), "that was this one");
}

/// What was not acknowledged to the leader of the epoch that it has promised may be gone.
#[test]
fn what_a_later_leader_cut_is_no_loss() {
    assert!(!forgets(|again| (again.promised, again.end) = (promise(2, 1), place(1024))));
    assert!(!forgets(|again| again.end = place(2048)));
}

/// What it said may have been said before what others say of it.
#[test]
fn what_was_overtaken_is_no_loss() {
    let first = summary(2, 1, place(2048));
    let mut third = third_that_heard(&first);
    let mine = summary(3, 1, place(512));
    let again = Summary { start_counter: 4, nonce: 40, ..first.clone() };
    let overtaken = Summary { end: place(1024), ..again.clone() };
    let number = comes_with_less(&mut third, &overtaken).expect("it is asked");
    assert!(!third.counts(node(2)));
    let earlier = Message::Answer { number: number + 1, summary: overtaken };
    third.handle_message(9, node(2), earlier, &mine);
    assert!(!third.counts(node(2)), "that is no answer");
    third.handle_message(9, node(2), Message::Answer { number, summary: again }, &mine);
    assert!(third.counts(node(2)));
    assert!(!actions(&mut third).contains(&Action::Notice(Notice::CameWithLess(node(2)))));
}

/// K6: those who did not see it themselves, and the directory itself, do as they hear.
#[test]
fn k6_who_hears_of_it_counts_it_no_more() {
    let said = summary(2, 1, place(2048));
    let mut third = third_that_heard(&said);
    let lost: BTreeMap<NodeId, u128> = [(node(1), 1), (node(2), NO_DIRECTORY), (node(3), 3)].into();
    let mine = summary(3, 1, place(512));
    let first = Summary { members: lost.clone(), ..summary(1, 1, place(512)) };
    third.handle_message(9, node(1), hello(&first), &mine);
    assert!(!third.counts(node(2)));
    actions(&mut third);
    third.handle_noted(&Summary { members: lost.clone(), ..mine });
    let told = actions(&mut third);
    let tells = |to: u64| {
        let says = |message: &Message| match message {
            Message::Hello { summary, .. } => summary.members == lost,
            _ => false,
        };
        told.iter().any(|action| match action {
            Action::Send { to: peer, message } => *peer == node(to) && says(message),
            _ => false,
        })
    };
    assert!(tells(1) && tells(2), "both hear of it when it is durable: {told:?}");

    let mut second = new_node(2, BTreeMap::new());
    let own = summary(2, 1, place(1024));
    second.handle_connected(node(1), &own);
    second.stand(0);
    assert!(second.is_member());
    second.handle_message(9, node(1), hello(&first), &own);
    assert!(!second.is_member());
    let said = actions(&mut second);
    let gave_up =
        |action: &Action| matches!(action, Action::Notice(Notice::DidNotLead(_, Reason::NoMember)));
    assert!(said.iter().any(gave_up), "it does not stand any more: {said:?}");
    second.stand(10);
    assert_eq!(actions(&mut second), Vec::new());
}

/// K6: a candidate does not count the promise of such a directory, and nobody promises to one.
#[test]
fn k6_its_promise_does_not_count() {
    let mut third = third_that_heard(&summary(2, 1, place(2048)));
    let again = Summary { start_counter: 4, ..summary(2, 1, place(1024)) };
    let (counts, _) = comes_again(&mut third, &again);
    assert!(!counts);
    let mine = summary(3, 1, place(512));
    third.handle_message(10, node(2), Message::Seal(promise(2, 2)), &mine);
    assert_eq!(actions(&mut third), Vec::new(), "no promise to it");
    third.stand(10);
    let own = promise(2, 3);
    let mine = Summary { promised: own, ..mine };
    third.handle_promised(own, &mine);
    let theirs = Summary { promised: own, ..again };
    actions(&mut third);
    let sealed = Message::Sealed { promised: own, summary: theirs, heard: None };
    third.handle_message(11, node(2), sealed, &mine);
    assert_eq!(actions(&mut third), Vec::new(), "two of three are needed, and it is no second");
}

/// What was shown is noted once in a while, and known again after a restart.
#[test]
fn k6_what_was_shown_outlives_a_restart() {
    let mut third = third_that_heard(&summary(2, 1, place(2048)));
    actions(&mut third);
    let due_ms = third.poll_timeout().expect("there is something to note");
    assert!(due_ms <= NOTE_INTERVAL_MS);
    third.handle_timeout(due_ms);
    let noted = actions(&mut third);
    let [Action::Note(notes)] = &noted[..] else { panic!("{noted:?}") };
    assert_eq!(third.poll_timeout(), None);
    let mut restarted = new_node(3, notes.shown.clone());
    let again = Summary { start_counter: 4, ..summary(2, 1, place(1024)) };
    assert!(!comes_again(&mut restarted, &again).0);
}

/// K6: evidence goes from peer to peer.
#[test]
fn k6_what_others_saw_counts() {
    let mut third = new_node(3, BTreeMap::new());
    let mine = summary(3, 1, place(512));
    third.handle_connected(node(1), &mine);
    let seen = Shown { acked_epoch: Epoch::new(1), acked: (1, 2048), ..Shown::default() };
    let first = Summary { shown: [(node(2), seen)].into(), ..summary(1, 1, place(512)) };
    third.handle_message(0, node(1), hello(&first), &mine);
    let said = actions(&mut third);
    third.handle_connected(node(2), &mine);
    assert!(!comes_again(&mut third, &summary(2, 1, place(1024))).0, "{said:?}");
    // And on: also what it has of others.
    third.handle_connected(node(1), &mine);
    let tells = |action: &Action| match action {
        Action::Send { message: Message::Hello { summary, .. }, .. } => summary.shown.len(),
        _ => 0,
    };
    assert!(actions(&mut third).iter().any(|action| tells(action) > 0));
}

/// Another log's nodes say nothing of this one's.
#[test]
fn another_log_is_another_matter() {
    let mut third = third_that_heard(&summary(2, 1, place(2048)));
    let mine = summary(3, 1, place(512));
    let members = [(node(1), 1), (node(2), NO_DIRECTORY), (node(3), NO_DIRECTORY)].into();
    let other = Summary { log_id: 9, members, ..summary(1, 1, place(512)) };
    third.handle_message(9, node(1), hello(&other), &mine);
    assert!(third.counts(node(2)) && third.is_member());
}
