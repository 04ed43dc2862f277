//! One worker's epoll instance and what is registered with it.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use slab::Slab;

use super::late::Late;
use super::source::Source;
use super::splice::Pipe;
use super::unpark::Unpark;

/// The most events that one wait takes over; what is left is reported by the next.
const EVENTS: usize = 512;

/// The most input and output operations that one poll of a task may make before it has to let others run.
const OPERATIONS: u32 = 64;

/// The longest wait. Timers that are due later are looked at again then; it keeps far deadlines inside what
/// `epoll_wait` takes, in milliseconds, as an `int`.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// The token of the descriptor that ends the worker's sleep: no generation and no slot are that large.
const UNPARK: u64 = u64::MAX;

/// Streams: both directions at once and for good, one event for each change.
const STREAM: EventFlags = EventFlags::IN
    .union(EventFlags::OUT)
    .union(EventFlags::RDHUP)
    .union(EventFlags::PRI)
    .union(EventFlags::ET);

/// Listeners: level-triggered, and of the workers that sleep, the kernel wakes one and not all.
const LISTENER: EventFlags = EventFlags::IN.union(EventFlags::EXCLUSIVE);

/// One worker's epoll instance and what is registered with it.
pub(super) struct Reactor {
    epoll: OwnedFd,
    sources: RefCell<Slab<Rc<Source>>>,
    /// Goes up with each registration, so that no two have the same token.
    generation: Cell<u32>,
    events: RefCell<Vec<Event>>,
    waits: Cell<u64>,
    /// How many more operations the task that runs may make.
    budget: Cell<u32>,
    /// For bytes on their way from one of its sockets to another.
    pub(super) pipe: Pipe,
    /// Streams that are to be watched later.
    pub(super) late: Late,
}

impl Reactor {
    /// Takes the epoll instance to use, which [`epoll`](Self::epoll) made.
    pub(super) fn new(epoll: OwnedFd) -> Self {
        Self {
            epoll,
            sources: RefCell::new(Slab::new()),
            generation: Cell::new(0),
            events: RefCell::new(Vec::with_capacity(EVENTS)),
            waits: Cell::new(0),
            budget: Cell::new(OPERATIONS),
            pipe: Pipe::default(),
            late: Late::default(),
        }
    }

    /// Makes an epoll instance that `unpark` can interrupt.
    pub(super) fn epoll(unpark: &Unpark) -> io::Result<OwnedFd> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, unpark, EventData::new_u64(UNPARK), EventFlags::IN | EventFlags::ET)?;
        Ok(epoll)
    }

    /// A place for a stream socket, which epoll does not [watch](Self::watch) yet. With `ready`, both directions are
    /// taken to be ready until an attempt shows otherwise; without, neither is until epoll says so.
    pub(super) fn place_stream(&self, ready: bool) -> Rc<Source> {
        self.insert(None, ready)
    }

    /// Lets epoll watch a stream socket for good, unless it does so already.
    ///
    /// Nothing that happened before is lost: epoll reports the state at the time of registration as an edge.
    ///
    /// # Errors
    ///
    /// What `epoll_ctl(2)` reports: no memory or watch left. It is logged here: who reads from a stream takes any error for
    /// the peer's doing.
    pub(super) fn watch(&self, source: &Source, fd: impl AsFd) -> io::Result<()> {
        if source.armed.get() {
            return Ok(());
        }
        if let Err(error) = epoll::add(&self.epoll, fd, EventData::new_u64(source.token), STREAM) {
            tracing::error!(target: "river::runtime", %error, "a connection cannot be watched");
            return Err(error.into());
        }
        source.armed.set(true);
        Ok(())
    }

    /// The source with this token, if it is still there.
    pub(super) fn source(&self, token: u64) -> Option<Rc<Source>> {
        self.sources.borrow().get(slot(token)).filter(|found| found.token == token).cloned()
    }

    /// Registers a listening socket, which other workers and processes may have registered with theirs.
    pub(super) fn register_listener(&self, fd: &Arc<OwnedFd>) -> io::Result<Rc<Source>> {
        let source = self.insert(Some(Arc::clone(fd)), false);
        match self.arm(&source) {
            Ok(()) => Ok(source),
            Err(error) => {
                self.forget(&source);
                Err(error)
            }
        }
    }

    /// Forgets the source. Its descriptor stays in epoll until it is closed or [`unwatch`](Self::unwatch)ed;
    /// if that reports anything, the token is no longer known and the event is ignored.
    pub(super) fn forget(&self, source: &Source) {
        source.forget_wakers();
        let mut sources = self.sources.borrow_mut();
        let slot = slot(source.token);
        if sources.get(slot).is_some_and(|found| found.token == source.token) {
            // Dropped outside the borrow.
            let removed = sources.remove(slot);
            drop(sources);
            drop(removed);
        }
    }

    /// Takes the descriptor out of epoll. Needed before it is given to someone else: a registration belongs
    /// to the open socket and not to the descriptor, and lives as long as any process holds the socket.
    pub(super) fn unwatch(&self, fd: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, fd)?)
    }

    /// Puts a listener back into epoll. If its queue is not empty, the next wait reports it.
    pub(super) fn arm(&self, source: &Source) -> io::Result<()> {
        if let (Some(fd), false) = (&source.listener, source.armed.get()) {
            epoll::add(&self.epoll, fd, EventData::new_u64(source.token), LISTENER)?;
            source.armed.set(true);
        }
        Ok(())
    }

    /// Takes a listener out of epoll; it stays registered with the reactor.
    pub(super) fn disarm(&self, source: &Source) -> io::Result<()> {
        if let (Some(fd), true) = (&source.listener, source.armed.get()) {
            self.unwatch(fd)?;
            source.armed.set(false);
        }
        Ok(())
    }

    /// Waits for events, at most for `timeout` (`None`: until one comes), and keeps them for
    /// [`dispatch`](Self::dispatch). A signal ends the wait with no events.
    ///
    /// The timeout is rounded up to a millisecond, so that a timer is due when the wait for it is over and
    /// the worker does not spin towards it.
    pub(super) fn wait(&self, timeout: Option<Duration>) -> io::Result<()> {
        let timeout = timeout.map(|timeout| {
            let timeout = timeout.min(LONGEST_WAIT);
            Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: timeout.subsec_nanos().into() }
        });
        let mut events = self.events.borrow_mut();
        events.clear();
        self.waits.set(self.waits.get() + 1);
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut *events), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes up what the last wait reported.
    pub(super) fn dispatch(&self) {
        let mut events = self.events.take();
        for event in &events {
            let (token, flags) = (event.data.u64(), event.flags);
            // A clone, so that a waker may do what it likes to the reactor.
            if let Some(source) = self.source(token) {
                if source.listener.is_some() && source.readable.get() {
                    // Reported before and nobody has accepted since: the worker has more to do than it can,
                    // or the accepting task waits for something else. Level-triggered, it would be reported
                    // over and over; the next accept that finds the queue empty arms it again.
                    if let Err(error) = self.disarm(&source) {
                        tracing::error!(%error, "cannot take a listener out of epoll");
                    }
                }
                source.notice(flags);
            }
        }
        events.clear();
        self.events.replace(events);
    }

    /// How many descriptors epoll watches, as the kernel says.
    #[cfg(test)]
    pub(super) fn watched(&self) -> usize {
        use rustix::fd::AsRawFd;
        let file = format!("/proc/self/fdinfo/{}", self.epoll.as_raw_fd());
        std::fs::read_to_string(file).unwrap().lines().filter(|line| line.starts_with("tfd:")).count()
    }

    /// How often the worker has waited.
    pub(super) fn waits(&self) -> u64 {
        self.waits.get()
    }

    /// Gives the task that runs next its share of operations.
    pub(super) fn refill_budget(&self) {
        self.budget.set(OPERATIONS);
    }

    /// Whether the task that ran last has used its share up.
    pub(super) fn budget_is_spent(&self) -> bool {
        self.budget.get() == 0
    }

    /// Counts an operation that succeeded.
    pub(super) fn spend(&self) {
        self.budget.set(self.budget.get().saturating_sub(1));
    }

    /// Pending, with the task already woken again, if it has used its share of operations up.
    pub(super) fn poll_budget(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.budget_is_spent() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// Lets everyone who waits to read look again.
    pub(super) fn wake_readers(&self) {
        let sources: Vec<_> = self.sources.borrow().iter().map(|(_, source)| Rc::clone(source)).collect();
        for source in sources {
            source.wake_reader();
        }
    }

    /// Forgets everyone who waits; for the end of the worker.
    pub(super) fn forget_wakers(&self) {
        let sources: Vec<_> = self.sources.borrow().iter().map(|(_, source)| Rc::clone(source)).collect();
        for source in sources {
            source.forget_wakers();
        }
    }

    fn insert(&self, listener: Option<Arc<OwnedFd>>, ready: bool) -> Rc<Source> {
        let generation = self.generation.get();
        self.generation.set(generation.wrapping_add(1));
        let mut sources = self.sources.borrow_mut();
        let entry = sources.vacant_entry();
        let token = u64::from(generation) << 32 | entry.key() as u64;
        let source = Rc::new(Source::new(token, listener, ready));
        entry.insert(Rc::clone(&source));
        source
    }
}

/// The place of a source in the reactor's table: the lower half of its token.
fn slot(token: u64) -> usize {
    (token & u64::from(u32::MAX)) as usize
}
