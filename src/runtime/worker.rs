//! A worker and its thread.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use super::handle::Handle;
use super::reactor::Reactor;
use super::tasks::message;
use super::unpark::Unpark;

/// Starts a worker: a thread that runs `main` and the tasks it starts, until `main` resolves.
///
/// Tasks that are still there then are dropped, with all that they own, before the thread ends.
///
/// # Errors
///
/// What `epoll_create1(2)`, `eventfd(2)` and the start of a thread report: no descriptors, no memory, too
/// many threads; `InvalidInput` for a name with a NUL in it. No thread is left behind.
pub fn spawn<F>(name: &str, main: impl FnOnce(Handle) -> F + Send + 'static) -> io::Result<Thread>
where
    F: Future<Output = ()>,
{
    if name.contains('\0') {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a thread's name cannot contain a NUL"));
    }
    // Made here, so that the caller learns of a failure.
    let unpark = Arc::new(Unpark::new()?);
    let epoll = Reactor::epoll(&unpark)?;
    let thread =
        thread::Builder::new().name(name.to_owned()).spawn(move || run(&Handle::new(epoll, unpark), main))?;
    Ok(Thread { name: name.to_owned(), thread })
}

/// Runs a worker on this thread until `main` resolves, and drops the tasks that are still there. For tests
/// and small programs.
///
/// # Panics
///
/// If the kernel has no descriptors for it, or with `main`.
#[allow(clippy::expect_used, reason = "documented; nothing that serves is started by this")]
pub fn block_on<F: Future>(main: impl FnOnce(Handle) -> F) -> F::Output {
    let unpark = Arc::new(Unpark::new().expect("cannot make an event descriptor"));
    let epoll = Reactor::epoll(&unpark).expect("cannot make an epoll instance");
    run(&Handle::new(epoll, unpark), main).expect("cannot wait for events")
}

/// A worker's thread. Dropping this lets the worker run on.
#[derive(Debug)]
pub struct Thread {
    name: String,
    thread: JoinHandle<io::Result<()>>,
}

impl Thread {
    /// The name of the thread.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the worker has ended, so that [`join`](Self::join) does not block.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Blocks until the worker has ended. A task calls it through `smol::unblock`.
    ///
    /// # Errors
    ///
    /// [`Panicked`] if its main future panicked, or epoll failed.
    pub fn join(self) -> Result<(), Panicked> {
        let message = match self.thread.join() {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => format!("cannot wait for events: {error}"),
            Err(panic) => message(&*panic).to_owned(),
        };
        Err(Panicked { thread: self.name, message })
    }
}

/// A worker came to an end that it should not have come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Panicked {
    /// The name of its thread.
    pub thread: String,
    /// What the panic said.
    pub message: String,
}

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "worker {} panicked: {}", self.thread, self.message)
    }
}

impl std::error::Error for Panicked {}

/// Runs the worker to its end, and cleans up whatever that end was.
fn run<F: Future>(handle: &Handle, main: impl FnOnce(Handle) -> F) -> io::Result<F::Output> {
    let worker = handle.worker();
    let result = catch_unwind(AssertUnwindSafe(|| worker.run(main(handle.clone()))));
    worker.tasks.close();
    // The wakers that are left belong to tasks, and tasks to handles of this worker: a circle.
    worker.reactor.forget_wakers();
    worker.timers.forget_wakers();
    result.unwrap_or_else(|panic| resume_unwind(panic))
}
