//! Every operation of a workload fails once, or never ends, and the disk runs full: what the engine says,
//! and keeps.
//!  P1 nothing that was acknowledged is lost, whatever failed before or after;
//!  P5 after a failed write or sync the log is poisoned for good, and reads go on; reopening decides by
//!     what is on the medium;
//!  P10 without room appends are refused with a typed error, reads go on, and appends go on by
//!     themselves when there is room again.
//!
//! The disk is simulated: after a failed write or sync its cache and its medium may differ, and no
//! later sync mends that.

mod each;
mod full;
mod hangs;
mod model;
mod truncation;
