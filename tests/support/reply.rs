//! What an origin answers.

use std::io::{self, Write};
use std::net::Shutdown;
use std::sync::Arc;

use super::raw::Reader;
use super::socket::{ReadHalf, Socket};

/// The way back to whom an origin answers.
///
/// A method that writes sends at once and in one piece. What is written is not checked, so that an origin can
/// misbehave.
#[derive(Debug)]
pub struct Reply<'a> {
    socket: &'a Arc<Socket>,
    reader: &'a mut Reader<ReadHalf>,
    to_head: bool,
    over: bool,
}

impl<'a> Reply<'a> {
    /// The way back on `socket`, to a request with this method.
    pub fn new(socket: &'a Arc<Socket>, reader: &'a mut Reader<ReadHalf>, method: &str) -> Self {
        Self { socket, reader, to_head: method == "HEAD", over: false }
    }

    /// Whether the connection is to be closed and not to be read from again.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Sends a whole response with a `Content-Length`; without the body where the request was a HEAD.
    pub fn respond(&mut self, status: u16, fields: &[(&str, &str)], body: &[u8]) -> io::Result<()> {
        let mut bytes = head(status, fields);
        if status != 204 && status != 304 {
            let end = bytes.len() - 2;
            bytes.truncate(end);
            bytes.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
        }
        if !self.to_head {
            bytes.extend_from_slice(body);
        }
        self.raw(&bytes)
    }

    /// Sends the head of a response as the fields say, and nothing else.
    pub fn head(&mut self, status: u16, fields: &[(&str, &str)]) -> io::Result<()> {
        self.raw(&head(status, fields))
    }

    /// Sends an interim response (1xx).
    pub fn interim(&mut self, status: u16, fields: &[(&str, &str)]) -> io::Result<()> {
        self.head(status, fields)
    }

    /// Sends the head of a response with a chunked body, to be followed by [`Reply::chunk`] and [`Reply::end`].
    pub fn begin_chunked(&mut self, status: u16, fields: &[(&str, &str)]) -> io::Result<()> {
        let mut all = fields.to_vec();
        all.push(("transfer-encoding", "chunked"));
        self.head(status, &all)
    }

    /// Sends one chunk, which must not be empty.
    pub fn chunk(&mut self, data: &[u8]) -> io::Result<()> {
        let mut bytes = format!("{:x}\r\n", data.len()).into_bytes();
        bytes.extend_from_slice(data);
        bytes.extend_from_slice(b"\r\n");
        self.raw(&bytes)
    }

    /// Sends the last chunk and the trailer fields.
    pub fn end(&mut self, trailers: &[(&str, &str)]) -> io::Result<()> {
        let fields: String = trailers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        self.raw(format!("0\r\n{fields}\r\n").as_bytes())
    }

    /// Sends a whole response with a chunked body and trailer fields.
    pub fn respond_chunked(
        &mut self,
        status: u16,
        fields: &[(&str, &str)],
        chunks: &[&[u8]],
        trailers: &[(&str, &str)],
    ) -> io::Result<()> {
        self.begin_chunked(status, fields)?;
        for chunk in chunks {
            self.chunk(chunk)?;
        }
        self.end(trailers)
    }

    /// Sends bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        (&**self.socket).write_all(bytes)
    }

    /// The socket itself.
    pub fn socket(&self) -> &Socket {
        self.socket
    }

    /// The socket itself, to be used by several threads. What was read of it already is lost to them.
    pub fn shared_socket(&self) -> Arc<Socket> {
        self.socket.clone()
    }

    /// Reads what the peer sends next, at most what is there; empty at its end.
    pub fn read_some(&mut self) -> io::Result<Vec<u8>> {
        self.reader.some()
    }

    /// Reads what the peer sends until its end.
    pub fn read_rest(&mut self) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        loop {
            let bytes = self.reader.some()?;
            if bytes.is_empty() {
                return Ok(all);
            }
            all.extend(bytes);
        }
    }

    /// Sends 101 and the given fields, then sends back every byte that comes until the peer ends, and ends too.
    pub fn tunnel(&mut self, fields: &[(&str, &str)]) -> io::Result<()> {
        self.head(101, fields)?;
        self.over = true;
        loop {
            let bytes = self.reader.some()?;
            if bytes.is_empty() {
                return self.socket.shutdown(Shutdown::Write);
            }
            self.raw(&bytes)?;
        }
    }

    /// Closes the connection in order when the answer is done.
    pub fn close(&mut self) {
        self.over = true;
    }

    /// Closes the sending direction now; the other is still read.
    pub fn finish(&mut self) -> io::Result<()> {
        self.socket.shutdown(Shutdown::Write)
    }

    /// Resets the connection (TCP RST) when the answer is done.
    pub fn reset(&mut self) -> io::Result<()> {
        self.over = true;
        self.socket.reset_on_close()
    }
}

fn head(status: u16, fields: &[(&str, &str)]) -> Vec<u8> {
    let fields: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("HTTP/1.1 {status} {}\r\n{fields}\r\n", reason(status)).into_bytes()
}

fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        103 => "Early Hints",
        200 => "OK",
        204 => "No Content",
        304 => "Not Modified",
        404 => "Not Found",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Other",
    }
}
