//! Any bytes as what another node says.
//!
//! Properties
//!  F1. Decoding answers, whatever the bytes are.
//!  F2. What decodes encodes to the same bytes.

use cairnlog_replication::wire::frame::{LENGTH_BYTES, decode, encode, length};

/// Holds F1 and F2 against the bytes of a frame, without its length.
pub fn check(bytes: &[u8]) {
    let Ok(message) = decode(bytes) else { return };
    let frame = encode(&message);
    let (front, body) = frame.split_first_chunk::<LENGTH_BYTES>().expect("it has a length");
    assert_eq!(body, bytes, "F2: {message:?}");
    assert_eq!(length(*front), Ok(bytes.len()), "F2");
}
