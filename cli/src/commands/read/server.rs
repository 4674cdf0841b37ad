//! Reading from servers.
//!
//! Owns when what was read is shown: at once while following, when nothing comes, and at the end.
//!
//! Bounds: what the client keeps, and the output's buffer.

use std::pin::pin;
use std::time::Duration;

use cairnlog_engine::Lsn;
use cairnlog_replication::client::{ClientError, ReadOptions, Reader};
use cairnlog_replication::wire::request::{Visibility, WireRecord};
use tokio::time::sleep;

use super::format::{Shown, Sink};
use crate::args::{Cluster, ReadArgs};
use crate::commands::connecting;
use crate::exit::{Exit, Failure};
use crate::output;

/// While nothing comes, the output is looked at so often: whether anybody still reads it.
const LOOK_PAUSE: Duration = Duration::from_millis(50);

pub(super) fn run(args: &ReadArgs, cluster: &Cluster) -> Result<Exit, Failure> {
    super::check_order(args.from.unwrap_or(Lsn::FIRST), args.to.unwrap_or(Lsn::MAX))?;
    let mut sink = Sink::new(output::stdout()?, args.format);
    let ended = connecting::run_apart(copy(args, cluster, &mut sink));
    // What was read is shown, whatever ended it.
    sink.flush()?;
    ended
}

async fn copy(args: &ReadArgs, cluster: &Cluster, sink: &mut Sink) -> Result<Exit, Failure> {
    let client = connecting::connect(cluster).await?;
    let options = ReadOptions {
        from: args.from,
        to: args.to,
        count: args.count,
        min_lsn: args.min_lsn,
        visibility: args.visibility.map_or(Visibility::Committed, Visibility::from),
        follows: args.follow,
    };
    let mut reader = client.read(options).await?;
    let mut left = args.count.unwrap_or(u64::MAX);
    while left > 0 {
        let Some(record) = next(&mut reader, sink).await? else { break };
        sink.write(&Shown::from(&record))?;
        left -= 1;
    }
    Ok(Exit::Done)
}

/// The next record; shows what there is before it waits. `None` at the end, or when nobody reads the output
/// any more.
async fn next(reader: &mut Reader, sink: &mut Sink) -> Result<Option<WireRecord>, Failure> {
    let answer = |answer: Result<Option<WireRecord>, ClientError>| answer.map_err(Failure::from);
    // One call for the whole wait: nothing says that a call can be given up and made again.
    let mut next = pin!(reader.next());
    tokio::select! {
        biased;
        record = &mut next => return answer(record),
        () = std::future::ready(()) => sink.flush()?,
    }
    loop {
        tokio::select! {
            record = &mut next => return answer(record),
            () = sleep(LOOK_PAUSE) => if output::reader_is_gone() { return Ok(None) },
        }
    }
}
