//! What a task does with its worker.

use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_executor::Task;
use rustix::fd::OwnedFd;

use super::accept::Acceptor;
use super::buffers::Buffers;
use super::connect::connect;
use super::reactor::Reactor;
use super::stream::{Kind, Stream};
use super::tasks::Tasks;
use super::timers::{Timer, Timers};
use super::unpark::Unpark;
use crate::base::Address;

/// Where a deadline is put that is too far off to be represented: a hundred years, or as many as go.
const FAR: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// A worker, as its tasks know it. Clones are cheap, and bound to the worker's thread.
#[derive(Clone)]
pub struct Handle {
    worker: Rc<Worker>,
}

/// All that a worker consists of.
pub(super) struct Worker {
    pub(super) reactor: Rc<Reactor>,
    pub(super) timers: Rc<Timers>,
    pub(super) tasks: Rc<Tasks>,
    pub(super) unpark: Arc<Unpark>,
    buffers: Buffers,
}

impl Handle {
    pub(super) fn new(epoll: OwnedFd, unpark: Arc<Unpark>) -> Self {
        Self {
            worker: Rc::new(Worker {
                reactor: Rc::new(Reactor::new(epoll)),
                timers: Rc::new(Timers::new()),
                tasks: Rc::new(Tasks::new()),
                unpark,
                buffers: Buffers::default(),
            }),
        }
    }

    pub(super) fn worker(&self) -> &Worker {
        &self.worker
    }

    /// Starts a task on this worker.
    ///
    /// Dropping the [`Task`] cancels it; [`Task::detach`] lets it run. It ends with the worker at the latest:
    /// its future is dropped then. If it panics, that is logged, the other tasks go on, and whoever awaits it
    /// panics too.
    pub fn spawn<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> Task<T> {
        self.worker.tasks.spawn(future)
    }

    /// The time, as read once after each wait of the worker. It goes behind by what the tasks of one turn
    /// take.
    pub fn now(&self) -> Instant {
        self.worker.timers.now()
    }

    /// The time that is `after` from [`now`](Self::now), for use as a deadline. One that cannot be
    /// represented is put a hundred years from now.
    pub fn deadline(&self, after: Duration) -> Instant {
        let now = self.now();
        now.checked_add(after).or_else(|| now.checked_add(FAR)).unwrap_or(now)
    }

    /// A timer without a deadline. A task makes one and moves it; see [`Timer`].
    pub fn timer(&self) -> Timer {
        self.worker.timers.timer()
    }

    /// Takes a connected stream socket, which must be non-blocking.
    ///
    /// # Errors
    ///
    /// What `getsockopt(2)` reports: no socket. It is closed then.
    pub fn stream(&self, fd: OwnedFd) -> io::Result<Stream> {
        Stream::adopt(&self.worker.reactor, fd)
    }

    /// Takes a TCP socket, as [`stream`](Self::stream) does; the kernel is not asked what it is.
    pub fn tcp_stream(&self, fd: OwnedFd) -> Stream {
        Stream::new(&self.worker.reactor, fd, Kind::Tcp)
    }

    /// Connects to a TCP (with `TCP_NODELAY`) or Unix stream socket. There is no deadline; see
    /// [`with_deadline`](super::with_deadline).
    ///
    /// # Errors
    ///
    /// What `socket(2)` and `connect(2)` report. A full backlog is waited for, that of a Unix socket too.
    pub async fn connect(&self, address: &Address) -> io::Result<Stream> {
        connect(self, &self.worker.reactor, address).await
    }

    /// Takes a share in a listening socket, which must be non-blocking. One worker can have one [`Acceptor`]
    /// of a socket.
    ///
    /// # Errors
    ///
    /// What `epoll_ctl(2)` reports: `AlreadyExists` for a second share, or no memory or watch left.
    pub fn acceptor(&self, fd: Arc<OwnedFd>) -> io::Result<Acceptor> {
        Acceptor::register(&self.worker.reactor, fd)
    }

    /// Wakes every task that waits for a stream to be readable or gone, or for a connection to accept, so that it looks
    /// again at what else it may be waiting for. It costs a walk over all that the worker has registered.
    pub fn wake_readers(&self) {
        self.worker.reactor.wake_readers();
    }

    /// The worker's buffers.
    pub fn buffers(&self) -> &Buffers {
        &self.worker.buffers
    }

    /// How often the worker has waited in epoll, with or without blocking.
    pub fn waits(&self) -> u64 {
        self.worker.reactor.waits()
    }

    /// How often another thread had to write to the worker's event descriptor to end its sleep.
    pub fn unparks(&self) -> u64 {
        self.worker.unpark.writes()
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("waits", &self.waits()).field("unparks", &self.unparks()).finish()
    }
}
