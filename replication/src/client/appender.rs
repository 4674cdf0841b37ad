//! Many appends in a row, on one lane.
//!
//! Owns the task that carries an appender's frames to the leader and its answers back, and the two handles to it.
//! What is sent, sent again or given up is decided by `window`; where by `retry`.
//!
//! Bounds: frames of `in_flight_bytes_max` bytes are held, or one that is longer; of numbered appends [`APPENDS_IN_FLIGHT_MAX`]. Answers that are not taken stay in
//! memory, some 100 bytes each.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::append::{AppendOptions, Appended, Front, Numbering};
use super::cluster::{Cluster, decode_answer};
use super::error::ClientError;
use super::net::{Lane, Wait};
use super::producers::Producers;
use super::retry::Route;
use super::window::{Answer, Window, behind_a_failure, no_room};
use crate::wire::request::APPENDS_IN_FLIGHT_MAX;

/// Appends in order, many at a time.
///
/// Appends that were not answered are sent again to whoever leads, until the deadline of the first; without numbers
/// they are not, when they may have been stored. The first append that fails is the end of the appender, so that
/// nothing is stored behind a gap: what was on its way is answered as its node says, or as unknown, and everything
/// else as final.
#[derive(Debug)]
pub struct Appender {
    submitter: AppendSubmitter,
    answers: AppendAnswers,
    in_flight: usize,
}

/// The half of an [`Appender`] that submits.
#[derive(Debug)]
pub struct AppendSubmitter {
    cluster: Arc<Cluster>,
    room: Arc<Semaphore>,
    room_bytes: u32,
    /// With numbers: one for each append that may be in flight.
    slots: Option<Arc<Semaphore>>,
    /// That of the next append.
    front: Front,
    submissions: mpsc::UnboundedSender<Submission>,
}

/// The half of an [`Appender`] that has the answers.
#[derive(Debug)]
pub struct AppendAnswers(mpsc::UnboundedReceiver<Answer>);

#[derive(Debug)]
struct Submission {
    frame: Vec<u8>,
    deadline: Instant,
    permits: Permits,
}

/// Room for bytes, and a slot.
type Permits = (OwnedSemaphorePermit, Option<OwnedSemaphorePermit>);

impl Appender {
    /// An appender on its way to the leader; its task ends when both halves are dropped.
    ///
    /// # Errors
    /// Final: the system gives no random numbers.
    pub(super) fn start(
        cluster: Arc<Cluster>,
        options: AppendOptions,
    ) -> Result<Appender, ClientError> {
        let AppendOptions { ack, expected_lsn, numbering } = options;
        let sequence = match numbering {
            Numbering::Client => Some(Producers::new_one()?),
            Numbering::From(sequence) => Some(sequence),
            Numbering::Nobody => None,
        };
        let front = Front { ack, expected_lsn, sequence };
        let slots = sequence.map(|_| Arc::new(Semaphore::new(APPENDS_IN_FLIGHT_MAX)));
        let room_bytes = u32::try_from(cluster.config.in_flight_bytes_max).unwrap_or(u32::MAX);
        let room_bytes = room_bytes.max(1);
        let permits = usize::try_from(room_bytes).unwrap_or(usize::MAX);
        let room = Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS)));
        let (submissions, submitted) = mpsc::unbounded_channel();
        let (answers, answered) = mpsc::unbounded_channel();
        let carrier = Carrier {
            route: cluster.route_to_leader(),
            cluster: Arc::clone(&cluster),
            room: Arc::clone(&room),
            window: Window::new(sequence.is_some()),
            slots: slots.clone(),
            submitted: Some(submitted),
            answers,
            lane: None,
            opening: None,
            wait: Duration::ZERO,
            last: None,
        };
        tokio::spawn(carrier.run());
        let submitter = AppendSubmitter { cluster, room, room_bytes, slots, front, submissions };
        Ok(Appender { submitter, answers: AppendAnswers(answered), in_flight: 0 })
    }

    /// Waits for room, then sends the records as one append. Its answer comes by [`next`](Self::next). May be
    /// given up while it waits: then nothing was submitted.
    ///
    /// # Errors
    /// Nothing was submitted, and no answer will come: the append is over a limit (final; others may follow), there
    /// was no room before the deadline (retryable), or the appender is over (final; make another one).
    pub async fn submit(&mut self, records: Vec<Vec<u8>>) -> Result<(), ClientError> {
        self.submitter.submit(records).await?;
        self.in_flight += 1;
        Ok(())
    }

    /// The next answer, in the order of submission; none when nothing is in flight. May be given up.
    ///
    /// # Errors
    /// Inside of the answer: the append failed, and the appender is over.
    pub async fn next(&mut self) -> Option<Result<Appended, ClientError>> {
        if self.in_flight == 0 {
            return None;
        }
        let answer = self.answers.next().await;
        self.in_flight = if answer.is_some() { self.in_flight - 1 } else { 0 };
        answer
    }

    /// Appends whose answers were not taken yet.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Two halves, so that one task takes answers while another one submits.
    #[must_use]
    pub fn split(self) -> (AppendSubmitter, AppendAnswers) {
        (self.submitter, self.answers)
    }
}

impl AppendSubmitter {
    /// As [`Appender::submit`].
    ///
    /// # Errors
    /// Those of [`Appender::submit`].
    pub async fn submit(&mut self, records: Vec<Vec<u8>>) -> Result<(), ClientError> {
        let frame = self.front.encode(&records)?;
        let deadline = self.cluster.deadline();
        // One that is longer than the room there is goes alone.
        let bytes = u32::try_from(frame.len()).unwrap_or(u32::MAX).min(self.room_bytes);
        let permit = Arc::clone(&self.room).acquire_many_owned(bytes);
        let permit = timeout_at(deadline, permit).await.map_err(|_| no_room())?;
        let permit = permit.map_err(|_| behind_a_failure())?;
        let permits = (permit, self.slot(deadline).await?);
        let submission = Submission { frame, deadline, permits };
        self.submissions.send(submission).map_err(|_| behind_a_failure())?;
        self.front = self.front.after(records.len());
        Ok(())
    }

    /// The leader remembers only so many appends of one producer.
    async fn slot(&self, deadline: Instant) -> Result<Option<OwnedSemaphorePermit>, ClientError> {
        let Some(slots) = &self.slots else { return Ok(None) };
        let slot = timeout_at(deadline, Arc::clone(slots).acquire_owned()).await;
        slot.map_err(|_| no_room())?.map(Some).map_err(|_| behind_a_failure())
    }
}

impl AppendAnswers {
    /// The next answer, in the order of submission; waits for it until the submitter is dropped and everything was
    /// answered, then there is none. May be given up.
    ///
    /// # Errors
    /// Inside of the answer: the append failed, and the appender is over.
    pub async fn next(&mut self) -> Option<Result<Appended, ClientError>> {
        self.0.recv().await
    }
}

/// The task of an appender.
struct Carrier {
    cluster: Arc<Cluster>,
    route: Route,
    room: Arc<Semaphore>,
    slots: Option<Arc<Semaphore>>,
    window: Window<Permits>,
    /// None when the submitter was dropped.
    submitted: Option<mpsc::UnboundedReceiver<Submission>>,
    answers: mpsc::UnboundedSender<Answer>,
    lane: Option<Lane>,
    opening: Option<Wait<'static, Result<Lane, ClientError>>>,
    /// Before the next lane is opened.
    wait: Duration,
    /// Why there is no lane.
    last: Option<ClientError>,
}

enum Event {
    Submitted(Option<Submission>),
    Opened(Result<Lane, ClientError>),
    Answered(Result<Vec<u8>, String>),
    Expired,
    Abandoned,
}

impl Carrier {
    async fn run(mut self) {
        loop {
            self.push();
            if self.submitted.is_none() && (self.window.is_empty() || self.answers.is_closed()) {
                return;
            }
            match self.event().await {
                Event::Submitted(Some(submission)) => {
                    let Submission { frame, deadline, permits } = submission;
                    self.window.submit(frame, deadline, permits);
                }
                Event::Submitted(None) => self.submitted = None,
                Event::Opened(Ok(lane)) => (self.lane, self.opening) = (Some(lane), None),
                Event::Opened(Err(error)) => self.move_on(error),
                Event::Answered(Ok(frame)) => self.take_answer(&frame),
                Event::Answered(Err(text)) => {
                    let text = format!("the lane to {} broke: {text}", self.route.target());
                    self.window.broken(&text);
                    self.move_on(ClientError::retryable(text));
                }
                Event::Expired => {
                    let last = self.last.take();
                    self.window.expired(last);
                    (self.lane, self.opening) = (None, None);
                }
                Event::Abandoned => return,
            }
        }
    }

    /// Does what the window asks for.
    fn push(&mut self) {
        while let Some(answer) = self.window.answer() {
            // Whoever dropped the answers does not want them.
            let _ = self.answers.send(answer);
        }
        if self.window.is_over() {
            self.room.close();
            if let Some(slots) = &self.slots {
                slots.close();
            }
            self.opening = None;
        }
        if self.window.is_empty() {
            return;
        }
        if let Some(lane) = &self.lane {
            while let Some(frame) = self.window.next_frame() {
                // A broken lane shows where answers are read.
                let _ = lane.frames.send(frame);
            }
        } else if self.opening.is_none() {
            self.opening = Some(self.open());
        }
    }

    fn open(&mut self) -> Wait<'static, Result<Lane, ClientError>> {
        let cluster = Arc::clone(&self.cluster);
        let target = self.route.target().to_owned();
        let wait = std::mem::take(&mut self.wait);
        let deadline = self.window.deadline().unwrap_or_else(|| self.cluster.deadline());
        Box::pin(async move {
            sleep(wait).await;
            cluster.lane(&target, deadline).await
        })
    }

    async fn event(&mut self) -> Event {
        // What is there needs no look at everything else. What is submitted is bounded by what is answered.
        if let Some(frame) = self.lane.as_mut().and_then(Lane::take_ready) {
            return Event::Answered(Ok(frame));
        }
        if let Some(Ok(submission)) = self.submitted.as_mut().map(mpsc::UnboundedReceiver::try_recv)
        {
            return Event::Submitted(Some(submission));
        }
        let expiry = self.window.deadline();
        let Carrier { submitted, opening, lane, answers, .. } = self;
        let is_dropped = submitted.is_none();
        let submission = async {
            match submitted {
                Some(submitted) => submitted.recv().await,
                None => pending().await,
            }
        };
        let opened = async {
            match opening {
                Some(opening) => opening.await,
                None => pending().await,
            }
        };
        let answer = async {
            match lane {
                Some(lane) => lane.answer().await,
                None => pending().await,
            }
        };
        let expired = async {
            match expiry {
                Some(expiry) => sleep_until(expiry).await,
                None => pending().await,
            }
        };
        tokio::select! {
            submission = submission => Event::Submitted(submission),
            opened = opened => Event::Opened(opened),
            answer = answer => Event::Answered(answer),
            () = expired => Event::Expired,
            () = answers.closed(), if is_dropped => Event::Abandoned,
        }
    }

    fn take_answer(&mut self, frame: &[u8]) {
        let answer = decode_answer(frame).and_then(Appended::from_response);
        let failure = answer.as_ref().err().cloned();
        let is_useful = self.window.answered(answer);
        if failure.is_none() && is_useful {
            self.route.worked();
            self.cluster.led(self.route.target());
            self.last = None;
        }
        if !is_useful {
            let unasked = || ClientError::unknown("the server answered what nobody asked");
            self.move_on(failure.unwrap_or_else(unasked));
        }
    }

    /// Leaves the lane, if there is one, for that of the next target.
    fn move_on(&mut self, error: ClientError) {
        self.lane = None;
        self.opening = None;
        self.wait = self.route.failed(&error, self.cluster.roll());
        self.cluster.led_no_more(&self.route);
        self.last = Some(error);
    }
}
