//! The log itself: batches in, batches out; no I/O.
//!
//! [`writer::Writer`] turns records into placed writes and completions into durable LSNs;
//! [`commit::Commit`] is where those who wait for a batch meet; [`scan::Chain`] decides whether bytes
//! continue the log; [`hot::HotTail`] holds the newest batches; [`index::Index`] finds a batch in a
//! segment.

pub(crate) mod commit;
pub(crate) mod hot;
pub(crate) mod index;
pub(crate) mod scan;
pub(crate) mod steps;
pub(crate) mod writer;
