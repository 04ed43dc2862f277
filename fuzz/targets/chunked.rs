//! A chunked body in pieces: the same content comes of it as at once. The first byte gives the size of the pieces.

#![no_main]

use libfuzzer_sys::fuzz_target;
use river::http::{Chunk, ChunkDecoder, trailer_fields};

/// What came of a body: its content, and its trailer section if it is whole, or why it is refused.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Whole(Vec<u8>, Vec<u8>),
    Part,
    Refused(&'static str),
}

fuzz_target!(|input: &[u8]| {
    let Some((&size, bytes)) = input.split_first() else { return };
    let whole = decode(bytes, bytes.len().max(1));
    if let Outcome::Whole(_, trailers) = &whole {
        assert!(trailer_fields(trailers).count() <= trailers.len());
    }
    assert_eq!(decode(bytes, usize::from(size).max(1)), whole);
});

/// Hands the bytes to a decoder, at most `size` new ones at a time.
fn decode(bytes: &[u8], size: usize) -> Outcome {
    let mut decoder = ChunkDecoder::new(256, 512);
    let mut content = Vec::new();
    let (mut at, mut end) = (0, size.min(bytes.len()));
    loop {
        let input = &bytes[at..end];
        let (consumed, chunk) = match decoder.next(input) {
            Ok(step) => step,
            Err(reject) => return Outcome::Refused(reject.why),
        };
        assert!(consumed <= input.len());
        match chunk {
            Chunk::Data(range) => content.extend_from_slice(&input[range]),
            Chunk::End { trailers } => {
                assert!(decoder.is_done());
                return Outcome::Whole(content, input[trailers].to_vec());
            }
            Chunk::NeedMore if end == bytes.len() => return Outcome::Part,
            Chunk::NeedMore => end = (end + size).min(bytes.len()),
        }
        at += consumed;
    }
}
