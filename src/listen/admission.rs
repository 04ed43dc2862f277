//! Connections that another instance passes on.

use std::sync::Arc;

use smol::channel::Sender;

use super::command::{Arrival, Command};
use super::load::Load;

/// A connection that another instance passes on, checked and counted, and not served yet.
///
/// Dropping it closes the copies of the sockets here and gives its place back; the other instance's copies stay open.
#[derive(Debug)]
pub struct Admission {
    arrival: Arrival,
    load: Arc<Load>,
    mailboxes: Arc<[Sender<Command>]>,
}

impl Admission {
    pub(super) fn new(mut arrival: Arrival, load: Arc<Load>, mailboxes: Arc<[Sender<Command>]>) -> Self {
        arrival.place.assign(load.least());
        Self { arrival, load, mailboxes }
    }

    /// Hands it to the worker that has the fewest connections.
    pub fn serve(self) {
        let Self { mut arrival, load, mailboxes } = self;
        arrival.place.assign(load.least());
        // Those that have ended take nothing.
        for mailbox in
            arrival.place.worker().and_then(|first| mailboxes.get(first)).into_iter().chain(&*mailboxes)
        {
            match mailbox.try_send(Command::Serve(arrival)) {
                Ok(()) => return,
                Err(error) => match error.into_inner() {
                    Command::Serve(refused) => arrival = refused,
                    _ => return,
                },
            }
        }
        tracing::error!(target: "river::listen", "no worker is left for a connection that another instance passed on");
    }
}
