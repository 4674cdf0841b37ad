//! `promote`: make a server the leader.
//!
//! Owns what a refusal is: the answer no, whatever its reason. That the server stood and does not lead is one.
//!
//! Bounds: a server that is not there is known within [`connecting::QUESTION_MAX`]; what comes of one that is,
//! within [`PROMOTION_MAX`].

use std::time::Duration;

use cairnlog_replication::client::ClientError;
use cairnlog_replication::wire::request::Outcome;

use super::{connecting, facts};
use crate::args::{Format, PromoteArgs};
use crate::exit::{Exit, Failure};
use crate::output;

/// A server knows after 15 s at most whether it leads. Less would say "not known" of what is known.
const PROMOTION_MAX: Duration = Duration::from_secs(20);

pub(crate) fn run(args: &PromoteArgs) -> Result<Exit, Failure> {
    let [server] = &args.cluster.servers[..] else {
        let text = "one server becomes the leader: name it alone with --server";
        return Err(Failure::new(Exit::Failed, text));
    };
    let answer = connecting::run(async {
        let connect = |deadline| connecting::connect_to(&args.cluster, server, deadline);
        connect(connecting::QUESTION_MAX).await?.close().await;
        let client = connect(PROMOTION_MAX).await?;
        let promoted = client.promote(server, args.dry_run).await;
        connecting::parse(&promoted.map_err(refusal)?)
    })?;
    match args.format {
        Format::Json => output::print_json(&answer)?,
        Format::Text => output::print(&facts::to_text(&answer))?,
    }
    if answer["leads"] == false {
        let because = answer["because"].as_str().unwrap_or("it did not say why");
        return Err(Failure::new(Exit::No, format!("{server} does not lead: {because}")));
    }
    Ok(Exit::Done)
}

fn refusal(error: ClientError) -> Failure {
    let is_refused = error.reason().is_some() && error.outcome() == Outcome::Final;
    let mut failure = Failure::from(error);
    if is_refused {
        failure.exit = Exit::No;
    }
    failure
}
