//! Measuring servers.
//!
//! Owns the connections that append. A latency is from the call to the acknowledgement, the network and the
//! other nodes included.
//!
//! Bounds: `--writers` connections times `--in-flight` records.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use cairnlog_engine::{AppendError, RECORD_BYTES_MAX};
use cairnlog_replication::client::{AppendOptions, Appender, Client};
use cairnlog_replication::wire::request;
use tokio::task::{JoinHandle, JoinSet};

use super::{Histogram, Measured, Phase, WARM_UP, random_bytes};
use crate::args::{Ack, BenchArgs, Cluster};
use crate::commands::connecting;
use crate::exit::{Exit, Failure};
use crate::output::talk;

/// What a record takes on its way besides its bytes.
const OVERHEAD_BYTES: usize = 64;
/// So many connections are made at once.
const CONNECTING_MAX: usize = 64;

pub(super) fn run(args: &BenchArgs, cluster: &Cluster) -> Result<Exit, Failure> {
    let bytes = usize::try_from(args.record_bytes).unwrap_or(usize::MAX);
    if bytes > RECORD_BYTES_MAX {
        return Err(AppendError::RecordTooLarge { bytes, bytes_max: RECORD_BYTES_MAX }.into());
    }
    talk("the records stay in the log of the servers");
    let ack = Ack::of_server(args.ack);
    let measured = connecting::run(measure(args, cluster, ack, bytes))?;
    super::show(args, &measured, ack.name(), "server")?;
    Ok(Exit::Done)
}

async fn measure(
    args: &BenchArgs,
    cluster: &Cluster,
    ack: Ack,
    record_bytes: usize,
) -> Result<Measured, Failure> {
    let phase = Arc::new(AtomicU8::new(Phase::WarmUp as u8));
    let writers = connect_all(args, cluster, ack, record_bytes, &phase).await?;
    let tasks: Vec<JoinHandle<_>> =
        writers.into_iter().map(|writer| tokio::spawn(writer.run())).collect();
    tokio::time::sleep(WARM_UP).await;
    phase.store(Phase::Measure as u8, Ordering::SeqCst);
    let start = Instant::now();
    tokio::time::sleep(Duration::from_secs_f64(args.seconds)).await;
    let elapsed = start.elapsed();
    phase.store(Phase::Stop as u8, Ordering::SeqCst);
    let mut latencies = Histogram::new();
    for task in tasks {
        latencies.add(&joined(task.await)?);
    }
    Ok(Measured { latencies, elapsed })
}

/// All connections stand before the first append.
async fn connect_all(
    args: &BenchArgs,
    cluster: &Cluster,
    ack: Ack,
    record_bytes: usize,
    phase: &Arc<AtomicU8>,
) -> Result<Vec<Writer>, Failure> {
    let in_flight = usize::try_from(args.in_flight).unwrap_or(1);
    let mut config = connecting::config(cluster);
    let wanted = in_flight.saturating_mul(record_bytes + OVERHEAD_BYTES);
    config.in_flight_bytes_max = config.in_flight_bytes_max.max(wanted);
    let mut connecting = JoinSet::new();
    let mut writers = Vec::new();
    for number in 0..args.writers {
        let (config, phase) = (config.clone(), Arc::clone(phase));
        connecting.spawn(async move {
            let client = Client::connect(config).await?;
            let ack = request::Ack::from(ack);
            let options = AppendOptions { ack, ..AppendOptions::default() };
            let appender = client.appender(options).await?;
            let record = random_bytes(record_bytes, u64::from(number) + 1);
            let latencies = Histogram::new();
            Ok(Writer { _client: client, appender, ack, phase, record, in_flight, latencies })
        });
        if connecting.len() >= CONNECTING_MAX {
            writers.extend(connecting.join_next().await.map(joined).transpose()?);
        }
    }
    while let Some(writer) = connecting.join_next().await {
        writers.push(joined(writer)?);
    }
    Ok(writers)
}

/// What a task came to; its panic goes on here.
fn joined<T>(ended: Result<Result<T, Failure>, tokio::task::JoinError>) -> Result<T, Failure> {
    match ended {
        Ok(ended) => ended,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(Failure::new(Exit::Failed, "a connection was given up")),
    }
}

/// One connection that appends.
struct Writer {
    /// The connection is open as long as this is.
    _client: Client,
    appender: Appender,
    ack: request::Ack,
    phase: Arc<AtomicU8>,
    record: Vec<u8>,
    in_flight: usize,
    latencies: Histogram,
}

impl Writer {
    /// Appends until told to stop, and ends when everything is acknowledged.
    async fn run(mut self) -> Result<Histogram, Failure> {
        let mut starts = VecDeque::with_capacity(self.in_flight);
        loop {
            let is_over = self.phase.load(Ordering::Relaxed) == Phase::Stop as u8;
            if !is_over && starts.len() < self.in_flight {
                starts.push_back(Instant::now());
                self.appender.submit(vec![self.record.clone()]).await?;
                continue;
            }
            let Some(start) = starts.pop_front() else { return Ok(self.latencies) };
            self.wait().await?;
            if self.phase.load(Ordering::Relaxed) == Phase::Measure as u8 {
                self.latencies.record(start.elapsed());
            }
        }
    }

    /// Waits for the oldest append.
    async fn wait(&mut self) -> Result<(), Failure> {
        match self.appender.next().await {
            Some(Ok(appended)) if appended.ack < self.ack => {
                let name = Ack::from(appended.ack).name();
                let text = format!("the servers degrade: records are acknowledged as {name} only");
                Err(Failure::new(Exit::No, text))
            }
            Some(Ok(_)) => Ok(()),
            Some(Err(error)) => Err(error.into()),
            None => Err(Failure::new(Exit::Failed, "the connection ended before its answers")),
        }
    }
}
