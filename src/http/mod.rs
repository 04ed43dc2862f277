//! HTTP/1 heads and body framing, free of I/O.
//!
//! A head stays where it was received: parsing yields spans into the caller's buffer, and a classification of every
//! field name made once. What is accepted is decided here and nowhere else; where RFC 9110 and RFC 9112 leave a
//! choice, the stricter reading is taken, because two parties that read one message differently are how requests
//! are smuggled. The choices stand beside the functions that make them.
//!
//! Heads that arrive in pieces: call the parser again with the same buffer, grown. A head remembers how much it has
//! seen, so that a peer that sends one byte at a time costs time linear in the bytes it sent.

mod bytes;
mod chunked;
mod connection;
mod fields;
mod framing;
mod partial;
mod reject;
mod request;
mod response;
mod scan;
mod span;
mod target;
mod trailers;

#[cfg(test)]
mod tests;

pub use chunked::{Chunk, ChunkDecoder, write_chunk_size};
pub use fields::{Field, Known};
pub use framing::Framing;
pub use reject::{HeadLimits, Reject, Unparsed};
pub use request::{Method, RequestHead, Version, parse_request};
pub use response::{ResponseHead, parse_response};
pub use span::Span;
pub use target::Target;
pub use trailers::{check_trailers, trailer_fields};
