//! The connections to one server that requests share, in HTTP/2.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::lesson::Lesson;
use super::waiting::Waiting;
use crate::h2::client::{Client, ClientStream, ConnectionId};
use crate::runtime::Task;

/// The shared connections of one worker to one server.
#[derive(Debug, Default)]
pub(super) struct Shared {
    connections: RefCell<Vec<Carrier>>,
    /// One is being made, and requests wait for it rather than make their own.
    making: Cell<bool>,
    pub(super) waiting: Rc<Waiting>,
    /// The server chose HTTP/1.1 when it was last asked, so a connection is one request's at a time.
    pub(super) speaks_h1: Cell<bool>,
    lesson: Lesson,
}

/// A connection and what drives it. It is kept until it has ended, with streams left or without.
#[derive(Debug)]
struct Carrier {
    client: Client,
    /// It took no more requests because the server was expected to end it.
    limited: Cell<bool>,
    /// What its end shows has been learnt.
    learnt: Cell<bool>,
    _driver: Task<()>,
}

/// A connection is being made, until this is dropped.
pub(super) struct Making<'a>(&'a Shared);

impl Shared {
    /// A stream on a connection that has room, but on none that is `except`, and on none that does not allow WebSockets
    /// where the stream is `for_websocket`; and how many that one has carried before.
    ///
    /// The oldest is taken first, so that those that are not needed fall idle.
    pub(super) fn open(
        &self,
        except: Option<ConnectionId>,
        for_websocket: bool,
    ) -> Option<(ClientStream, u64)> {
        let mut connections = self.connections.borrow_mut();
        connections.retain(|carrier| {
            carrier.learn(&self.lesson);
            !carrier.client.has_ended()
        });
        let limit = self.lesson.limit();
        let fits = |carrier: &&Carrier| {
            Some(carrier.client.id()) != except && (!for_websocket || carrier.client.allows_websockets())
        };
        connections.iter().filter(fits).find_map(|carrier| {
            let before = carrier.client.opened();
            if before >= limit {
                carrier.limit();
                return None;
            }
            let stream = carrier.client.open()?;
            if before + 1 >= limit {
                carrier.limit();
            }
            Some((stream, before))
        })
    }

    /// Whether there are connections that could take requests, and none of them allows WebSockets.
    pub(super) fn lacks_websockets(&self) -> bool {
        let connections = self.connections.borrow();
        let mut open = connections.iter().filter(|carrier| carrier.client.is_open()).peekable();
        open.peek().is_some() && !open.any(|carrier| carrier.client.allows_websockets())
    }

    /// Whether a try is worth it: another stream may be opened now, or another connection be made.
    fn is_worth_a_try(&self, most: usize) -> bool {
        self.has_room() || (!self.making.get() && self.open_connections() < most)
    }

    /// Tells the first that waits, if it may find room or make some; `most` is how many connections there may be.
    pub(super) fn tell_of_room(&self, most: usize) {
        if self.is_worth_a_try(most) {
            self.waiting.tell();
        }
    }

    /// Whether another stream may be opened now.
    pub(super) fn has_room(&self) -> bool {
        self.connections.borrow().iter().any(|carrier| carrier.client.has_room())
    }

    /// Resets one of the streams that keep room although their responses are complete, if there is one.
    pub(super) fn make_room(&self) -> bool {
        self.connections.borrow().iter().any(|carrier| carrier.client.is_open() && carrier.client.make_room())
    }

    /// The right to make a connection, if one more than there are is allowed and none is being made.
    pub(super) fn make(&self, most: usize) -> Option<Making<'_>> {
        if self.open_connections() >= most || self.making.replace(true) {
            return None;
        }
        Some(Making(self))
    }

    /// Whether a connection is being made, or there is none that could take requests: who waits does so for one.
    pub(super) fn lacks_connection(&self) -> bool {
        self.making.get() || !self.connections.borrow().iter().any(|carrier| carrier.client.is_open())
    }

    /// How many connections take requests.
    fn open_connections(&self) -> usize {
        self.connections.borrow().iter().filter(|carrier| carrier.client.is_open()).count()
    }

    /// Another connection.
    pub(super) fn add(&self, client: Client, driver: Task<()>) {
        let (limited, learnt) = Default::default();
        self.connections.borrow_mut().push(Carrier { client, limited, learnt, _driver: driver });
    }

    /// Opens no more streams on those that there are; each ends with its last one.
    pub(super) fn retire(&self) {
        self.connections.borrow().iter().for_each(|carrier| carrier.client.retire());
    }
}

impl Carrier {
    /// Sends no more requests on it: the server is expected to answer no more.
    fn limit(&self) {
        self.limited.set(self.limited.get() || self.client.is_open());
        self.client.retire();
    }

    /// Learns from its end, once.
    fn learn(&self, lesson: &Lesson) {
        if self.learnt.get() {
            return;
        }
        // The end of a connection that rested says nothing of how many there may be.
        let counts = |requests: &u64| self.limited.get() || *requests < self.client.opened();
        if let Some(requests) = self.client.carries().filter(counts) {
            lesson.ended_after(requests);
            self.learnt.set(true);
        } else if self.limited.get() && self.client.has_ended() && !self.client.has_failed() {
            lesson.outlived();
            self.learnt.set(true);
        }
    }
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        self.0.making.set(false);
        // If it was in vain, the next one tries.
        self.0.waiting.tell();
    }
}
