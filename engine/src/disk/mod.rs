//! The seam to the operating system: files of one directory, the wall clock, and entropy.
//!
//! Everything the engine does to the outside goes through [`Disk`], so that the same engine code runs
//! on [`OsDisk`] and, with the feature `sim`, on a simulated disk whose power can be cut.
//! The only unsafe code of the workspace is in this folder.

mod blocking;
mod buffer;
mod mapping;
mod operation;
mod os;
#[cfg(feature = "sim")]
pub mod sim;
mod traits;
#[cfg(all(target_os = "linux", feature = "uring"))]
mod uring;

#[cfg(all(test, shuttle))]
pub(crate) use blocking::BlockingQueue;
pub use buffer::{ALIGNMENT, Aligned, Appendable, Pool, Shared};
pub use mapping::Mapping;
pub use operation::{Completion, Write};
pub use os::{Backend, BackendChoice, DurableWrite, OsDisk, Probe};
pub use traits::{Access, Disk, DiskFile, Entry, EntryKind, Waker, WriteQueue};
