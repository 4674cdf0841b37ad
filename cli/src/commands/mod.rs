//! The commands, one file each, and what several of them share.

pub(crate) mod append;
pub(crate) mod bench;
pub(crate) mod cert;
pub(crate) mod doctor;
pub(crate) mod fork;
pub(crate) mod inspect;
pub(crate) mod promote;
pub(crate) mod read;
pub(crate) mod repair;
pub(crate) mod serve;
pub(crate) mod status;
pub(crate) mod verify;

mod connecting;
mod facts;
mod opening;
