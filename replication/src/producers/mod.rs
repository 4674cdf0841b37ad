//! Who has appended what: how a record that is sent again is told from a new one.
//!
//! - `table`: what a log says of its producers, up to an LSN; the same on every node.
//! - `codec`: the table as the bytes of a checkpoint.
//! - `admission`: the table of a leader, with what it has taken and not made durable yet.
//!
//! None of them does any I/O. Who reads the log for them, and asks them, is the server.

mod admission;
mod codec;
mod table;

pub use admission::{Admission, Admitted};
pub use codec::{Malformed, decode, encode};
pub use table::{Limits, ProducerTable, Run, Verdict};
