//! What a server of HTTP/2 sends, and requests in HTTP/1.1 on their way to it. Whatever comes, what is read of a response
//! is one in HTTP/1.1 that ends where it says, and a request is sent or refused. The input is a request behind its length,
//! then frames; its first byte says how both are cut.

#![no_main]

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use futures_io::{AsyncRead, AsyncWrite};
use http::uri::Scheme;
use libfuzzer_sys::fuzz_target;
use river::h2::client::{Client, ClientSettings, ClientStream, request, websocket_key};
use river::http::{
    Chunk, ChunkDecoder, Framing, HeadLimits, Method, RequestHead, ResponseHead, Unparsed, parse_request,
    parse_response,
};
use river::runtime::{Handle, block_on};

const LIMITS: HeadLimits = HeadLimits { max_bytes: 64 << 10, max_fields: 1000 };

/// A server that has sent all of its bytes, once it is asked for them, and takes any.
struct Server(Vec<u8>, usize);

impl AsyncRead for Server {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let rest = &self.0[self.1..];
        if rest.is_empty() {
            return Poll::Pending;
        }
        let count = rest.len().min(buf.len());
        buf[..count].copy_from_slice(&rest[..count]);
        self.1 += count;
        Poll::Ready(Ok(count))
    }
}

impl AsyncWrite for Server {
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

thread_local! {
    // Its worker has ended; what is wanted of it is a clock that stands still.
    static HANDLE: Handle = block_on(async |handle: Handle| handle);
}

/// What is asked on the first stream; the input has the second request.
const FIRST: &[u8] =
    b"POST /a?b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-end: 1\r\n\r\n";

fuzz_target!(|input: &[u8]| {
    let [cut, length, rest @ ..] = input else { return };
    let (second, frames) = rest.split_at(rest.len().min(usize::from(*length)));
    convert(second);
    HANDLE.with(|handle| {
        let mut cx = Context::from_waker(Waker::noop());
        let settings = ClientSettings::default();
        let server = Server(frames.to_vec(), 0);
        let connecting = Client::connect(server, Scheme::HTTP, &settings, handle, Box::new(|| {}));
        let Poll::Ready(Ok((client, driver))) = pin!(connecting).poll(&mut cx) else {
            panic!("the preface is taken at once");
        };
        let mut driver = pin!(driver);
        let streams: Vec<_> = (0..2).filter_map(|_| client.open()).collect();
        let mut ended = false;
        for (stream, text) in streams.iter().zip([FIRST, second]) {
            write(stream, text, usize::from(*cut), &mut cx);
        }
        for _ in 0..3 {
            ended = ended || driver.as_mut().poll(&mut cx).is_ready();
        }
        for stream in streams {
            read(&stream, usize::from(*cut), &mut cx);
            stream.finish();
        }
        if !ended {
            let _ = driver.as_mut().poll(&mut cx);
        }
    });
});

/// A head that the parser takes becomes one that HTTP/2 can say, or is refused; nothing of it can be taken for framing.
fn convert(text: &[u8]) {
    let mut head = RequestHead::default();
    if parse_request(text, &LIMITS, &mut head).is_err() {
        return;
    }
    let _ = websocket_key(text, &head);
    let Ok(request) = request(text, &head, &Scheme::HTTPS) else { return };
    assert_eq!(request.method().as_str().as_bytes(), head.method_span.of(text));
    assert_eq!(
        request.uri().authority().map(|host| host.as_str().as_bytes()),
        Some(head.authority().of(text))
    );
    for (name, value) in request.headers() {
        let name = name.as_str();
        assert!(!matches!(
            name,
            "host" | "connection" | "transfer-encoding" | "upgrade" | "keep-alive" | "proxy-connection"
        ));
        assert!(name != "te" || value == "trailers");
        assert!(!value.as_bytes().iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
    }
}

fn write(stream: &ClientStream, text: &[u8], cut: usize, cx: &mut Context<'_>) {
    let mut sent = 0;
    while sent < text.len() {
        let part = &text[sent..text.len().min(sent + 1 + cut)];
        match stream.poll_write(cx, part) {
            Poll::Ready(Ok(count)) => {
                assert!(count > 0 && count <= part.len());
                sent += count;
            }
            Poll::Ready(Err(_)) | Poll::Pending => return,
        }
    }
}

/// What a stream reads as has to be what the parsers of HTTP/1.1 make of it, to its end.
fn read(stream: &ClientStream, cut: usize, cx: &mut Context<'_>) {
    let (mut text, mut buf) = (Vec::new(), vec![0; 1 + cut]);
    while let Poll::Ready(Ok(count @ 1..)) = stream.poll_read(cx, &mut buf) {
        text.extend_from_slice(&buf[..count]);
    }
    let mut rest = &text[..];
    let mut head = ResponseHead::default();
    loop {
        if rest.is_empty() {
            return;
        }
        head.clear();
        match parse_response(rest, &LIMITS, &Method::Post, &mut head) {
            Ok(length) => rest = &rest[length..],
            Err(Unparsed::NeedMore) => panic!("the half of a head: {}", text.escape_ascii()),
            Err(Unparsed::Reject(_)) => return,
        }
        if head.status >= 200 {
            break;
        }
        if head.status == 101 {
            return;
        }
    }
    match head.framing {
        Framing::None | Framing::Length(0) => {}
        Framing::Length(length) => assert!(rest.len() as u64 <= length, "{}", text.escape_ascii()),
        Framing::UntilClose => panic!("no end is said: {}", text.escape_ascii()),
        Framing::Chunked => {
            let mut decoder = ChunkDecoder::new(64, 64 << 10);
            loop {
                match decoder.next(rest) {
                    // Trailers that are none HTTP/1.1 lets through.
                    Err(_) | Ok((_, Chunk::NeedMore)) => break,
                    Ok((consumed, Chunk::Data(_))) => rest = &rest[consumed..],
                    Ok((consumed, Chunk::End { .. })) => {
                        assert_eq!(consumed, rest.len(), "{}", text.escape_ascii());
                        break;
                    }
                }
            }
        }
    }
}
