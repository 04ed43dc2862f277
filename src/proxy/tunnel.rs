//! What a connection becomes after 101: bytes both ways, each direction ending by itself.

use std::future::poll_fn;
use std::net::Shutdown;
use std::task::Poll;

use super::ServiceContext;
use super::connection::log;
use super::downstream::Downstream;
use super::failure::Failure;
use super::pump::{self, Incoming, Outgoing, Pump, PumpError};
use crate::runtime::{Buffer, Stream};

/// The server's end of a tunnel, and what is on its way already.
pub(super) struct Ends<'a> {
    pub(super) server: &'a Stream,
    /// Read from the server behind its 101.
    pub(super) received: Buffer,
    /// Empty.
    pub(super) to_upstream: &'a mut Vec<u8>,
    /// Holds the head of the 101.
    pub(super) to_downstream: &'a mut Vec<u8>,
}

/// Moves bytes both ways until both ends have closed, one fails, or nothing moves for the tunnel time-out.
pub(super) async fn run(context: &ServiceContext, downstream: &mut Downstream, ends: Ends<'_>) {
    let Ends { server, mut received, to_upstream, to_downstream } = ends;
    let Downstream { stream, unread, timer, .. } = &mut *downstream;
    let stream = &*stream;
    let mut up = Half::new();
    let mut down = Half::new();
    let mut seen = u64::MAX;
    let outcome = poll_fn(|cx| {
        let upward =
            pump::Ends { source: stream, unread: &mut *unread, sink: Some(server), out: &mut *to_upstream };
        if let Err(error) = up.poll(cx, upward, server) {
            return Poll::Ready(Err(failure(&error, true)));
        }
        let downward = pump::Ends {
            source: server,
            unread: &mut received,
            sink: Some(stream),
            out: &mut *to_downstream,
        };
        if let Err(error) = down.poll(cx, downward, stream) {
            return Poll::Ready(Err(failure(&error, false)));
        }
        if up.ended && down.ended {
            return Poll::Ready(Ok(()));
        }
        let moves = up.pump.moves() + down.pump.moves();
        if seen != moves {
            seen = moves;
            timer.set(context.handle.now() + context.service.timeouts.tunnel);
        }
        timer
            .poll_expired(cx)
            .map(|()| Err(Failure::downstream(408, "nothing moved in the tunnel within the tunnel time-out")))
    })
    .await;
    if let Err(failure) = outcome {
        log(context, downstream, b"tunnel", "", &failure);
    }
}

/// One direction of a tunnel.
struct Half {
    pump: Pump,
    ended: bool,
}

impl Half {
    fn new() -> Self {
        Self { pump: Pump::new(Incoming::UntilClose, Outgoing::Identity, u64::MAX), ended: false }
    }

    /// Moves what can be moved; passes the end of the source on to the sink.
    fn poll(
        &mut self,
        cx: &mut std::task::Context<'_>,
        mut ends: pump::Ends<'_>,
        sink: &Stream,
    ) -> Result<(), PumpError> {
        if self.ended {
            return Ok(());
        }
        match self.pump.poll(cx, &mut ends) {
            Poll::Pending => Ok(()),
            Poll::Ready(Ok(())) => {
                self.ended = true;
                // It fails where the sink is gone already, which its own direction will tell.
                let _ = sink.shutdown(Shutdown::Write);
                Ok(())
            }
            Poll::Ready(Err(error)) => Err(error),
        }
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
