//! The io_uring queue: several durable writes on their way from one thread.
//!
//! Owns the ring and the writes on it. Uses no linked entries for ordering (a short write breaks a
//! chain, and the sync would run before the rest), no SQPOLL, and no busy polling: a sync here is
//! finished by a kernel worker that a spinning thread would keep off its processor.
//!
//! Invariants
//!  R1. The bytes and the file of a write live until its completion was seen: both are in `writes`.
//!  R2. Each completion's length and error is looked at; a short write is continued with its rest.
//!  R3. A sync is submitted only after the write it covers completed.
//!
//! Threads: one, except for the waker, which only writes to an eventfd.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use io_uring::{IoUring, Probe, opcode, types};
use rustix::event::EventfdFlags;

use super::os::{DurableWrite, OsFile};
use super::{Completion, Waker, Write, WriteQueue};

/// Writes on their way at once. Beyond four the device here gains nothing for large batches.
const DEPTH: u32 = 4;
/// The ring also carries the poll of the eventfd.
const ENTRIES: u32 = 2 * DEPTH;
const WAKE: u64 = u64::MAX;
/// Not in the io-uring crate: the value of RWF_DSYNC in linux/fs.h.
const RWF_DSYNC: i32 = 0x2;

/// See the module.
pub(super) struct UringQueue {
    ring: IoUring,
    writes: Vec<Option<InFlight>>,
    wake: Arc<EventFd>,
    wake_is_armed: bool,
}

struct InFlight {
    write: Write,
    way: DurableWrite,
    written: usize,
    syncing: bool,
}

struct EventFd(OwnedFd);

impl Waker for EventFd {
    fn wake(&self) {
        #[expect(clippy::host_endian_bytes, reason = "the kernel reads a number of this machine")]
        let one = 1_u64.to_ne_bytes();
        // It can fail only when 2^64 - 2 wakes are pending: then the wait ends anyway.
        let _ = rustix::io::write(&self.0, &one);
    }
}

impl UringQueue {
    /// Whether this kernel gives a ring with the operations that are needed.
    pub(super) fn probe() -> io::Result<()> {
        let queue = UringQueue::new()?;
        let mut probe = Probe::new();
        queue.ring.submitter().register_probe(&mut probe)?;
        let needed = [opcode::Write::CODE, opcode::Fsync::CODE, opcode::PollAdd::CODE];
        if !needed.into_iter().all(|code| probe.is_supported(code)) {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "an operation is missing"));
        }
        if queue.ring.params().is_feature_ext_arg() {
            Ok(())
        } else {
            Err(io::Error::new(io::ErrorKind::Unsupported, "waits cannot time out"))
        }
    }

    pub(super) fn new() -> io::Result<UringQueue> {
        let ring = IoUring::new(ENTRIES)?;
        let eventfd = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let writes = (0..DEPTH).map(|_| None).collect();
        Ok(UringQueue { ring, writes, wake: Arc::new(EventFd(eventfd)), wake_is_armed: false })
    }

    fn push(&mut self, entry: &io_uring::squeue::Entry) -> io::Result<()> {
        // SAFETY: what the entry points to is kept in `writes` until its completion (R1), or is the
        // eventfd, which lives as long as the ring: fields drop in order, the ring first.
        let pushed = unsafe { self.ring.submission().push(entry) };
        pushed.map_err(|_| io::Error::other("the submission queue is full"))
    }

    /// Pushes the next step of the write in `slot`.
    fn push_step(&mut self, slot: usize) -> io::Result<()> {
        let user_data = u64::try_from(slot).expect("few slots");
        let in_flight = self.writes[slot].as_ref().expect("the slot is taken");
        let file = file_of(&in_flight.write)?;
        let fd = types::Fd(file.writer().as_raw_fd());
        let entry = if in_flight.syncing {
            opcode::Fsync::new(fd).flags(types::FsyncFlags::DATASYNC).build()
        } else {
            let rest = &in_flight.write.bytes[in_flight.written..];
            let length = u32::try_from(rest.len()).expect("batches are below 4 GiB");
            let written = u64::try_from(in_flight.written).expect("a length fits in 64 bits");
            let flags = if in_flight.way == DurableWrite::Dsync { RWF_DSYNC } else { 0 };
            opcode::Write::new(fd, rest.as_ptr(), length)
                .offset(in_flight.write.offset + written)
                .rw_flags(flags)
                .build()
        };
        self.push(&entry.user_data(user_data))
    }

    /// Takes note of one completion; the write's own completion when that was its last step, or when
    /// the next one cannot be submitted: nothing of it is on its way then.
    fn handle(&mut self, slot: usize, result: i32) -> Option<Completion> {
        let in_flight = self.writes[slot].as_mut().expect("a completion is for a taken slot");
        let outcome = match u32::try_from(result) {
            Err(_) if -result == rustix::io::Errno::INTR.raw_os_error() => Ok(()),
            Err(_) => Err(io::Error::from_raw_os_error(-result)),
            Ok(_) if in_flight.syncing => return self.finish(slot, Ok(())),
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                in_flight.written += usize::try_from(written).expect("64-bit targets");
                if in_flight.written < in_flight.write.bytes.len() {
                    Ok(())
                } else if in_flight.way == DurableWrite::Dsync {
                    return self.finish(slot, Ok(()));
                } else {
                    in_flight.syncing = true;
                    Ok(())
                }
            }
        };
        match outcome.and_then(|()| self.push_step(slot)) {
            Ok(()) => None,
            Err(error) => self.finish(slot, Err(error)),
        }
    }

    fn finish(&mut self, slot: usize, result: io::Result<()>) -> Option<Completion> {
        let in_flight = self.writes[slot].take()?;
        Some(Completion { id: in_flight.write.id, result })
    }

    fn arm_wake(&mut self) -> io::Result<()> {
        if self.wake_is_armed {
            return Ok(());
        }
        let events = u32::from(rustix::event::PollFlags::IN.bits());
        let poll = opcode::PollAdd::new(types::Fd(self.wake.0.as_raw_fd()), events);
        self.push(&poll.build().user_data(WAKE))?;
        self.wake_is_armed = true;
        Ok(())
    }

    fn clear_wake(&mut self) {
        self.wake_is_armed = false;
        // Nonblocking: with nothing to read there is nothing to clear.
        let _ = rustix::io::read(&self.wake.0, &mut [0; 8]);
    }

    fn enter(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let waited = match timeout {
            None => self.ring.submit_and_wait(1),
            Some(timeout) => {
                let timespec = types::Timespec::from(timeout);
                let args = types::SubmitArgs::new().timespec(&timespec);
                self.ring.submitter().submit_with_args(1, &args)
            }
        };
        match waited {
            Ok(_) => Ok(()),
            Err(error) if error.raw_os_error() == Some(TIMED_OUT) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error),
        }
    }
}

const TIMED_OUT: i32 = rustix::io::Errno::TIME.raw_os_error();

fn file_of(write: &Write) -> io::Result<&OsFile> {
    let file = write.file.as_any().downcast_ref();
    file.ok_or_else(|| io::Error::other("a file of another disk"))
}

impl WriteQueue for UringQueue {
    fn submit(&mut self, write: Write) -> io::Result<()> {
        let way = file_of(&write)?.durable_write();
        let free = self.writes.iter().position(Option::is_none);
        let slot = free.ok_or_else(|| io::Error::other("more writes than the queue is deep"))?;
        self.writes[slot] = Some(InFlight { write, way, written: 0, syncing: false });
        self.push_step(slot).inspect_err(|_| self.writes[slot] = None)?;
        self.ring.submit()?;
        Ok(())
    }

    /// The kernel gives a write that would wait to a thread of its own.
    fn submit_waits(&self) -> bool {
        false
    }

    fn wait(
        &mut self,
        completions: &mut Vec<Completion>,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        self.arm_wake()?;
        self.enter(timeout)?;
        let reaped: Vec<(u64, i32)> =
            self.ring.completion().map(|c| (c.user_data(), c.result())).collect();
        for (user_data, result) in reaped {
            if user_data == WAKE {
                self.clear_wake();
            } else {
                let slot = usize::try_from(user_data).expect("few slots");
                completions.extend(self.handle(slot, result));
            }
        }
        if !self.ring.submission().is_empty() {
            self.ring.submit()?;
        }
        Ok(())
    }

    fn waker(&self) -> Arc<dyn Waker> {
        Arc::clone(&self.wake) as Arc<dyn Waker>
    }

    fn depth(&self) -> usize {
        self.writes.len()
    }
}

impl Drop for UringQueue {
    /// Waits for what is on its way: the kernel writes from memory that is about to be freed.
    fn drop(&mut self) {
        let mut completions = Vec::new();
        while self.writes.iter().any(Option::is_some) {
            if self.wait(&mut completions, None).is_err() {
                // The ring itself is broken: leak the buffers rather than free them under the kernel.
                for write in self.writes.drain(..).flatten() {
                    std::mem::forget(write);
                }
                return;
            }
        }
    }
}
