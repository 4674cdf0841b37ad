//! The log itself: batches in, batches out; no I/O.
//!
//! [`writer::Writer`] turns records into placed writes and completions into durable LSNs;
//! [`commit::Commit`] is where those who wait for a batch meet; [`scan::Chain`] decides whether bytes
//! continue the log; [`hot::HotTail`] holds the newest batches; [`index::Index`] finds a batch in a
//! segment; [`feed::Feed`] holds what is being written for other nodes, which compare logs by
//! [`place::Place`].

pub(crate) mod commit;
pub(crate) mod feed;
pub(crate) mod hot;
pub(crate) mod index;
pub(crate) mod place;
pub(crate) mod raw;
pub(crate) mod scan;
pub(crate) mod steps;
pub(crate) mod writer;
