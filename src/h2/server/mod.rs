//! HTTP/2 towards clients.

mod download;
mod request;
mod stream;
mod upload;

use std::pin::pin;
use std::task::{Context, Poll};

use ::h2::server::{Builder, Connection, SendResponse};
use ::h2::{Reason, RecvStream};
use ::http::Request;
use bytes::Bytes;
use futures_io::{AsyncRead, AsyncWrite};

use super::Io;
use super::error::{Error, io_error};
pub use request::Malformed;
pub use stream::ServerStream;

/// What a client begins with (RFC 9113 §3.4). It is no request in any version of HTTP/1.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How much a client may ask of one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerLimits {
    /// Streams that are open at one time; at least 1.
    pub max_streams: u32,
    /// Bytes of a header block's fields as RFC 9113 §10.5.1 counts them.
    pub max_header_list: u32,
    /// Bytes that a client may send on a stream before they are read; up to 2^31 - 1.
    pub window: u32,
    /// The same over all streams of a connection.
    pub connection_window: u32,
    /// Bytes of a stream that wait for the client's connection to take them.
    pub max_unsent: usize,
    /// Streams that a client may reset within 10 seconds.
    pub max_resets: u32,
    /// Frames without use to any stream that it may send within 10 seconds.
    pub max_control_frames: u32,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            max_streams: 128,
            max_header_list: 36 << 10,
            window: 128 << 10,
            connection_window: 512 << 10,
            max_unsent: 32 << 10,
            max_resets: 200,
            max_control_frames: 1000,
        }
    }
}

/// A request as the `h2` crate hands it out; a [`ServerStream`] is made of it.
pub type Opened = (Request<RecvStream>, SendResponse<Bytes>);

/// A client's connection in HTTP/2.
#[derive(Debug)]
pub struct Server<S> {
    io: Io<S>,
    connection: Connection<Io<S>, Bytes>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Server<S> {
    /// Waits for the client's preface, which is all that can be waited for here; nothing bounds the time.
    ///
    /// # Errors
    ///
    /// The stream below failed, or what came is no preface.
    pub async fn accept(io: Io<S>, limits: &ServerLimits) -> Result<Self, Error> {
        io.count(PREFACE.len(), limits.max_resets, limits.max_control_frames);
        let mut builder = Builder::new();
        builder
            .max_concurrent_streams(limits.max_streams)
            .max_header_list_size(limits.max_header_list)
            .initial_window_size(limits.window)
            .initial_connection_window_size(limits.connection_window)
            .max_send_buffer_size(limits.max_unsent)
            // Over the life of a connection they add up to any number. The meter counts them over time.
            .max_local_error_reset_streams(None)
            .enable_connect_protocol();
        let mut handshake = pin!(builder.handshake(io.clone()));
        let connection = std::future::poll_fn(|cx| {
            let outcome = handshake.as_mut().poll(cx);
            if let Poll::Ready(Err(error)) = io.poll_send(cx) {
                return Poll::Ready(Err(Error::from(error)));
            }
            outcome.map_err(Error::from)
        })
        .await?;
        Ok(Self { io, connection })
    }

    /// Drives the connection. It yields each stream that the client opens, and `None` once it has ended in order.
    ///
    /// # Errors
    ///
    /// The stream below failed, or the client broke the protocol and was told so. Either ends the connection.
    pub fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Opened, Error>>> {
        let accepted = self.connection.poll_accept(cx);
        if matches!(accepted, Poll::Ready(Some(Ok(_)))) {
            // There may be more, and all of it goes in one.
            return accepted.map_err(Error::from);
        }
        match self.io.poll_send(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Some(Err(error.into()))),
            _ => accepted.map_err(Error::from),
        }
    }

    /// Lets the streams that are open end, and those on their way: GOAWAY with the highest possible stream, a PING, and
    /// once that has come back a GOAWAY with the last stream there was (RFC 9113 §6.8). The connection ends after the
    /// last stream; [`poll_accept`](Self::poll_accept) is to be called as before.
    pub fn shut_down(&mut self) {
        self.connection.graceful_shutdown();
    }

    /// Ends the connection and its streams.
    pub fn abort(&mut self, reason: Reason) {
        self.connection.abrupt_shutdown(reason);
    }
}
