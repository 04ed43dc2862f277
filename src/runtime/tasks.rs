//! The tasks of one worker: panics are contained, and none outlives the worker.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::task::{Poll, Waker};

use async_executor::{LocalExecutor, StaticLocalExecutor, Task};
use slab::Slab;

/// How often the end of a worker starts over because futures that were dropped have started new tasks.
const ROUNDS: usize = 100;

/// The executor of one worker and the tasks that live on it.
///
/// The executor is a static one, which spares each task some bookkeeping, and is leaked: a few hundred bytes
/// for each worker that ever ran. A static executor forgets its tasks when the thread ends, so this remembers
/// them.
pub(super) struct Tasks {
    executor: &'static StaticLocalExecutor,
    /// Wakes each task that has been run and has not ended.
    alive: RefCell<Slab<Waker>>,
    /// The worker ends: a task that is run drops its future.
    closing: Cell<bool>,
}

impl Tasks {
    pub(super) fn new() -> Self {
        Self {
            executor: LocalExecutor::new().leak(),
            alive: RefCell::new(Slab::new()),
            closing: Cell::new(false),
        }
    }

    pub(super) fn executor(&self) -> &'static StaticLocalExecutor {
        self.executor
    }

    /// Starts a task.
    ///
    /// If it panics, that is logged, and passed on to whoever awaits it.
    pub(super) fn spawn<T: 'static>(self: &Rc<Self>, future: impl Future<Output = T> + 'static) -> Task<T> {
        let tasks = Rc::clone(self);
        // A block that captures a future and pins it has room for it twice: once as captured, once as pinned. By its
        // pointer it is there once, and the executor would box one of that size in any case.
        let future = Box::pin(future);
        self.executor.spawn(async move {
            let output = {
                let mut registration = None;
                let mut future = future;
                poll_fn(|cx| {
                    if tasks.closing.get() {
                        return Poll::Ready(None);
                    }
                    registration.get_or_insert_with(|| tasks.register(cx.waker()));
                    match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
                        Ok(poll) => poll.map(Some),
                        Err(panic) => {
                            tracing::error!(panic = message(&*panic), "a task has panicked");
                            resume_unwind(panic)
                        }
                    }
                })
                .await
            };
            match output {
                Some(output) => output,
                // The future is gone. Whoever awaits this task is, or soon will be.
                None => pending().await,
            }
        })
    }

    /// Drops the futures of all tasks, and with them the descriptors they own.
    pub(super) fn close(&self) {
        self.closing.set(true);
        for _ in 0..ROUNDS {
            let alive = self.alive.take();
            for (_, waker) in alive {
                waker.wake();
            }
            let mut idle = true;
            while self.executor.try_tick() {
                idle = false;
            }
            if idle {
                return;
            }
        }
        tracing::error!("tasks go on starting tasks at the end of their worker; some are left behind");
    }

    fn register(self: &Rc<Self>, waker: &Waker) -> Registration {
        let key = self.alive.borrow_mut().insert(waker.clone());
        Registration { tasks: Rc::clone(self), key }
    }
}

/// The place of a task among the living.
struct Registration {
    tasks: Rc<Tasks>,
    key: usize,
}

impl Drop for Registration {
    fn drop(&mut self) {
        // None at the end of the worker, which takes them all. Dropped outside the borrow.
        let waker = self.tasks.alive.borrow_mut().try_remove(self.key);
        drop(waker);
    }
}

/// What a panic said, if it said anything.
pub(super) fn message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no message)")
}
