//! The logs that the engine is measured against.
//!
//! Owns one file per peer, which says what is timed and what that call promises. Does not own the
//! workloads.
//!
//! | peer | an append is timed until | survives a power cut |
//! | --- | --- | --- |
//! | [`direct`] | `pwritev2(RWF_DSYNC)` returned | yes, but there is no log: no length, checksum or recovery |
//! | `okaywal` | its `commit` returned: `fdatasync` of the segment, shared by a group | yes |
//! | `fjall` | its `persist` returned: `fsync` of the journal, one per call | yes |
//! | `raft_engine` | its `write(sync)` returned: `fdatasync` of the log, shared by a group | yes |
//! | `commitlog` | `write` to the page cache returned | no, only the end of the process |

#[cfg(feature = "peers")]
pub mod commitlog;
pub mod direct;
#[cfg(feature = "peers")]
pub mod fjall;
#[cfg(feature = "peers")]
pub mod okaywal;
#[cfg(feature = "peers")]
pub mod raft_engine;
