//! Messages as bytes.
//!
//! [`frame`] encodes and decodes them; `bytes` is what both are made of. Nothing here knows what a message
//! means, and no bytes make it panic or allocate more than they are long.

mod bytes;
pub mod frame;
