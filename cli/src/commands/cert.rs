//! `cert`: certificates, to try things out.
//!
//! Owns nothing but the way to the transport, which makes them.

use cairnlog_replication::transport::make_development_certificates;

use crate::args::{CertArgs, CertCommand};
use crate::exit::{Exit, Failure};
use crate::output::talk;

pub(crate) fn run(args: &CertArgs) -> Result<Exit, Failure> {
    let CertCommand::Dev { out, nodes } = &args.command;
    let out_name = out.display();
    make_development_certificates(out, *nodes)
        .map_err(|error| Failure::new(Exit::Failed, format!("{out_name}: {error}")))?;
    talk(format_args!("made {out_name}/node-1 to node-{nodes}, and {out_name}/client"));
    Ok(Exit::Done)
}
