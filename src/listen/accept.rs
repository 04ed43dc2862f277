//! One worker's accept loop on one listener.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::future::yield_now;

use super::command::Door;
use super::load::{Place, Sweep};
use super::worker::Worker;
use crate::runtime::{AcceptErrorKind, Acceptor, accept_error_kind};

/// How long accepting rests when the process or the system is out of descriptors or memory; doubled up to the most.
const LEAST_REST: Duration = Duration::from_millis(10);
const MOST_REST: Duration = Duration::from_secs(1);

/// How many connections of a queue that is being left are accepted before others have their turn.
const BATCH: usize = 32;

/// Accepts until it is dropped. A full service, and a want of descriptors, leave connections in the kernel's queue.
pub(super) async fn accept(worker: Rc<Worker>, door: Door, acceptor: Rc<Acceptor>) {
    let timer = worker.handle.timer();
    let mut rest = LEAST_REST;
    loop {
        match next(&worker, &door, &acceptor).await {
            Ok((fd, peer, place)) => {
                rest = LEAST_REST;
                worker.place(&door, fd, peer, place);
            }
            Err(error) => {
                report(&door, &error, rest);
                // A listener that cannot be paused is asked again after the rest all the same.
                let _ = acceptor.pause();
                timer.set(worker.handle.now() + rest);
                timer.expired().await;
                rest = (rest * 2).min(MOST_REST);
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
        if acceptor.is_paused() {
            acceptor.resume()?;
        }
        poll_fn(|cx| acceptor.poll_ready(cx)).await?;
        match worker.take_place(door.service) {
            None => {
                acceptor.pause()?;
                worker.room(door.service).await;
            }
            Some(place) => {
                if let Some((fd, peer)) = acceptor.attempt()? {
                    return Ok((fd, peer, place));
                }
            }
        }
    }
}

/// Accepts what is queued and ends. New connections wake somebody else who shares the socket, if there is anyone.
///
/// The limits hold: what there is no room for waits until there is, unless another instance takes it. `sweep` is the
/// worker's duty that ends with this.
pub(super) async fn leave(worker: Rc<Worker>, door: Door, acceptor: Rc<Acceptor>, sweep: Rc<Sweep>) {
    // First out of epoll, so that nothing that arrives from now on waits for this worker.
    if let Err(error) = acceptor.pause() {
        tracing::error!(target: "river::listen", listener = %door.id, %error, "cannot stop watching a listener");
    }
    let timer = worker.handle.timer();
    let mut rest = LEAST_REST;
    loop {
        match accept_queued(&worker, &door, &acceptor) {
            Ok(Queue::Empty) => break,
            Ok(Queue::NoRoom) => worker.room(door.service).await,
            Ok(Queue::More) => yield_now().await,
            Err(error) => {
                report(&door, &error, rest);
                timer.set(worker.handle.now() + rest);
                timer.expired().await;
                rest = (rest * 2).min(MOST_REST);
            }
        }
    }
    // The socket before the duty: where this is its last holder, it is closed as soon as its queue is empty.
    drop((acceptor, door));
    drop(sweep);
}

/// What is known of a queue after some of it was accepted.
enum Queue {
    Empty,
    More,
    NoRoom,
}

fn accept_queued(worker: &Rc<Worker>, door: &Door, acceptor: &Acceptor) -> io::Result<Queue> {
    for _ in 0..BATCH {
        let Some(place) = worker.take_place(door.service) else { return Ok(Queue::NoRoom) };
        match acceptor.try_accept() {
            Ok(Some((fd, peer))) => worker.place(door, fd, peer, place),
            Ok(None) => return Ok(Queue::Empty),
            Err(error) if accept_error_kind(&error) == AcceptErrorKind::Transient => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Queue::More)
}

fn report(door: &Door, error: &io::Error, rest: Duration) {
    tracing::error!(
        target: "river::listen", listener = %door.id, %error, rest_ms = rest.as_millis(),
        "cannot accept; connections wait in the kernel's queue"
    );
}
