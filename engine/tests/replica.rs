//! The log as one of several replicas: promises, epochs, and pieces that go from one disk to another.
//!
//! On simulated disks, in one thread: two or three replicas of one log, whose files are compared byte for
//! byte.

use std::sync::Arc;

use cairnlog_engine::disk::sim::SimDisk;
use cairnlog_engine::format::batch::BatchHeader;
use cairnlog_engine::format::segment::{SegmentHeader, data_end, parse_file_name};
use cairnlog_engine::format::superblock::{COPY_BYTES, LeaderId, Superblock};
use cairnlog_engine::{
    AppendError, ChangeError, Config, Epoch, Fed, Log, Lsn, OpenError, Place, Promise,
    PromiseError, RawError, Replica, Verdict,
};

mod common;

use common::{Random, config};

/// The identity of the log.
const LOG: u128 = 0x10c;

/// A replica on its own disk.
struct Node {
    number: u64,
    disk: SimDisk,
    replica: Replica,
}

fn replica_config() -> Config {
    let mut config = config();
    config.feed_bytes_max = 64 << 10;
    config
}

impl Node {
    /// A replica of a log that is made here.
    fn new(number: u64, log_id: u128) -> Node {
        let mut config = replica_config();
        (config.log_id, config.lineage_id) = (Some(log_id), Some(log_id + 1));
        Node::open_with(number, SimDisk::new(number), config)
    }

    fn open(number: u64, disk: SimDisk) -> Node {
        Node::open_with(number, disk, replica_config())
    }

    fn open_with(number: u64, disk: SimDisk, config: Config) -> Node {
        let opened = Replica::open_on(Arc::new(disk.clone()), config);
        Node { number, replica: opened.expect("a log").0, disk }
    }

    fn log(&self) -> &Log {
        self.replica.log()
    }

    fn id(&self) -> LeaderId {
        let identity = self.replica.identity();
        LeaderId { node: self.number, incarnation: identity.incarnation, nonce: identity.nonce }
    }

    fn lead(&self, epoch: u64) {
        let promise = Promise { epoch: Epoch::new(epoch), leader: self.id() };
        self.replica.promise(promise).expect("a greater epoch");
        self.replica.lead().expect("it is promised").wait().expect("nothing fails");
    }

    /// Promises what the leader has promised to itself.
    fn obey(&self, leader: &Node) {
        self.replica.promise(leader.replica.promised()).expect("a greater epoch");
    }

    fn append(&self, bytes: usize) {
        let lsn = self.log().end_lsn().get();
        let record = vec![lsn.to_le_bytes()[0] ^ self.number.to_le_bytes()[0]; bytes];
        self.log().append(&record).expect("it leads");
    }

    fn append_some(&self, random: &mut Random) {
        for _ in 0..20 {
            let bytes = [0, 1, 90, 600, 5000, 13_000];
            self.append(bytes[usize::try_from(random.below(6)).expect("below 6")]);
        }
    }

    /// Takes everything durable that the other one has behind its own end, in parts of any length.
    fn catch_up(&self, other: &Node, random: &mut Random) {
        let mut reader = other.replica.read_raw(self.replica.end_place()).expect("readable");
        let reader = reader.as_mut().unwrap_or_else(|| panic!("{:?} is no place", self.place()));
        let bytes_max = usize::try_from(1 + random.below(60_000)).expect("small");
        while let Some(raw) = reader.next(bytes_max).expect("readable") {
            let appended = self.replica.append_raw(&raw.bytes);
            appended.unwrap_or_else(|e| panic!("{:?} behind {:?}: {e}", raw.end, self.place()));
            assert_eq!(self.replica.end_place(), raw.end);
        }
        assert_eq!(self.replica.durable_place(), other.replica.durable_place());
    }

    fn place(&self) -> Place {
        self.replica.durable_place()
    }
}

/// Every byte of every segment is the same, or not written yet on either.
fn assert_identical(one: &Node, other: &Node) {
    assert_eq!(one.place(), other.place());
    let files = |node: &Node| -> Vec<String> {
        let files = node.disk.files().into_iter();
        files
            .filter(|name| parse_file_name(name).is_some())
            .filter(|name| SegmentHeader::decode(&node.disk.read_file(name)).is_ok())
            .collect()
    };
    assert_eq!(files(one), files(other));
    for name in files(one) {
        let (mine, theirs) = (one.disk.read_file(&name), other.disk.read_file(&name));
        let number = parse_file_name(&name).expect("a segment");
        let end = match one.place() {
            place if place.segment == number => usize::try_from(place.offset).expect("small"),
            _ => mine.len(),
        };
        assert!(mine[..end] == theirs[..end], "{name} differs");
    }
}

/// A3. P6.
#[test]
fn replicas_are_identical() {
    for seed in 0..10 {
        let mut random = Random(seed);
        // One recycles files, of which the first 64 KiB are zeroed, and the other does not.
        let mut config = replica_config();
        (config.log_id, config.lineage_id) = (Some(LOG), Some(LOG + 1));
        config.segment_bytes = 128 << 10;
        let leader = Node::open_with(1, SimDisk::new(1), config.clone());
        leader.lead(1);
        config.spare_segments_max = 0;
        let follower = Node::open_with(2, SimDisk::new(2), config);
        follower.obey(&leader);
        let mut recycled = 0;
        for round in 2..9 {
            leader.append_some(&mut random);
            leader.append_some(&mut random);
            follower.catch_up(&leader, &mut random);
            assert_identical(&leader, &follower);
            let first = leader.log().trim(leader.log().durable_lsn()).expect("nothing fails");
            assert_eq!(follower.log().trim(first).expect("nothing fails"), first);
            recycled = leader.log().stats().segments_recycled;
            leader.lead(round);
            follower.obey(&leader);
        }
        assert!(recycled > 2 && follower.log().stats().segments_recycled == 0, "{recycled}");
        let behind = follower.place();
        for _ in 0..3 {
            leader.append_some(&mut random);
        }
        leader.log().trim(leader.log().durable_lsn()).expect("nothing fails");
        let read = leader.replica.read_raw(behind).expect("readable");
        assert!(read.is_none(), "it was trimmed");
    }
}

/// R2: a follower takes the lengths of segments from the leader, whatever its own are.
#[test]
fn segments_are_as_long_as_on_the_leader() {
    let mut random = Random(8);
    let mut leader = Node::new(1, LOG);
    let mut config = replica_config();
    (config.log_id, config.lineage_id) = (Some(LOG), Some(LOG + 1));
    config.segment_bytes = 256 << 10;
    let mut follower = Node::open_with(2, SimDisk::new(2), config);
    let mut files = Vec::new();
    for (epoch, segment_bytes) in (1..).zip([64 << 10, 128 << 10, 96 << 10, 64 << 10]) {
        let disk = leader.disk.clone();
        drop(leader);
        disk.kill_process();
        let mut config = replica_config();
        config.segment_bytes = segment_bytes;
        leader = Node::open_with(1, disk, config);
        leader.lead(epoch);
        follower.obey(&leader);
        for _ in 0..3 {
            leader.append_some(&mut random);
        }
        follower.catch_up(&leader, &mut random);
        assert_identical(&leader, &follower);
        files = leader.disk.files().iter().map(|name| leader.disk.read_file(name).len()).collect();
    }
    assert!(files.contains(&(128 << 10)) && files.contains(&(96 << 10)), "{files:?}");
    let disk = follower.disk.clone();
    drop(follower);
    disk.kill_process();
    follower = Node::open(2, disk);
    follower.lead(9);
    follower.append_some(&mut random);
    leader.obey(&follower);
    leader.catch_up(&follower, &mut random);
    assert_identical(&leader, &follower);
}

/// What is fed is not durable yet, and makes the same log.
#[test]
fn a_feed_is_ahead_of_the_disk() {
    let leader = Node::new(1, LOG);
    leader.lead(1);
    let follower = Node::new(2, LOG);
    follower.obey(&leader);
    follower.catch_up(&leader, &mut Random(1));
    for round in 0..60_u8 {
        let sizes = [700, 9000, 13_000];
        let submit = |bytes: &usize| leader.log().submit(&vec![round; *bytes]).expect("it leads");
        let tickets: Vec<_> = sizes.iter().map(submit).collect();
        leader.replica.place_all().expect("nothing fails");
        assert!(leader.place().lsn < leader.log().end_lsn(), "nobody waits for them yet");
        loop {
            let end = follower.replica.end_place();
            match leader.replica.read_feed((end.segment, end.offset), 10_000) {
                Fed::Pieces(pieces) => {
                    for piece in pieces {
                        follower.replica.append_raw(&piece.bytes).expect("it continues");
                        assert_eq!(follower.place(), piece.end);
                    }
                }
                Fed::AtEnd => break,
                Fed::Gone => panic!("less than the bound"),
            }
        }
        assert_eq!(follower.log().durable_lsn(), leader.log().end_lsn());
        for ticket in tickets {
            ticket.wait().expect("nothing fails");
        }
        assert_identical(&leader, &follower);
    }
    assert!(matches!(leader.replica.read_feed((1, 4096), 1), Fed::Gone), "it is bounded");
}

#[test]
fn promises_only_grow() {
    let node = Node::new(1, LOG);
    let before = node.replica.promised();
    let other = LeaderId { node: 2, incarnation: 7, nonce: 8 };
    let promise = |epoch: u64, leader| Promise { epoch: Epoch::new(epoch), leader };
    let first = promise(before.epoch.get() + 3, other);
    node.replica.promise(first).expect("a greater epoch");
    node.replica.promise(first).expect("the same again");
    let third = LeaderId { node: 3, ..other };
    for refused in [promise(first.epoch.get(), third), promise(first.epoch.get() - 1, other)] {
        let error = node.replica.promise(refused).expect_err("not greater");
        assert!(matches!(error, PromiseError::Promised(stands) if stands == first), "{error}");
    }
    let error = node.replica.lead().expect_err("another one leads");
    assert!(matches!(error, PromiseError::Promised(_)), "{error}");
    assert!(matches!(node.log().append(b"no"), Err(AppendError::NotLeading)));
    let (number, disk) = (node.number, node.disk.clone());
    drop(node);
    disk.kill_process();
    let node = Node::open(number, disk);
    assert_eq!(node.replica.promised(), first, "an open takes no epoch");
    // This life is not that of any promise before it.
    node.lead(first.epoch.get() + 1);
    let error = node.replica.lead().expect_err("an epoch is begun once");
    assert!(matches!(error, PromiseError::Promised(_)), "{error}");
    node.append(10);
}

/// A1. P7.
#[test]
fn a_promise_outlives_power() {
    let promised =
        Promise { epoch: Epoch::new(9), leader: LeaderId { node: 2, incarnation: 7, nonce: 8 } };
    for cut in 1..12 {
        let node = Node::new(1, LOG);
        let before = node.replica.promised();
        node.disk.cut_at(node.disk.operations() + cut);
        let answered = node.replica.promise(promised).is_ok();
        let disk = node.disk.clone();
        drop(node);
        disk.restart_losing_all();
        let after = Node::open(1, disk).replica.promised();
        assert!(after == promised || (after == before && !answered), "{cut}: {after:?}");
    }
}

/// A2.
#[test]
fn only_what_was_promised() {
    let mut random = Random(3);
    let leader = Node::new(1, LOG);
    leader.lead(5);
    leader.append(100);
    let follower = Node::new(2, LOG);
    let mut reader = leader.replica.read_raw(Place::START).expect("readable").expect("whole");
    let raw = reader.next(1 << 20).expect("readable").expect("there is some");
    let error = follower.replica.append_raw(&raw.bytes).expect_err("nothing was promised");
    assert!(matches!(error, RawError::Unpromised { .. }), "{error}");
    let error = leader.replica.append_raw(&raw.bytes).expect_err("it leads");
    assert!(matches!(error, RawError::Leads), "{error}");
    follower.obey(&leader);
    follower.catch_up(&leader, &mut random);
    let error = follower.replica.append_raw(&raw.bytes).expect_err("it is there already");
    assert!(matches!(error, RawError::Refused(_)), "{error}");
    assert_identical(&leader, &follower);
    // A directory of a replica is not opened as a log of its own.
    let disk = follower.disk.clone();
    drop(follower);
    disk.kill_process();
    let opened = Log::open_on(Arc::new(disk.clone()), config());
    assert!(matches!(opened, Err(OpenError::Replica(_))));
}

/// R1: each byte of a piece is looked at, and so is what it continues.
#[test]
fn what_does_not_continue_is_refused() {
    let leader = Node::new(1, LOG);
    leader.lead(1);
    for bytes in [10, 700, 5000] {
        leader.append(bytes);
    }
    let mut reader = leader.replica.read_raw(Place::START).expect("readable").expect("whole");
    let raw = reader.next(1 << 20).expect("readable").expect("there is some");
    let follower = Node::new(2, LOG);
    follower.obey(&leader);
    let mut refused = 0;
    for at in (0..raw.bytes.len()).step_by(37) {
        let mut bytes = raw.bytes.clone();
        bytes[at] ^= 16;
        let place = follower.place();
        let appended = follower.replica.append_raw(&bytes);
        assert!(appended.is_err(), "byte {at}");
        assert_eq!(follower.place(), place, "what is in front is taken only with the whole piece");
        refused += 1;
    }
    assert!(refused > 50);
    for (start, end) in [(512, raw.bytes.len()), (0, 300), (0, 0), (0, 512 + 100)] {
        assert!(follower.replica.append_raw(&raw.bytes[start..end]).is_err(), "{start}..{end}");
    }
    let another = Node::new(3, LOG + 7);
    another.obey(&leader);
    let error = another.replica.append_raw(&raw.bytes).expect_err("another log");
    assert!(matches!(error, RawError::Refused(_)), "{error}");
    // Whole pieces in the wrong order, or twice.
    let mut ends = vec![512];
    while *ends.last().expect("one") < raw.bytes.len() {
        let start = *ends.last().expect("one");
        let header = BatchHeader::decode(&raw.bytes[start..]).expect("a batch");
        ends.push(start + usize::try_from(header.length).expect("small"));
    }
    assert!(ends.len() > 4, "{ends:?}");
    follower.replica.append_raw(&raw.bytes[..ends[1]]).expect("the first batch");
    for (from, to) in [(ends[0], ends[1]), (ends[2], ends[3]), (0, ends[1])] {
        let error = follower.replica.append_raw(&raw.bytes[from..to]).expect_err("not the next");
        assert!(matches!(error, RawError::Refused(_)), "{error}");
    }
    follower.replica.append_raw(&raw.bytes[ends[1]..]).expect("the rest");
    assert_identical(&leader, &follower);
}

/// D1.
#[test]
fn another_place_is_not_read_from() {
    let mut random = Random(5);
    let leader = Node::new(1, LOG);
    leader.lead(1);
    leader.append_some(&mut random);
    let place = leader.place();
    let is_there = |place| leader.replica.read_raw(place).expect("readable").is_some();
    assert!(is_there(place) && is_there(Place::START));
    assert!(!is_there(Place { link: place.link ^ 1, ..place }));
    assert!(!is_there(Place { offset: place.offset + 512, ..place }));
    assert!(!is_there(Place { offset: place.offset - 1, ..place }));
    assert!(!is_there(Place { segment: place.segment + 1, ..place }));
    assert!(!is_there(Place { lsn: place.lsn.next(), ..place }));
    let at = |segment, offset| leader.replica.place_at((segment, offset)).expect("readable");
    assert_eq!(at(place.segment, place.offset), Some(place));
    assert_eq!(at(0, 0), Some(Place::START));
    assert_eq!(at(place.segment, place.offset - 512 + 1), None);
    assert_eq!(at(place.segment + 1, 512), None);
    leader.lead(2);
    let epochs = leader.replica.epochs(9);
    let after: Vec<_> = epochs.iter().map(|begun| begun.after).collect();
    assert_eq!(after, [(0, 0), (place.segment, place.offset)]);
    assert_eq!(leader.replica.epochs(1), epochs[1..]);
}

/// A replica that led without the others gives up what only it had, wherever the power goes meanwhile, and holds the
/// same as the new leader then.
#[test]
fn a_diverged_end_is_given_up() {
    for cut in 0..60 {
        let mut random = Random(cut);
        let old = Node::new(1, LOG);
        old.lead(1);
        let new = Node::new(2, LOG);
        new.obey(&old);
        old.append_some(&mut random);
        if cut % 4 > 0 {
            new.catch_up(&old, &mut random);
        }
        let common = new.place();
        old.append_some(&mut random);
        new.lead(2);
        new.append_some(&mut random);
        old.obey(&new);
        assert!(!new.replica.holds(old.place()).expect("readable"));
        assert!(old.replica.holds(common).expect("readable"));
        let error = old.replica.truncate_to(Place { link: common.link ^ 1, ..common });
        assert!(matches!(error, Err(ChangeError::NoSuchPlace { .. })), "{error:?}");
        if cut > 0 {
            old.disk.cut_at(old.disk.operations() + cut);
        }
        let truncated = old.replica.truncate_to(common);
        let disk = old.disk.clone();
        let old = match truncated {
            Ok(truncated) => {
                disk.cut_at(u64::MAX);
                assert!(truncated.fork.is_some());
                assert_eq!(old.place(), common);
                old
            }
            Err(_) => {
                drop(old);
                disk.restart_losing_all();
                Node::open(1, disk)
            }
        };
        old.replica.truncate_to(common).expect("it goes through it");
        old.catch_up(&new, &mut random);
        assert_identical(&old, &new);
        assert!(!old.replica.leads());
    }
}

/// What is committed is noted beside the log, in the batches, and never given up.
#[test]
fn what_is_committed_stays() {
    let mut random = Random(2);
    let leader = Node::new(1, LOG);
    leader.lead(1);
    leader.append_some(&mut random);
    assert_eq!(leader.replica.commit_lsn(), Lsn::NONE, "nobody said so");
    let (place, lsn) = (leader.place(), Lsn::new(15));
    leader.replica.set_commit_lsn(lsn);
    leader.replica.set_commit_lsn(Lsn::new(3));
    assert_eq!(leader.replica.commit_lsn(), lsn);
    leader.append(100);
    let mut reader = leader.replica.read_raw(place).expect("readable").expect("its end");
    let raw = reader.next(1).expect("readable").expect("a batch");
    let header = BatchHeader::decode(&raw.bytes).expect("a header");
    assert_eq!((header.commit_lsn, header.durable_lsn), (lsn, place.lsn));
    drop(reader);
    leader.replica.follow();
    let error = leader.replica.truncate_to(Place::START).expect_err("it is committed");
    assert!(matches!(error, ChangeError::Committed { commit_lsn, .. } if commit_lsn == lsn));
    let disk = leader.disk.clone();
    drop(leader);
    disk.restart_losing_all();
    let leader = Node::open(1, disk);
    assert!(leader.replica.commit_lsn() <= lsn);
    let error = leader.replica.truncate_to(Place::START).expect_err("it is committed");
    assert!(matches!(error, ChangeError::Committed { .. }), "{error}");
}

/// Two logs part where a segment is full: each begins the next one in its own epoch, and not even the header of it is
/// common.
#[test]
fn logs_part_between_two_segments() {
    let mut random = Random(4);
    let old = Node::new(1, LOG);
    old.lead(1);
    let data_end = data_end(64 << 10, 512);
    while old.place().offset < data_end {
        old.append(100);
    }
    let common = old.place();
    assert_eq!((common.segment, common.offset), (1, data_end));
    let new = Node::new(2, LOG);
    new.obey(&old);
    new.catch_up(&old, &mut random);
    old.append_some(&mut random);
    new.lead(2);
    new.append_some(&mut random);
    assert_eq!(new.replica.epochs(1)[0].after, (1, data_end));
    assert!(!old.replica.holds(new.place()).expect("readable"));
    old.obey(&new);
    assert_eq!(old.replica.place_at((1, data_end)).expect("readable"), Some(common));
    old.replica.truncate_to(common).expect("it goes through it");
    old.catch_up(&new, &mut random);
    assert_identical(&old, &new);
    assert_eq!(old.replica.epochs(9), new.replica.epochs(9));
}

/// A follower whose power goes finds a part of what it was sent: what the leader says was durable on its own disk is
/// no evidence that it was here.
#[test]
fn a_follower_without_power_goes_on_where_it_ends() {
    let mut torn = 0;
    for cut in 1..90 {
        let mut random = Random(cut);
        let leader = Node::new(1, LOG);
        leader.lead(1);
        let follower = Node::new(2, LOG);
        follower.obey(&leader);
        follower.disk.set_queue_depth(4);
        let disk = follower.disk.clone();
        for _ in 0..2 {
            leader.append_some(&mut random);
        }
        let mut reader = leader.replica.read_raw(follower.place()).expect("readable");
        let reader = reader.as_mut().expect("the start");
        disk.cut_at(disk.operations() + cut);
        let mut tickets = Vec::new();
        while let Ok(Some(raw)) = reader.next(512) {
            match follower.replica.submit_raw(&raw.bytes) {
                Ok(ticket) => tickets.push(ticket),
                Err(_) => break,
            }
        }
        let acknowledged: Vec<_> = tickets.into_iter().map(|t| t.wait()).collect();
        let acknowledged = acknowledged.into_iter().flatten().max().unwrap_or(Lsn::NONE);
        drop(follower);
        disk.restart(cut);
        let opened = Replica::open_on(Arc::new(disk.clone()), replica_config());
        let (replica, report) = opened.expect("it was torn at worst");
        torn += u64::from(matches!(report.verdict, Verdict::TornTail { .. }));
        assert!(report.end_lsn >= acknowledged, "{cut}");
        let follower = Node { number: 2, disk, replica };
        follower.catch_up(&leader, &mut random);
        assert_identical(&leader, &follower);
        let bytes = follower.disk.read_file("superblock");
        let superblock = Superblock::decode(&bytes[..COPY_BYTES]).expect("a whole copy");
        assert_eq!(superblock.promised_epoch, leader.replica.promised().epoch);
    }
    assert!(torn > 5, "the case that matters was reached: {torn}");
}
