//! A listener as one worker holds it: watched, accepted from, or on its way out.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use super::accept::{accept, leave};
use super::command::Door;
use super::load::Sweep;
use super::worker::Worker;
use crate::runtime::{Acceptor, Task};

/// A listener as one worker holds it.
pub(super) struct Entrance {
    pub(super) door: Door,
    acceptor: Rc<Acceptor>,
    state: State,
}

enum State {
    /// Nobody accepts.
    Shut,
    /// The accept loop.
    Open(Task<()>),
    /// Accepts what is queued, and ends.
    Leaving(Task<()>),
}

impl Entrance {
    /// Makes sure that the socket can be watched. Nothing is accepted yet.
    pub(super) fn watch(worker: &Worker, door: Door) -> io::Result<Self> {
        let acceptor = Rc::new(worker.handle.acceptor(Arc::clone(&door.fd))?);
        acceptor.pause()?;
        Ok(Self { door, acceptor, state: State::Shut })
    }

    /// Accepts from now on. Where that is so already, looks at what is queued: another process may have been woken for
    /// it and ended.
    pub(super) fn open(&mut self, worker: &Rc<Worker>) {
        if let State::Open(_) = self.state {
            // The accept loop puts it back, which reports what is queued.
            if let Err(error) = self.acceptor.pause().and_then(|()| self.acceptor.resume()) {
                tracing::error!(target: "river::listen", listener = %self.door.id, %error, "cannot watch a listener");
            }
            return;
        }
        let task = accept(Rc::clone(worker), self.door.clone(), Rc::clone(&self.acceptor));
        // One that was leaving is dropped, and stays.
        self.state = State::Open(worker.handle.spawn(task));
    }

    /// Accepts no more, once the queue is empty. The socket is kept.
    pub(super) fn stop(&mut self, worker: &Rc<Worker>, sweep: &Rc<Sweep>) {
        if let State::Open(_) = self.state {
            let task =
                leave(Rc::clone(worker), self.door.clone(), Rc::clone(&self.acceptor), Rc::clone(sweep));
            self.state = State::Leaving(worker.handle.spawn(task));
        }
    }

    /// Accepts no more, once the queue is empty, and lets go of the socket then.
    pub(super) fn give_up(mut self, worker: &Rc<Worker>, sweep: &Rc<Sweep>) {
        self.stop(worker, sweep);
        if let State::Leaving(task) = self.state {
            task.detach();
        }
    }

    /// Gives up a listener that nobody else will serve, so that as few clients as can be are in the queue at its end.
    pub(super) async fn give_up_for_good(mut self, worker: &Rc<Worker>, sweep: &Rc<Sweep>) {
        // The accept loop holds the socket too; waiting for its end makes the last accept the last use.
        if let State::Open(task) = std::mem::replace(&mut self.state, State::Shut) {
            task.cancel().await;
            if let Err(error) = self.acceptor.narrow() {
                tracing::warn!(target: "river::listen", listener = %self.door.id, %error, "cannot shorten a queue");
            }
            let Self { door, acceptor, .. } = self;
            worker.handle.spawn(leave(Rc::clone(worker), door, acceptor, Rc::clone(sweep))).detach();
        }
    }
}
