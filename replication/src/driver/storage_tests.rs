//! Operations that the log refuses.

use std::sync::Arc;

use cairnlog_engine::disk::sim::SimDisk;
use cairnlog_engine::{Config, Epoch, LeaderId, Place, Promise, Replica};

use super::{Done, Operation, Storage};

#[test]
fn what_is_committed_is_not_cut() {
    let config = Config::with_segment_bytes(64 << 10);
    let (replica, _) = Replica::open_on(Arc::new(SimDisk::new(1)), config).expect("a new log");
    let identity = replica.identity();
    let leader = LeaderId { node: 1, incarnation: identity.incarnation, nonce: identity.nonce };
    let promise = Promise { epoch: Epoch::new(1), leader };
    let storage = Storage::new(replica);
    let run = |operation| storage.run(operation).expect("nothing fails");
    assert_eq!(run(Operation::Promise(promise)), Done::Promised(promise));
    assert!(matches!(run(Operation::Begin(promise)), Done::Began(..)));
    let begun = storage.replica().durable_place();
    storage.replica().log().append(b"a record").expect("it leads");
    storage.replica().follow();
    let end = storage.replica().durable_place();
    storage.replica().set_commit_lsn(end.lsn);
    for place in [begun, Place::START] {
        assert_eq!(run(Operation::Cut(7, place)), Done::Cut(7, false));
    }
    assert_eq!(storage.replica().durable_place(), end, "it is all there");
    assert_eq!(run(Operation::Cut(7, end)), Done::Cut(7, true), "behind it nothing is");
}

/// A replica that heard of more than it has: what it took was refused, for want of room perhaps.
#[test]
fn where_no_record_is_given_up_what_is_committed_does_not_matter() {
    let config = Config::with_segment_bytes(64 << 10);
    let (replica, _) = Replica::open_on(Arc::new(SimDisk::new(1)), config).expect("a new log");
    let identity = replica.identity();
    let leader = LeaderId { node: 1, incarnation: identity.incarnation, nonce: identity.nonce };
    let storage = Storage::new(replica);
    let run = |operation| storage.run(operation).expect("nothing fails");
    let lead = |epoch| {
        let promise = Promise { epoch: Epoch::new(epoch), leader };
        assert_eq!(run(Operation::Promise(promise)), Done::Promised(promise));
        assert!(matches!(run(Operation::Begin(promise)), Done::Began(..)));
    };
    lead(1);
    storage.replica().log().append(b"a record").expect("it leads");
    let end = storage.replica().durable_place();
    lead(2);
    storage.replica().follow();
    storage.replica().set_commit_lsn(end.lsn.next());
    assert_eq!(run(Operation::Cut(7, end)), Done::Cut(7, true), "behind it no record is");
    assert_eq!(storage.replica().durable_place(), end);
}
