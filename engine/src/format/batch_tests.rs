//! Round trips and damage of batches.

use super::*;
use proptest::prelude::*;

fn sample(records: &[Vec<u8>], runs: &[ProducerRun]) -> (Vec<u8>, BatchHeader) {
    let mut payload = Vec::new();
    for record in records {
        payload.extend_from_slice(&to_u32(record.len()).to_le_bytes());
        payload.extend_from_slice(record);
    }
    for run in runs {
        payload.extend_from_slice(&run.encode());
    }
    let mut batch = vec![0; batch_bytes(payload.len(), 512)];
    batch[HEADER_BYTES..HEADER_BYTES + payload.len()].copy_from_slice(&payload);
    let mut header = BatchHeader {
        kind: if records.is_empty() { Kind::EpochStart } else { Kind::Records },
        log_id: 77,
        segment: 3,
        offset: 8192,
        base_lsn: Lsn::new(41),
        record_count: to_u32(records.len()),
        length: 0,
        payload_bytes: 0,
        producer_run_count: to_u32(runs.len()),
        epoch: Epoch::new(5),
        durable_lsn: Lsn::new(40),
        commit_lsn: Lsn::new(39),
        time_ms: 1_700_000_000_000,
        prev_checksum: 0xfeed,
        body_checksum: 0,
        checksum: 0,
        lost: None,
    };
    finish(&mut batch, payload.len(), &mut header);
    (batch, header)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn round_trip(records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..20)) {
        let run = ProducerRun { producer_id: 9, first_sequence: 4, first_record: 0, record_count: 0 };
        let (batch, header) = sample(&records, &[run]);
        let decoded = BatchHeader::decode(&batch).unwrap();
        prop_assert_eq!(&decoded, &header);
        prop_assert!(decoded.body_is_whole(&batch));
        let mut places = Records::new(&decoded);
        for record in &records {
            let place = places.next_in(&batch).unwrap().unwrap();
            prop_assert_eq!(&batch[place], &record[..]);
        }
        prop_assert_eq!(places.next_in(&batch).unwrap(), None);
        prop_assert_eq!(producer_runs(&decoded, &batch), vec![run]);
    }

    /// I3.
    #[test]
    fn records_are_total(mut batch in prop::collection::vec(any::<u8>(), 512), count in 0_u32..200, runs in 0_u32..20) {
        let (_, mut header) = sample(&[vec![1]], &[]);
        header.record_count = count;
        header.producer_run_count = runs;
        header.payload_bytes = 384;
        batch.truncate(512);
        let mut places = Records::new(&header);
        while let Ok(Some(place)) = places.next_in(&batch) {
            prop_assert!(place.end <= batch.len());
        }
        prop_assert!(producer_runs(&header, &batch).iter().all(|run| run.record_count <= count));
        prop_assert_eq!(producer_runs(&header, &batch[..HEADER_BYTES]), vec![]);
    }
}

#[test]
fn every_flipped_bit_is_seen() {
    let (batch, _) = sample(&[b"alpha".to_vec(), b"".to_vec(), vec![7; 600]], &[]);
    for bit in 0..batch.len() * 8 {
        let mut damaged = batch.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let whole = BatchHeader::decode(&damaged).is_ok_and(|h| h.body_is_whole(&damaged));
        assert!(!whole, "bit {bit} was not seen");
    }
}

/// I2.
#[test]
fn zeros_and_short_buffers_are_no_batch() {
    assert_eq!(BatchHeader::decode(&[0; 4096]), Err(Fault::Magic));
    assert_eq!(BatchHeader::decode(&[]), Err(Fault::Short));
    let (batch, _) = sample(&[vec![1]], &[]);
    assert_eq!(BatchHeader::decode(&batch[..HEADER_BYTES - 1]), Err(Fault::Short));
}

#[test]
fn epoch_start_round_trip() {
    let start = EpochStart { lineage_id: 1, incarnation: 2, nonce: 3 };
    let (mut batch, mut header) = sample(&[], &[]);
    batch[HEADER_BYTES..HEADER_BYTES + EpochStart::BYTES].copy_from_slice(&start.encode());
    finish(&mut batch, EpochStart::BYTES, &mut header);
    let decoded = BatchHeader::decode(&batch).unwrap();
    assert_eq!(EpochStart::decode(&decoded, &batch), Some(start));
    let (batch, header) = sample(&[vec![1]], &[]);
    assert_eq!(EpochStart::decode(&header, &batch), None);
}
