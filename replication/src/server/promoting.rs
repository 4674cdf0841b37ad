//! `promote`: an operator names this node as the leader.
//!
//! Owns the question to the node, and what is said of the records that may be lost. Whether it leads is the
//! protocol's to say: it does only with the promises of a seal quorum, and then nothing that is committed is lost.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::oneshot;

use super::Shared;
use super::session::failure;
use crate::driver::event_loop::Event;
use crate::protocol::quorum::seal_quorum;
use crate::wire::request::{Outcome, Reason, Response};

/// A node that stands says by then whether it leads.
const ANSWER_MAX: Duration = Duration::from_secs(15);

/// Has this node stand, or says what would come of it.
pub(super) async fn promote(shared: &Arc<Shared>, dry_run: bool) -> Response {
    let Some(opened) = shared.opened.get() else {
        let text = "this node has no log yet";
        return Response::Failed(failure(Outcome::Retryable, Reason::Busy, text));
    };
    if dry_run {
        return Response::Json(outlook(shared).to_string());
    }
    let (asked, answered) = oneshot::channel();
    opened.handle.tell(Event::Stand(asked));
    match tokio::time::timeout(ANSWER_MAX, answered).await {
        Ok(Ok(Ok(epoch))) => {
            Response::Json(json!({ "leads": true, "epoch": epoch.get() }).to_string())
        }
        Ok(Ok(Err(because))) => {
            Response::Json(json!({ "leads": false, "because": because }).to_string())
        }
        // The loop has ended, or another one asked in between.
        Ok(Err(_)) | Err(_) => {
            let text = "it is not known whether this node leads: ask for its status";
            Response::Failed(failure(Outcome::Unknown, Reason::TimedOut, text))
        }
    }
}

/// What would come of a promotion, as far as this node knows.
fn outlook(shared: &Shared) -> serde_json::Value {
    let status = shared.status();
    let connected = shared.opened.get().map_or(0, |opened| opened.handle.seen().connected.len());
    let nodes = shared.config.peers.len().max(1);
    let needed = seal_quorum(nodes);
    let would_lead = status.role.name() != "learner" && connected + 1 >= needed;
    let warning = match status.leader {
        Some(leader) if leader == status.node_id => "this node leads already".to_owned(),
        Some(leader) => format!(
            "records behind LSN {} that node {leader} acknowledged at `local` or `buffered` and did not send yet \
             are lost to the log; how many these are only node {leader} knows. It keeps them in a fork when it comes \
             back. What was acknowledged at `quorum` or `all` is kept",
            status.durable_lsn
        ),
        None => "records that a leader before acknowledged at `local` or `buffered`, and none of the replicas \
                 that promise has, are lost to the log. What was acknowledged at `quorum` or `all` is kept"
            .to_owned(),
    };
    json!({
        "would_lead": would_lead,
        "replicas_reachable": connected + 1,
        "replicas_needed": needed,
        "durable_lsn": status.durable_lsn,
        "commit_lsn": status.commit_lsn,
        "warning": warning,
    })
}
