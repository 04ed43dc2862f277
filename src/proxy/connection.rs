//! A client's connection, from its first byte to its last.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use super::downstream::{Awaited, Downstream, HeadRead};
use super::failure::{Blame, Failure};
use super::scratch::Scratch;
use super::{Handler, ServiceContext, exchange, respond, rewrite};
use crate::runtime::Stream;

/// What becomes of a client's connection after an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Another request may come.
    KeepAlive,
    /// No request had come after all.
    StillIdle,
    /// It is closed; the client expects that and sends nothing more.
    Close,
    /// It is closed, and the client may not know yet.
    Linger,
    /// It is closed, and the rest of a request that was answered early may be on its way.
    Absorb,
}

/// How long a connection that River closes is still read from, so that what the client sends meanwhile does not
/// reset it and take the response with it (RFC 9112 §9.6).
const LINGER: Duration = Duration::from_secs(2);

/// How long it is where the client may be sending a body that nobody wants any more: clients that read no response
/// before they have sent all of it are to see it, too.
const ABSORB: Duration = Duration::from_secs(30);

/// How long such a client may be silent.
const ABSORB_SILENCE: Duration = Duration::from_secs(5);

/// Serves a client's connection until it ends. `client` is its address; none for a Unix socket.
pub async fn serve(context: Rc<ServiceContext>, stream: Stream, client: Option<IpAddr>) {
    let handle = &context.handle;
    let timeouts = &context.service.timeouts;
    let mut downstream = Downstream {
        stream,
        unread: handle.buffers().take(),
        timer: handle.timer(),
        client,
        forwarded: rewrite::forwarded(client),
        pipelines: false,
    };
    let mut until = handle.now() + timeouts.head;
    loop {
        downstream.unread.shed();
        if let Awaited::Nothing = downstream.await_request(until).await {
            return;
        }
        downstream.unread.supply();
        loop {
            let mut scratch = context.scratches.take();
            let next = one_request(&context, &mut downstream, &mut scratch).await;
            context.scratches.put(scratch);
            match next {
                Next::StillIdle => break,
                Next::KeepAlive => {
                    until = handle.now() + timeouts.idle;
                    if downstream.unread.is_empty() {
                        break;
                    }
                    // The next request is already here.
                    downstream.pipelines = true;
                }
                Next::Close => return,
                Next::Linger => return downstream.linger(handle, LINGER, LINGER).await,
                Next::Absorb => return downstream.linger(handle, ABSORB_SILENCE, ABSORB).await,
            }
        }
    }
}

async fn one_request(context: &ServiceContext, downstream: &mut Downstream, scratch: &mut Scratch) -> Next {
    let began = context.handle.now();
    let until = began + context.service.timeouts.head;
    let read = downstream.read_head(context, &mut scratch.request, until).await;
    if !matches!(read, HeadRead::Whole(_)) {
        // It may hold the half of a head, and goes to another connection.
        scratch.request.clear();
    }
    match read {
        HeadRead::Whole(length) => match &context.service.handler {
            Handler::Proxy { via, .. } => {
                exchange::run(context, downstream, scratch, length, began, via.as_ref()).await
            }
            Handler::Respond(answer) => {
                respond::fixed(context, downstream, scratch, length, began, answer).await
            }
        },
        HeadRead::Gone => Next::Close,
        HeadRead::Nothing => Next::StillIdle,
        HeadRead::Refuse(failure) => {
            log(context, downstream, &[], "", &failure);
            respond::failure(context, downstream, scratch, &failure, respond::Client::unknown()).await
        }
    }
}

/// One line for an exchange that failed: what the client was told, who is to blame, and why.
pub(super) fn log(
    context: &ServiceContext,
    downstream: &Downstream,
    line: &[u8],
    upstream: &str,
    failure: &Failure,
) {
    let service = &*context.service.name;
    let client = downstream.client.map_or_else(|| "unix".to_owned(), |client| client.to_string());
    let client = &*client;
    let request = String::from_utf8_lossy(line);
    // What is not known is left out.
    let request = (!request.is_empty()).then_some(&*request);
    let upstream = (!upstream.is_empty()).then_some(upstream);
    let Failure { status, blame, why } = failure;
    match blame {
        Blame::Downstream => {
            tracing::info!(target: "river::proxy", service, client, request, upstream, status, %blame, why, "request failed");
        }
        Blame::Upstream | Blame::River => {
            tracing::warn!(target: "river::proxy", service, client, request, upstream, status, %blame, why, "request failed");
        }
    }
}
