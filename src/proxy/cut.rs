//! What the log says of requests and tunnels that are cut: those whose future is dropped before they have ended, because
//! the time to drain is over, the process ends, or a task has panicked.

use std::net::IpAddr;

use super::ServiceContext;
use super::connection::{log, log_request};
use super::downstream::Downstream;
use super::failure::Failure;
use super::scratch::Scratch;
use super::settings::Handler;
use super::tcp::{self, Ended};
use super::tunnel::Tunnel;

/// Why a request or a tunnel has failed that is cut.
fn cut() -> Failure {
    Failure::river(0, "River closed the connection before this had ended")
}

/// A worker's scratch, taken for one request. Where it is dropped and not ended, the request that it has begun is cut.
pub(super) struct UnderWay<'a> {
    context: &'a ServiceContext,
    scratch: Option<Box<Scratch>>,
}

impl<'a> UnderWay<'a> {
    /// Takes a scratch for the next request of a client.
    pub(super) fn begin(context: &'a ServiceContext, client: Option<IpAddr>, is_http2: bool) -> Self {
        let mut scratch = context.scratches.take();
        (scratch.client, scratch.is_http2) = (client, is_http2);
        Self { context, scratch: Some(scratch) }
    }

    pub(super) fn scratch(&mut self) -> &mut Scratch {
        self.scratch.get_or_insert_default()
    }

    /// The request is over, or never came: gives the scratch back.
    pub(super) fn end(mut self) {
        if let Some(scratch) = self.scratch.take() {
            self.context.scratches.put(scratch);
        }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        // Before its line is noted there is no request yet.
        if let Some(scratch) = self.scratch.as_deref().filter(|scratch| !scratch.line.is_empty()) {
            let Scratch { client, is_http2, line, .. } = scratch;
            log_request(self.context, *client, *is_http2, line, "", &cut());
        }
    }
}

/// A tunnel at work. Where it is dropped before it has ended, it is cut.
pub(super) struct AtWork<'a> {
    context: &'a ServiceContext,
    downstream: &'a Downstream,
    pub(super) tunnel: &'a mut Tunnel,
    ended: bool,
}

impl<'a> AtWork<'a> {
    pub(super) fn new(
        context: &'a ServiceContext,
        downstream: &'a Downstream,
        tunnel: &'a mut Tunnel,
    ) -> Self {
        Self { context, downstream, tunnel, ended: false }
    }

    /// The tunnel has ended, or is another instance's.
    pub(super) fn end(mut self) {
        self.ended = true;
    }
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        let Self { context, downstream, tunnel, ended } = self;
        if *ended {
            return;
        }
        match &context.service.handler {
            Handler::Tcp(_) => tcp::log(context, downstream, tunnel, &Ended::Failed(&cut())),
            Handler::Proxy { .. } | Handler::Respond(_) => {
                log(context, downstream, &tunnel.line, &tunnel.name, &cut());
            }
        }
    }
}
