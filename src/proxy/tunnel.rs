//! What a connection becomes after 101, and what one of a tcp service is: bytes both ways, each direction ending by
//! itself.

use std::future::poll_fn;
use std::io;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use super::depart::{Offer, Permit};
use super::downstream::Downstream;
use super::failure::Failure;
use super::pump::{self, Incoming, Outgoing, Pump, PumpError};
use super::{Handler, ServiceContext};
use crate::base::{Held, MAX_HELD, MovedTunnel};
use crate::runtime::{Buffer, Handle};
use crate::wire::Wire;

/// The server's end of a tunnel, and what is on its way in both directions.
pub(super) struct Tunnel {
    server: Wire,
    /// The server, as the configuration names it.
    pub(super) name: String,
    /// The line of the request that asked for the tunnel; for a tcp service the server's name, if the client gave one.
    pub(super) line: Vec<u8>,
    /// When it began here.
    pub(super) began: Instant,
    up: Half,
    down: Half,
}

impl Tunnel {
    /// A tunnel that begins. `unread` was read from the client behind its request, `received` from the server behind
    /// its 101, whose `head` goes to the client first.
    pub(super) fn begin(
        name: String,
        server: Wire,
        line: &[u8],
        unread: Buffer,
        received: Buffer,
        head: Vec<u8>,
        handle: &Handle,
    ) -> Self {
        let up = Half::new(true, Incoming::UntilClose, unread, Vec::new());
        let down = Half::new(false, Incoming::UntilClose, received, head);
        Self { server, name, line: line.to_vec(), began: handle.now(), up, down }
    }

    /// A tunnel that goes on where it was when it was [taken apart](Self::into_parts).
    pub(super) fn resume(server: Wire, moved: MovedTunnel, handle: &Handle) -> Self {
        let MovedTunnel { server: name, request, to_server, to_client } = moved;
        let up = Half::resume(true, to_server, handle);
        let down = Half::resume(false, to_client, handle);
        Self { server, name, line: request.into_bytes(), began: handle.now(), up, down }
    }

    /// The server's socket, and what a tunnel is made of again.
    ///
    /// # Errors
    ///
    /// What `epoll_ctl(2)` reports; nothing is known to make it fail. The socket is closed then.
    pub(super) fn into_parts(self) -> io::Result<(OwnedFd, MovedTunnel)> {
        let moved = MovedTunnel {
            server: self.name,
            request: String::from_utf8_lossy(&self.line).into_owned(),
            to_server: self.up.into_held(),
            to_client: self.down.into_held(),
        };
        Ok((self.server.into_fd()?, moved))
    }

    /// How many bytes the server and the client have been sent since it began here.
    pub(super) fn bytes(&self) -> [u64; 2] {
        [self.up.pump.bytes(), self.down.pump.bytes()]
    }

    /// Both directions may go on elsewhere: what they hold is little enough to be passed on, and neither has lost its
    /// sink.
    fn can_move(&self) -> bool {
        self.server.can_move()
            && [&self.up, &self.down].iter().all(|half| !half.gone && half.holds() <= MAX_HELD)
    }

    /// Both directions have ended, and both ends have been told so, as far as they can be.
    fn has_ended(&self, cx: &mut Context<'_>, client: &Wire) -> bool {
        // Where one direction goes on, so does the last that the other has to say.
        let told = [(&self.up, &self.server), (&self.down, client)]
            .map(|(half, sink)| half.ended && (half.gone || sink.poll_finished(cx).is_ready()));
        told == [true, true]
    }

    fn lost(&mut self) -> Option<Failure> {
        self.up.lost.take().or_else(|| self.down.lost.take())
    }
}

/// Moves bytes both ways until both ends have closed, one fails, or nothing moves for the tunnel time-out; or until it
/// has a permit to depart.
///
/// What an end said before it was gone still goes to the other one, as long as that takes it.
pub(super) async fn run(
    context: &ServiceContext,
    downstream: &Downstream,
    tunnel: &mut Tunnel,
) -> Result<Option<Permit>, Failure> {
    let Downstream { stream, timer, offered, .. } = downstream;
    let timeouts = &context.service.timeouts;
    let mut offer = Offer::default();
    let mut seen = None;
    poll_fn(|cx| {
        let mut attempted = false;
        loop {
            let moves = context.leaving.moves(*offered);
            tunnel.up.pump.read_little(moves);
            tunnel.down.pump.read_little(moves);
            if let Err(failure) = tunnel.up.poll(cx, stream, &tunnel.server) {
                return Poll::Ready(Err(failure));
            }
            if let Err(failure) = tunnel.down.poll(cx, &tunnel.server, stream) {
                return Poll::Ready(Err(failure));
            }
            if tunnel.has_ended(cx, stream) {
                return Poll::Ready(tunnel.lost().map_or(Ok(None), Err));
            }
            // A direction that waits for room does not read, so the end of its source has to be asked for. Both ends are
            // gone in this sense, too, where both directions have ended in order.
            if stream.poll_gone(cx).is_ready() {
                tunnel.down.sink_is_gone(stream);
            }
            if tunnel.server.poll_gone(cx).is_ready() {
                tunnel.up.sink_is_gone(&tunnel.server);
            }
            if tunnel.has_ended(cx, stream) {
                return Poll::Ready(tunnel.lost().map_or(Ok(None), Err));
            }
            if let Poll::Ready(permit) =
                offer.poll(cx, &context.leaving, moves && stream.can_move() && tunnel.can_move())
            {
                return Poll::Ready(Ok(Some(permit)));
            }
            let (up, down) = (&tunnel.up, &tunnel.down);
            let now = (up.pump.moves() + down.pump.moves(), up.gone, down.gone);
            if seen != Some(now) {
                seen = Some(now);
                let patience = match now {
                    (_, true, _) => timeouts.send.min(timeouts.tunnel),
                    (_, _, true) => timeouts.upstream_write.min(timeouts.tunnel),
                    _ => timeouts.tunnel,
                };
                timer.set(context.handle.now() + patience);
            }
            ready!(timer.poll_expired(cx));
            if !attempted {
                attempted = true;
                stream.attempt_write();
                tunnel.server.attempt_write();
                continue;
            }
            return Poll::Ready(Err(tunnel.lost().unwrap_or_else(|| {
                let why = match context.service.handler {
                    Handler::Tcp(_) => {
                        "nothing moved on the connection within the idle_timeout of the tcp service"
                    }
                    _ => "nothing moved in the tunnel within the tunnel time-out",
                };
                Failure::downstream(408, why)
            })));
        }
    })
    .await
}

/// One direction of a tunnel.
struct Half {
    pump: Pump,
    /// Read from the source and not yet sent, behind what is left of `out`.
    unread: Buffer,
    /// Goes to the sink first.
    out: Vec<u8>,
    /// From the client to the server.
    upward: bool,
    ended: bool,
    /// Its sink takes no more, whatever there is for it.
    gone: bool,
    /// Why the sink takes no more, where that was no end in order.
    lost: Option<Failure>,
}

impl Half {
    fn new(upward: bool, incoming: Incoming, unread: Buffer, out: Vec<u8>) -> Self {
        let pump = Pump::new(incoming, Outgoing::Identity, u64::MAX);
        Self { pump, unread, out, upward, ended: false, gone: false, lost: None }
    }

    /// A direction that goes on. One that had ended, down to telling the sink, is one that has and holds nothing: the
    /// sink is told again, which changes nothing.
    fn resume(upward: bool, held: Held, handle: &Handle) -> Self {
        let incoming = if held.ended { Incoming::Length(0) } else { Incoming::UntilClose };
        Self::new(upward, incoming, handle.buffers().take(), held.bytes)
    }

    /// How many bytes are read and not yet sent.
    fn holds(&self) -> usize {
        self.pump.left(&self.out).len() + self.unread.len()
    }

    /// What is read and not yet sent, and whether the source has ended.
    fn into_held(self) -> Held {
        let bytes = [self.pump.left(&self.out), self.unread.unread()].concat();
        Held { bytes, ended: self.pump.has_arrived() }
    }

    /// Moves what can be moved; passes the end of the source on to the sink.
    fn poll(&mut self, cx: &mut Context<'_>, source: &Wire, sink: &Wire) -> Result<(), Failure> {
        if self.ended {
            return Ok(());
        }
        let mut ends = pump::Ends { source, unread: &mut self.unread, sink: Some(sink), out: &mut self.out };
        match self.pump.poll(cx, &mut ends) {
            Poll::Pending => {}
            Poll::Ready(Ok(())) => {
                self.ended = true;
                // It fails where the sink is gone already, which its own direction will tell.
                let _ = sink.shutdown(Shutdown::Write);
            }
            Poll::Ready(Err(error @ PumpError::Sink(_))) => {
                self.lost = Some(failure(&error, self.upward));
                (self.ended, self.gone) = (true, true);
            }
            Poll::Ready(Err(error)) => return Err(failure(&error, self.upward)),
        }
        Ok(())
    }

    /// Ends the direction, for nobody is left at the end of it.
    fn sink_is_gone(&mut self, sink: &Wire) {
        if self.gone {
            return;
        }
        self.gone = true;
        self.ended = true;
        self.lost = sink.take_error().map(|error| failure(&PumpError::Sink(error), self.upward));
    }
}

fn failure(error: &PumpError, upward: bool) -> Failure {
    let (source, sink) = if upward { ("client", "server") } else { ("server", "client") };
    let (why, by_source) = match error {
        PumpError::Source(error) => (format!("the {source}'s side of the tunnel failed: {error}"), true),
        PumpError::Sink(error) => (format!("the {sink}'s side of the tunnel failed: {error}"), false),
        PumpError::Truncated | PumpError::TooLarge | PumpError::Malformed(_) => {
            (format!("the {source}'s side of the tunnel ended out of order"), true)
        }
    };
    if by_source == upward { Failure::downstream(499, why) } else { Failure::upstream(502, why) }
}
