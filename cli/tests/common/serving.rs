//! Servers that run beside a test.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// What takes longer will not come any more.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Asks again and again until there is an answer.
pub(crate) fn eventually<T>(what: &str, ask: impl FnMut() -> Result<T, String>) -> T {
    within(PATIENCE, what, ask)
}

/// The same, for what must not take longer than this.
pub(crate) fn within<T>(
    most: Duration,
    what: &str,
    mut ask: impl FnMut() -> Result<T, String>,
) -> T {
    let start = Instant::now();
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(reason) => assert!(start.elapsed() < most, "{what}: {reason}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A server that runs; killed when the test ends.
pub(crate) struct Node {
    child: Child,
    /// `host:port`.
    pub(crate) quic: String,
    pub(crate) http: String,
}

impl Node {
    /// Waits until it says that it serves.
    pub(crate) fn start(command: &mut Command) -> Node {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (said, serving) = channel();
        // To the end, so that the server never writes into a pipe that nobody reads.
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                eprintln!("{line}");
                if line.contains("serving: ") {
                    let _ = said.send(line);
                }
            }
        });
        let Ok(line) = serving.recv_timeout(PATIENCE) else {
            let _ = child.kill();
            panic!("it does not serve: {:?}", child.wait());
        };
        let behind = |word: &str| {
            let rest = line.split(word).nth(1).expect("the form of the line");
            rest.split(',').next().unwrap_or_default().trim().to_owned()
        };
        let (quic, http) = (behind("QUIC "), behind("HTTP http://"));
        Node { child, quic, http }
    }

    /// Of the process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Its exit code; `None` when it was killed.
    pub(crate) fn wait(mut self) -> Option<i32> {
        let child = &mut self.child;
        eventually("the end of a server", || match child.try_wait().unwrap() {
            Some(status) => Ok(status.code()),
            None => Err("it runs".to_owned()),
        })
    }

    /// In good order.
    pub(crate) fn stop(self) {
        self.signal(Signal::TERM);
        assert_eq!(self.wait(), Some(0));
    }

    /// `kill -9`.
    pub(crate) fn kill(self) {
        self.signal(Signal::KILL);
        assert_eq!(self.wait(), None);
    }

    /// The code and the body of an answer, or why there is none.
    pub(crate) fn get(&self, path: &str) -> Result<(u16, String), String> {
        self.get_within(path, PATIENCE)
    }

    pub(crate) fn get_within(&self, path: &str, most: Duration) -> Result<(u16, String), String> {
        let ask = || {
            let mut stream = TcpStream::connect(&self.http)?;
            stream.set_read_timeout(Some(most))?;
            write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        };
        let text = ask().map_err(|error: std::io::Error| error.to_string())?;
        let (head, body) = text.split_once("\r\n\r\n").ok_or("no answer")?;
        let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or("no code")?;
        Ok((code, body.to_owned()))
    }

    /// An object of JSON, as text: a test that parses it says so itself.
    pub(crate) fn status(&self) -> String {
        let (code, body) = self.get("/status").unwrap();
        assert_eq!(code, 200, "{body}");
        body
    }

    pub(crate) fn wait_until_ready(&self) {
        eventually("ready", || match self.get("/readyz")? {
            (200, _) => Ok(()),
            (_, reason) => Err(reason),
        });
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Ended already, unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Standard output as text, of a command that ended well.
pub(crate) fn text(output: Output) -> String {
    super::assert_code(&output, 0);
    String::from_utf8(output.stdout).unwrap()
}
