//! What the chain refuses.

use super::*;
use crate::disk::Appendable;
use crate::format::batch::{Kind, finish};

fn chain() -> Chain {
    Chain {
        log_id: 1,
        cut: Cut::default(),
        segment: 2,
        offset: 4096,
        data_end: 1 << 20,
        block_bytes: 512,
        lsn: Lsn::new(10),
        checksum: Some(5),
        epoch: Epoch::new(3),
        time_ms: 100,
    }
}

fn batch(change: impl FnOnce(&mut BatchHeader)) -> Vec<u8> {
    let mut header = BatchHeader {
        kind: Kind::Records,
        log_id: 1,
        segment: 2,
        offset: 4096,
        base_lsn: Lsn::new(10),
        record_count: 1,
        length: 0,
        payload_bytes: 0,
        producer_run_count: 0,
        epoch: Epoch::new(3),
        durable_lsn: Lsn::new(9),
        commit_lsn: Lsn::new(9),
        time_ms: 100,
        prev_checksum: 5,
        body_checksum: 0,
        checksum: 0,
        lost: None,
    };
    change(&mut header);
    let mut buffer = Appendable::alone(512);
    buffer.pad_to(512);
    finish(buffer.open_mut(), 5, &mut header);
    buffer.freeze().to_vec()
}

/// C11.
#[test]
fn wrong_addresses_are_refused() {
    let check = |change: fn(&mut BatchHeader)| chain().accept_header(&batch(change));
    assert!(check(|_| {}).is_ok());
    assert_eq!(check(|h| h.log_id = 9), Err(Fault::ForeignLog));
    assert_eq!(check(|h| h.segment = 3), Err(Fault::Misplaced));
    assert_eq!(check(|h| h.offset = 8192), Err(Fault::Misplaced));
    assert_eq!(check(|h| h.base_lsn = Lsn::new(11)), Err(Fault::Chain));
    assert_eq!(check(|h| h.time_ms = 99), Err(Fault::Chain));
    assert_eq!(check(|h| h.epoch = Epoch::new(2)), Err(Fault::Chain));
    assert_eq!(check(|h| h.durable_lsn = Lsn::new(11)), Err(Fault::Field));
}

#[test]
fn the_chain_holds() {
    assert_eq!(chain().accept_header(&batch(|h| h.prev_checksum = 6)), Err(Fault::Chain));
    let from_the_middle = Chain { checksum: None, ..chain() };
    assert!(from_the_middle.accept_header(&batch(|h| h.prev_checksum = 6)).is_ok());
    let mut after = chain();
    let header = after.accept_header(&batch(|_| {})).unwrap();
    after.advance(&header);
    assert_eq!((after.offset, after.lsn), (4096 + 512, Lsn::new(11)));
    assert_eq!(after.checksum, Some(header.checksum));
}

#[test]
fn a_cut_makes_older_epochs_void() {
    let cut = Cut { lsn: Lsn::new(10), segment: 2, offset: 4096, epoch: Epoch::new(3) };
    let chain = Chain { cut, ..chain() };
    assert_eq!(chain.accept_header(&batch(|_| {})), Err(Fault::Void));
    assert!(chain.accept_header(&batch(|h| h.epoch = Epoch::new(4))).is_ok());
    assert!(chain.recognize(&batch(|_| {}), 4096).is_none());
    assert!(chain.recognize(&batch(|h| h.epoch = Epoch::new(4)), 4096).is_some());
}

#[test]
fn a_batch_may_not_reach_into_the_footer() {
    let short = Chain { data_end: 4096 + 256, ..chain() };
    assert_eq!(short.accept_header(&batch(|_| {})), Err(Fault::Field));
}
