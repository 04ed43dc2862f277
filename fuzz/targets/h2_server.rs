//! What a client of HTTP/2 sends behind its preface. Whatever it is, each stream that comes of it reads as one request in
//! HTTP/1.1 and nothing behind it, or as none. The first byte says how the response is cut when it is written.

#![no_main]

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use futures_io::{AsyncRead, AsyncWrite};
use libfuzzer_sys::fuzz_target;
use river::h2::{Io, PREFACE, Server, ServerLimits, ServerStream};
use river::http::{Chunk, ChunkDecoder, Framing, HeadLimits, RequestHead, Unparsed, parse_request};

const LIMITS: HeadLimits = HeadLimits { max_bytes: 16 << 10, max_fields: 64 };

const RESPONSE: &[u8] =
    b"HTTP/1.1 103 Early Hints\r\nlink: <a>\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-end: 1\r\n\r\n";

/// A client that has sent all of its bytes and takes any.
struct Client<'a>(&'a [u8]);

impl AsyncRead for Client<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.0.is_empty() {
            return Poll::Pending;
        }
        let (now, later) = self.0.split_at(self.0.len().min(buf.len()));
        buf[..now.len()].copy_from_slice(now);
        self.0 = later;
        Poll::Ready(Ok(now.len()))
    }
}

impl AsyncWrite for Client<'_> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((&cut, frames)) = input.split_first() else { return };
    let mut cx = Context::from_waker(Waker::noop());
    let io = Io::new(Client(frames), PREFACE.to_vec().into());
    let limits = ServerLimits { max_header_list: 16 << 10, ..ServerLimits::default() };
    let Poll::Ready(Ok(mut server)) = pin!(Server::accept(io.clone(), &limits)).poll(&mut cx) else { return };
    let mut streams = Vec::new();
    while let Poll::Ready(Some(Ok((request, respond)))) = server.poll_accept(&mut cx) {
        streams.extend(ServerStream::new(request, respond, io.drained()));
    }
    for stream in &streams {
        read(stream, &mut cx);
        write(stream, usize::from(cut), &mut cx);
    }
    let _ = server.poll_accept(&mut cx);
});

/// What a stream reads as has to be what the parsers of HTTP/1.1 make of it.
fn read(stream: &ServerStream, cx: &mut Context<'_>) {
    let (mut text, mut buf) = (Vec::new(), [0; 777]);
    while let Poll::Ready(Ok(count @ 1..)) = stream.poll_read(cx, &mut buf) {
        text.extend_from_slice(&buf[..count]);
    }
    let mut head = RequestHead::default();
    let length = match parse_request(&text, &LIMITS, &mut head) {
        Ok(length) => length,
        // A whole head is there, so more of it is not to be waited for.
        Err(Unparsed::NeedMore) => panic!("the half of a head: {}", text.escape_ascii()),
        Err(Unparsed::Reject(_)) => return,
    };
    let rest = &text[length..];
    match head.framing {
        Framing::None => assert!(rest.is_empty() || head.upgrade, "{}", text.escape_ascii()),
        Framing::Length(length) => assert!(rest.len() as u64 <= length, "{}", text.escape_ascii()),
        Framing::UntilClose => panic!("{}", text.escape_ascii()),
        Framing::Chunked => {
            let (mut decoder, mut rest) = (ChunkDecoder::new(64, 64 << 10), rest);
            loop {
                match decoder.next(rest).expect("chunks are River's own") {
                    (_, Chunk::NeedMore) => break,
                    (consumed, Chunk::Data(_)) => rest = &rest[consumed..],
                    (consumed, Chunk::End { .. }) => {
                        assert_eq!(consumed, rest.len(), "{}", text.escape_ascii());
                        break;
                    }
                }
            }
        }
    }
}

fn write(stream: &ServerStream, cut: usize, cx: &mut Context<'_>) {
    let mut sent = 0;
    while sent < RESPONSE.len() {
        let part = &RESPONSE[sent..RESPONSE.len().min(sent + 1 + cut)];
        match stream.poll_write(cx, part) {
            Poll::Ready(Ok(count)) => {
                assert!(count > 0 && count <= part.len());
                sent += count;
            }
            Poll::Ready(Err(_)) | Poll::Pending => return,
        }
    }
}
