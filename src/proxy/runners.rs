//! Tasks that serve streams of HTTP/2, one after the other: a task that has ended one waits for the next, which then needs
//! no task of its own and no memory for its futures.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};

use super::streams::Job;
use crate::runtime::Handle;

/// How many wait for work at most, as many as there are buffers kept; they have one or two KiB each.
const MOST_KEPT: usize = 256;

/// The runners that a worker has for one service.
#[derive(Debug, Default)]
pub(super) struct Runners {
    free: RefCell<Vec<Rc<Runner>>>,
}

/// A task, and what it is told.
pub(super) struct Runner {
    job: RefCell<Option<Job>>,
    /// Wakes the task; none before its first turn, which comes without that.
    waker: RefCell<Option<Waker>>,
    /// The job is to be dropped as it is.
    cancelled: Cell<bool>,
    /// No more jobs come.
    ended: Cell<bool>,
}

impl Runners {
    /// Has a stream served by a task, which it tells of to `place` beforehand.
    pub(super) fn run(&self, handle: &Handle, job: Job, place: impl FnOnce(Rc<Runner>)) {
        let free = self.free.borrow_mut().pop();
        let runner = free.unwrap_or_else(|| {
            let runner = Rc::new(Runner {
                job: RefCell::default(),
                waker: RefCell::default(),
                cancelled: Cell::new(false),
                ended: Cell::new(false),
            });
            handle.spawn(serve(Rc::clone(&runner))).detach();
            runner
        });
        runner.job.replace(Some(job));
        runner.wake();
        place(runner);
    }

    /// Keeps a runner that has no job; false if there are enough.
    fn keep(&self, runner: &Rc<Runner>) -> bool {
        let mut free = self.free.borrow_mut();
        let keeps = free.len() < MOST_KEPT;
        if keeps {
            free.push(Rc::clone(runner));
        }
        keeps
    }
}

impl Drop for Runners {
    fn drop(&mut self) {
        for runner in self.free.take() {
            runner.ended.set(true);
            runner.wake();
        }
    }
}

impl Runner {
    /// Has the job dropped that the task is at.
    pub(super) fn cancel(&self) {
        self.cancelled.set(true);
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner").finish_non_exhaustive()
    }
}

/// Serves one stream after the other.
async fn serve(runner: Rc<Runner>) {
    poll_fn(|cx| {
        runner.waker.replace(Some(cx.waker().clone()));
        Poll::Ready(())
    })
    .await;
    loop {
        let job = poll_fn(|_| match runner.job.take() {
            Some(job) => Poll::Ready(Some(job)),
            None if runner.ended.get() => Poll::Ready(None),
            None => Poll::Pending,
        })
        .await;
        let Some(job) = job else { return };
        let context = job.context();
        {
            let mut served = pin!(job.serve());
            poll_fn(|cx| {
                if runner.cancelled.get() {
                    return Poll::Ready(());
                }
                served.as_mut().poll(cx)
            })
            .await;
        }
        // Its connection knows it no more: the job is gone.
        runner.cancelled.set(false);
        if !context.runners.keep(&runner) {
            return;
        }
    }
}
