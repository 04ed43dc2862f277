//! HTTP/1.1 as bytes, read with no leniency at all: what is not exactly right is an error.
//!
//! This is deliberately a second implementation, which shares nothing with the one under test.

use std::io::{self, Read};

/// The fields of a head or a trailer section, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(pub Vec<(String, String)>);

impl Fields {
    /// The value of the field `name`, which must not be there twice.
    #[track_caller]
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut values = self.all(name);
        let first = values.next();
        assert!(values.next().is_none(), "{name} is there more than once: {self:?}");
        first
    }

    /// The values of all fields `name`.
    pub fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Whether there is a field `name`.
    pub fn has(&self, name: &str) -> bool {
        self.all(name).next().is_some()
    }

    /// Whether `token` is in the list that the fields `name` make up (RFC 9110 §5.6.1).
    pub fn lists(&self, name: &str, token: &str) -> bool {
        self.all(name).flat_map(|value| value.split(',')).any(|item| item.trim().eq_ignore_ascii_case(token))
    }
}

/// A head: its start line, its fields, and the bytes they were read from.
#[derive(Clone, Debug, Default)]
pub struct Head {
    /// The bytes, with the empty line that ends them.
    pub raw: Vec<u8>,
    /// The first line, without its CRLF.
    pub start: String,
    /// The fields.
    pub fields: Fields,
}

/// How a message's body ends (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    None,
    /// After so many bytes.
    Length(u64),
    /// With the last chunk.
    Chunked,
    /// With the connection; responses only.
    Close,
}

/// A faulty message. Framing that is wrong, where an [`io::ErrorKind::UnexpectedEof`] is a message cut short.
pub fn wrong(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

/// Reads messages from a stream and keeps what it read too much.
#[derive(Debug)]
pub struct Reader<R> {
    inner: R,
    buffer: Vec<u8>,
    start: usize,
}

impl<R: Read> Reader<R> {
    /// A reader with an empty buffer.
    pub fn new(inner: R) -> Self {
        Self { inner, buffer: Vec::new(), start: 0 }
    }

    /// What was read and not yet taken.
    pub fn buffered(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// Reads once; returns how many bytes came, 0 at the end of the stream.
    pub fn fill(&mut self) -> io::Result<usize> {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        let old = self.buffer.len();
        self.buffer.resize(old + (16 << 10), 0);
        let read = loop {
            match self.inner.read(&mut self.buffer[old..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.buffer.truncate(old + *read.as_ref().unwrap_or(&0));
        read
    }

    /// Reads a head. `None` where the stream ended before its first byte.
    pub fn head(&mut self) -> io::Result<Option<Head>> {
        let end = loop {
            if let Some(at) = self.buffered().windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break at + 4;
            }
            if self.buffered().len() > 1 << 20 {
                return Err(wrong("a head of more than 1 MiB"));
            }
            if self.fill()? == 0 {
                return match self.buffered() {
                    [] => Ok(None),
                    cut => Err(cut_short(format!("within a head: {:?}", String::from_utf8_lossy(cut)))),
                };
            }
        };
        let raw = self.take(end);
        let (start, fields) = parse_lines(&raw[..end - 2])?;
        Ok(Some(Head { raw, start, fields }))
    }

    /// Reads the body that `framing` announces; the trailer fields are empty but for chunked bodies.
    pub fn body(&mut self, framing: Framing) -> io::Result<(Vec<u8>, Fields)> {
        match framing {
            Framing::None => Ok((Vec::new(), Fields::default())),
            Framing::Length(length) => Ok((self.exactly(length as usize)?, Fields::default())),
            Framing::Chunked => self.chunked(),
            Framing::Close => Ok((self.until_end()?, Fields::default())),
        }
    }

    /// Reads exactly `length` bytes.
    pub fn exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.buffered().len() < length {
            if self.fill()? == 0 {
                return Err(cut_short(format!("within a body: {} of {length} bytes", self.buffered().len())));
            }
        }
        Ok(self.take(length))
    }

    /// Reads at least one byte and at most what is there; empty at the end of the stream.
    pub fn some(&mut self) -> io::Result<Vec<u8>> {
        if self.buffered().is_empty() {
            self.fill()?;
        }
        let length = self.buffered().len();
        Ok(self.take(length))
    }

    /// Reads until the end of the stream.
    pub fn until_end(&mut self) -> io::Result<Vec<u8>> {
        while self.fill()? > 0 {}
        let length = self.buffered().len();
        Ok(self.take(length))
    }

    /// Reads one chunk; empty for the last one, after which [`Reader::trailers`] come (RFC 9112 §7.1).
    pub fn chunk(&mut self) -> io::Result<Vec<u8>> {
        let line = self.line()?;
        let digits = line.split(';').next().unwrap_or_default();
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong(format!("a chunk size that is none: {line:?}")));
        }
        let size = usize::from_str_radix(digits, 16).map_err(|_| wrong(format!("chunk size {line:?}")))?;
        if size == 0 {
            return Ok(Vec::new());
        }
        let data = self.exactly(size)?;
        match self.exactly(2)?.as_slice() {
            b"\r\n" => Ok(data),
            other => Err(wrong(format!("a chunk of {size} bytes ends with {other:?}"))),
        }
    }

    /// Reads the trailer section after the last chunk.
    pub fn trailers(&mut self) -> io::Result<Fields> {
        let mut fields = Vec::new();
        loop {
            match self.line()? {
                line if line.is_empty() => return Ok(Fields(fields)),
                line => fields.push(parse_field(&line)?),
            }
        }
    }

    fn chunked(&mut self) -> io::Result<(Vec<u8>, Fields)> {
        let mut body = Vec::new();
        loop {
            let chunk = self.chunk()?;
            if chunk.is_empty() {
                return Ok((body, self.trailers()?));
            }
            body.extend_from_slice(&chunk);
        }
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(at) = self.buffered().iter().position(|byte| *byte == b'\n') {
                let line = self.take(at + 1);
                return match line.strip_suffix(b"\r\n") {
                    Some(line) if !line.contains(&b'\r') => Ok(String::from_utf8_lossy(line).into_owned()),
                    _ => Err(wrong(format!(
                        "a line with a bare CR or LF: {:?}",
                        String::from_utf8_lossy(&line)
                    ))),
                };
            }
            if self.fill()? == 0 {
                return Err(cut_short("within a chunked body"));
            }
        }
    }

    fn take(&mut self, length: usize) -> Vec<u8> {
        let taken = self.buffered()[..length].to_vec();
        self.start += length;
        taken
    }
}

/// How the body of a request with these fields ends.
pub fn request_framing(fields: &Fields) -> io::Result<Framing> {
    Ok(declared_framing(fields)?.unwrap_or(Framing::None))
}

/// How the body of a response ends to a request with this method.
pub fn response_framing(method: &str, status: u16, fields: &Fields) -> io::Result<Framing> {
    let declared = declared_framing(fields)?;
    if method == "HEAD" || status / 100 == 1 || status == 204 || status == 304 {
        if declared == Some(Framing::Chunked) && (status / 100 == 1 || status == 204) {
            return Err(wrong(format!("Transfer-Encoding in a {status} (RFC 9112 §6.1)")));
        }
        return Ok(Framing::None);
    }
    Ok(declared.unwrap_or(Framing::Close))
}

fn declared_framing(fields: &Fields) -> io::Result<Option<Framing>> {
    let lengths: Vec<&str> = fields.all("content-length").collect();
    let codings: Vec<&str> = fields.all("transfer-encoding").collect();
    match (lengths.as_slice(), codings.as_slice()) {
        ([], []) => Ok(None),
        ([length], []) if !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit()) => {
            let length = length.parse().map_err(|_| wrong(format!("Content-Length: {length}")))?;
            Ok(Some(Framing::Length(length)))
        }
        ([], [coding]) if coding.eq_ignore_ascii_case("chunked") => Ok(Some(Framing::Chunked)),
        _ => Err(wrong(format!(
            "ambiguous framing: Content-Length {lengths:?}, Transfer-Encoding {codings:?}"
        ))),
    }
}

/// Splits the lines of a head, each with its CRLF, into the first and the fields.
fn parse_lines(bytes: &[u8]) -> io::Result<(String, Fields)> {
    let text = String::from_utf8_lossy(bytes);
    let text = text.strip_suffix("\r\n").ok_or_else(|| wrong("a head that does not end with CRLF"))?;
    let mut lines = text.split("\r\n");
    let start = lines.next().unwrap_or_default().to_owned();
    if start.contains(['\r', '\n']) {
        return Err(wrong(format!("a bare CR or LF in {start:?}")));
    }
    let fields = lines.map(parse_field).collect::<io::Result<_>>()?;
    Ok((start, Fields(fields)))
}

fn parse_field(line: &str) -> io::Result<(String, String)> {
    let (name, value) =
        line.split_once(':').ok_or_else(|| wrong(format!("a field without colon: {line:?}")))?;
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(token) {
        return Err(wrong(format!("a field name that is no token: {line:?}")));
    }
    if value.contains(['\r', '\n', '\0']) {
        return Err(wrong(format!("a field value with CR, LF or NUL: {line:?}")));
    }
    Ok((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()))
}

fn cut_short(where_: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, format!("the stream ended {}", where_.into()))
}
