//! A server of HTTP/2 that sends frames as they are written, for what no library would send.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};

use super::frame;
use super::frame::PREFACE;
pub use super::frame::kind::{DATA, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS, WINDOW_UPDATE};
pub use super::frame::{ACK, END_HEADERS, END_STREAM, Frame};
use super::wait::PATIENCE;

/// `:status: 200`, as HPACK has it (RFC 7541 §6.1, index 8).
pub const STATUS_200: &[u8] = &[0x88];

/// A listening server, which accepts when it is told to and waits [`PATIENCE`] for a connection then.
#[derive(Debug)]
pub struct Frames(TcpListener);

/// One of its connections.
#[derive(Debug)]
pub struct FrameConn(TcpStream);

impl Frames {
    pub fn listen() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // Of accept(2), too.
        set_socket_timeout(&listener, Timeout::Recv, Some(PATIENCE)).unwrap();
        Self(listener)
    }

    pub fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    /// What stands in a configuration for it.
    pub fn server(&self) -> String {
        format!("(addr: \"{}\", proto: H2Only)", self.address())
    }

    /// Takes the next connection: reads the preface, and says `settings` (pairs of identifier and value).
    #[track_caller]
    pub fn accept(&self, settings: &[(u16, u32)]) -> FrameConn {
        let mut this = self.accept_silently();
        let mut payload = Vec::new();
        for (identifier, value) in settings {
            payload.extend_from_slice(&identifier.to_be_bytes());
            payload.extend_from_slice(&value.to_be_bytes());
        }
        this.send(SETTINGS, 0, 0, &payload);
        this
    }

    /// Takes the next connection: reads the preface, and says nothing.
    #[track_caller]
    pub fn accept_silently(&self) -> FrameConn {
        let (mut stream, _) = self.0.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut preface = [0; PREFACE.len()];
        stream.read_exact(&mut preface).unwrap();
        assert_eq!(preface, PREFACE);
        FrameConn(stream)
    }

    /// Whether nobody has connected.
    pub fn nobody_comes(&self) -> bool {
        self.0.set_nonblocking(true).unwrap();
        let nobody = self.0.accept().is_err();
        self.0.set_nonblocking(false).unwrap();
        nobody
    }
}

impl FrameConn {
    /// Sends a frame.
    pub fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.bytes(&frame::bytes(kind, flags, stream, payload));
    }

    /// Sends bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    /// Sends bytes as they are; false if nobody takes them.
    pub fn try_bytes(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).is_ok()
    }

    /// Reads the next frame; `None` if none begins within so long.
    pub fn read_within(&mut self, patience: Duration) -> Option<Frame> {
        self.0.set_read_timeout(Some(patience)).unwrap();
        let begins = self.0.peek(&mut [0]).is_ok();
        self.0.set_read_timeout(Some(PATIENCE)).unwrap();
        if begins { self.read() } else { None }
    }

    /// Reads the next frame; `None` at the end of the connection.
    #[track_caller]
    pub fn read(&mut self) -> Option<Frame> {
        frame::read(&mut self.0).unwrap()
    }

    /// Reads until a frame of `kind` comes that acknowledges nothing; acknowledges settings on the way.
    #[track_caller]
    pub fn wait(&mut self, kind: u8) -> Frame {
        loop {
            let frame =
                self.read().unwrap_or_else(|| panic!("the connection ended before a frame of {kind}"));
            let asks = frame.flags & ACK == 0;
            if frame.kind == SETTINGS && asks {
                self.send(SETTINGS, ACK, 0, &[]);
            }
            if frame.kind == kind && (asks || !matches!(kind, SETTINGS | PING)) {
                return frame;
            }
        }
    }

    /// Answers a request with 200 and `body`.
    pub fn answer(&mut self, stream: u32, body: &[u8]) {
        self.send(HEADERS, END_HEADERS, stream, STATUS_200);
        self.send(DATA, END_STREAM, stream, body);
    }

    /// Waits for a request and answers it with 200 and `body`.
    #[track_caller]
    pub fn answer_next(&mut self, body: &[u8]) {
        let stream = self.wait(HEADERS).stream;
        self.answer(stream, body);
    }

    /// Waits for a request and resets its stream.
    #[track_caller]
    pub fn reset_next(&mut self, reason: u32) {
        let stream = self.wait(HEADERS).stream;
        self.reset(stream, reason);
    }

    /// GOAWAY, with the last stream that was or will be looked at.
    pub fn go_away(&mut self, last: u32, reason: u32) {
        self.send(GOAWAY, 0, 0, &[last.to_be_bytes(), reason.to_be_bytes()].concat());
    }

    /// RST_STREAM.
    pub fn reset(&mut self, stream: u32, reason: u32) {
        self.send(RST_STREAM, 0, stream, &reason.to_be_bytes());
    }

    /// Reads to the end of the connection.
    #[track_caller]
    pub fn wait_end(&mut self) {
        while self.read().is_some() {}
    }
}
