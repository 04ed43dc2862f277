//! Bytes from one socket to another through a pipe, without being copied.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_getpipe_size, pipe_with, splice};

use super::buffers::{Buffer, LARGE_BUFFER};
use super::stream::{Kind, Stream};

/// The pipe of a worker. It is empty but for the time of one call, so one is enough for all connections.
#[derive(Default)]
pub(super) struct Pipe(Cell<State>);

#[derive(Default)]
enum State {
    /// Nobody has asked for it.
    #[default]
    Unmade,
    Empty(Ends),
    /// It is being used, or cannot be had, or does not work here.
    None,
}

struct Ends {
    read: OwnedFd,
    write: OwnedFd,
}

/// What a splice has moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spliced {
    /// How many bytes were read; 0 means that the source has ended in order.
    pub read: usize,
    /// How many of them the sink has taken. The others are in the buffer.
    pub taken: usize,
}

/// What a sink makes of what is in the pipe.
enum Emptied {
    /// It has taken so many bytes, maybe none for want of room.
    Taken(usize),
    /// It is none that bytes can be spliced to. It has taken nothing, and may yet be written to.
    Refused(Errno),
    /// It has failed, and taken nothing.
    Failed(io::Error),
}

/// Which end of a splice has failed. What was read and not taken before that is in the buffer.
#[derive(Debug)]
pub enum SpliceError {
    /// The source.
    Source(io::Error),
    /// The sink.
    Sink(io::Error),
}

impl Stream {
    /// Whether [`poll_splice`](Self::poll_splice) from this stream is possible now: both are TCP sockets of one worker,
    /// the sink is worth an attempt, and the worker's pipe is there.
    pub fn can_splice(&self, sink: &Self) -> bool {
        self.link.kind == Kind::Tcp
            && sink.link.kind == Kind::Tcp
            && sink.link.source.writable.get()
            && Rc::ptr_eq(&self.link.reactor, &sink.link.reactor)
            && self.link.reactor.pipe.is_there()
    }

    /// Moves what is there, `most` bytes and [`LARGE_BUFFER`] at most, to `sink`. What the sink does not take is copied
    /// into `rest`, which has to be empty, so that nothing stays on the way.
    ///
    /// Where [`can_splice`](Self::can_splice) is false, or the system refuses, nothing is read and it is `None`: the
    /// bytes are to be read and written then. Where it refuses the sink only, all that was read is in `rest`. A refusal is
    /// logged, and the worker splices no more.
    ///
    /// # Errors
    ///
    /// What `splice(2)` reports of either; never `WouldBlock`.
    pub fn poll_splice(
        &self,
        cx: &mut Context<'_>,
        sink: &Self,
        most: usize,
        rest: &mut Buffer,
    ) -> Poll<Option<Result<Spliced, SpliceError>>> {
        let reactor = &self.link.reactor;
        if most == 0 || !rest.is_empty() || !self.can_splice(sink) {
            return Poll::Ready(None);
        }
        if reactor.poll_budget(cx).is_pending() {
            return Poll::Pending;
        }
        if let Err(error) = ready!(self.await_readable(cx)) {
            return Poll::Ready(Some(Err(SpliceError::Source(error))));
        }
        let Some(ends) = reactor.pipe.take() else { return Poll::Ready(None) };
        // Put back only once it is known to be empty.
        let read = loop {
            match ends.fill(&self.fd, most.min(LARGE_BUFFER)) {
                Ok(read) => break read,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.link.source.readable.set(false);
                    if let Some(outcome) = match self.await_readable(cx) {
                        Poll::Pending => Some(Poll::Pending),
                        Poll::Ready(Err(error)) => Some(Poll::Ready(Some(Err(SpliceError::Source(error))))),
                        Poll::Ready(Ok(())) => None,
                    } {
                        reactor.pipe.put(ends);
                        return outcome;
                    }
                }
                Err(error) if is_refusal(error) => {
                    log_refusal("source", error);
                    return Poll::Ready(None);
                }
                Err(error) => {
                    reactor.pipe.put(ends);
                    return Poll::Ready(Some(Err(SpliceError::Source(error.into()))));
                }
            }
        };
        reactor.spend();
        let emptied = ends.empty_into(sink, read);
        let taken = if let Emptied::Taken(taken) = emptied { taken } else { 0 };
        if let Err(error) = ends.save(read - taken, rest) {
            return Poll::Ready(Some(Err(SpliceError::Source(error))));
        }
        if let Emptied::Refused(error) = emptied {
            log_refusal("sink", error);
        } else {
            reactor.pipe.put(ends);
        }
        Poll::Ready(Some(match emptied {
            Emptied::Failed(error) => Err(SpliceError::Sink(error)),
            Emptied::Taken(_) | Emptied::Refused(_) => Ok(Spliced { read, taken }),
        }))
    }
}

/// Whether the system does not splice: not these sockets, or nothing at all, as with a filter of system calls or on another
/// kernel.
fn is_refusal(error: Errno) -> bool {
    matches!(error, Errno::INVAL | Errno::NOSYS | Errno::PERM | Errno::OPNOTSUPP)
}

/// Says that the worker splices no more. Its pipe is gone then, so it says this once.
fn log_refusal(end: &str, error: Errno) {
    tracing::warn!(target: "river::runtime", end, %error, "splice is refused; the worker copies the bytes of large bodies");
}

impl Pipe {
    /// Whether it can be used; it is made when this is first asked.
    fn is_there(&self) -> bool {
        let state = match self.0.take() {
            State::Unmade => match Ends::new() {
                Ok(ends) => State::Empty(ends),
                Err(error) => {
                    tracing::warn!(target: "river::runtime", %error, "a worker has no pipe, and copies the bytes of large bodies");
                    State::None
                }
            },
            state => state,
        };
        let is_there = matches!(state, State::Empty(_));
        self.0.set(state);
        is_there
    }

    fn take(&self) -> Option<Ends> {
        match self.0.replace(State::None) {
            State::Empty(ends) => Some(ends),
            State::Unmade | State::None => None,
        }
    }

    fn put(&self, ends: Ends) {
        self.0.set(State::Empty(ends));
    }
}

impl Ends {
    fn new() -> io::Result<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // It has a page or two where the user's share of memory for pipes is used up: then it is of no use.
        if fcntl_getpipe_size(&write)? < LARGE_BUFFER {
            return Err(io::Error::other("the pipe is too small (see pipe-user-pages-soft in pipe(7))"));
        }
        Ok(Self { read, write })
    }

    fn fill(&self, source: &OwnedFd, most: usize) -> rustix::io::Result<usize> {
        splice(source, None, &self.write, None, most, SpliceFlags::NONBLOCK)
    }

    /// Sends what the sink takes of the `count` bytes in the pipe.
    fn empty_into(&self, sink: &Stream, count: usize) -> Emptied {
        if count == 0 {
            return Emptied::Taken(0);
        }
        loop {
            match splice(&self.read, None, &sink.fd, None, count, SpliceFlags::NONBLOCK) {
                Ok(0) => return Emptied::Failed(io::ErrorKind::WriteZero.into()),
                Ok(taken) => {
                    if taken < count && !sink.link.source.failed.get() {
                        // The send buffer is full, and the kernel will report when it no longer is.
                        sink.link.source.writable.set(false);
                    }
                    return Emptied::Taken(taken);
                }
                Err(Errno::AGAIN) => {
                    sink.link.source.writable.set(false);
                    return Emptied::Taken(0);
                }
                Err(Errno::INTR) => {}
                Err(error) if is_refusal(error) => return Emptied::Refused(error),
                Err(error) => return Emptied::Failed(error.into()),
            }
        }
    }

    /// Reads the `count` bytes that are left in the pipe.
    fn save(&self, mut count: usize, rest: &mut Buffer) -> io::Result<()> {
        if count > 0 {
            rest.widen();
        }
        while count > 0 {
            match rustix::io::read(&self.read, rest.space_mut()) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => {
                    rest.filled(read);
                    count = count.saturating_sub(read);
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
