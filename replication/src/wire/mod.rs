//! Messages as bytes.
//!
//! [`frame`] is what nodes say to each other; [`request`] what clients and nodes do, and [`request_codec`] its bytes.
//! `bytes` is what all of them are made of. Nothing here knows what a message
//! means, and no bytes make it panic or allocate more than they are long.

pub(crate) mod bytes;
pub mod frame;
pub mod request;
pub mod request_codec;
