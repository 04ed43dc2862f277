//! One worker's accept loop on one listener.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use super::command::Door;
use super::load::Place;
use super::worker::Worker;
use crate::runtime::{AcceptErrorKind, Acceptor, accept_error_kind};

/// How long accepting rests when the process or the system is out of descriptors or memory; doubled up to the most.
const LEAST_REST: Duration = Duration::from_millis(10);
const MOST_REST: Duration = Duration::from_secs(1);

/// Accepts until it is dropped. A full service, and a want of descriptors, leave connections in the kernel's queue.
pub(super) async fn accept(worker: Rc<Worker>, door: Door, acceptor: Rc<Acceptor>) {
    let timer = worker.handle.timer();
    let mut rest = LEAST_REST;
    loop {
        match next(&worker, &door, &acceptor).await {
            Ok((fd, peer, place)) => {
                rest = LEAST_REST;
                worker.place(fd, peer, place);
            }
            Err(error) => {
                report(&door, &error, rest);
                // A listener that cannot be paused is asked again after the rest all the same.
                let _ = acceptor.pause();
                timer.set(worker.handle.now() + rest);
                timer.expired().await;
                rest = (rest * 2).min(MOST_REST);
                let _ = acceptor.resume();
            }
        }
    }
}

/// The next connection, for which there is a place.
///
/// The place is taken first: otherwise each of several workers, all of which wait since there was room, would accept
/// one for the same place.
async fn next(
    worker: &Worker,
    door: &Door,
    acceptor: &Acceptor,
) -> io::Result<(OwnedFd, Option<SocketAddr>, Place)> {
    loop {
        poll_fn(|cx| acceptor.poll_ready(cx)).await?;
        match worker.take_place(door.service) {
            None => wait_for_room(worker, door, acceptor).await?,
            Some(place) => {
                if let Some((fd, peer)) = acceptor.attempt()? {
                    return Ok((fd, peer, place));
                }
            }
        }
    }
}

async fn wait_for_room(worker: &Worker, door: &Door, acceptor: &Acceptor) -> io::Result<()> {
    acceptor.pause()?;
    worker.room(door.service).await;
    acceptor.resume()
}

/// Accepts what is queued on `acceptor`, whatever the limits say: these clients have nobody else to turn to.
pub(super) fn sweep(worker: &Rc<Worker>, door: &Door, acceptor: &Acceptor) {
    // First out of epoll, so that whatever arrives from now on wakes somebody else.
    if let Err(error) = acceptor.pause() {
        tracing::error!(target: "river::listen", listener = %door.id, %error, "cannot stop watching a listener");
    }
    loop {
        match acceptor.try_accept() {
            Ok(Some((fd, peer))) => worker.place(fd, peer, worker.make_place(door.service)),
            Ok(None) => return,
            Err(error) if accept_error_kind(&error) == AcceptErrorKind::Transient => {}
            Err(error) => {
                tracing::error!(
                    target: "river::listen", listener = %door.id, %error,
                    "connections are left in the queue of a listener that is given up"
                );
                return;
            }
        }
    }
}

fn report(door: &Door, error: &io::Error, rest: Duration) {
    tracing::error!(
        target: "river::listen", listener = %door.id, %error, rest_ms = rest.as_millis(),
        "cannot accept; connections wait in the kernel's queue"
    );
}
