//! HTTP/1 heads, codec and body framing, free of I/O.
