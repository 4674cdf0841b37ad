//! The commands, one file each, and what two of them share.

pub(crate) mod append;
pub(crate) mod bench;
pub(crate) mod doctor;
pub(crate) mod inspect;
pub(crate) mod read;
pub(crate) mod repair;
pub(crate) mod verify;

mod opening;
