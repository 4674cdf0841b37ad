//! Load on Redis, in its own protocol.
//!
//! Owns the connections, the bytes of the two commands and the reading of their answers. Does not start
//! servers (`redis`).
//!
//! All connections are tasks of one thread, so that the generator takes as little of the machine as it can:
//! an append is one write, and one or two reads.
//! Failure: any answer but the expected ones ends the load with an error, and so does none: WAIT itself has no
//! time limit here, because one would cost Redis a timer for each append.
//! Bounds: [`SAMPLES_MAX`] latencies over all connections; [`REPLY_BYTES_MAX`] of an answer.

use std::io::Write;
use std::time::{Duration, Instant};

use cairnlog_benches::latency::{Latencies, Recorder};
use cairnlog_benches::load::SAMPLES_MAX;
use cairnlog_benches::{Result, approximate};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::target::{Turn, WARM_UP};

/// The key that is appended to.
pub(crate) const STREAM: &str = "log";

const REPLY_BYTES_MAX: usize = 512;
/// How much longer than it should a load may take.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);

/// Appends over `connections`, one at a time on each.
pub(crate) fn drive(
    port: u16,
    connections: usize,
    is_quorum: bool,
    record: &[u8],
    duration: Duration,
) -> Result<Turn> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let append = append_of(record, is_quorum)?;
    let deadline = WARM_UP + duration + ANSWER_TIME_MAX;
    let shares = runtime.block_on(async {
        let all = run_all(port, connections, is_quorum, &append, duration);
        tokio::time::timeout(deadline, all).await.map_err(|_| "Redis does not answer")?
    })?;
    let appends: u64 = shares.iter().map(|share| share.appends).sum();
    let latencies = Latencies::merge(shares.into_iter().map(|share| share.recorder).collect());
    let percentile = |percent| latencies.percentile_ns(percent).map(approximate);
    Ok(Turn {
        appends_per_second: approximate(appends) / duration.as_secs_f64(),
        p50_ns: percentile(50).ok_or("no append came to its end")?,
        p99_ns: percentile(99).ok_or("no append came to its end")?,
    })
}

async fn run_all(
    port: u16,
    connections: usize,
    is_quorum: bool,
    append: &[u8],
    duration: Duration,
) -> Result<Vec<Share>> {
    let mut streams = Vec::new();
    for _ in 0..connections {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        streams.push(stream);
    }
    let began = Instant::now() + WARM_UP;
    let ends = began + duration;
    let start = |stream| {
        let recorder = Recorder::new(SAMPLES_MAX / connections);
        let share = Share { began, ends, recorder, appends: 0 };
        tokio::spawn(share.run(stream, append.to_vec(), is_quorum))
    };
    let tasks: Vec<JoinHandle<Result<Share>>> = streams.into_iter().map(start).collect();
    let mut shares = Vec::new();
    for task in tasks {
        shares.push(task.await??);
    }
    Ok(shares)
}

/// What one connection does. An append counts when its answer comes between `began` and `ends`.
struct Share {
    began: Instant,
    ends: Instant,
    recorder: Recorder,
    appends: u64,
}

impl Share {
    async fn run(
        mut self,
        mut stream: TcpStream,
        append: Vec<u8>,
        is_quorum: bool,
    ) -> Result<Self> {
        let mut answer = Vec::with_capacity(REPLY_BYTES_MAX);
        let mut started = Instant::now();
        while started < self.ends {
            stream.write_all(&append).await?;
            answer.clear();
            while !is_acknowledged(&answer, is_quorum)? {
                if answer.len() >= REPLY_BYTES_MAX {
                    return Err("Redis answers at length".into());
                }
                if stream.read_buf(&mut answer).await? == 0 {
                    return Err("Redis ended a connection".into());
                }
            }
            let ended = Instant::now();
            if self.began <= ended && ended < self.ends {
                self.appends += 1;
                self.recorder.record((ended - started).as_nanos());
            }
            started = ended;
        }
        Ok(self)
    }
}

/// XADD, and WAIT for one replica without a time limit.
fn append_of(record: &[u8], is_quorum: bool) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    write!(bytes, "*5\r\n$4\r\nXADD\r\n${}\r\n{STREAM}\r\n$1\r\n*\r\n", STREAM.len())?;
    write!(bytes, "$1\r\nd\r\n${}\r\n", record.len())?;
    bytes.extend_from_slice(record);
    bytes.extend_from_slice(b"\r\n");
    if is_quorum {
        bytes.extend_from_slice(b"*3\r\n$4\r\nWAIT\r\n$1\r\n1\r\n$1\r\n0\r\n");
    }
    Ok(bytes)
}

/// Whether the answers to `append_of` are there: the id of the entry as `$15\r\n1700000000000-0\r\n`, then the
/// number of replicas that have it as `:1\r\n`.
fn is_acknowledged(answer: &[u8], is_quorum: bool) -> Result<bool> {
    let Some((head, rest)) = line_of(answer) else { return Ok(false) };
    if !head.starts_with(b"$") {
        return Err(format!("Redis says {}", head.escape_ascii()).into());
    }
    let Some((_id, rest)) = line_of(rest) else { return Ok(false) };
    if !is_quorum {
        return if rest.is_empty() { Ok(true) } else { Err("Redis says more than asked".into()) };
    }
    let Some((replicas, rest)) = line_of(rest) else { return Ok(false) };
    let is_one = matches!(replicas, b":1" | b":2") && rest.is_empty();
    if is_one { Ok(true) } else { Err(format!("Redis says {}", replicas.escape_ascii()).into()) }
}

/// The first whole line, and what is behind it.
fn line_of(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    Some((&bytes[..end], &bytes[end + 2..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_whole_or_waited_for() {
        let whole = b"$15\r\n1700000000000-0\r\n:1\r\n";
        for end in 0..whole.len() {
            let is_there = is_acknowledged(&whole[..end], true);
            assert!(!is_there.expect("no error in it"), "{end}");
        }
        assert!(is_acknowledged(whole, true).expect("no error in it"));
        assert!(is_acknowledged(&whole[..whole.len() - 4], false).expect("no error in it"));
    }

    #[test]
    fn other_answers_are_errors() {
        for answer in [
            &b"-ERR no\r\n"[..],
            b"$15\r\n1700000000000-0\r\n:0\r\n",
            b"$15\r\n1700000000000-0\r\n-ERR no\r\n",
            b"$15\r\n1700000000000-0\r\n:1\r\n:1\r\n",
        ] {
            assert!(is_acknowledged(answer, true).is_err(), "{}", answer.escape_ascii());
        }
        assert!(is_acknowledged(b"$1\r\n1\r\n:1\r\n", false).is_err());
    }

    #[test]
    fn commands_are_in_the_protocol() {
        let bytes = append_of(b"ab", true).expect("a vector takes all");
        let expected = "*5\r\n$4\r\nXADD\r\n$3\r\nlog\r\n$1\r\n*\r\n$1\r\nd\r\n$2\r\nab\r\n\
                        *3\r\n$4\r\nWAIT\r\n$1\r\n1\r\n$1\r\n0\r\n";
        assert_eq!(String::from_utf8(bytes).expect("text"), expected);
    }
}
