//! A server on a simulated disk that is full for a while.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use cairnlog_engine::disk::sim::SimDisk;
use cairnlog_engine::{Epoch, Log, Replica, Ticket};

use super::numbered::{Append, Submitted};
use super::*;
use crate::client::{AppendOptions, Client, ClientConfig};
use crate::producers::Admitted;
use crate::wire::request::{Ack, Failure, Outcome, Reason, Sequence};

/// Records of which few fit in a segment.
const RECORD_BYTES: usize = 6000;

/// A node alone, with a small log.
pub(super) fn start_on(disk: &SimDisk) -> Arc<Server> {
    let mut engine = Config::with_segment_bytes(64 << 10);
    engine.block_bytes = 512;
    engine.record_bytes_max = RECORD_BYTES;
    let opened = Replica::open_with_threads_on(Arc::new(disk.clone()), engine.clone());
    let (replica, _) = opened.expect("an empty disk opens");
    let mut config = ServerConfig::new(PathBuf::new());
    config.engine = engine;
    config.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let endpoint = bind(&config).expect("a port of the system's");
    Arc::new(Server::run(config, endpoint, Some(Storage::new(replica))).expect("it starts"))
}

fn log(server: &Server) -> &Log {
    server.shared.opened.get().expect("it has a log").storage.replica().log()
}

fn record(producer: u64, number: u64) -> Vec<u8> {
    let mut record = vec![0; RECORD_BYTES];
    record[..8].copy_from_slice(&producer.to_le_bytes());
    record[8..16].copy_from_slice(&number.to_le_bytes());
    record
}

/// Who appended a record, and which it is of theirs.
fn read_back(record: &[u8]) -> (u64, u64) {
    let number = |at: usize| u64::from_le_bytes(record[at..at + 8].try_into().expect("8 bytes"));
    (number(0), number(8))
}

/// Appends in order until told to stop; the first LSN of each.
async fn append_all(server: String, producer: u64, stop: Arc<AtomicBool>) -> Vec<u64> {
    let mut config = ClientConfig::new(vec![server]);
    config.backoff_max = Duration::from_millis(50);
    let client = Client::connect(config).await.expect("it is there");
    let options = AppendOptions { ack: Ack::Local, ..AppendOptions::default() };
    let mut appender = client.appender(options).await.expect("it is there");
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        appender.submit(vec![record(producer, number)]).await.expect("there is room");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut lsns = Vec::new();
    while let Some(answer) = appender.next().await {
        lsns.push(answer.expect("it is sent again until there is room").lsns.start.get());
    }
    lsns
}

/// What the log refused is nowhere, and whoever sends it again is not told that it is where others are now.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_leaves_nothing_behind() {
    let disk = SimDisk::new(1);
    let server = start_on(&disk);
    let address = server.local_addr().to_string();
    let stop = Arc::new(AtomicBool::new(false));
    let append = |producer| tokio::spawn(append_all(address.clone(), producer, Arc::clone(&stop)));
    let appending: Vec<_> = (0..3).map(append).collect();
    // Without room it would not come to lead.
    leads(&server).await;
    for _ in 0..10 {
        let refusals = log(&server).in_order();
        disk.set_free_bytes(Some(0));
        let deadline = Instant::now() + Duration::from_secs(20);
        while refusals.check().is_ok() {
            assert!(Instant::now() < deadline, "the segments that are there fill up");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        disk.set_free_bytes(None);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut expected = BTreeMap::new();
    for (producer, appending) in (0..).zip(appending) {
        let lsns = appending.await.expect("it does not panic");
        expected.extend(lsns.into_iter().zip((0..).map(|number| (producer, number))));
    }
    let records = log(&server).iter(..).expect("it has records");
    let found: BTreeMap<u64, (u64, u64)> = records
        .map(|record| record.expect("nothing is damaged"))
        .map(|record| (record.lsn.get(), read_back(record.bytes())))
        .collect();
    assert_eq!(found, expected, "each is there once, where its answer said");
    server.shutdown().await.expect("nothing failed");
}

/// Waits until it leads an epoch.
async fn leads(server: &Server) -> Epoch {
    let opened = server.shared.opened.get().expect("it has a log");
    let mut levels = opened.handle.levels();
    let led = levels.wait_for(|levels| levels.led.is_some()).await.expect("it runs").led;
    led.expect("waited for")
}

/// As [`numbered::submit`], of a producer's first record, on a lane of its own.
pub(super) async fn begin_submit(
    server: &Server,
    producer: u64,
) -> Result<(Admitted, Ticket), Failure> {
    let shared = &server.shared;
    let opened = shared.opened.get().expect("it has a log");
    let sequence = Sequence { producer_id: producer.into(), first: 0 };
    let records = [record(producer, 0)];
    let epoch = leads(server).await;
    let append = Append { records: &records, expected_lsn: None, epoch };
    let lane = log(server).in_order();
    match numbered::submit(shared, opened, &lane, sequence, append).await? {
        Submitted::New(ticket, Some(admitted)) => Ok((admitted, ticket)),
        _ => panic!("it is new"),
    }
}

/// The same to the end: whether the log keeps it.
async fn submit(server: &Server, producer: u64) -> Result<(Admitted, bool), Failure> {
    let (admitted, ticket) = begin_submit(server, producer).await?;
    Ok((admitted, ticket.await.is_ok()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_numbered_before_a_refusal_is_known() {
    let disk = SimDisk::new(1);
    let server = start_on(&disk);
    disk.set_free_bytes(Some(0));
    let mut producer = 0;
    // The segments that are there are filled.
    let refused = loop {
        producer += 1;
        let (admitted, is_kept) = submit(&server, producer).await.expect("it is tried");
        let opened = server.shared.opened.get().expect("it has a log");
        let epoch = opened.storage.replica().epoch();
        if !is_kept {
            break (epoch, admitted);
        }
        opened.settle(epoch, admitted, true);
    };
    disk.set_free_bytes(None);
    let other = submit(&server, 1 << 20).await.map(drop).expect_err("it would get that LSN");
    assert_eq!((other.outcome, other.reason), (Outcome::Retryable, Reason::Storage));
    let again = tokio::time::timeout(Duration::from_millis(100), submit(&server, producer));
    assert!(again.await.is_err(), "neither new nor a duplicate");
    let opened = server.shared.opened.get().expect("it has a log");
    opened.settle(refused.0, refused.1, false);
    for producer in [1 << 20, producer] {
        let (admitted, is_kept) = submit(&server, producer).await.expect("there is room");
        assert!(is_kept);
        opened.settle(refused.0, admitted, true);
    }
    server.shutdown().await.expect("nothing failed");
}
