//! The producers that a client makes up.
//!
//! Owns those that are between two appends, so that a client that appends now and then is one producer and not as many
//! as it has appended, and those that append at the same time do not wait for each other.
//!
//! Bounds: [`IDLE_MAX`]; what is over is left to be forgotten.

use std::sync::{Mutex, PoisonError};

use super::error::ClientError;
use crate::wire::request::Sequence;

/// As many single appends at a time go on with the numbers of others.
const IDLE_MAX: usize = 64;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Producers(Mutex<Vec<Sequence>>);

impl Producers {
    /// A producer that nobody else has, and the number of its next record.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub(super) fn take(&self) -> Result<Sequence, ClientError> {
        let idle = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.map_or_else(Producers::new_one, Ok)
    }

    /// Another one may go on from there.
    pub(super) fn put_back(&self, sequence: Sequence) {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX {
            idle.push(sequence);
        }
    }

    /// One that never was.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub(super) fn new_one() -> Result<Sequence, ClientError> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)
            .map_err(|error| ClientError::over(format!("no random numbers: {error}")))?;
        Ok(Sequence { producer_id: u128::from_le_bytes(bytes), first: 0 })
    }
}
