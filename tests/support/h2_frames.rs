//! A server of HTTP/2 that sends frames as they are written, for what no library would send.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use super::wait::{PATIENCE, until};

/// What a client begins with (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// `:status: 200`, as HPACK has it (RFC 7541 §6.1, index 8).
pub const STATUS_200: &[u8] = &[0x88];

/// One frame (RFC 9113 §4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// A listening server, which accepts when it is told to.
#[derive(Debug)]
pub struct Frames(TcpListener);

/// One of its connections.
#[derive(Debug)]
pub struct FrameConn(TcpStream);

impl Frames {
    pub fn listen() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    pub fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    /// What stands in a configuration for it.
    pub fn server(&self) -> String {
        format!("(addr: \"{}\", proto: H2Only)", self.address())
    }

    /// Takes the next connection: reads the preface, and says `settings` (pairs of identifier and value).
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
    pub fn accept_silently(&self) -> FrameConn {
        let mut accepted = None;
        self.0.set_nonblocking(true).unwrap();
        until("a connection", PATIENCE, || {
            accepted = self.0.accept().ok();
            accepted.is_some()
        });
        self.0.set_nonblocking(false).unwrap();
        let (mut stream, _) = accepted.unwrap();
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
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags];
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(payload);
        self.0.write_all(&frame).unwrap();
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
    pub fn read(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        if self.0.read_exact(&mut head).is_err() {
            return None;
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        self.0.read_exact(&mut payload).unwrap();
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
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
