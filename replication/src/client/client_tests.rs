//! Tests of the client against a cluster in memory, on a clock that skips waits.

use super::fake::{Fake, Fault};
use super::*;
use crate::Lsn;
use crate::wire::request::{APPENDS_IN_FLIGHT_MAX, Ack, Outcome, Reason, Sequence};

async fn client(fake: &Fake) -> Client {
    let servers = ["a", "b", "c"].map(str::to_owned).to_vec();
    let dial = Box::new(fake.clone());
    Client::connect_by(ClientConfig::new(servers), dial).await.expect("nodes are up")
}

fn records(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn sequence() -> AppendOptions {
    let numbering = Numbering::From(Sequence { producer_id: 5, first: 0 });
    AppendOptions { numbering, ..AppendOptions::default() }
}

fn without_numbers() -> AppendOptions {
    AppendOptions { numbering: Numbering::Nobody, ..AppendOptions::default() }
}

#[tokio::test(start_paused = true)]
async fn an_append_finds_the_leader() {
    let fake = Fake::new();
    let client = client(&fake).await;
    let options = AppendOptions { ack: Ack::All, ..AppendOptions::default() };
    let appended = client.append(&records(&["x", "y"]), options).await.expect("it is led");
    assert_eq!(appended.lsns, Lsn::new(1)..Lsn::new(3));
    assert_eq!(appended.ack, Ack::All);
    client.append(&records(&["z"]), options).await.expect("it is led");
    let asked = fake.with(|world| world.asked.clone());
    assert_eq!(asked, ["append a", "append b", "append b"], "the leader is remembered");
    fake.with(|world| (world.leader, world.hints) = (Some("c".to_owned()), false));
    client.append(&records(&["without hints"]), options).await.expect("every server has its turn");
    assert_eq!(fake.texts(), ["x", "y", "z", "without hints"]);
    client.close().await;
}

#[tokio::test(start_paused = true)]
async fn an_unknown_append_is_not_repeated() {
    let fake = Fake::new();
    let client = client(&fake).await;
    for fault in [Fault::BreakAfter, Fault::BreakBefore, Fault::Silence] {
        fake.with(|world| world.faults.push_back(fault));
        let refused = client.append(&records(&["x"]), without_numbers()).await;
        assert_eq!(refused.expect_err("it broke").outcome(), Outcome::Unknown);
    }
    assert_eq!(fake.texts(), ["x", "x"]);
}

#[tokio::test(start_paused = true)]
async fn a_sequence_makes_a_repeat_safe() {
    for options in [sequence(), AppendOptions::default()] {
        let fake = Fake::new();
        let client = client(&fake).await;
        let refuse = Fault::Refuse(Outcome::Unknown, Reason::TimedOut);
        fake.with(|world| world.faults = [Fault::BreakAfter, Fault::BreakBefore, refuse].into());
        let appended = client.append(&records(&["x"]), options).await.expect("it is repeated");
        assert_eq!(appended.lsns, Lsn::new(1)..Lsn::new(2));
        assert_eq!(fake.texts(), ["x"]);
    }
}

#[tokio::test(start_paused = true)]
async fn single_appends_share_few_producers() {
    let fake = Fake::new();
    let client = client(&fake).await;
    let two = records(&["x", "y"]);
    let append = || client.append(&two, AppendOptions::default());
    for _ in 0..100 {
        append().await.expect("it is led");
    }
    assert_eq!(fake.with(|world| world.producers_next()), [200]);
    let (one, two) = tokio::join!(append(), append());
    assert!(one.is_ok() && two.is_ok());
    assert_eq!(fake.with(|world| world.producers_next()).len(), 2, "nobody waits for another");
    // What was refused has used no number; what is in doubt may have, and nobody goes on behind it.
    let refuse = Fault::Refuse(Outcome::Final, Reason::Invalid);
    fake.with(|world| world.faults = [refuse, Fault::Silence].into());
    append().await.expect_err("it is refused");
    let lost = append().await.expect_err("nobody answers");
    assert_eq!(lost.outcome(), Outcome::Unknown);
    for _ in 0..10 {
        append().await.expect("it is led");
    }
    // One that the servers have forgotten is replaced, for nothing is in doubt.
    fake.with(|world| world.forget());
    append().await.expect("it begins anew");
    assert_eq!(fake.with(|world| world.producers_next()), [2]);
}

#[tokio::test(start_paused = true)]
async fn an_appender_that_was_forgotten_says_so() {
    let fake = Fake::new();
    let mut appender = client(&fake).await.appender(AppendOptions::default()).await.expect("up");
    appender.submit(records(&["1"])).await.expect("there is room");
    appender.next().await.expect("in flight").expect("it is led");
    fake.with(|world| world.forget());
    appender.submit(records(&["2"])).await.expect("there is room");
    let error = appender.next().await.expect("in flight").expect_err("nobody knows it");
    assert_eq!(error.outcome(), Outcome::Final);
    assert_eq!(error.reason(), Some(&Reason::UnknownProducer));
    assert_eq!(fake.texts(), ["1"]);
}

#[tokio::test(start_paused = true)]
async fn no_more_are_in_flight_than_a_leader_remembers() {
    let fake = Fake::new();
    fake.with(|world| world.faults.push_back(Fault::Silence));
    let client = client(&fake).await;
    for (options, all) in [(AppendOptions::default(), false), (without_numbers(), true)] {
        let mut appender = client.appender(options).await.expect("up");
        for _ in 0..APPENDS_IN_FLIGHT_MAX {
            appender.submit(records(&["x"])).await.expect("there is room");
        }
        let more = appender.submit(records(&["x"]));
        let more = tokio::time::timeout(Duration::from_secs(1), more).await;
        assert_eq!(more.is_ok(), all);
    }
}

#[tokio::test(start_paused = true)]
async fn a_producer_asks_where_it_goes_on() {
    let fake = Fake::new();
    let client = client(&fake).await;
    assert_eq!(client.next_sequence(5, Ack::Quorum).await, Ok(0));
    client.append(&records(&["1", "2"]), sequence()).await.expect("it is led");
    fake.with(|world| (world.leader, world.hints) = (Some("c".to_owned()), false));
    assert_eq!(client.next_sequence(5, Ack::Quorum).await, Ok(2), "every server has its turn");
    fake.with(|world| world.leader = None);
    let error = client.next_sequence(5, Ack::Quorum).await.expect_err("nobody leads");
    assert_eq!(error.outcome(), Outcome::Retryable);
}

#[tokio::test(start_paused = true)]
async fn what_is_final_is_told_at_once() {
    let fake = Fake::new();
    let client = client(&fake).await;
    let options = AppendOptions { expected_lsn: Some(Lsn::new(9)), ..AppendOptions::default() };
    let error = client.append(&records(&["x"]), options).await.expect_err("it is not the next");
    assert_eq!(error.outcome(), Outcome::Final);
    assert_eq!(error.reason(), Some(&Reason::Unexpected(Lsn::new(1))));
}

#[tokio::test(start_paused = true)]
async fn without_a_leader_the_deadline_ends_it() {
    let fake = Fake::new();
    let client = client(&fake).await;
    fake.with(|world| world.leader = None);
    let begun = tokio::time::Instant::now();
    let error = client.append(&records(&["x"]), sequence()).await.expect_err("nobody leads");
    assert_eq!(error.outcome(), Outcome::Retryable);
    assert!(begun.elapsed() <= Duration::from_secs(30));
    fake.with(|world| world.up.clear());
    let error = client.status().await.expect_err("nobody is there");
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
    let connected = Client::connect_by(client.cluster.config.clone(), Box::new(fake)).await;
    assert!(
        matches!(connected, Err(ClientError::Unreachable { servers, .. }) if servers.len() == 3)
    );
}

#[tokio::test(start_paused = true)]
async fn an_appender_keeps_the_order() {
    let fake = Fake::new();
    let mut appender = client(&fake).await.appender(AppendOptions::default()).await.expect("up");
    for number in 0..100_u64 {
        appender.submit(vec![number.to_string().into_bytes()]).await.expect("there is room");
    }
    assert_eq!(appender.in_flight(), 100);
    for number in 1..=100 {
        let appended = appender.next().await.expect("in flight").expect("it is led");
        assert_eq!(appended.lsns.start, Lsn::new(number));
    }
    assert!(appender.next().await.is_none());
    let expected: Vec<_> = (0..100).map(|number: u64| number.to_string()).collect();
    assert_eq!(fake.texts(), expected);
}

#[tokio::test(start_paused = true)]
async fn an_appender_without_a_sequence_ends_at_a_break() {
    let fake = Fake::new();
    fake.with(|world| world.faults = [Fault::None, Fault::None, Fault::BreakAfter].into());
    let mut appender = client(&fake).await.appender(without_numbers()).await.expect("up");
    for text in ["1", "2", "3", "4", "5"] {
        appender.submit(records(&[text])).await.expect("there is room");
    }
    let mut outcomes = Vec::new();
    while let Some(answer) = appender.next().await {
        outcomes.push(answer.map(drop).map_err(|error| error.outcome()));
    }
    let unknown = Err(Outcome::Unknown);
    assert_eq!(outcomes, [Ok(()), Ok(()), unknown, unknown, unknown]);
    let refused = appender.submit(records(&["6"])).await.expect_err("it is over");
    assert_eq!(refused.outcome(), Outcome::Final);
    assert!(refused.to_string().contains("in front of this one failed"));
    assert_eq!(fake.texts(), ["1", "2", "3"], "nothing is behind the gap");
}

#[tokio::test(start_paused = true)]
async fn an_appender_with_a_sequence_goes_on() {
    let fake = Fake::new();
    let busy = || Fault::Refuse(Outcome::Retryable, Reason::Busy);
    fake.with(|world| {
        world.faults =
            [Fault::None, Fault::BreakAfter, busy(), Fault::None, Fault::BreakBefore].into();
    });
    let appender = client(&fake).await.appender(sequence()).await.expect("up");
    let (mut submitter, mut answers) = appender.split();
    let submitted = tokio::spawn(async move {
        for text in ["1", "2", "3", "4", "5", "6"] {
            submitter.submit(records(&[text])).await.expect("there is room");
        }
    });
    for number in 1..=6 {
        if number == 4 {
            fake.with(|world| world.leader = Some("c".to_owned()));
        }
        let appended = answers.next().await.expect("in flight").expect("it is repeated");
        assert_eq!(appended.lsns.start, Lsn::new(number));
    }
    assert!(answers.next().await.is_none(), "the submitter is gone, and everything was answered");
    submitted.await.expect("it does not panic");
    assert_eq!(fake.texts(), ["1", "2", "3", "4", "5", "6"]);
}

#[tokio::test(start_paused = true)]
async fn an_appender_is_bounded_in_bytes_and_time() {
    let fake = Fake::new();
    fake.with(|world| world.faults.push_back(Fault::Silence));
    let servers = vec!["b".to_owned()];
    let config = ClientConfig { in_flight_bytes_max: 100, ..ClientConfig::new(servers) };
    let client = Client::connect_by(config, Box::new(fake.clone())).await.expect("it is up");
    let mut appender = client.appender(AppendOptions::default()).await.expect("it is up");
    appender.submit(vec![vec![0; 1000]]).await.expect("one may be longer than the room");
    let soon = tokio::time::timeout(Duration::from_secs(1), appender.submit(records(&["x"])));
    assert!(soon.await.is_err(), "there is no room");
    assert_eq!(appender.in_flight(), 1, "what was given up was not submitted");
    let error = appender.next().await.expect("in flight").expect_err("nobody answers");
    assert_eq!((error.outcome(), error.reason()), (Outcome::Unknown, Some(&Reason::TimedOut)));
}

#[tokio::test(start_paused = true)]
async fn a_new_appender_finds_the_new_leader() {
    let fake = Fake::new();
    let mut appender = client(&fake).await.appender(AppendOptions::default()).await.expect("up");
    appender.submit(records(&["1"])).await.expect("there is room");
    appender.next().await.expect("in flight").expect("it is led");
    fake.with(|world| {
        world.up.remove("b");
        world.leader = Some("a".to_owned());
    });
    // The fake notices at its next answer that it is gone, so the lane breaks with an append on it.
    appender.submit(records(&["2"])).await.expect("there is room");
    let _ = appender.next().await.expect("in flight");
    let mut other = client(&fake).await.appender(AppendOptions::default()).await.expect("up");
    other.submit(records(&["3"])).await.expect("there is room");
    other.next().await.expect("in flight").expect("a leads");
}

#[tokio::test(start_paused = true)]
async fn a_reader_survives_broken_lanes() {
    let fake = Fake::new();
    let client = client(&fake).await;
    let texts: Vec<_> = (0..20).map(|number: u64| number.to_string().into_bytes()).collect();
    client.append(&texts, AppendOptions::default()).await.expect("it is led");
    fake.with(|world| world.read_breaks_after = Some(3));
    let mut reader = client.read(ReadOptions::default()).await.expect("they are up");
    assert_eq!(reader.next_lsn(), None);
    for (lsn, text) in (1..).zip(&texts) {
        let record = reader.next().await.expect("it goes on").expect("there are more");
        assert_eq!((record.lsn, &record.data), (Lsn::new(lsn), text));
        assert_eq!(reader.next_lsn(), Some(Lsn::new(lsn + 1)));
    }
    assert_eq!(reader.next().await, Ok(None));
    assert_eq!(reader.next().await, Ok(None));
    let options = ReadOptions { from: Some(Lsn::new(4)), count: Some(2), ..ReadOptions::default() };
    let mut reader = client.read(options).await.expect("they are up");
    assert_eq!(reader.next().await.expect("there").expect("two").lsn, Lsn::new(4));
    assert_eq!(reader.next().await.expect("there").expect("two").lsn, Lsn::new(5));
    assert_eq!(reader.next().await, Ok(None));
}

#[tokio::test(start_paused = true)]
async fn a_follower_goes_on_elsewhere() {
    let fake = Fake::new();
    let client = client(&fake).await;
    let options = ReadOptions { follows: true, ..ReadOptions::default() };
    let mut reader = client.read(options).await.expect("they are up");
    client.append(&records(&["1"]), AppendOptions::default()).await.expect("it is led");
    assert_eq!(reader.next().await.expect("there").expect("endless").data, b"1");
    let quiet = tokio::time::timeout(Duration::from_secs(3600), reader.next()).await;
    assert!(quiet.is_err(), "waiting for more has no deadline");
    let asked = fake.with(|world| world.asked.last().cloned()).expect("it was asked");
    for node in ["a", "b", "c"] {
        fake.with(|world| {
            world.up = ["a", "b", "c"].map(str::to_owned).into();
            world.up.remove(node);
            let leader = if node == "b" { "c" } else { "b" };
            world.leader = Some(leader.to_owned());
        });
        let text = records(&[node]);
        let options = AppendOptions::default();
        let (read, appended) = tokio::join!(reader.next(), client.append(&text, options));
        appended.expect("another one leads");
        assert_eq!(read.expect("elsewhere").expect("endless").data, node.as_bytes(), "{asked}");
    }
}

#[tokio::test(start_paused = true)]
async fn nodes_are_asked_by_name() {
    let fake = Fake::new();
    let client = client(&fake).await;
    assert_eq!(client.status().await.as_deref(), Ok("{\"at\":\"a\"}"));
    assert_eq!(client.status_of("c").await.as_deref(), Ok("{\"at\":\"c\"}"));
    assert_eq!(client.promote("c", false).await.as_deref(), Ok("{}"));
    assert!(client.append(&records(&["x"]), AppendOptions::default()).await.is_ok());
    assert_eq!(client.status_of("nobody").await.map_err(|e| e.outcome()), Err(Outcome::Retryable));
    fake.with(|world| world.up.remove("a"));
    let other = client.status().await.expect("others are up");
    assert_ne!(other, "{\"at\":\"a\"}");
}
