//! What drives a connection to a server: frames in and out, is it alive, is it still wanted.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_io::{AsyncRead, AsyncWrite};
use h2::client::Connection;
use h2::{Ping, PingPong};

use super::connection::Shared;
use super::ending::Own;
use super::watched::Watched;
use crate::h2::Io;
use crate::runtime::Timer;

/// How long a server is listened to that takes nothing more.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Drives the connection to its end: the server's, a failure, or that nobody wants it any more.
pub(super) async fn drive<S>(
    mut connection: Connection<Io<Watched<S>>, Bytes>,
    io: Io<Watched<S>>,
    shared: Rc<Shared>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // Streams that are left when this is dropped half-way are told by the connection, and others by this.
    let _end = End(Rc::clone(&shared));
    let mut pulse = Pulse::new(connection.ping_pong(), &shared);
    let mut ended = None;
    // Nothing can be sent any more. What the server has said before may still be on its way: which streams it has not
    // looked at, and responses.
    let mut broken = false;
    let last_words = shared.handle.timer();
    poll_fn(|cx| {
        note_driver(cx, &shared);
        loop {
            if shared.has_ending() {
                shared.poll_ending(cx);
            }
            if ended.is_none()
                && let Poll::Ready(end) = std::pin::Pin::new(&mut connection).poll(cx)
            {
                ended = Some(end);
            }
            shared.settle();
            if let Some(end) = &ended {
                // What is left to be said is a GOAWAY.
                let _ = io.poll_send(cx);
                if let Err(error) = end {
                    shared.fail();
                    tracing::debug!(target: "river::upstream", %error, "a connection to a server has ended");
                }
                return Poll::Ready(());
            }
            if shared.is_flooded() {
                shared.end_for(Own::Flooded);
                tracing::info!(
                    target: "river::upstream",
                    "a server sent interim responses faster than they were taken; its connection is closed"
                );
                return Poll::Ready(());
            }
            if broken {
                if last_words.poll_expired(cx).is_pending() {
                    return Poll::Pending;
                }
                return Poll::Ready(());
            }
            if let Poll::Ready(Err(error)) = io.poll_send(cx) {
                tracing::debug!(target: "river::upstream", %error, "a connection to a server has failed");
                broken = true;
                shared.fail();
                last_words.set(shared.handle.deadline(LAST_WORDS));
                continue;
            }
            match pulse.poll(cx, io.reads(), &shared) {
                Beat::Quiet => {}
                // It is sent by the connection.
                Beat::Ask => continue,
                Beat::None => {
                    shared.end_for(Own::NoPong);
                    tracing::info!(
                        target: "river::upstream",
                        "a server did not answer a ping in time; its connection is closed"
                    );
                    return Poll::Ready(());
                }
            }
            if shared.is_idle() && shared.idle.poll_expired(cx).is_ready() {
                shared.idle.clear();
                shared.retire();
                continue;
            }
            return Poll::Pending;
        }
    })
    .await;
}

/// Remembers whom to wake when a stream has something for the driver that is no frame.
fn note_driver(cx: &Context<'_>, shared: &Shared) {
    let mut driver = shared.driver.borrow_mut();
    if driver.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
        *driver = Some(cx.waker().clone());
    }
}

/// Says that the connection is gone, however that came about.
struct End(Rc<Shared>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Whether the server is there, as far as is known.
struct Pulse {
    pings: Option<PingPong>,
    timer: Timer,
    /// The count of reads when something was last heard.
    heard: u64,
    /// A ping has been sent that has not been answered.
    asked: bool,
    /// Nothing has been heard since then.
    waiting: bool,
}

/// What is to be done about it.
enum Beat {
    Quiet,
    /// A ping is to be sent.
    Ask,
    /// The server is not there.
    None,
}

impl Pulse {
    fn new(pings: Option<PingPong>, shared: &Shared) -> Self {
        let this = Self { pings, timer: shared.handle.timer(), heard: 0, asked: false, waiting: false };
        this.put_off(shared);
        this
    }

    fn poll(&mut self, cx: &mut Context<'_>, reads: u64, shared: &Shared) -> Beat {
        let Some(pings) = &mut self.pings else { return Beat::Quiet };
        if self.asked && pings.poll_pong(cx).is_ready() {
            self.asked = false;
        }
        if self.heard != reads {
            self.heard = reads;
            self.waiting = false;
            self.put_off(shared);
        }
        if self.timer.poll_expired(cx).is_pending() {
            return Beat::Quiet;
        }
        if self.waiting {
            return Beat::None;
        }
        // One that was answered late may still be on its way; that answer does as well.
        self.asked |= self.pings.as_mut().is_some_and(|pings| pings.send_ping(Ping::opaque()).is_ok());
        self.waiting = true;
        self.timer.set(shared.handle.deadline(shared.settings.ping_timeout));
        Beat::Ask
    }

    /// Something was heard.
    fn put_off(&self, shared: &Shared) {
        if let Some(interval) = shared.settings.ping_interval {
            self.timer.set(shared.handle.deadline(interval));
        }
    }
}
