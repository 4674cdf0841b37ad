//! Reading: batches from the medium, verified, and records from batches.
//!
//! - `window`: batches of one segment, one after the other, past the page cache when it matters.
//! - `cursor`: the same for readers of an open log, through mappings where segments are sealed.
//! - `assembler`: batches from bytes that somebody else reads for another purpose too.
//! - `patient`: a file on a medium that is going bad, as far as it can be read.
//! - `records`: what people hold: iterators and the waiting tail.
//! - `fork_reader`: what a truncation gave up;
//! - `log_reader`: a log that another process may be writing.

mod assembler;
mod cursor;
mod fork_reader;
mod log_reader;
mod patient;
mod records;
mod window;

pub(crate) use assembler::Assembler;
pub(crate) use cursor::{Cursor, Way};
pub use fork_reader::{ForkError, ForkReader};
pub use log_reader::LogReader;
pub(crate) use log_reader::{Look, look, look_alone, not_found, superblock_of, verdict_of};
pub(crate) use patient::PatientFile;
pub(crate) use records::View;
pub use records::{Records, Tail};
pub(crate) use window::{ScanEnd, Window};
