//! River's half of a stream: the response, written in HTTP/1.1 and sent as frames.

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use ::h2::server::SendResponse;
use ::h2::{Reason, SendStream};
use ::http::header::{HeaderMap, HeaderName, HeaderValue};
use ::http::{Response, StatusCode};
use bytes::Bytes;

use crate::h2::Drained;
use crate::h2::blocks::{self, BLOCK};
use crate::h2::websocket::Key;
use crate::http::{
    Chunk, ChunkDecoder, Framing, HeadLimits, Method, ResponseHead, Unparsed, parse_response, trailer_fields,
};

/// The proxy writes what it has read within its own limits, with some fields of its own.
const LIMITS: HeadLimits = HeadLimits { max_bytes: 4 << 20, max_fields: 1000 };

/// The longest line of a chunk, and the longest trailer section; written by the proxy as well.
const CHUNK_LINE: usize = 64;
const TRAILERS: usize = 4 << 20;

/// The field with which a server proves that it speaks WebSocket.
const SEC_WEBSOCKET_ACCEPT: &str = "sec-websocket-accept";

/// The response of a stream on its way to the client.
pub(super) struct Download {
    respond: SendResponse<Bytes>,
    /// Once the final head has been sent and more may follow.
    sending: Option<SendStream<Bytes>>,
    method: Method,
    /// The key of a WebSocket that is asked for.
    key: Option<Key>,
    head: ResponseHead,
    /// Taken and not understood yet: the half of a head or of a trailer section.
    held: Vec<u8>,
    state: State,
    drained: Rc<Drained>,
    /// How often the connection had sent all it had when an interim response was added to that.
    interim: Option<u64>,
}

/// What is to be written next.
enum State {
    /// A head, that of an interim response or the final one.
    Head,
    /// So many bytes of the body.
    Length(u64),
    /// The body in chunks. Of the data at hand so much has been announced by the decoder and not been sent.
    Chunks(Box<ChunkDecoder>, u64),
    /// The body, until the direction is shut down; or a tunnel's bytes.
    UntilShutdown { tunnel: bool },
    /// Nothing: the client has all of it.
    Done,
    /// Nothing: the client has been told of a failure, its own or the server's.
    Failed,
}

impl Download {
    pub(super) fn new(
        respond: SendResponse<Bytes>,
        method: Method,
        key: Option<Key>,
        drained: Rc<Drained>,
    ) -> Self {
        let head = ResponseHead::default();
        let (held, state) = (Vec::new(), State::Head);
        Self { respond, sending: None, method, key, head, held, state, drained, interim: None }
    }

    /// Resolves once the client has reset the stream, or the connection has failed.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let reset = match &mut self.sending {
            Some(sending) => sending.poll_reset(cx),
            None if matches!(self.state, State::Head) => self.respond.poll_reset(cx),
            None => return Poll::Pending,
        };
        reset.map(|_| ())
    }

    /// Takes a part of `buf`, at least a byte, as far as the client has room for it.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        match &mut self.state {
            State::Head => {
                ready!(self.poll_interim(cx))?;
                Poll::Ready(self.write_head(buf))
            }
            State::Length(left) => {
                let left = *left;
                let most = usize::try_from(left).map_or(buf.len(), |left| left.min(buf.len()));
                let data = buf.get(..most).unwrap_or_default();
                let count = ready!(self.poll_send(cx, data, left == most as u64))?;
                let left = left.saturating_sub(count as u64);
                self.state = if left == 0 { State::Done } else { State::Length(left) };
                Poll::Ready(Ok(count))
            }
            State::UntilShutdown { .. } => self.poll_send(cx, buf, false),
            State::Chunks(..) => self.poll_write_chunks(cx, buf),
            State::Done | State::Failed => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    /// Ends the stream where only that ends what is written.
    pub(super) fn shutdown(&mut self) -> io::Result<()> {
        if !matches!(self.state, State::UntilShutdown { .. }) {
            return Ok(());
        }
        self.state = State::Done;
        self.sending()?.send_data(Bytes::new(), true).map_err(super::io_error)
    }

    /// Lets go of the stream. A response that is not whole is reset.
    pub(super) fn end(&mut self) {
        match self.state {
            State::Done | State::Failed => {}
            State::UntilShutdown { tunnel: true } => self.reset(Reason::CANCEL),
            _ => self.reset(Reason::INTERNAL_ERROR),
        }
    }

    /// The request is malformed after all (RFC 9113 §8.1.1). Nothing is said to a client that has its response.
    pub(super) fn refuse(&mut self) {
        if !matches!(self.state, State::Done | State::Failed) {
            self.state = State::Failed;
            self.reset(Reason::PROTOCOL_ERROR);
        }
    }

    fn reset(&mut self, reason: Reason) {
        match &mut self.sending {
            Some(sending) => sending.send_reset(reason),
            None => self.respond.send_reset(reason),
        }
    }

    /// Waits until the interim response before, if any, is on its way: no window holds up heads.
    fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(count) = self.interim
            && self.drained.poll_after(cx, count).is_pending()
        {
            return self.respond.poll_reset(cx).map(|_| Err(io::ErrorKind::ConnectionReset.into()));
        }
        self.interim = None;
        Poll::Ready(Ok(()))
    }

    /// Takes `buf`, or its part up to the end of a head.
    fn write_head(&mut self, buf: &[u8]) -> io::Result<usize> {
        let before = self.held.len();
        if before > 0 {
            self.held.extend_from_slice(buf);
        }
        let input = if before > 0 { &*self.held } else { buf };
        match parse_response(input, &LIMITS, &self.method, &mut self.head) {
            Ok(length) => {
                let text = Bytes::copy_from_slice(input.get(..length).unwrap_or_default());
                self.held.clear();
                self.send_head(&text)?;
                Ok(length.saturating_sub(before))
            }
            Err(Unparsed::NeedMore) => {
                if before == 0 {
                    self.held.extend_from_slice(buf);
                }
                Ok(buf.len())
            }
            Err(Unparsed::Reject(reject)) => Err(io::Error::new(io::ErrorKind::InvalidData, reject)),
        }
    }

    fn send_head(&mut self, text: &Bytes) -> io::Result<()> {
        let status = self.head.status;
        let switches = status == 101;
        if self.key.is_some() && (200..300).contains(&status) {
            // 2xx would tell the client that it has a tunnel (RFC 8441 §4).
            return self.fail("the server answered a WebSocket's request without switching protocols");
        }
        if switches {
            let accept = self.head.fields.iter().find(|field| is_accept(field.name.of(text)));
            let proved =
                accept.zip(self.key.as_ref()).is_some_and(|(field, key)| key.accepts(field.value.of(text)));
            if !proved {
                return self.fail("the server did not prove that it speaks WebSocket");
            }
        }
        let fields = self.fields(text, switches)?;
        if status < 200 && !switches {
            let mut response = Response::new(());
            *response.status_mut() = StatusCode::from_u16(status).map_err(invalid)?;
            *response.headers_mut() = fields;
            self.interim = Some(self.drained.count());
            return self.respond.send_informational(response).map_err(super::io_error);
        }
        if switches {
            return self.begin(StatusCode::OK, fields, State::UntilShutdown { tunnel: true });
        }
        self.send_final(status, fields, self.head.framing)
    }

    /// Whether a final head may come next, and whatever that is, it goes on.
    pub(super) fn takes_head(&self) -> bool {
        let waits = self.interim.is_some_and(|count| count == self.drained.count());
        matches!(self.state, State::Head) && self.held.is_empty() && self.key.is_none() && !waits
    }

    /// Sends the final head, whose body comes next.
    pub(super) fn send_final(&mut self, status: u16, fields: HeaderMap, framing: Framing) -> io::Result<()> {
        let status = StatusCode::from_u16(status).map_err(invalid)?;
        let state = match framing {
            Framing::None | Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Chunks(Box::new(ChunkDecoder::new(CHUNK_LINE, TRAILERS)), 0),
            Framing::UntilClose => State::UntilShutdown { tunnel: false },
        };
        self.begin(status, fields, state)
    }

    fn begin(&mut self, status: StatusCode, fields: HeaderMap, state: State) -> io::Result<()> {
        let mut response = Response::new(());
        *response.status_mut() = status;
        *response.headers_mut() = fields;
        let ends = matches!(state, State::Done);
        let sending = self.respond.send_response(response, ends).map_err(super::io_error)?;
        if !ends {
            self.sending = Some(sending);
        }
        self.interim = None;
        self.state = state;
        Ok(())
    }

    /// The fields that go on: none of the connection's own (RFC 9113 §8.2.2).
    fn fields(&self, text: &Bytes, switches: bool) -> io::Result<HeaderMap> {
        let mut fields = HeaderMap::with_capacity(self.head.fields.len());
        for field in self.head.fields.iter().filter(|field| !field.drop) {
            let name = field.name.of(text);
            if switches && is_accept(name) {
                continue;
            }
            let name = HeaderName::from_bytes(name).map_err(invalid)?;
            let value = HeaderValue::from_maybe_shared(text.slice(field.value.range())).map_err(invalid)?;
            fields.try_append(name, value).map_err(invalid)?;
        }
        Ok(fields)
    }

    /// Tells the client that the server is at fault, and the proxy too.
    fn fail(&mut self, why: &'static str) -> io::Result<()> {
        self.state = State::Failed;
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::BAD_GATEWAY;
        self.respond.send_response(response, true).map_err(super::io_error)?;
        Err(io::Error::new(io::ErrorKind::InvalidData, why))
    }

    /// Sends the data of chunks as far as there is room, and what comes behind the last.
    fn poll_write_chunks(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let before = self.held.len();
        if before == 0 {
            return self.poll_chunks(cx, buf);
        }
        // Only what has no end yet is held, and that takes all there is.
        let mut input = std::mem::take(&mut self.held);
        input.extend_from_slice(buf);
        self.poll_chunks(cx, &input).map_ok(|count| count.saturating_sub(before))
    }

    fn poll_chunks(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let State::Chunks(decoder, owed) = &mut self.state else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        let Some(sending) = &mut self.sending else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        let (mut at, mut room, mut end) = (0, None, None);
        let mut data = Vec::new();
        while let rest @ [_, ..] = buf.get(at..).unwrap_or_default() {
            if *owed > 0 {
                let most = match room {
                    Some(most) => most,
                    None => match poll_room(cx, sending, rest.len().min(BLOCK)) {
                        Poll::Pending if at == 0 => return Poll::Pending,
                        Poll::Pending => break,
                        Poll::Ready(most) => *room.insert(most?),
                    },
                };
                let count = rest.len().min(most - data.len().min(most));
                let count = usize::try_from(*owed).map_or(count, |owed| owed.min(count));
                if count == 0 {
                    break;
                }
                if data.is_empty() {
                    data = blocks::room(most.min(rest.len()));
                }
                data.extend_from_slice(rest.get(..count).unwrap_or_default());
                *owed -= count as u64;
                at += count;
                continue;
            }
            let (consumed, chunk) =
                decoder.next(rest).map_err(|reject| io::Error::new(io::ErrorKind::InvalidData, reject))?;
            match chunk {
                Chunk::Data(range) => {
                    at += range.start;
                    *owed = range.len() as u64;
                }
                Chunk::NeedMore => {
                    self.held.extend_from_slice(rest.get(consumed..).unwrap_or_default());
                    at = buf.len();
                }
                Chunk::End { trailers } => {
                    end = Some(trailers_of(rest.get(trailers).unwrap_or_default())?);
                    at += consumed;
                    break;
                }
            }
        }
        let trailers = end.as_ref().filter(|trailers| !trailers.is_empty());
        let ends = end.is_some() && trailers.is_none();
        if ends || !data.is_empty() {
            sending.send_data(blocks::freeze(data), ends).map_err(super::io_error)?;
            // Room was asked for what is around the data as well, and would be kept from other streams.
            sending.reserve_capacity(0);
        }
        if end.is_some() {
            if let Some(trailers) = end.filter(|trailers| !trailers.is_empty()) {
                sending.send_trailers(trailers).map_err(super::io_error)?;
            }
            self.state = State::Done;
        }
        Poll::Ready(Ok(at))
    }

    /// Sends as much of `data` as there is room for; with all of it the stream ends, if it `ends`.
    fn poll_send(&mut self, cx: &mut Context<'_>, data: &[u8], ends: bool) -> Poll<io::Result<usize>> {
        let sending = self.sending()?;
        let room = ready!(poll_room(cx, sending, data.len().min(BLOCK)))?;
        let part = data.get(..room).unwrap_or(data);
        let mut copy = blocks::room(part.len());
        copy.extend_from_slice(part);
        sending.send_data(blocks::freeze(copy), ends && part.len() == data.len()).map_err(super::io_error)?;
        Poll::Ready(Ok(part.len()))
    }

    fn sending(&mut self) -> io::Result<&mut SendStream<Bytes>> {
        self.sending.as_mut().ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }
}

/// How much may be sent now, at most `wanted`: within the client's windows, and what may wait for its connection.
fn poll_room(
    cx: &mut Context<'_>,
    sending: &mut SendStream<Bytes>,
    wanted: usize,
) -> Poll<io::Result<usize>> {
    sending.reserve_capacity(wanted);
    let mut room = sending.capacity();
    while room == 0 {
        match ready!(sending.poll_capacity(cx)) {
            Some(Ok(more)) => room = more,
            Some(Err(error)) => return Poll::Ready(Err(super::io_error(error))),
            None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }
    Poll::Ready(Ok(room.min(wanted)))
}

fn is_accept(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(SEC_WEBSOCKET_ACCEPT.as_bytes())
}

fn trailers_of(section: &[u8]) -> io::Result<HeaderMap> {
    let mut trailers = HeaderMap::new();
    for (name, value) in trailer_fields(section) {
        let name = HeaderName::from_bytes(name).map_err(invalid)?;
        trailers.try_append(name, HeaderValue::from_bytes(value).map_err(invalid)?).map_err(invalid)?;
    }
    Ok(trailers)
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_trailers_than_a_map_takes_are_an_error() {
        let section = |count: u32| -> Vec<u8> {
            (0..count).flat_map(|at| format!("x{at}: 1\r\n").into_bytes()).chain(*b"\r\n").collect()
        };
        assert_eq!(trailers_of(&section(1000)).map(|trailers| trailers.len()).ok(), Some(1000));
        let error = trailers_of(&section(40_000)).err().map(|error| error.kind());
        assert_eq!(error, Some(io::ErrorKind::InvalidData));
    }
}
