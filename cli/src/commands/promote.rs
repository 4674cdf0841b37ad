//! `promote`: make a server the leader.
//!
//! Owns what a refusal is: the answer no, whatever its reason.

use cairnlog_replication::client::ClientError;
use cairnlog_replication::wire::request::Outcome;

use super::{connecting, facts};
use crate::args::{Format, PromoteArgs};
use crate::exit::{Exit, Failure};
use crate::output;

pub(crate) fn run(args: &PromoteArgs) -> Result<Exit, Failure> {
    let [server] = &args.cluster.servers[..] else {
        let text = "one server becomes the leader: name it alone with --server";
        return Err(Failure::new(Exit::Failed, text));
    };
    let answer = connecting::run(async {
        let client = connecting::connect_to(&args.cluster, server).await?;
        let promoted = client.promote(server, args.dry_run).await;
        connecting::parse(&promoted.map_err(refusal)?)
    })?;
    match args.format {
        Format::Json => output::print_json(&answer)?,
        Format::Text => output::print(&facts::to_text(&answer))?,
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
