//! The network as the client sees it.
//!
//! Owns the seam between the client and [`transport`](crate::transport): two small traits, so that tests put other
//! servers behind it, and a lane as a pair of queues. A lane has two tasks that move frames between the queues and
//! the stream, because neither sending nor receiving may be given up half-way; they end with the [`Lane`].
//!
//! Frames that came together are taken together, and so are those that wait to be sent.
//!
//! Bounds: [`ANSWERS_MAX`] times the frames that came together, or one long one, wait to be taken; what waits to be sent
//! is bounded by whoever sends.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::transport;

/// What came and was not taken yet: one that is read, and one on its way, so that neither side waits.
const ANSWERS_MAX: usize = 2;
/// So many frames are sent at once.
const FRAMES_AT_ONCE: usize = 64;

/// A future behind a pointer, as traits that are used behind one need it.
pub(super) type Wait<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Reaches servers.
pub(super) trait Dial: Send + Sync + fmt::Debug {
    /// A connection to this address; the error is for people.
    fn connect<'a>(&'a self, address: &'a str) -> Wait<'a, Result<Arc<dyn Link>, String>>;
    /// Ends all connections for good, and waits a moment until the servers have heard of it.
    fn close(&self) -> Wait<'_, ()>;
}

/// A connection to a server.
pub(super) trait Link: Send + Sync + fmt::Debug {
    /// A new lane; the error is for people, and says that the connection is of no more use.
    fn open(&self) -> Wait<'_, Result<Lane, String>>;
}

/// A lane: frames there and back. Dropping `frames` tells the server that no more come.
#[derive(Debug)]
pub(super) struct Lane {
    /// Frames to send, with their length.
    pub(super) frames: mpsc::UnboundedSender<Vec<u8>>,
    /// Frames that came, without their length; an error is the last, and the end is that of the lane.
    answers: mpsc::Receiver<Result<VecDeque<Vec<u8>>, String>>,
    /// The first of those that came together are taken.
    taken: VecDeque<Vec<u8>>,
    tasks: JoinSet<()>,
}

impl Lane {
    /// A lane whose far ends are given back: frames that are sent, answers that come.
    pub(super) fn pair() -> (Lane, mpsc::UnboundedReceiver<Vec<u8>>, Answers) {
        let (frames, sent) = mpsc::unbounded_channel();
        let (came, answers) = mpsc::channel(ANSWERS_MAX);
        (Lane { frames, answers, taken: VecDeque::new(), tasks: JoinSet::new() }, sent, came)
    }

    /// The next frame.
    ///
    /// # Errors
    /// The lane broke, or the server ended it; the text is for people. Can be given up at any time.
    pub(super) async fn answer(&mut self) -> Result<Vec<u8>, String> {
        let ended = || Err("the server ended the lane".to_owned());
        loop {
            if let Some(frame) = self.taken.pop_front() {
                return Ok(frame);
            }
            self.taken = self.answers.recv().await.unwrap_or_else(ended)?;
        }
    }

    /// The next frame, if it came together with the last one.
    pub(super) fn take_ready(&mut self) -> Option<Vec<u8>> {
        self.taken.pop_front()
    }

    fn over(lane: transport::Lane) -> Lane {
        let (mut sender, mut receiver) = lane.split();
        let (mut lane, mut sent, came) = Lane::pair();
        lane.tasks.spawn(async move {
            let mut frames = Vec::new();
            while sent.recv_many(&mut frames, FRAMES_AT_ONCE).await > 0 {
                // What the server said before it stopped listening is still to be read, so only reading
                // ends the lane.
                if sender.send_all(std::mem::take(&mut frames)).await.is_err() {
                    return;
                }
            }
            let _ = sender.finish().await;
        });
        lane.tasks.spawn(async move {
            while let Some(answers) = receive_some(&mut receiver).await.transpose() {
                let is_last = answers.is_err();
                let told = came.send(answers.map_err(|error| error.to_string())).await;
                if is_last || told.is_err() {
                    return;
                }
            }
        });
        lane
    }
}

/// Where what comes on a lane is put.
pub(super) type Answers = mpsc::Sender<Result<VecDeque<Vec<u8>>, String>>;

/// The next frame, and those that came with it.
async fn receive_some(
    receiver: &mut transport::LaneReceiver,
) -> Result<Option<VecDeque<Vec<u8>>>, transport::TransportError> {
    let Some(first) = receiver.receive().await? else { return Ok(None) };
    let mut frames = VecDeque::from([first]);
    // A fault comes again with the next call, behind what is whole.
    while let Ok(Some(frame)) = receiver.take_ready() {
        frames.push_back(frame);
    }
    Ok(Some(frames))
}

/// Servers behind QUIC.
pub(super) struct Quic(pub(super) transport::Endpoint);

impl fmt::Debug for Quic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Quic")
    }
}

impl Dial for Quic {
    fn connect<'a>(&'a self, address: &'a str) -> Wait<'a, Result<Arc<dyn Link>, String>> {
        Box::pin(async move {
            let connection = self.0.connect_server(address).await;
            let connection = connection.map_err(|error| error.to_string())?;
            Ok(Arc::new(QuicLink(connection)) as Arc<dyn Link>)
        })
    }

    fn close(&self) -> Wait<'_, ()> {
        Box::pin(self.0.close())
    }
}

struct QuicLink(transport::ClientConnection);

impl fmt::Debug for QuicLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("QuicLink")
    }
}

impl Link for QuicLink {
    fn open(&self) -> Wait<'_, Result<Lane, String>> {
        Box::pin(async move {
            let lane = self.0.open().await.map_err(|error| error.to_string())?;
            Ok(Lane::over(lane))
        })
    }
}
