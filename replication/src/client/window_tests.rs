//! Tests of the window: A1 to A5.

use std::time::Duration;

use super::*;
use crate::wire::request::Ack;
use crate::{Epoch, Lsn};

fn window(resends: bool, appends: u8) -> Window<()> {
    let mut window = Window::new(resends);
    let deadline = Instant::now() + Duration::from_secs(1);
    for number in 0..appends {
        window.submit(vec![number], deadline, ());
    }
    window
}

fn appended(number: u64) -> Appended {
    let lsns = Lsn::new(number)..Lsn::new(number + 1);
    Appended { lsns, epoch: Epoch::new(1), ack: Ack::Local, replicas: Vec::new() }
}

fn sent(window: &mut Window<()>) -> Vec<u8> {
    std::iter::from_fn(|| window.next_frame()).map(|frame| frame[0]).collect()
}

/// The outcomes of all answers, `None` for an append that was done.
fn outcomes(window: &mut Window<()>) -> Vec<Option<Outcome>> {
    let outcome = |answer: Answer| answer.err().map(|error| error.outcome());
    std::iter::from_fn(|| window.answer()).map(outcome).collect()
}

const UNKNOWN: Option<Outcome> = Some(Outcome::Unknown);
const FINAL: Option<Outcome> = Some(Outcome::Final);
const RETRYABLE: Option<Outcome> = Some(Outcome::Retryable);

#[test]
fn only_the_first_moves() {
    let mut window = window(false, 3);
    assert_eq!(sent(&mut window), [0], "one, until the lane is proven");
    assert!(!window.answered(Err(ClientError::retryable("not leading"))));
    assert_eq!(sent(&mut window), [0], "it goes to another lane");
    assert!(window.answered(Ok(appended(1))));
    assert_eq!(sent(&mut window), [1, 2], "the lane is proven");
    assert!(window.answered(Err(ClientError::retryable("busy"))));
    assert_eq!(outcomes(&mut window), [None, RETRYABLE]);
    assert!(window.is_over(), "the third may be in the log, so that the second must not follow");
    assert!(window.answered(Ok(appended(2))));
    assert_eq!(outcomes(&mut window), [None], "it is told as it is");
    assert!(window.is_empty());
}

#[test]
fn a_break_ends_it_without_a_sequence() {
    let mut window = window(false, 1);
    assert_eq!(sent(&mut window), [0]);
    assert!(window.answered(Ok(appended(1))));
    window.broken("idle");
    assert!(!window.is_over(), "nothing was on the lane");
    let deadline = Instant::now();
    for number in 1..4 {
        window.submit(vec![number], deadline, ());
    }
    assert_eq!(sent(&mut window), [1]);
    window.broken("cut");
    assert_eq!(outcomes(&mut window), [None, UNKNOWN, FINAL, FINAL]);
    window.submit(vec![9], deadline, ());
    assert_eq!(sent(&mut window), [] as [u8; 0]);
    assert_eq!(outcomes(&mut window), [FINAL]);
}

#[test]
fn a_sequence_is_sent_again() {
    let mut window = window(true, 3);
    assert_eq!(sent(&mut window), [0]);
    assert!(window.answered(Ok(appended(1))));
    assert_eq!(sent(&mut window), [1, 2]);
    window.broken("cut");
    assert_eq!(sent(&mut window), [1]);
    assert!(!window.answered(Err(ClientError::retryable("not leading"))));
    assert_eq!(sent(&mut window), [1]);
    assert!(window.answered(Ok(appended(2))));
    assert_eq!(sent(&mut window), [2]);
    assert!(window.answered(Ok(appended(3))));
    assert_eq!(outcomes(&mut window), [None, None, None]);
}

#[test]
fn a_refusal_after_a_break_leaves_doubt() {
    let mut window = window(true, 2);
    assert_eq!(sent(&mut window), [0]);
    window.broken("cut");
    assert_eq!(sent(&mut window), [0]);
    assert!(window.answered(Err(ClientError::over("unknown producer"))));
    assert_eq!(outcomes(&mut window), [UNKNOWN, FINAL], "the first attempt may have been done");
}

#[test]
fn nothing_is_sent_behind_a_failure() {
    for resends in [false, true] {
        let mut window = window(resends, 4);
        assert_eq!(sent(&mut window), [0]);
        assert!(window.answered(Ok(appended(1))));
        assert_eq!(window.next_frame(), Some(vec![1]));
        assert!(window.answered(Err(ClientError::over("invalid"))));
        assert_eq!(sent(&mut window), [] as [u8; 0]);
        assert_eq!(outcomes(&mut window), [None, FINAL, FINAL, FINAL]);
        assert!(window.is_empty() && window.is_over());
        assert!(!window.answered(Ok(appended(2))), "nothing was asked");
    }
}

#[test]
fn time_runs_out() {
    let mut unsent = window(true, 2);
    unsent.expired(Some(ClientError::retryable("no leader")));
    assert_eq!(outcomes(&mut unsent), [RETRYABLE, FINAL]);
    let mut on_its_way = window(false, 2);
    assert_eq!(sent(&mut on_its_way), [0]);
    on_its_way.expired(None);
    assert_eq!(outcomes(&mut on_its_way), [UNKNOWN, FINAL]);
    let mut refused = window(true, 1);
    assert_eq!(sent(&mut refused), [0]);
    assert!(!refused.answered(Err(ClientError::retryable("busy"))));
    refused.expired(Some(ClientError::retryable("busy")));
    assert_eq!(outcomes(&mut refused), [RETRYABLE], "it was refused, so that there is no doubt");
}

/// Every mix of events, by a small generator: as many answers as appends.
#[test]
fn every_append_is_answered_once() {
    for seed in 0..2000_u64 {
        let mut state = seed;
        let mut roll = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % 12
        };
        let mut window = Window::new(seed % 2 == 0);
        let (mut submitted, mut done) = (0, 0);
        let deadline = Instant::now();
        for _ in 0..40 {
            match roll() {
                0..4 => {
                    window.submit(vec![0], deadline, ());
                    submitted += 1;
                }
                4..6 => drop(window.next_frame()),
                6..9 => drop(window.answered(Ok(appended(1)))),
                9 if !window.answered(Err(ClientError::retryable(""))) => window.broken("left"),
                10 => window.broken("cut"),
                11 if roll() == 0 => window.expired(None),
                _ => {}
            }
            done += outcomes(&mut window).len();
            assert!(done <= submitted, "seed {seed}");
        }
        while !window.is_empty() {
            window.expired(None);
        }
        done += outcomes(&mut window).len();
        assert_eq!(done, submitted, "seed {seed}");
    }
}
