//! A disk in memory whose power can be cut: the twin of [`OsDisk`](super::OsDisk), from one seed.
//!
//! Contract: what it keeps, loses and may do to its user.
//!  - A sector ([`SECTOR_BYTES`]) is written whole or not at all; several sectors tear in any way.
//!  - A power cut leaves of every sector its durable bytes or any version written since; of the
//!    changes of names since the last sync of the directory any subset that fits together; of a
//!    length that was not synced anything down to the durable one.
//!  - A durable write makes its own bytes durable and no others, a sync those of its file.
//!  - After a failed write or sync the cache and the medium may differ. A later sync mends nothing,
//!    but makes durable what [`read_direct_at`](super::DiskFile::read_direct_at) has since shown to be
//!    on the medium.
//!  - Writes of a queue complete in any order, and until then any part of them may be there.
//!  - It lies only when told to: a write may be lost, go elsewhere, stop short or hang, a sector may be
//!    unreadable, and the cache may be older than the medium (`injection`).
//!  - It must not be asked to survive two writes on their way to one sector: the later one wins here,
//!    a real disk promises nothing.
//!
//! Used from one thread, everything follows from the seeds of [`SimDisk::new`] and
//! [`SimDisk::restart`].

mod controls;
mod digest;
mod directory;
#[cfg(test)]
mod fault_tests;
mod faults;
mod file;
mod image;
mod injection;
mod names;
mod outcome;
#[cfg(test)]
mod outcome_tests;
mod queue;
mod random;
mod state;
#[cfg(test)]
mod tests;

pub use controls::PowerCut;
pub use directory::SimDisk;
pub use image::SECTOR_BYTES;
pub use state::{OperationKind, POWER_CUT};
