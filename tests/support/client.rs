//! A blocking HTTP/1.1 client that checks what it reads to the byte.

use std::io::{self, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use super::raw::{Fields, Framing, Head, Reader, response_framing, wrong};
use super::socket::{ReadHalf, Socket, Target};

/// Interim responses (1xx): status and fields.
pub type Interim = Vec<(u16, Fields)>;

/// A response, read whole.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The fields of its head.
    pub fields: Fields,
    /// Its body, without the framing.
    pub body: Vec<u8>,
    /// The trailer fields of a chunked body.
    pub trailers: Fields,
    /// The interim responses (1xx) that came before it.
    pub interim: Interim,
    /// Whether the connection ends with it: it says so, or its body ends with the connection.
    pub closed: bool,
    /// The bytes of its head.
    pub raw: Vec<u8>,
}

impl Response {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Panics unless the status is `status`; returns the response.
    #[track_caller]
    pub fn expect_status(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }
}

/// One connection.
#[derive(Debug)]
pub struct Conn {
    socket: Arc<Socket>,
    reader: Reader<ReadHalf>,
}

impl Conn {
    /// Connects, and panics where that fails.
    #[track_caller]
    pub fn open(target: impl Into<Target>) -> Self {
        let target = target.into();
        match Self::try_open(&target) {
            Ok(conn) => conn,
            Err(error) => panic!("cannot connect to {target}: {error}"),
        }
    }

    /// Connects.
    pub fn try_open(target: &Target) -> io::Result<Self> {
        let socket = Arc::new(Socket::connect(target)?);
        Ok(Self { reader: Reader::new(ReadHalf(socket.clone())), socket })
    }

    /// The socket itself.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// The socket, for another thread to write to.
    pub fn sender(&self) -> Arc<Socket> {
        self.socket.clone()
    }

    /// The socket, to write to, and what reads from it, for two threads.
    pub fn into_parts(self) -> (Arc<Socket>, Reader<ReadHalf>) {
        (self.socket, self.reader)
    }

    /// Sends bytes as they are.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        if let Err(error) = self.try_send(bytes.as_ref()) {
            panic!("cannot send: {error}");
        }
    }

    /// Sends bytes as they are.
    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        (&*self.socket).write_all(bytes)
    }

    /// Sends a request without a body.
    #[track_caller]
    pub fn request(&mut self, method: &str, path: &str) {
        self.send(format!("{method} {path} HTTP/1.1\r\nhost: test.example\r\n\r\n"));
    }

    /// Sends a GET and reads its response.
    #[track_caller]
    pub fn get(&mut self, path: &str) -> Response {
        self.request("GET", path);
        self.read_response("GET")
    }

    /// Reads the response to a request with this method, interim responses included; panics on any fault.
    #[track_caller]
    pub fn read_response(&mut self, method: &str) -> Response {
        match self.try_read_response(method) {
            Ok(response) => response,
            Err(error) => panic!("no whole response to {method}: {error}"),
        }
    }

    /// Reads the response to a request with this method, interim responses included.
    pub fn try_read_response(&mut self, method: &str) -> io::Result<Response> {
        let (head, status, interim) = self.try_read_head()?;
        let framing = response_framing(method, status, &head.fields)?;
        let (body, trailers) = self.reader.body(framing)?;
        let closed = framing == Framing::Close || head.fields.lists("connection", "close");
        Ok(Response { status, fields: head.fields, body, trailers, interim, closed, raw: head.raw })
    }

    /// Reads a response's head only; its body is left to [`Conn::reader`]. Panics on any fault.
    #[track_caller]
    pub fn read_head(&mut self) -> (Head, u16) {
        match self.try_read_head() {
            Ok((head, status, _)) => (head, status),
            Err(error) => panic!("no whole response head: {error}"),
        }
    }

    /// Reads a response's head and the interim ones before it.
    pub fn try_read_head(&mut self) -> io::Result<(Head, u16, Interim)> {
        let mut interim = Vec::new();
        loop {
            let head = self.reader.head()?.ok_or_else(|| {
                io::Error::new(io::ErrorKind::UnexpectedEof, "the connection was closed before the response")
            })?;
            let status = parse_status(&head.start)?;
            if status / 100 != 1 || status == 101 {
                return Ok((head, status, interim));
            }
            interim.push((status, head.fields));
        }
    }

    /// What reads from the connection, for tests that go through a response piece by piece.
    pub fn reader(&mut self) -> &mut Reader<ReadHalf> {
        &mut self.reader
    }

    /// Tells the server that nothing more will be sent; the other direction stays open.
    #[track_caller]
    pub fn finish(&mut self) {
        self.socket.shutdown(Shutdown::Write).unwrap();
    }

    /// Whether nothing came that was not asked for: no byte, no end, no error.
    pub fn is_quiet(&self) -> bool {
        self.reader.buffered().is_empty() && !self.socket.is_readable()
    }

    /// Reads until the server closes.
    #[track_caller]
    pub fn read_to_end(&mut self) -> Vec<u8> {
        match self.reader.until_end() {
            Ok(bytes) => bytes,
            Err(error) => panic!("no orderly end: {error}"),
        }
    }

    /// Waits for the server to close in order, with no further byte.
    #[track_caller]
    pub fn expect_closed(&mut self) {
        let rest = self.read_to_end();
        assert!(rest.is_empty(), "bytes before the end: {:?}", String::from_utf8_lossy(&rest));
    }

    /// Waits for the server to close in order within `deadline`, with no further byte.
    #[track_caller]
    pub fn expect_closed_within(&mut self, deadline: Duration) {
        self.socket.set_read_timeout(deadline).unwrap();
        self.expect_closed();
    }

    /// Waits for the server to reset the connection.
    #[track_caller]
    pub fn expect_reset(&mut self) {
        match self.reader.until_end() {
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            other => panic!("no reset: {other:?}"),
        }
    }

    /// Waits for the connection to be gone in either way; what came before it is dropped.
    #[track_caller]
    pub fn expect_gone_within(&mut self, deadline: Duration) {
        self.socket.set_read_timeout(deadline).unwrap();
        match self.reader.until_end() {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            Err(error) => panic!("still open after {deadline:?}: {error}"),
        }
    }

    /// Closes with a reset (TCP RST).
    pub fn reset(self) {
        self.socket.reset_on_close().unwrap();
    }
}

/// One GET over a connection of its own.
#[track_caller]
pub fn get(target: impl Into<Target>, path: &str) -> Response {
    Conn::open(target).get(path)
}

/// The code of a status line, of which the reason phrase may be empty and the space before it may not be missing
/// (RFC 9112 §4).
fn parse_status(line: &str) -> io::Result<u16> {
    let bad = || wrong(format!("no HTTP/1.1 status line: {line:?}"));
    let (code, _) = line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.split_once(' ')).ok_or_else(bad)?;
    match code.parse() {
        Ok(status @ 100..=599) if code.len() == 3 => Ok(status),
        _ => Err(bad()),
    }
}
