//! What one client asks, lane by lane.
//!
//! Owns the way from a request to whoever carries it out. Bytes from clients give answers or the end of the
//! connection, never panics.
//!
//! Bounds: lanes of a connection by the transport, appends on their way by the room of the log.

use std::sync::Arc;

use super::{Shared, appending, numbered, promoting, reading};
use crate::transport::{ClientConnection, Lane, LaneSender, TransportError};
use crate::wire::request::{Failure, Outcome, Reason, Request, Response};
use crate::wire::request_codec::{decode_request, encode_response};

/// Serves a client to the end of its connection, or of the server.
pub(super) async fn serve(shared: Arc<Shared>, connection: ClientConnection) {
    let mut ending = shared.ending.subscribe();
    loop {
        let lane = tokio::select! {
            // Lanes that are served get their answers; the connection ends with the endpoint.
            _ = ending.wait_for(|ending| *ending) => return,
            lane = connection.accept() => lane,
        };
        let Ok(lane) = lane else { return };
        let (shared, connection) = (Arc::clone(&shared), connection.clone());
        tokio::spawn(async move {
            let Ok(_lane) = shared.lanes.acquire().await else { return };
            if let Err(TransportError::Frame(fault)) = serve_lane(&shared, lane).await {
                connection.close(&format!("a frame is none: {fault}"));
            }
        });
    }
}

async fn serve_lane(shared: &Arc<Shared>, lane: Lane) -> Result<(), TransportError> {
    let (mut sender, mut receiver) = lane.split();
    let Some(frame) = receiver.receive().await? else { return Ok(()) };
    match decode_request(&frame).map_err(TransportError::Frame)? {
        request @ Request::Append { .. } => {
            appending::serve(shared, request, sender, receiver).await
        }
        Request::Read { from, to, count, min_lsn, visibility, follows } => {
            let wanted = reading::Wanted { from, to, count, min_lsn, visibility, follows };
            reading::serve(shared, wanted, &mut sender).await
        }
        Request::NextSequence { producer_id, ack } => {
            let response = tokio::select! {
                response = numbered::next_sequence(shared, producer_id, ack) => response,
                error = sender.stopped() => return Err(error),
            };
            answer_once(&mut sender, &response).await
        }
        Request::Status => {
            let text = shared.status().to_json().to_string();
            answer_once(&mut sender, &Response::Json(text)).await
        }
        Request::Promote { dry_run } => {
            let response = promoting::promote(shared, dry_run).await;
            answer_once(&mut sender, &response).await
        }
    }
}

pub(super) async fn answer(
    sender: &mut LaneSender,
    response: &Response,
) -> Result<(), TransportError> {
    sender.send(encode_response(response)).await
}

pub(super) async fn answer_once(
    sender: &mut LaneSender,
    response: &Response,
) -> Result<(), TransportError> {
    answer(sender, response).await?;
    sender.finish().await
}

pub(super) fn failure(outcome: Outcome, reason: Reason, text: impl Into<String>) -> Failure {
    Failure { outcome, reason, text: text.into() }
}

impl Shared {
    /// Another one leads, or nobody.
    pub(super) fn not_leading(&self) -> Failure {
        let leader = self.opened.get().and_then(|opened| opened.handle.seen().leader);
        let leader = leader.filter(|leader| *leader != self.config.node);
        let leader = leader.and_then(|leader| Some((leader, self.address_of(leader)?)));
        let text = match &leader {
            Some((node, address)) => format!("node {node} leads, at {address}"),
            None => "this node does not lead, and knows of nobody who does".to_owned(),
        };
        failure(Outcome::Retryable, Reason::NotLeading(leader), text)
    }
}
