//! Clients of HTTP/2: one that knows the protocol, on the `h2` crate, and one that sends frames as they are written.

use std::future::Future;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use futures_lite::FutureExt;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Method, Request, StatusCode};

use super::config::{Config, connectors};
use super::frame;
pub use super::frame::{ACK, END_HEADERS, END_STREAM, Frame, PREFACE, block, bytes as frame, kind, pseudo};
use super::origin::Origin;
use super::tokio_io::TokioIo;
use super::wait::PATIENCE;

/// The result of `future`, which has to come within [`PATIENCE`].
#[track_caller]
pub fn wait<T>(what: &str, future: impl Future<Output = T>) -> T {
    let late = async {
        smol::Timer::after(PATIENCE).await;
        None
    };
    smol::block_on(async { Some(future.await) }.or(late)).unwrap_or_else(|| panic!("{what}: not in time"))
}

/// One service `web` with one listener that offers HTTP/2, and the given other settings; one worker.
pub fn config(settings: &str) -> Config {
    let text = format!("listeners: [(bind: \"127.0.0.1:0\", offer_h2: true)], {settings}");
    Config::new().system("workers: 1").service_text("web", &text)
}

/// The same in front of `origin`.
pub fn proxy(origin: &Origin) -> Config {
    config(&connectors(&[origin.target().clone()]))
}

/// A connection in HTTP/2, driven by a thread of its own.
#[derive(Debug)]
pub struct H2 {
    send: SendRequest<Bytes>,
    ended: Receiver<Result<(), h2::Error>>,
}

/// A response, whole.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub fields: HeaderMap,
    pub body: Vec<u8>,
    pub trailers: Option<HeaderMap>,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The value of a field.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(|value| value.to_str().unwrap())
    }

    /// The value of a trailer.
    pub fn trailer(&self, name: &str) -> Option<&str> {
        self.trailers.as_ref()?.get(name).map(|value| value.to_str().unwrap())
    }
}

impl H2 {
    /// Connects with the usual settings.
    pub fn open(address: SocketAddr) -> Self {
        Self::open_with(address, &Builder::new())
    }

    /// Connects with settings.
    pub fn open_with(address: SocketAddr, builder: &Builder) -> Self {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_nodelay(true).unwrap();
        let socket = TokioIo(smol::Async::new(socket).unwrap());
        let (send, connection) = wait("a handshake", builder.handshake::<_, Bytes>(socket)).unwrap();
        let (tell, ended) = channel();
        thread::Builder::new()
            .name("h2 client".into())
            .spawn(move || drop(tell.send(smol::block_on(connection))))
            .unwrap();
        Self { send, ended }
    }

    /// How the connection ended, once it has.
    #[track_caller]
    pub fn wait_end(&self, deadline: Duration) -> Result<(), h2::Error> {
        self.ended.recv_timeout(deadline).expect("the connection ends")
    }

    /// Whether the connection is open, and stays so for this long.
    pub fn stays_open(&self, time: Duration) -> bool {
        matches!(self.ended.recv_timeout(time), Err(RecvTimeoutError::Timeout))
    }

    /// Whether the connection is open.
    pub fn is_open(&self) -> bool {
        self.ended.try_recv().is_err()
    }

    /// Waits until the server lets extended CONNECT be used.
    pub fn wait_extended_connect(&self) {
        super::until("the server's settings", PATIENCE, || self.send.is_extended_connect_protocol_enabled());
    }

    /// Begins a request.
    ///
    /// # Errors
    ///
    /// The connection takes none.
    pub fn try_begin(
        &mut self,
        request: Request<()>,
        ends: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        let mut ready = wait("room for a stream", self.send.clone().ready())?;
        ready.send_request(request, ends)
    }

    /// Begins a request.
    #[track_caller]
    pub fn begin(&mut self, request: Request<()>, ends: bool) -> (ResponseFuture, SendStream<Bytes>) {
        self.try_begin(request, ends).unwrap()
    }

    /// Asks and waits for the whole response.
    ///
    /// # Errors
    ///
    /// The stream is reset or the connection ends.
    pub fn try_ask(&mut self, request: Request<()>, body: &[u8]) -> Result<Answer, h2::Error> {
        let (response, mut sending) = self.try_begin(request, body.is_empty())?;
        if !body.is_empty() {
            // A server that answers early takes no more of the body (RFC 9113 §8.1), and the answer counts.
            let _ = send_all(&mut sending, body, true);
        }
        read(response)
    }

    /// Asks and waits for the whole response.
    #[track_caller]
    pub fn ask(&mut self, request: Request<()>, body: &[u8]) -> Answer {
        self.try_ask(request, body).unwrap()
    }

    /// GET.
    #[track_caller]
    pub fn get(&mut self, path: &str) -> Answer {
        self.ask(get(path), b"")
    }
}

/// A request for `path` of a host called `host`.
pub fn request(method: Method, path: &str) -> Request<()> {
    Request::builder().method(method).uri(format!("http://host{path}")).body(()).unwrap()
}

/// GET.
pub fn get(path: &str) -> Request<()> {
    request(Method::GET, path)
}

/// Sends `body` as the windows allow.
///
/// # Errors
///
/// The stream is reset or the connection ends.
pub fn send_all(sending: &mut SendStream<Bytes>, mut body: &[u8], ends: bool) -> Result<(), h2::Error> {
    while !body.is_empty() {
        sending.reserve_capacity(body.len());
        let room = wait("a window", std::future::poll_fn(|cx| sending.poll_capacity(cx)));
        let Some(room) = room.transpose()? else { return Err(h2::Reason::STREAM_CLOSED.into()) };
        let (part, rest) = body.split_at(room.min(body.len()));
        body = rest;
        sending.send_data(Bytes::copy_from_slice(part), ends && rest.is_empty())?;
    }
    Ok(())
}

/// Waits for a whole response.
///
/// # Errors
///
/// The stream is reset or the connection ends.
pub fn read(response: ResponseFuture) -> Result<Answer, h2::Error> {
    let (parts, mut receiving) = wait("a response", response)?.into_parts();
    let mut body = Vec::new();
    while let Some(data) = receive(&mut receiving) {
        body.extend_from_slice(&data?);
    }
    let trailers = wait("trailers", std::future::poll_fn(|cx| receiving.poll_trailers(cx)))?;
    Ok(Answer { status: parts.status, fields: parts.headers, body, trailers })
}

/// The next DATA; makes room for as much again.
pub fn receive(receiving: &mut RecvStream) -> Option<Result<Bytes, h2::Error>> {
    let data = wait("data", std::future::poll_fn(|cx| receiving.poll_data(cx)))?;
    if let Ok(data) = &data {
        let _ = receiving.flow_control().release_capacity(data.len());
    }
    Some(data)
}

/// Exactly so many bytes of DATA.
#[track_caller]
pub fn exactly(receiving: &mut RecvStream, length: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < length {
        bytes.extend_from_slice(&receive(receiving).expect("more data").unwrap());
    }
    assert_eq!(bytes.len(), length, "{}", String::from_utf8_lossy(&bytes));
    bytes
}

/// A connection on which frames are sent as they are given.
#[derive(Debug)]
pub struct Frames {
    socket: TcpStream,
}

impl Frames {
    /// Connects, and sends nothing yet.
    pub fn connect(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket }
    }

    /// Connects, sends the preface and empty SETTINGS, and acknowledges the server's.
    pub fn open(address: SocketAddr) -> Self {
        let mut frames = Self::connect(address);
        frames.bytes(PREFACE);
        frames.send(kind::SETTINGS, 0, 0, b"");
        frames.until("SETTINGS", |frame| frame.kind == kind::SETTINGS && frame.flags == 0);
        frames.send(kind::SETTINGS, ACK, 0, b"");
        frames
    }

    /// Sends bytes.
    #[track_caller]
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).unwrap();
    }

    /// Sends bytes, if the server still takes them.
    ///
    /// # Errors
    ///
    /// It does not.
    pub fn try_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes)
    }

    /// Sends a frame.
    #[track_caller]
    pub fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.bytes(&frame::bytes(kind, flags, stream, payload));
    }

    /// Sends HEADERS in one frame, of fields that are written out.
    #[track_caller]
    pub fn headers(&mut self, stream: u32, flags: u8, fields: &[(&str, &str)]) {
        self.send(kind::HEADERS, flags | END_HEADERS, stream, &block(fields));
    }

    /// GET.
    #[track_caller]
    pub fn get(&mut self, stream: u32, path: &str) {
        self.headers(stream, END_STREAM, &pseudo("GET", path));
    }

    /// RST_STREAM.
    #[track_caller]
    pub fn reset(&mut self, stream: u32, reason: u32) {
        self.send(kind::RST_STREAM, 0, stream, &reason.to_be_bytes());
    }

    /// The next frame; `None` at the end of the connection, in order or not.
    #[track_caller]
    pub fn next(&mut self) -> Option<Frame> {
        // What a reset cuts short is no frame.
        frame::read(&mut self.socket).unwrap_or_default()
    }

    /// The next frame for which this holds; others are passed over.
    #[track_caller]
    pub fn until(&mut self, what: &str, holds: impl Fn(&Frame) -> bool) -> Frame {
        loop {
            let frame = self.next().unwrap_or_else(|| panic!("the connection ended before {what}"));
            if holds(&frame) {
                return frame;
            }
        }
    }

    /// The last frames up to the end of the connection.
    #[track_caller]
    pub fn rest(&mut self) -> Vec<Frame> {
        std::iter::from_fn(|| self.next()).collect()
    }

    /// The socket.
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }
}
