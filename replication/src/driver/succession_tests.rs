//! A node of three that is named, deposed, refused, or none of them.

use std::collections::BTreeMap;

use cairnlog_engine::{Epoch, LeaderId, Promise};

use super::*;
use crate::protocol::action::{Action, Reason};
use crate::protocol::message::Message;
use crate::protocol::node::Settings;

fn id(number: u64) -> NodeId {
    NodeId::new(number).expect("not 0")
}

fn promise(epoch: u64, number: u64) -> Promise {
    let leader = LeaderId { node: number, incarnation: number.into(), nonce: 7 };
    Promise { epoch: Epoch::new(epoch), leader }
}

/// A node that has promised that.
fn member(number: u64, promised: Promise) -> (Node, Summary) {
    let mine = Summary { promised, ..Summary::empty(number.into()) };
    let settings = Settings {
        node: id(number),
        leader: promise(1, number).leader,
        members: (1..=3).map(|number| (id(number), number.into())).collect(),
        shown: BTreeMap::new(),
        window_bytes: 4096,
        heartbeat_interval_ms: 50,
        lease_ms: 250,
        standing_ms_max: 1000,
    };
    (Node::new(settings, &mine, 0), mine)
}

/// It hears what others have promised.
fn hears(node: &mut Node, mine: &Summary, others: &[(u64, Promise)]) -> Vec<Summary> {
    let mut heard = Vec::new();
    for (number, promised) in others {
        let summary = Summary { promised: *promised, ..Summary::empty((*number).into()) };
        node.handle_connected(id(*number), mine);
        let hello = Message::Hello { summary: summary.clone(), asks: false };
        node.handle_message(0, id(*number), hello, mine);
        heard.push(summary);
    }
    heard
}

fn stands(number: u64, promised: Promise, others: &[(u64, Promise)]) -> bool {
    let (mut node, mine) = member(number, promised);
    let heard = hears(&mut node, &mine, others);
    Succession::new(id(number)).stands(&node, heard.iter(), 0)
}

#[test]
fn who_was_named_last_stands_again() {
    let (first, second) = (promise(4, 1), promise(5, 2));
    assert!(stands(1, first, &[(2, first)]));
    assert!(!stands(1, first, &[]), "it hears no seal quorum");
    assert!(!stands(1, first, &[(2, second)]), "another one was named later");
    assert!(!stands(1, second, &[(2, second)]), "that was another one");
    assert!(!stands(2, first, &[(1, first)]));
    let nobody = Promise::default();
    assert!(stands(1, nobody, &[(2, nobody), (3, nobody)]), "in a new cluster");
    assert!(!stands(2, nobody, &[(1, nobody), (3, nobody)]));
    assert!(!stands(1, nobody, &[(2, nobody)]), "the third may have been named");
}

#[test]
fn what_was_refused_does_not_happen_later() {
    let own = promise(4, 3);
    let (mut node, mine) = member(3, own);
    let heard = hears(&mut node, &mine, &[(1, promise(3, 1)), (2, promise(3, 1))]);
    let mut succession = Succession::new(id(3));
    let refused = Notice::DidNotLead(own.epoch, Reason::TooFewPromises);
    succession.note(refused, false, 0);
    assert!(succession.stands(&node, heard.iter(), 10), "nobody was told anything");
    succession.note(refused, true, 0);
    assert!(!succession.stands(&node, heard.iter(), 1_000_000));
    succession.note(Notice::Leads(own.epoch), true, 0);
    assert!(succession.stands(&node, heard.iter(), 1_000_000), "later it was named after all");
}

/// By a promise to somebody who does not come to lead.
#[test]
fn who_was_deposed_for_nobody_stands_again() {
    let own = promise(4, 1);
    let (mut node, mine) = member(1, own);
    let heard = hears(&mut node, &mine, &[(2, own), (3, promise(5, 3))]);
    let mut succession = Succession::new(id(1));
    assert!(!succession.stands(&node, heard.iter(), 10_000), "it did not lead");
    succession.note(Notice::StoppedLeading(own.epoch), false, 10_000);
    assert!(!succession.stands(&node, heard.iter(), 10_000 + DEPOSED_MS - 1));
    assert!(succession.stands(&node, heard.iter(), 10_000 + DEPOSED_MS));
    assert!(!succession.stands(&node, heard.iter(), 10_000 + DEPOSED_MS), "not all the time");
    succession.note(Notice::Follows(id(3), Epoch::new(5)), false, 20_000);
    assert!(!succession.stands(&node, heard.iter(), 90_000), "somebody leads");
    // Whoever has promised to another one leaves it to that.
    let seal = Message::Seal(promise(5, 3));
    succession.note(Notice::StoppedLeading(own.epoch), false, 90_000);
    node.handle_message(90_000, id(3), seal, &mine);
    assert!(std::iter::from_fn(|| node.poll_action()).any(|a| matches!(a, Action::Promise(_))));
    assert!(!succession.stands(&node, heard.iter(), 100_000));
}
