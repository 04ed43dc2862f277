//! What a connection becomes after 101: bytes both ways, each direction ending by itself.

use std::future::poll_fn;
use std::net::Shutdown;
use std::task::{Poll, ready};

use super::ServiceContext;
use super::connection::log;
use super::downstream::Downstream;
use super::failure::Failure;
use super::pump::{self, Incoming, Outgoing, Pump, PumpError};
use crate::runtime::{Buffer, Stream};

/// The server's end of a tunnel, and what is on its way already.
pub(super) struct Ends<'a> {
    pub(super) server: &'a Stream,
    /// The server, as the configuration names it.
    pub(super) name: &'a str,
    /// The line of the request that asked for the tunnel.
    pub(super) line: &'a [u8],
    /// Read from the server behind its 101.
    pub(super) received: Buffer,
    /// Empty.
    pub(super) to_upstream: &'a mut Vec<u8>,
    /// Holds the head of the 101.
    pub(super) to_downstream: &'a mut Vec<u8>,
}

/// Moves bytes both ways until both ends have closed, one fails, or nothing moves for the tunnel time-out.
///
/// What an end said before it was gone still goes to the other one, as long as that takes it.
pub(super) async fn run(context: &ServiceContext, downstream: &mut Downstream, ends: Ends<'_>) {
    let Ends { server, name, line, mut received, to_upstream, to_downstream } = ends;
    let Downstream { stream, unread, timer, .. } = &mut *downstream;
    let stream = &*stream;
    let timeouts = &context.service.timeouts;
    let mut up = Half::new(true);
    let mut down = Half::new(false);
    let mut seen = None;
    let outcome = poll_fn(|cx| {
        let mut attempted = false;
        loop {
            let upward = pump::Ends {
                source: stream,
                unread: &mut *unread,
                sink: Some(server),
                out: &mut *to_upstream,
            };
            if let Err(failure) = up.poll(cx, upward, server) {
                return Poll::Ready(Err(failure));
            }
            let downward = pump::Ends {
                source: server,
                unread: &mut received,
                sink: Some(stream),
                out: &mut *to_downstream,
            };
            if let Err(failure) = down.poll(cx, downward, stream) {
                return Poll::Ready(Err(failure));
            }
            if up.ended && down.ended {
                return Poll::Ready(lost(&mut up, &mut down).map_or(Ok(()), Err));
            }
            // A direction that waits for room does not read, so the end of its source has to be asked for. Both ends are
            // gone in this sense, too, where both directions have ended in order.
            if stream.poll_gone(cx).is_ready() {
                down.sink_is_gone(stream);
            }
            if server.poll_gone(cx).is_ready() {
                up.sink_is_gone(server);
            }
            if up.ended && down.ended {
                return Poll::Ready(lost(&mut up, &mut down).map_or(Ok(()), Err));
            }
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
                server.attempt_write();
                continue;
            }
            return Poll::Ready(Err(lost(&mut up, &mut down).unwrap_or_else(|| {
                Failure::downstream(408, "nothing moved in the tunnel within the tunnel time-out")
            })));
        }
    })
    .await;
    if let Err(failure) = outcome {
        log(context, downstream, line, name, &failure);
    }
}

/// One direction of a tunnel.
struct Half {
    pump: Pump,
    /// From the client to the server.
    upward: bool,
    ended: bool,
    /// Its sink takes no more, whatever there is for it.
    gone: bool,
    /// Why the sink takes no more, where that was no end in order.
    lost: Option<Failure>,
}

impl Half {
    fn new(upward: bool) -> Self {
        let pump = Pump::new(Incoming::UntilClose, Outgoing::Identity, u64::MAX);
        Self { pump, upward, ended: false, gone: false, lost: None }
    }

    /// Moves what can be moved; passes the end of the source on to the sink.
    fn poll(
        &mut self,
        cx: &mut std::task::Context<'_>,
        mut ends: pump::Ends<'_>,
        sink: &Stream,
    ) -> Result<(), Failure> {
        if self.ended {
            return Ok(());
        }
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
    fn sink_is_gone(&mut self, sink: &Stream) {
        if self.gone {
            return;
        }
        self.gone = true;
        self.ended = true;
        self.lost = sink.take_error().map(|error| failure(&PumpError::Sink(error), self.upward));
    }
}

fn lost(up: &mut Half, down: &mut Half) -> Option<Failure> {
    up.lost.take().or_else(|| down.lost.take())
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
