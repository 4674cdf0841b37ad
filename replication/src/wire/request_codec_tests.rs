//! Tests of the bytes of requests and answers: W1 to W3, and that counts are not believed.

use super::*;
use crate::wire::frame::length;

fn requests() -> Vec<Request> {
    let records = vec![b"one".to_vec(), Vec::new(), vec![0xff; 40]];
    let sequence = Some(Sequence { producer_id: u128::MAX - 3, first: 1 << 33 });
    let read = Request::Read {
        from: Some(Lsn::new(3)),
        to: Some(Lsn::new(4)),
        count: Some(5),
        min_lsn: Some(Lsn::new(6)),
        visibility: Visibility::Durable,
        follows: true,
    };
    let bare = Request::Read {
        from: None,
        to: None,
        count: None,
        min_lsn: None,
        visibility: Visibility::Committed,
        follows: false,
    };
    let mut requests = vec![
        read,
        bare,
        Request::Status,
        Request::Promote { dry_run: true },
        Request::Promote { dry_run: false },
    ];
    for ack in [Ack::Buffered, Ack::Local, Ack::Quorum, Ack::All] {
        requests.push(Request::NextSequence { producer_id: 1 << 77, ack });
        let records = records.clone();
        requests.push(Request::Append { ack, expected_lsn: Some(Lsn::new(7)), sequence, records });
    }
    let records = Vec::new();
    requests.push(Request::Append { ack: Ack::All, expected_lsn: None, sequence: None, records });
    requests
}

fn responses() -> Vec<Response> {
    let node = |number| NodeId::new(number).expect("not 0");
    let record = |lsn, data: &[u8]| WireRecord {
        lsn: Lsn::new(lsn),
        epoch: Epoch::new(2),
        time_ms: 1 << 41,
        data: data.to_vec(),
    };
    let reasons = [
        Reason::NotLeading(None),
        Reason::NotLeading(Some((node(2), "host:7400".to_owned()))),
        Reason::Unexpected(Lsn::new(8)),
        Reason::UnknownProducer,
        Reason::OutOfRange(Lsn::new(1)..Lsn::new(9)),
        Reason::Invalid,
        Reason::Storage,
        Reason::Busy,
        Reason::TimedOut,
        Reason::ShuttingDown,
    ];
    let mut responses = vec![
        Response::Appended {
            lsns: Lsn::new(5)..Lsn::new(8),
            epoch: Epoch::new(3),
            ack: Ack::Quorum,
            replicas: vec![node(1), node(3)],
        },
        Response::Records(vec![record(5, b"five"), record(6, b"")]),
        Response::Records(Vec::new()),
        Response::Json("{\"grün\": 1}".to_owned()),
        Response::End(Lsn::new(10)),
        Response::NextSequence(1 << 55),
    ];
    let outcomes = [Outcome::Retryable, Outcome::Final, Outcome::Unknown];
    for (reason, outcome) in reasons.into_iter().zip(outcomes.into_iter().cycle()) {
        responses.push(Response::Failed(Failure { outcome, reason, text: "why".to_owned() }));
    }
    responses
}

fn body(frame: &[u8]) -> &[u8] {
    let (front, body) = frame.split_first_chunk().expect("a length");
    assert_eq!(length(*front), Ok(body.len()));
    body
}

#[test]
fn every_message_comes_back() {
    for request in requests() {
        let frame = encode_request(&request);
        assert_eq!(decode_response(body(&frame)), Err(Fault::Kind(frame[LENGTH_BYTES])));
        assert_eq!(decode_request(body(&frame)), Ok(request));
    }
    for response in responses() {
        let frame = encode_response(&response);
        assert_eq!(decode_request(body(&frame)), Err(Fault::Kind(frame[LENGTH_BYTES])));
        assert_eq!(decode_response(body(&frame)), Ok(response));
    }
}

/// W2 for everything near a frame.
fn attack<T: PartialEq + std::fmt::Debug>(
    message: &T,
    encode: impl Fn(&T) -> Vec<u8>,
    decode: impl Fn(&[u8]) -> Result<T, Fault>,
) {
    let frame = encode(message);
    let body = body(&frame);
    for end in 0..body.len() {
        assert!(decode(&body[..end]).is_err(), "{message:?} cut at {end}");
    }
    let longer = [body, &[0]].concat();
    assert_eq!(decode(&longer), Err(Fault::Long));
    for bit in 0..body.len() * 8 {
        let mut flipped = body.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        if let Ok(other) = decode(&flipped) {
            assert_eq!(encode(&other)[LENGTH_BYTES..], flipped);
            assert_ne!(&other, message);
        }
    }
}

#[test]
fn any_bytes() {
    for request in requests() {
        attack(&request, encode_request, decode_request);
    }
    for response in responses() {
        attack(&response, encode_response, decode_response);
    }
    assert_eq!(decode_request(&[0; 64]), Err(Fault::Kind(0)), "zeros are no request");
    assert_eq!(decode_response(&[0; 64]), Err(Fault::Kind(0)), "nor an answer");
}

#[test]
fn records_are_checked() {
    let records = vec![b"precious".to_vec()];
    let request = Request::Append { ack: Ack::Local, expected_lsn: None, sequence: None, records };
    let frame = encode_request(&request);
    let mut body = body(&frame).to_vec();
    for at in body.len() - 12..body.len() {
        body[at] ^= 4;
        assert_eq!(decode_request(&body), Err(Fault::Checksum), "at {at}");
        body[at] ^= 4;
    }
    assert_eq!(decode_request(&body), Ok(request));
}

#[test]
fn a_count_is_not_believed() {
    let request = |count: usize| Request::Append {
        ack: Ack::Local,
        expected_lsn: None,
        sequence: None,
        records: vec![Vec::new(); count],
    };
    let frame = encode_request(&request(2));
    let mut few = body(&frame).to_vec();
    let count_at = few.len() - 2 * RECORD_FRONT_BYTES - 4;
    assert_eq!(few[count_at], 2);
    few[count_at..count_at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(decode_request(&few), Err(Fault::Field));

    let most = encode_request(&request(RECORDS_MAX));
    assert_eq!(decode_request(body(&most)), Ok(request(RECORDS_MAX)));
    let more = encode_request(&request(RECORDS_MAX + 1));
    assert_eq!(decode_request(body(&more)), Err(Fault::Field));
}

#[test]
fn the_length_of_an_append_is_known_before() {
    for request in requests() {
        if let Request::Append { records, expected_lsn, sequence, .. } = &request {
            let bytes = encode_request(&request).len();
            let most = append_frame_bytes(records);
            let is_whole = expected_lsn.is_some() && sequence.is_some();
            assert!(if is_whole { bytes == most } else { bytes < most });
        }
    }
}

#[test]
fn texts_are_cut() {
    let failure = |address: &str, text: &str| {
        let node = NodeId::new(1).expect("not 0");
        Response::Failed(Failure {
            outcome: Outcome::Retryable,
            reason: Reason::NotLeading(Some((node, address.to_owned()))),
            text: text.to_owned(),
        })
    };
    // An odd byte in front, so that the limit falls inside of a letter of two bytes.
    let (address, text) = ("a".to_owned() + &"ü".repeat(200), "a".to_owned() + &"ü".repeat(3000));
    let frame = encode_response(&failure(&address, &text));
    let (short_address, short_text) =
        (&address[..ADDRESS_BYTES_MAX - 1], &text[..TEXT_BYTES_MAX - 1]);
    assert_eq!(decode_response(body(&frame)), Ok(failure(short_address, short_text)));
    let exact = failure(&"b".repeat(ADDRESS_BYTES_MAX), &"c".repeat(TEXT_BYTES_MAX));
    assert_eq!(decode_response(body(&encode_response(&exact))), Ok(exact));
}
