//! One append.
//!
//! Owns its options, its limits and its retries; many of them in a row are in `appender`.
//!
//! Invariants
//!  S1. An append whose outcome is not known is sent again only with a sequence. tests `an_unknown_append_is_not_repeated`,
//!      `a_sequence_makes_a_repeat_safe`
//!  S2. Numbers count on only with what was accepted.                          test `numbers_count_on`
//!
//! Bounds: those of a frame, and the deadline.

use super::cluster::Cluster;
use super::error::ClientError;
use super::retry::may_repeat;
use super::window::settle;
use crate::protocol::node_id::NodeId;
use crate::wire::frame::{FRAME_BYTES_MAX, LENGTH_BYTES};
use crate::wire::request::{Ack, Outcome, RECORDS_MAX, Response, Sequence};
use crate::wire::request_codec::{append_frame_bytes, encode_append};
use crate::{Epoch, Lsn, LsnRange};

/// How to append.
#[derive(Clone, Copy, Debug)]
pub struct AppendOptions {
    /// When it counts as appended.
    pub ack: Ack,
    /// Append only if the first record gets this LSN. In an appender it counts on by itself.
    pub expected_lsn: Option<Lsn>,
    /// Who appends, and the number of the first record: makes it safe to send it again. In an appender it counts
    /// on by itself.
    pub sequence: Option<Sequence>,
}

impl Default for AppendOptions {
    fn default() -> AppendOptions {
        AppendOptions { ack: Ack::Quorum, expected_lsn: None, sequence: None }
    }
}

/// What was appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The records.
    pub lsns: LsnRange,
    /// The epoch of the leader.
    pub epoch: Epoch,
    /// The level that was reached; less than what was asked for where the server degrades.
    pub ack: Ack,
    /// The replicas that have it, as far as the leader knows; empty for [`Ack::Buffered`].
    pub replicas: Vec<NodeId>,
}

impl Appended {
    /// An answer to an append.
    ///
    /// # Errors
    /// The failure that it is; unknown when it is none that belongs to an append.
    pub(super) fn from_response(response: Response) -> Result<Appended, ClientError> {
        match response {
            Response::Appended { lsns, epoch, ack, replicas } => {
                Ok(Appended { lsns, epoch, ack, replicas })
            }
            Response::Failed(failure) => Err(failure.into()),
            _ => Err(ClientError::unknown("the answer is none to an append")),
        }
    }
}

impl AppendOptions {
    /// The options of the append behind one of `records` records.
    pub(super) fn after(self, records: usize) -> AppendOptions {
        let count = u64::try_from(records).unwrap_or(u64::MAX);
        let expected_lsn = self.expected_lsn.map(|lsn| lsn.plus(count));
        let next = |sequence: Sequence| Sequence {
            producer_id: sequence.producer_id,
            first: sequence.first.saturating_add(count),
        };
        AppendOptions { ack: self.ack, expected_lsn, sequence: self.sequence.map(next) }
    }

    /// The frame of an append.
    ///
    /// # Errors
    /// It is over a limit, or has no records.
    pub(super) fn encode(self, records: &[Vec<u8>]) -> Result<Vec<u8>, ClientError> {
        let count = records.len();
        if count == 0 {
            return Err(ClientError::invalid("an append has at least one record"));
        }
        if count > RECORDS_MAX {
            let text = format!("{count} records are more than {RECORDS_MAX}");
            return Err(ClientError::invalid(text));
        }
        let bytes = append_frame_bytes(records) - LENGTH_BYTES;
        if bytes > FRAME_BYTES_MAX {
            let text = format!("an append of {bytes} bytes is over {FRAME_BYTES_MAX}");
            return Err(ClientError::invalid(text));
        }
        Ok(encode_append(self.ack, self.expected_lsn, self.sequence, records))
    }
}

/// Appends, wherever the leader is.
pub(super) async fn append(
    cluster: &Cluster,
    records: &[Vec<u8>],
    options: AppendOptions,
) -> Result<Appended, ClientError> {
    let frame = options.encode(records)?;
    let deadline = cluster.deadline();
    let mut route = cluster.route_to_leader();
    let mut is_in_doubt = false;
    loop {
        let target = route.target().to_owned();
        let answer = cluster.ask(&target, frame.clone(), deadline).await;
        let error = match answer.and_then(Appended::from_response) {
            Ok(appended) => {
                cluster.led(&target);
                return Ok(appended);
            }
            Err(error) => error,
        };
        if !may_repeat(&error, options.sequence.is_some()) {
            return Err(settle(error, is_in_doubt));
        }
        is_in_doubt |= error.outcome() == Outcome::Unknown;
        let paused = cluster.pause(&mut route, error, deadline).await;
        cluster.led_no_more(&route);
        paused.map_err(|error| settle(error, is_in_doubt))?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::request::Reason;

    #[test]
    fn numbers_count_on() {
        let sequence = Some(Sequence { producer_id: 7, first: 10 });
        let options = AppendOptions { ack: Ack::All, expected_lsn: Some(Lsn::new(4)), sequence };
        let next = options.after(3);
        assert_eq!(next.ack, Ack::All);
        assert_eq!(next.expected_lsn, Some(Lsn::new(7)));
        assert_eq!(next.sequence, Some(Sequence { producer_id: 7, first: 13 }));
        let bare = AppendOptions::default().after(3);
        assert_eq!((bare.expected_lsn, bare.sequence), (None, None));
    }

    #[test]
    fn limits_are_held_before_anything_is_sent() {
        let refused = |records: &[Vec<u8>]| {
            let error = AppendOptions::default().encode(records).expect_err("over a limit");
            assert_eq!((error.outcome(), error.reason()), (Outcome::Final, Some(&Reason::Invalid)));
        };
        refused(&[]);
        refused(&vec![Vec::new(); RECORDS_MAX + 1]);
        refused(&[vec![0; FRAME_BYTES_MAX]]);
        assert!(AppendOptions::default().encode(&vec![Vec::new(); RECORDS_MAX]).is_ok());
    }
}
