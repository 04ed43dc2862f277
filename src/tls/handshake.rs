//! Both handshakes.

use std::cell::Cell;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::task::{Poll, ready};

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;

use super::session::Session;
use super::{Acceptor, Connector, TlsStream};
use crate::runtime::{Buffer, Buffers, Handle, Stream, Timer, with_deadline};

/// What a client turned out to speak.
#[derive(Debug)]
pub enum Accepted {
    /// TLS, and the handshake is over.
    Tls(Box<TlsStream>),
    /// What looks like a request in plain HTTP: it begins with a capital letter, as no handshake does. With what was
    /// received of it.
    Plain(Stream, Buffer),
}

/// Why there is no TLS with a peer.
#[derive(Debug)]
pub enum HandshakeError {
    /// The peer closed the connection before it had said anything.
    Silent,
    /// The peer closed the connection in the middle of the handshake.
    Closed,
    /// The handshake took too long; it was waiting for this.
    TimedOut(&'static str),
    /// The connection failed.
    Connection(io::Error),
    /// What the peer said or showed was refused, or it refused what it was shown.
    Refused(rustls::Error),
}

/// Takes a client's connection: waits for what it says first, and for the handshake's end; and whenever there is something to
/// do for it, for its turn among the handshakes of `acceptor`; all of it within the acceptor's time-out, for which `timer` is used.
///
/// Dropping the future closes the connection.
///
/// # Errors
///
/// Why there is no connection. The client has been sent the alert that says so, as far as that went.
pub async fn accept(
    stream: Stream,
    acceptor: &Acceptor,
    handle: &Handle,
    timer: &Timer,
) -> Result<Accepted, HandshakeError> {
    let waits_for = Cell::new("the client's first byte");
    let deadline = handle.deadline(acceptor.limits().timeout);
    let shaking = async {
        // A new connection is said to be readable before anything has come; whoever is silent takes nobody's turn.
        poll_fn(|cx| if stream.is_stale() { Poll::Ready(()) } else { stream.poll_readable(cx) }).await;
        waits_for.set("its turn among the other handshakes");
        let pass = acceptor.enter().await;
        waits_for.set("the client");
        let mut received = handle.buffers().take();
        let count = stream.read(received.space_mut()).await.map_err(HandshakeError::Connection)?;
        received.filled(count);
        match received.unread().first() {
            None => return Err(HandshakeError::Silent),
            Some(b'A'..=b'Z') => return Ok(Accepted::Plain(stream, received)),
            Some(_) => {}
        }
        let connection =
            UnbufferedServerConnection::new(acceptor.server_config()).map_err(HandshakeError::Refused)?;
        let stream = TlsStream::begin(stream, Session::server(connection, handle.buffers(), received));
        let mut stream = Box::new(stream);
        let mut pass = Some(pass);
        // Whoever lets River wait takes nobody's turn either: one byte would do to hold it for all of the time-out.
        while !step(&stream).await? {
            drop(pass.take());
            woken().await;
            waits_for.set("its turn among the other handshakes");
            pass = Some(acceptor.enter().await);
            waits_for.set("the client");
        }
        stream.settle();
        Ok(Accepted::Tls(stream))
    };
    with_deadline(timer, deadline, shaking)
        .await
        .unwrap_or_else(|_| Err(HandshakeError::TimedOut(waits_for.get())))
}

/// Makes TLS with a server over a new connection. Of protocols, `alpn` alone is offered where it is given, else what the
/// connector says. There is no deadline; see [`with_deadline`].
///
/// Dropping the future closes the connection.
///
/// # Errors
///
/// Why there is no TLS: for one, because the server's certificate is refused.
pub async fn connect(
    stream: Stream,
    connector: &Connector,
    alpn: Option<&[u8]>,
    buffers: &Buffers,
) -> Result<Box<TlsStream>, HandshakeError> {
    let (config, name) = (connector.config(), connector.server_name());
    let connection = match alpn {
        None => UnbufferedClientConnection::new(config, name),
        Some(only) => UnbufferedClientConnection::new_with_alpn(config, name, vec![only.to_vec()]),
    };
    let connection = connection.map_err(HandshakeError::Refused)?;
    shake(TlsStream::begin(stream, Session::client(connection, buffers))).await
}

/// Goes on with a handshake as far as it goes now; true once it is over. If it is not, the task is woken when there is more
/// to do.
async fn step(stream: &TlsStream) -> Result<bool, HandshakeError> {
    poll_fn(|cx| match stream.poll_handshake(cx) {
        Poll::Ready(outcome) => Poll::Ready(outcome.map(|()| true)),
        Poll::Pending => Poll::Ready(Ok(false)),
    })
    .await
    .map_err(HandshakeError::from)
}

/// Waits until the task is woken, whatever for.
async fn woken() {
    let mut waited = false;
    poll_fn(|_| if std::mem::replace(&mut waited, true) { Poll::Ready(()) } else { Poll::Pending }).await;
}

async fn shake(stream: TlsStream) -> Result<Box<TlsStream>, HandshakeError> {
    let mut stream = Box::new(stream);
    poll_fn(|cx| Poll::Ready(ready!(stream.poll_handshake(cx)))).await.map_err(HandshakeError::from)?;
    stream.settle();
    Ok(stream)
}

impl From<io::Error> for HandshakeError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Closed,
            _ => match error.downcast::<rustls::Error>() {
                Ok(error) => Self::Refused(error),
                Err(error) => Self::Connection(error),
            },
        }
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent => f.write_str("the peer closed the connection before it had said anything"),
            Self::Closed => f.write_str("the peer closed the connection in the middle of the TLS handshake"),
            Self::TimedOut(waits_for) => {
                write!(f, "the TLS handshake took longer than its time-out: it waited for {waits_for}")
            }
            Self::Connection(error) => write!(f, "the connection failed in the TLS handshake: {error}"),
            Self::Refused(error) => write!(f, "the TLS handshake failed: {error}"),
        }
    }
}

impl std::error::Error for HandshakeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Silent | Self::Closed | Self::TimedOut(_) => None,
            Self::Connection(error) => Some(error),
            Self::Refused(error) => Some(error),
        }
    }
}
