//! Frames of HTTP/2 (RFC 9113 §4.1) as bytes, for clients and servers that send them as they are given.

use std::io::{self, Read};
use std::net::TcpStream;

/// What a client begins with (RFC 9113 §3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The kinds of frames.
pub mod kind {
    #![allow(missing_docs)]
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// Flags of frames.
pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The error code of a RST_STREAM.
    pub fn reset(&self) -> Option<u32> {
        (self.kind == kind::RST_STREAM).then(|| number(&self.payload))
    }

    /// The last stream and the error code of a GOAWAY.
    pub fn goaway(&self) -> Option<(u32, u32)> {
        (self.kind == kind::GOAWAY).then(|| (number(&self.payload), number(&self.payload[4..])))
    }
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes[..4].try_into().unwrap())
}

/// The next frame; `None` where the connection ends before it, in order or not. Panics when the socket's read time-out
/// passes first.
///
/// # Errors
///
/// The connection ends within the frame.
#[track_caller]
pub fn read(socket: &mut TcpStream) -> io::Result<Option<Frame>> {
    let in_time = |error: &io::Error| assert!(error.kind() != io::ErrorKind::WouldBlock, "no frame in time");
    let mut head = [0; 9];
    if socket.read_exact(&mut head).inspect_err(in_time).is_err() {
        return Ok(None);
    }
    let mut payload = vec![0; number(&[0, head[0], head[1], head[2]]) as usize];
    socket.read_exact(&mut payload).inspect_err(in_time)?;
    Ok(Some(Frame { kind: head[3], flags: head[4], stream: number(&head[5..]) & !(1 << 31), payload }))
}

/// A frame's bytes.
pub fn bytes(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// The pseudo-fields of a request to a host called `host`.
pub fn pseudo<'a>(method: &'a str, path: &'a str) -> [(&'a str, &'a str); 4] {
    [(":method", method), (":scheme", "http"), (":authority", "host"), (":path", path)]
}

/// A header block that writes every field out (RFC 7541 §6.2.2).
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name.as_bytes(), value.as_bytes()] {
            length(&mut block, text.len());
            block.extend_from_slice(text);
        }
    }
    block
}

/// An integer with a prefix of seven bits (RFC 7541 §5.1).
fn length(block: &mut Vec<u8>, length: usize) {
    if length < 127 {
        return block.push(length as u8);
    }
    block.push(127);
    let mut rest = length - 127;
    while rest >= 128 {
        block.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    block.push(rest as u8);
}
