//! `status`: how servers are.
//!
//! Owns asking each of them, and that one that does not answer keeps no other from being shown.

use serde_json::Value;

use super::{connecting, facts};
use crate::args::{Cluster, Format, StatusArgs};
use crate::exit::{Exit, Failure};
use crate::output::{self, talk};

pub(crate) fn run(args: &StatusArgs) -> Result<Exit, Failure> {
    let mut exit = Exit::Done;
    for (number, server) in args.cluster.servers.iter().enumerate() {
        match connecting::run(ask(&args.cluster, server)) {
            Ok(status) if args.format == Format::Json => output::print_json(&status)?,
            Ok(status) => {
                let space = if number > 0 { "\n" } else { "" };
                output::print(&format!("{space}{}", facts::to_text(&status)))?;
            }
            Err(failure) => {
                talk(format_args!("{server}: {}", failure.message.unwrap_or_default()));
                exit = Exit::Failed;
            }
        }
    }
    Ok(exit)
}

/// The status, and which server it is of.
async fn ask(cluster: &Cluster, server: &str) -> Result<Value, Failure> {
    let client = connecting::connect_to(cluster, server, connecting::QUESTION_MAX).await?;
    let mut status = connecting::parse(&client.status_of(server).await?)?;
    if let Value::Object(facts) = &mut status {
        facts.insert("server".to_owned(), server.into());
    }
    Ok(status)
}
