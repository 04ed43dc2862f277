//! The chunked transfer coding (RFC 9112 §7.1): received, and the line that begins a chunk to be sent.

use std::ops::Range;

use super::bytes;
use super::reject::Reject;
use super::trailers;

/// Bytes of chunk extensions in one body. They are dropped, so a peer that needs more only wants to be read.
const MAX_EXTENSIONS: usize = 16 << 10;

/// One step through a chunked body. Ranges are of indices into the input of that step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// There is nothing to hand out before more input.
    NeedMore,
    /// Bytes of content; a chunk may come in several parts.
    Data(Range<usize>),
    /// The body is complete.
    End {
        /// The trailer section without the empty line that ends it; see [`trailer_fields`](super::trailer_fields).
        trailers: Range<usize>,
    },
}

/// Reads a chunked body that arrives in pieces.
///
/// Chunk extensions are checked and dropped (RFC 9112 §7.1.1). Every line must end in CRLF. A rejection has status
/// 400; of a response it is the caller's 502.
#[derive(Clone, Debug)]
pub struct ChunkDecoder {
    state: State,
    /// The size of the chunk while its line is read, then what is left of its data; below 2^63.
    size: u64,
    /// Bytes of the current line.
    line: usize,
    extensions: usize,
    max_line: usize,
    max_trailers: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In the hexadecimal digits.
    Size,
    /// Among blanks that only a semicolon may end.
    BeforeSemicolon,
    /// After a semicolon.
    BeforeName,
    Name,
    /// Among blanks after a name.
    AfterName,
    /// After an equals sign.
    BeforeValue,
    Value,
    Quoted,
    /// After a backslash in a quoted string.
    Escaped,
    AfterQuoted,
    /// After the CR of a chunk's line.
    LineFeed,
    Data,
    AfterData,
    AfterDataCr,
    /// In the trailer section, of which so much was looked at and whose current line begins there.
    Trailers {
        searched: usize,
        line: usize,
    },
    Done,
}

/// Appends the line that begins a chunk of `size` bytes: at most 18 bytes.
pub fn write_chunk_size(size: usize, out: &mut impl Extend<u8>) {
    let digits = (usize::BITS - size.leading_zeros()).div_ceil(4).max(1);
    let digit = |at: u32| b"0123456789abcdef".get((size >> (at * 4)) & 0xf);
    out.extend((0..digits).rev().filter_map(digit).chain(b"\r\n").copied());
}

impl ChunkDecoder {
    /// A decoder at the begin of a body, for lines (size and extensions) of at most `max_line` bytes and a trailer
    /// section of at most `max_trailers` bytes with its last empty line.
    pub fn new(max_line: usize, max_trailers: usize) -> Self {
        Self { state: State::Size, size: 0, line: 0, extensions: 0, max_line, max_trailers }
    }

    /// Whether the body has been read to its end.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Takes the next step over `input` and returns how much of it is done with.
    ///
    /// The caller drops the consumed bytes (after it has used the ranges, which lie within them) and hands in the rest,
    /// with whatever has arrived, the next time. `NeedMore` consumes all of the input, but for a trailer section:
    /// that is consumed whole, so the caller must have room for `max_trailers` bytes. Nothing is consumed
    /// after `End`, which is then returned again.
    pub fn next(&mut self, input: &[u8]) -> Result<(usize, Chunk), Reject> {
        let mut at = 0;
        while let Some(&byte) = input.get(at) {
            match self.state {
                State::Data => {
                    let rest = input.len() - at;
                    let take = usize::try_from(self.size).map_or(rest, |size| size.min(rest));
                    self.size -= take as u64;
                    if self.size == 0 {
                        self.state = State::AfterData;
                    }
                    return Ok((at + take, Chunk::Data(at..at + take)));
                }
                State::Trailers { .. } | State::Done => break,
                State::AfterData if byte == b'\r' => self.state = State::AfterDataCr,
                State::AfterDataCr if byte == b'\n' => {
                    self.state = State::Size;
                    self.line = 0;
                }
                State::AfterData | State::AfterDataCr => {
                    return Err(Reject::bad_request("chunk data not followed by cr lf"));
                }
                _ => self.read_line(byte)?,
            }
            at += 1;
        }
        match self.state {
            State::Trailers { searched, line } => self.read_trailers(input, at, searched, line),
            State::Done => Ok((at, Chunk::End { trailers: at..at })),
            _ => Ok((at, Chunk::NeedMore)),
        }
    }

    /// Takes one byte of the line that begins a chunk.
    fn read_line(&mut self, byte: u8) -> Result<(), Reject> {
        self.line += 1;
        if self.line > self.max_line {
            return Err(Reject::bad_request("chunk line too long"));
        }
        if !matches!(self.state, State::Size | State::LineFeed) {
            self.extensions += 1;
            if self.extensions > MAX_EXTENSIONS {
                return Err(Reject::bad_request("too many chunk extensions"));
            }
        }
        self.state = match (self.state, byte) {
            (State::Size, byte) if byte.is_ascii_hexdigit() => self.push_digit(byte)?,
            (State::Size, _) if self.line == 1 => return Err(Reject::bad_request("invalid chunk size")),
            (State::Size | State::Name | State::Value | State::AfterQuoted, b'\r') => State::LineFeed,
            (
                State::Size
                | State::BeforeSemicolon
                | State::Name
                | State::AfterName
                | State::Value
                | State::AfterQuoted,
                b';',
            ) => State::BeforeName,
            (State::Size | State::BeforeSemicolon | State::Value | State::AfterQuoted, b' ' | b'\t') => {
                State::BeforeSemicolon
            }
            (State::Size, _) => return Err(Reject::bad_request("invalid chunk size")),
            (State::BeforeName, b' ' | b'\t') => State::BeforeName,
            (State::BeforeName | State::Name, byte) if bytes::is_token_byte(byte) => State::Name,
            (State::Name | State::AfterName, b' ' | b'\t') => State::AfterName,
            (State::Name | State::AfterName, b'=') => State::BeforeValue,
            (State::BeforeValue, b' ' | b'\t') => State::BeforeValue,
            (State::BeforeValue, b'"') => State::Quoted,
            (State::BeforeValue | State::Value, byte) if bytes::is_token_byte(byte) => State::Value,
            (State::Quoted, b'"') => State::AfterQuoted,
            (State::Quoted, b'\\') => State::Escaped,
            (State::Quoted | State::Escaped, b'\t' | b' '..=b'~' | 0x80..) => State::Quoted,
            (State::LineFeed, b'\n') if self.size == 0 => State::Trailers { searched: 0, line: 0 },
            (State::LineFeed, b'\n') => State::Data,
            (State::LineFeed, _) => return Err(Reject::bad_request("cr without lf in a chunk's line")),
            _ => return Err(Reject::bad_request("invalid chunk extension")),
        };
        Ok(())
    }

    fn push_digit(&mut self, byte: u8) -> Result<State, Reject> {
        if self.line == 1 {
            self.size = 0;
        }
        let digit = char::from(byte).to_digit(16).unwrap_or_default();
        self.size = self.size << 4 | u64::from(digit);
        if self.line > 16 || self.size > i64::MAX as u64 {
            return Err(Reject::bad_request("chunk size too large"));
        }
        Ok(State::Size)
    }

    /// Looks for the end of the trailer section that begins at `at`, from where the last look ended.
    fn read_trailers(
        &mut self,
        input: &[u8],
        at: usize,
        mut searched: usize,
        mut line: usize,
    ) -> Result<(usize, Chunk), Reject> {
        let section = input.get(at..).unwrap_or_default();
        let section = section.get(..self.max_trailers).unwrap_or(section);
        while let Some(more) =
            section.get(searched..).unwrap_or_default().iter().position(|&byte| byte == b'\n')
        {
            let end = searched + more;
            let Some(text) = section.get(line..end).unwrap_or_default().strip_suffix(b"\r") else {
                return Err(Reject::bad_request("line does not end in cr lf"));
            };
            if text.is_empty() {
                trailers::check_trailers(section.get(..=end).unwrap_or_default())?;
                self.state = State::Done;
                return Ok((at + end + 1, Chunk::End { trailers: at..at + line }));
            }
            (searched, line) = (end + 1, end + 1);
        }
        if section.len() >= self.max_trailers {
            return Err(Reject::bad_request("trailer section too large"));
        }
        self.state = State::Trailers { searched: section.len(), line };
        Ok((at, Chunk::NeedMore))
    }
}
