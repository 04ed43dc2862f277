//! The server behind River: answers `GET /TEXT` with `TEXT`, so that a client knows the answer is to its question.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;

const STACK: usize = 64 << 10;

/// Starts an origin that lives as long as the process.
pub(crate) fn start() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    thread::Builder::new().name("origin".into()).spawn(move || {
        for stream in listener.incoming().flatten() {
            // A connection that fails is River's to notice, and the clients'.
            let serve = move || drop(serve(stream));
            if thread::Builder::new().name("origin".into()).stack_size(STACK).spawn(serve).is_err() {
                return;
            }
        }
    })?;
    Ok(address)
}

fn serve(stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::with_capacity(4096, stream);
    let mut line = String::new();
    let mut answer = Vec::new();
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let path = line.split(' ').nth(1).unwrap_or_default();
        let body = path.strip_prefix('/').unwrap_or(path);
        answer.clear();
        write!(answer, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
        while !line.trim_end().is_empty() {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
        }
        reader.get_mut().write_all(&answer)?;
    }
}
