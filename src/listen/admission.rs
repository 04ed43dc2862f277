//! Connections that another instance passes on.

use std::error::Error as _;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use smol::channel::Sender;

use super::command::{Arrival, Command};
use super::load::Load;
use crate::base::{Held, MAX_HELD, Moved, MovedState};
use crate::proxy::Resting;
use crate::system::{Connected, NotConnected};
use crate::upstream::Spare;

/// A connection that another instance passes on, checked and counted, and not served yet.
///
/// Dropping it closes the copies of the sockets here and gives its place back; the other instance's copies stay open.
#[derive(Debug)]
pub struct Admission {
    arrival: Arrival,
    mailboxes: Arc<[Sender<Command>]>,
}

impl Admission {
    pub(super) fn new(mut arrival: Arrival, load: &Load, mailboxes: Arc<[Sender<Command>]>) -> Self {
        arrival.place.assign(load.least());
        Self { arrival, mailboxes }
    }

    /// Hands it to a worker: the one that had the fewest connections when it was admitted.
    pub fn serve(self) {
        let Self { mut arrival, mailboxes } = self;
        // Another takes it where that one has ended.
        for worker in arrival.place.worker().into_iter().chain(0..mailboxes.len()) {
            let Some(mailbox) = mailboxes.get(worker) else { continue };
            arrival.place.assign(worker);
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

/// Checks that the sockets are those of a connection that is as `moved` says.
pub(super) fn verify(moved: Moved, mut fds: Vec<OwnedFd>) -> Result<Resting, String> {
    if fds.len() != moved.sockets() {
        return Err(format!("it comes with {} sockets and not with {}", fds.len(), moved.sockets()));
    }
    let Moved { peer, requests, state, spare, .. } = moved;
    let (names, tunnel): (&[_], _) = match state {
        MovedState::Idle => (&["client"], None),
        MovedState::Tunnel(tunnel) => (&["client", "server"], Some(tunnel)),
    };
    // One that its server has closed meanwhile, or that is none, is no loss.
    let spare = spare.and_then(|requests| {
        let connected = Connected::verify(fds.pop()?).ok()?;
        Some(Spare { peer: connected.peer(), fd: connected.into_fd(), requests })
    });
    let too_much = |held: &Held| held.bytes.len() > MAX_HELD;
    if tunnel.as_ref().is_some_and(|tunnel| too_much(&tunnel.to_server) || too_much(&tunnel.to_client)) {
        return Err(format!("it holds more than {MAX_HELD} bytes of a direction"));
    }
    let connected = |(fd, name): (_, &&str)| Connected::verify(fd).map_err(|error| refusal(name, &error));
    let sockets: Vec<_> = fds.into_iter().zip(names).map(connected).collect::<Result<_, _>>()?;
    let mut sockets = sockets.into_iter();
    let client = sockets.next().ok_or("it comes without a socket")?;
    // What else IPv6 adds to an address does not survive being written down.
    let place = |address: SocketAddr| (address.ip(), address.port());
    if client.peer().map(place) != peer.map(place) {
        return Err("the client's socket is connected to somebody else than said".to_owned());
    }
    let tunnel = sockets.next().map(Connected::into_fd).zip(tunnel);
    // The kernel's word, which is complete.
    let peer = client.peer();
    Ok(Resting::passed(client.into_fd(), peer, requests, tunnel, spare))
}

fn refusal(name: &str, error: &NotConnected) -> String {
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    format!("the {name}'s descriptor cannot be used: {error}{cause}")
}
