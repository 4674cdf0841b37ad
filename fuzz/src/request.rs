//! Any bytes as what a client says, and as what a node answers it.
//!
//! Properties
//!  Q1. Decoding answers, whatever the bytes are.
//!  Q2. What decodes encodes to the same bytes.
//!  Q3. No bytes are both a request and an answer.

use cairnlog_replication::wire::frame::{LENGTH_BYTES, length};
use cairnlog_replication::wire::request_codec::{
    decode_request, decode_response, encode_request, encode_response,
};

/// Holds Q1 to Q3 against the bytes of a frame, without its length.
pub fn check(bytes: &[u8]) {
    let request = decode_request(bytes);
    let response = decode_response(bytes);
    assert!(request.is_err() || response.is_err(), "Q3: {request:?} {response:?}");
    if let Ok(request) = request {
        check_same(&encode_request(&request), bytes);
    }
    if let Ok(response) = response {
        check_same(&encode_response(&response), bytes);
    }
}

fn check_same(frame: &[u8], bytes: &[u8]) {
    let (front, body) = frame.split_first_chunk::<LENGTH_BYTES>().expect("it has a length");
    assert_eq!(body, bytes, "Q2");
    assert_eq!(length(*front), Ok(bytes.len()), "Q2");
}
