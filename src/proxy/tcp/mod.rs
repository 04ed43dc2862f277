//! Connections that carry bytes of any kind: from the client to a server and back.
//!
//! A client's connection becomes a [`Tunnel`] as soon as there is a server for it, which may take its ClientHello to
//! tell. Until then it stays where it was accepted; from then on it moves to another instance as other tunnels do.

mod client_hello;
mod routes;

use std::fmt;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;

pub use self::client_hello::{ClientHello, Hello, MAX_CLIENT_HELLO};
pub use self::routes::Routes;
use super::ServiceContext;
use super::downstream::Downstream;
use super::exchange::connect_failure;
use super::failure::{Blame, Failure, client_gone};
use super::tunnel::Tunnel;
use crate::upstream::{Acquired, Connection, Group, Tried, Upstreams};

/// Bytes both ways, whatever they mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tcp {
    /// The groups of servers; at least one.
    pub groups: Vec<Group>,
    /// Which of the groups a client is connected to, by its place.
    pub routes: Routes,
}

/// How a connection came to its end.
pub(super) enum Ended<'a> {
    /// Both ends have ended it.
    InOrder,
    /// It goes on in another instance.
    Moved,
    /// The client left before it had a server.
    Left,
    Failed(&'a Failure),
}

/// Connects a client to a server. None where that cannot be, which the log says; the client's connection is to be
/// closed then.
pub(super) async fn begin(
    context: &ServiceContext,
    downstream: &mut Downstream,
    routes: &Routes,
) -> Option<Box<Tunnel>> {
    let began = context.handle.now();
    let mut name = String::new();
    let connected = match choose(context, downstream, routes, &mut name).await {
        Ok(Some(upstreams)) => connect(context, downstream, &upstreams).await.map(Some),
        Ok(None) => Ok(None),
        Err(failure) => Err(failure),
    };
    match connected {
        Ok(Some((server, connection))) => {
            let unread = std::mem::replace(&mut downstream.unread, context.handle.buffers().take());
            let received = context.handle.buffers().take();
            let line = name.as_bytes();
            let tunnel =
                Tunnel::begin(server, connection.stream, line, unread, received, Vec::new(), &context.handle);
            Some(Box::new(tunnel))
        }
        Ok(None) => {
            unconnected(&name, began).log(context, downstream, &Ended::Left);
            None
        }
        Err(failure) => {
            unconnected(&name, began).log(context, downstream, &Ended::Failed(&failure));
            None
        }
    }
}

/// The servers for the client, once it is known which they are; none where the client has left before that. What was
/// read to tell is still unread.
async fn choose(
    context: &ServiceContext,
    downstream: &mut Downstream,
    routes: &Routes,
    name: &mut String,
) -> Result<Option<Rc<Upstreams>>, Failure> {
    let mut why = "the client names no server, and there is none for such clients";
    if routes.by_name() {
        match read_hello(context, downstream).await? {
            None => return Ok(None),
            Some(Hello::Named(found)) => {
                *name = found;
                why = "there is no server of the name that the client gives";
            }
            Some(Hello::Nameless) => {}
            Some(Hello::NotTls) => {
                why = "the client does not begin with TLS, and there is no server for such clients";
            }
            Some(Hello::Malformed(why)) => return Err(Failure::downstream(400, why)),
        }
    }
    let group = routes.find((!name.is_empty()).then_some(name.as_str()));
    let upstreams = group.and_then(|group| context.groups.get(group));
    upstreams.cloned().map(Some).ok_or_else(|| Failure::downstream(421, why))
}

/// Reads the begin of the connection until it is known what it says; none where the client left before that.
async fn read_hello(context: &ServiceContext, downstream: &mut Downstream) -> Result<Option<Hello>, Failure> {
    let Downstream { stream, unread, timer, .. } = downstream;
    timer.set(context.handle.now() + context.service.timeouts.head);
    unread.supply();
    let mut reader = ClientHello::default();
    let mut fed = 0;
    poll_fn(|cx| {
        loop {
            if let Some(hello) = reader.feed(unread.unread().get(fed..).unwrap_or_default()) {
                return Poll::Ready(Ok(Some(hello)));
            }
            fed = unread.len();
            // One byte above the limit lets the reader see that the limit is passed.
            if unread.space_mut().is_empty() && !unread.grow(MAX_CLIENT_HELLO + 1) {
                return Poll::Ready(Err(Failure::downstream(400, "the ClientHello is too long")));
            }
            match stream.poll_read(cx, unread.space_mut()) {
                Poll::Ready(Ok(0)) if fed == 0 => return Poll::Ready(Ok(None)),
                Poll::Ready(Ok(0)) => {
                    let why = "the client ended within its ClientHello";
                    return Poll::Ready(Err(Failure::downstream(400, why)));
                }
                Poll::Ready(Ok(count)) => unread.filled(count),
                Poll::Ready(Err(_)) => return Poll::Ready(Err(gone())),
                Poll::Pending => break,
            }
        }
        timer.poll_expired(cx).map(|()| {
            Err(Failure::downstream(408, "the client sent no ClientHello within the head time-out"))
        })
    })
    .await
}

/// Connects to the server whose turn it is, or to the next that takes the connection; the name of the server with it.
async fn connect(
    context: &ServiceContext,
    downstream: &Downstream,
    upstreams: &Upstreams,
) -> Result<(String, Connection), Failure> {
    let timeouts = &context.service.timeouts;
    let until = context.handle.now() + timeouts.request;
    let mut tried = Tried::default();
    let connection = match upstreams.acquire(&mut tried, timeouts.connect, until, &downstream.timer) {
        Acquired::Ready(connection) => connection,
        Acquired::Connecting(connecting) => {
            let connected = downstream.while_there(connecting).await.ok_or_else(gone)?;
            connected.map_err(|error| connect_failure(&error))?
        }
    };
    Ok((upstreams.name(&connection).to_owned(), connection))
}

fn gone() -> Failure {
    Failure { why: "the client reset the connection before it had a server".to_owned(), ..client_gone() }
}

/// Says what became of a connection that had a server.
pub(super) fn log(context: &ServiceContext, downstream: &Downstream, tunnel: &Tunnel, ended: &Ended<'_>) {
    let name = String::from_utf8_lossy(&tunnel.line);
    let (server, bytes, began) = (&*tunnel.name, tunnel.bytes(), tunnel.began);
    Report { name: &name, server, bytes, began }.log(context, downstream, ended);
}

/// What the log says of a connection at its end.
struct Report<'a> {
    /// The name in the client's ClientHello, if it was read and has one.
    name: &'a str,
    /// The server, as the configuration names it, if there was one.
    server: &'a str,
    /// How many bytes the server and the client have been sent, by this instance.
    bytes: [u64; 2],
    /// When this instance began with it.
    began: Instant,
}

/// What there is to say of a connection that had no server.
fn unconnected(name: &str, began: Instant) -> Report<'_> {
    Report { name, server: "", bytes: [0; 2], began }
}

impl Report<'_> {
    fn log(&self, context: &ServiceContext, downstream: &Downstream, ended: &Ended<'_>) {
        let service = &*context.service.name;
        let client = downstream.client().map_or_else(|| "unix".to_owned(), |client| client.to_string());
        let client = &*client;
        let known = |text: &'_ str| (!text.is_empty()).then(|| text.to_owned());
        let (sni, upstream) = (known(self.name), known(self.server));
        let [to_server, to_client] = self.bytes;
        let ms = context.handle.now().saturating_duration_since(self.began).as_millis();
        let why = ended.to_string();
        if let Ended::Failed(Failure { blame, .. }) = ended {
            match blame {
                Blame::Downstream => {
                    tracing::info!(target: "river::proxy", service, client, sni, upstream, to_server, to_client, ms, %blame, why, "connection failed");
                }
                Blame::Upstream | Blame::River => {
                    tracing::warn!(target: "river::proxy", service, client, sni, upstream, to_server, to_client, ms, %blame, why, "connection failed");
                }
            }
            return;
        }
        tracing::info!(target: "river::proxy", service, client, sni, upstream, to_server, to_client, ms, why, "connection ended");
    }
}

impl fmt::Display for Ended<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InOrder => "both ends have ended",
            Self::Moved => "it moves to another instance",
            Self::Left => "the client sent nothing",
            Self::Failed(failure) => &failure.why,
        })
    }
}
