//! One append.
//!
//! Owns its options, its limits and its retries; many of them in a row are in `appender`.
//!
//! Invariants
//!  S1. An append whose outcome is not known is sent again only with a sequence. tests `an_unknown_append_is_not_repeated`,
//!      `a_sequence_makes_a_repeat_safe`
//!  S2. A producer that the client numbers for has one append at a time, and none behind one that is in doubt.
//!                                                             test `single_appends_share_few_producers`
//!  S3. Numbers count on only with what was accepted.                          test `numbers_count_on`
//!
//! Bounds: those of a frame, and the deadline.

use super::cluster::Cluster;
use super::error::ClientError;
use super::producers::Producers;
use super::retry::may_repeat;
use super::window::settle;
use crate::protocol::node_id::NodeId;
use crate::wire::frame::{FRAME_BYTES_MAX, LENGTH_BYTES};
use crate::wire::request::{Ack, Outcome, RECORDS_MAX, Reason, Response, Sequence};
use crate::wire::request_codec::{append_frame_bytes, encode_append};
use crate::{Epoch, Lsn, LsnRange};

/// How to append.
#[derive(Clone, Copy, Debug)]
pub struct AppendOptions {
    /// When it counts as appended.
    pub ack: Ack,
    /// Append only if the first record gets this LSN. In an appender it counts on by itself.
    pub expected_lsn: Option<Lsn>,
    /// Who numbers the records.
    pub numbering: Numbering,
}

/// Who numbers records. Those that have numbers may be sent again when it is not known whether they were stored: the
/// log takes each of them once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Numbering {
    /// The client, in the name of a producer of its own.
    #[default]
    Client,
    /// The caller: who appends, and the number of the first record. In an appender it counts on by itself. What the
    /// log holds already: [`Client::next_sequence`](super::Client::next_sequence).
    From(Sequence),
    /// Nobody: what may have been stored is not sent again.
    Nobody,
}

impl Default for AppendOptions {
    fn default() -> AppendOptions {
        AppendOptions { ack: Ack::Quorum, expected_lsn: None, numbering: Numbering::Client }
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

/// What an append says besides its records.
#[derive(Clone, Copy, Debug)]
pub(super) struct Front {
    pub(super) ack: Ack,
    pub(super) expected_lsn: Option<Lsn>,
    pub(super) sequence: Option<Sequence>,
}

impl Front {
    /// That of the append behind one of `records` records.
    pub(super) fn after(self, records: usize) -> Front {
        let count = u64::try_from(records).unwrap_or(u64::MAX);
        let expected_lsn = self.expected_lsn.map(|lsn| lsn.plus(count));
        let sequence = self.sequence.map(|sequence| after(sequence, count));
        Front { ack: self.ack, expected_lsn, sequence }
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

fn after(sequence: Sequence, count: u64) -> Sequence {
    Sequence { producer_id: sequence.producer_id, first: sequence.first.saturating_add(count) }
}

/// Appends, wherever the leader is.
pub(super) async fn append(
    cluster: &Cluster,
    records: &[Vec<u8>],
    options: AppendOptions,
) -> Result<Appended, ClientError> {
    let AppendOptions { ack, expected_lsn, numbering } = options;
    let sequence = match numbering {
        Numbering::Client => return append_as_client(cluster, records, ack, expected_lsn).await,
        Numbering::From(sequence) => Some(sequence),
        Numbering::Nobody => None,
    };
    append_in_front(cluster, records, Front { ack, expected_lsn, sequence }).await
}

/// Appends in the name of a producer that nobody else uses meanwhile.
async fn append_as_client(
    cluster: &Cluster,
    records: &[Vec<u8>],
    ack: Ack,
    expected_lsn: Option<Lsn>,
) -> Result<Appended, ClientError> {
    let mut sequence = cluster.producers.take()?;
    loop {
        let front = Front { ack, expected_lsn, sequence: Some(sequence) };
        let appended = append_in_front(cluster, records, front).await;
        match &appended {
            Ok(_) => {
                let count = u64::try_from(records.len()).unwrap_or(u64::MAX);
                cluster.producers.put_back(after(sequence, count));
            }
            // It was not heard of for too long, and nothing is in doubt.
            Err(ClientError::Final(why))
                if why.reason == Some(Reason::UnknownProducer) && sequence.first > 0 =>
            {
                sequence = Producers::new_one()?;
                continue;
            }
            Err(error) if error.outcome() != Outcome::Unknown => {
                cluster.producers.put_back(sequence);
            }
            // The numbers may be used or not: nobody goes on with them.
            Err(_) => {}
        }
        return appended;
    }
}

async fn append_in_front(
    cluster: &Cluster,
    records: &[Vec<u8>],
    front: Front,
) -> Result<Appended, ClientError> {
    let frame = front.encode(records)?;
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
        if !may_repeat(&error, front.sequence.is_some()) {
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

    #[test]
    fn numbers_count_on() {
        let sequence = Some(Sequence { producer_id: 7, first: 10 });
        let front = Front { ack: Ack::All, expected_lsn: Some(Lsn::new(4)), sequence };
        let next = front.after(3);
        assert_eq!(next.ack, Ack::All);
        assert_eq!(next.expected_lsn, Some(Lsn::new(7)));
        assert_eq!(next.sequence, Some(Sequence { producer_id: 7, first: 13 }));
        let bare = Front { ack: Ack::All, expected_lsn: None, sequence: None };
        let next = bare.after(3);
        assert_eq!((next.expected_lsn, next.sequence), (None, None));
    }

    #[test]
    fn limits_are_held_before_anything_is_sent() {
        let bare = Front { ack: Ack::All, expected_lsn: None, sequence: None };
        let refused = |records: &[Vec<u8>]| {
            let error = bare.encode(records).expect_err("over a limit");
            assert_eq!((error.outcome(), error.reason()), (Outcome::Final, Some(&Reason::Invalid)));
        };
        refused(&[]);
        refused(&vec![Vec::new(); RECORDS_MAX + 1]);
        refused(&[vec![0; FRAME_BYTES_MAX]]);
        assert!(bare.encode(&vec![Vec::new(); RECORDS_MAX]).is_ok());
    }
}
