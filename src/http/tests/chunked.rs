//! The chunked transfer coding, rule by rule.

use super::shown;
use crate::http::{Chunk, ChunkDecoder, Reject, write_chunk_size};

/// What a decoder makes of a body: content, trailer section, and how many bytes the body took, if it ended.
#[derive(Debug, PartialEq, Eq, Default)]
pub(super) struct Decoded {
    pub(super) content: Vec<u8>,
    pub(super) end: Option<(Vec<u8>, usize)>,
}

/// Decodes `pieces` in turn, keeping what is not consumed, as a connection's buffer does.
pub(super) fn decode<'a>(
    decoder: &mut ChunkDecoder,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Decoded, Result<(), Reject>) {
    let (mut decoded, mut taken, mut buffer) = (Decoded::default(), 0, Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            let (consumed, chunk) = match decoder.next(&buffer) {
                Ok(step) => step,
                Err(reject) => return (decoded, Err(reject)),
            };
            assert!(consumed <= buffer.len());
            taken += consumed;
            match chunk {
                Chunk::NeedMore => {
                    buffer.drain(..consumed);
                    break;
                }
                Chunk::Data(range) => {
                    assert!(!range.is_empty() && range.end <= consumed);
                    decoded.content.extend_from_slice(&buffer[range]);
                    buffer.drain(..consumed);
                }
                Chunk::End { trailers } => {
                    assert!(decoder.is_done() && trailers.end <= consumed);
                    decoded.end = Some((buffer[trailers].to_vec(), taken));
                    return (decoded, Ok(()));
                }
            }
        }
    }
    (decoded, Ok(()))
}

fn whole(text: &[u8]) -> (Decoded, Result<(), Reject>) {
    decode(&mut ChunkDecoder::new(64, 256), [text])
}

#[test]
fn valid() {
    let cases: &[(&[u8], &[u8], &[u8])] = &[
        (b"0\r\n\r\n", b"", b""),
        (b"5\r\nhello\r\n0\r\n\r\n", b"hello", b""),
        (b"5\r\nhello\r\n000\r\n\r\n", b"hello", b""),
        (b"0000000000000005\r\nhello\r\n0\r\n\r\n", b"hello", b""),
        (
            b"a\r\n0123456789\r\nC\r\n\r\n0\r\n\r\n\r\nabc\r\n0\r\n\r\n",
            b"0123456789\r\n0\r\n\r\n\r\nabc",
            b"",
        ),
        (b"1;a\r\nx\r\n0;b=c\r\n\r\n", b"x", b""),
        (b"1 \t; \ta \t= \tb \t; c\r\nx\r\n0\r\n\r\n", b"x", b""),
        (b"1;a=\"b;\\\"\\\\ \t\xff\";c=d\r\nx\r\n0\r\n\r\n", b"x", b""),
        (b"1;a=\"\" ;b\r\nx\r\n0\r\n\r\n", b"x", b""),
        (b"0\r\nA: b\r\nC:\r\n\r\n", b"", b"A: b\r\nC:\r\n"),
    ];
    for &(text, content, trailers) in cases {
        let expected = Decoded { content: content.to_vec(), end: Some((trailers.to_vec(), text.len())) };
        assert_eq!(whole(text), (expected, Ok(())), "{}", shown(text));
        let (more, _) = whole(&[text, b"GET / HTTP/1.1"].concat());
        assert_eq!(
            more.end.map(|(_, taken)| taken),
            Some(text.len()),
            "what follows is left: {}",
            shown(text)
        );
    }
}

#[test]
fn invalid() {
    let cases: &[&[u8]] = &[
        b"\r\n",
        b"\n",
        b"g\r\n",
        b" 5\r\nhello\r\n",
        b"+5\r\nhello\r\n",
        b"-5\r\nhello\r\n",
        b"0x5\r\nhello\r\n",
        b";a\r\n",
        b"5 \r\nhello\r\n",
        b"5\t\r\nhello\r\n",
        b"5 5\r\nhello\r\n",
        b"5\nhello\r\n",
        b"5\rhello\r\n",
        b"5\r\r\nhello\r\n",
        b"5\x00\r\nhello\r\n",
        b"5\r\nhello\n",
        b"5\r\nhello\rx",
        b"5\r\nhellox",
        b"5\r\nhello0\r\n",
        b"8000000000000000\r\n",
        b"ffffffffffffffff\r\n",
        b"00000000000000005\r\nhello\r\n",
        b"10000000000000000\r\n",
        b"1;\r\nx\r\n",
        b"1; \r\nx\r\n",
        b"1;a \r\nx\r\n",
        b"1;a=\r\nx\r\n",
        b"1;=b\r\nx\r\n",
        b"1;a=b \r\nx\r\n",
        b"1;a=b=c\r\nx\r\n",
        b"1;a b\r\nx\r\n",
        b"1;;\r\nx\r\n",
        b"1;a\nx\r\n",
        b"1;a\rx\r\n",
        b"1;a\x00\r\nx\r\n",
        b"1;a=\"b\r\n\"\r\nx\r\n",
        b"1;a=\"b\n\"\r\nx\r\n",
        b"1;a=\"b\\\n\"\r\nx\r\n",
        b"1;a=\"b\x7f\"\r\nx\r\n",
        b"1;a=\"b\"c\r\nx\r\n",
        b"1;\xff\r\nx\r\n",
        b"0\r\nA: b\n",
        b"0\r\nA: b\r\n\n",
        b"0\n\r\n",
        b"0\r\n\n",
        b"0\r\nA : b\r\n\r\n",
        b"0\r\n A: b\r\n\r\n",
        b"0\r\nA: b\r\n c\r\n\r\n",
        b"0\r\nA\r\n\r\n",
        b"0\r\n: b\r\n\r\n",
        b"0\r\nA: b\x00\r\n\r\n",
        b"0\r\nA: b\rc\r\n\r\n",
    ];
    for &text in cases {
        let (decoded, outcome) = whole(text);
        assert_eq!(outcome.map_err(|reject| reject.status), Err(400), "{}: {decoded:?}", shown(text));
    }
}

#[test]
fn the_largest_size() {
    let mut decoder = ChunkDecoder::new(64, 256);
    assert_eq!(decoder.next(b"7fffffffffffffff\r\nabc"), Ok((21, Chunk::Data(18..21))));
    assert_eq!(decoder.next(b""), Ok((0, Chunk::NeedMore)));
    assert_eq!(decoder.next(b"d"), Ok((1, Chunk::Data(0..1))));
}

#[test]
fn lines_and_trailers_are_bounded() {
    let line = |len: usize| format!("1;{}\r\n", "a".repeat(len - 4));
    assert!(whole(line(64).as_bytes()).1.is_ok());
    assert!(whole(line(65).as_bytes()).1.is_err());
    assert!(whole(&line(66).as_bytes()[..66]).1.is_err(), "before its end is there");

    let section = |len: usize| format!("0\r\nA: {}\r\n\r\n", "b".repeat(len - 7));
    assert!(whole(section(256).as_bytes()).0.end.is_some());
    assert!(whole(section(257).as_bytes()).1.is_err());
    assert!(whole(&section(300).as_bytes()[..259]).1.is_err(), "before its end is there");

    let many = format!("0\r\n{}\r\n", "A:\r\n".repeat(65));
    let (_, outcome) = decode(&mut ChunkDecoder::new(64, 4096), [many.as_bytes()]);
    assert!(outcome.is_err());
}

#[test]
fn extensions_of_a_body_are_bounded() {
    let chunk = format!("1;{}\r\nx\r\n", "a".repeat(50));
    let (decoded, outcome) = whole(chunk.repeat(1000).as_bytes());
    assert_eq!(outcome.map_err(|reject| reject.status), Err(400));
    assert!(decoded.content.len() > 300, "a few are fine: {}", decoded.content.len());
}

#[test]
fn the_end_is_repeated() {
    let mut decoder = ChunkDecoder::new(64, 256);
    assert_eq!(decoder.next(b"0\r\n\r\nGET"), Ok((5, Chunk::End { trailers: 3..3 })));
    assert_eq!(decoder.next(b"GET"), Ok((0, Chunk::End { trailers: 0..0 })));
}

#[test]
fn the_line_of_a_chunk_has_its_size_in_hex() {
    for (size, line) in
        [(0, "0"), (1, "1"), (15, "f"), (16, "10"), (255, "ff"), (4096, "1000"), (65535, "ffff")]
    {
        let mut out = b"x".to_vec();
        write_chunk_size(size, &mut out);
        assert_eq!(out, format!("x{line}\r\n").as_bytes());
    }
    let mut out = Vec::new();
    write_chunk_size(usize::MAX, &mut out);
    assert_eq!(out, b"ffffffffffffffff\r\n");
}
