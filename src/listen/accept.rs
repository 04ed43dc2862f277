//! One worker's accept loop on one listener.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use super::command::Door;
use super::worker::Worker;
use crate::runtime::{AcceptErrorKind, Acceptor, accept_error_kind};

/// How long accepting rests when the process or the system is out of descriptors or memory; doubled up to the most.
const LEAST_REST: Duration = Duration::from_millis(10);
const MOST_REST: Duration = Duration::from_secs(1);

/// Accepts until it is dropped. A full service, and a want of descriptors, leave connections in the kernel's queue.
pub(super) async fn accept(worker: Rc<Worker>, door: Door, acceptor: Acceptor) {
    let timer = worker.handle.timer();
    let mut rest = LEAST_REST;
    loop {
        if !worker.load.has_room(door.service) {
            acceptor.pause();
            worker.room(door.service).await;
            if let Err(error) = acceptor.resume() {
                tracing::error!(target: "river::listen", listener = %door.id, %error, "listening again failed");
            }
            continue;
        }
        match acceptor.accept().await {
            Ok((fd, peer)) => {
                rest = LEAST_REST;
                worker.place(fd, peer, door.service);
            }
            Err(error) => {
                report(&door, &error, rest);
                acceptor.pause();
                timer.set(worker.handle.now() + rest);
                timer.expired().await;
                rest = (rest * 2).min(MOST_REST);
                if let Err(error) = acceptor.resume() {
                    tracing::error!(target: "river::listen", listener = %door.id, %error, "listening again failed");
                }
            }
        }
    }
}

/// Accepts what is queued on `acceptor`, whatever the limits say: these clients have nobody else to turn to.
pub(super) fn sweep(worker: &Rc<Worker>, door: &Door, acceptor: &Acceptor) {
    loop {
        match acceptor.try_accept() {
            Ok(Some((fd, peer))) => worker.place(fd, peer, door.service),
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
