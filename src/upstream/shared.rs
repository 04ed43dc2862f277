//! The connections to one server that requests share, in HTTP/2.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

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
}

/// A connection and what drives it. It is kept until it has ended, with streams left or without.
#[derive(Debug)]
struct Carrier {
    client: Client,
    _driver: Task<()>,
}

/// A connection is being made, until this is dropped.
pub(super) struct Making<'a>(&'a Shared);

impl Shared {
    /// A stream on a connection that has room, but on none that is `except`; and how many that one has carried before.
    ///
    /// The oldest is taken first, so that those that are not needed fall idle.
    pub(super) fn open(&self, except: Option<ConnectionId>) -> Option<(ClientStream, u64)> {
        let mut connections = self.connections.borrow_mut();
        connections.retain(|carrier| !carrier.client.has_ended());
        connections.iter().filter(|carrier| Some(carrier.client.id()) != except).find_map(|carrier| {
            let before = carrier.client.opened();
            carrier.client.open().map(|stream| (stream, before))
        })
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
        let open = self.connections.borrow().iter().filter(|carrier| carrier.client.is_open()).count();
        if open >= most || self.making.replace(true) {
            return None;
        }
        Some(Making(self))
    }

    /// Whether a connection is being made, or there is none that could take requests: who waits does so for one.
    pub(super) fn lacks_connection(&self) -> bool {
        self.making.get() || !self.connections.borrow().iter().any(|carrier| carrier.client.is_open())
    }

    /// Another connection.
    pub(super) fn add(&self, client: Client, driver: Task<()>) {
        self.connections.borrow_mut().push(Carrier { client, _driver: driver });
    }

    /// Opens no more streams on those that there are; each ends with its last one.
    pub(super) fn retire(&self) {
        self.connections.borrow().iter().for_each(|carrier| carrier.client.retire());
    }
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        self.0.making.set(false);
        // If it was in vain, the next one tries.
        self.0.waiting.tell();
    }
}
