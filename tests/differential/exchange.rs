//! One request through one proxy: bytes in, the answers out, and the bytes that came out behind.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::net::sockopt::socket_peercred;
use rustix::process::getpid;

use crate::classes::Sent;
use crate::support::PATIENCE;

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// The status of each answer that the client got, in order; `none` where it is no answer in HTTP/1.
    pub(crate) answers: Vec<String>,
    /// The bytes that each connection to the server carried, where it carried any.
    pub(crate) upstream: Vec<Vec<u8>>,
}

/// Sends `sent` to the proxy at `front`, whose server is at `origin`, and reads until the proxy ends the connection,
/// which every one of them does after half a second without anything to do.
pub(crate) fn run(front: &Path, origin: &Path, sent: Sent) -> Outcome {
    let listener = UnixListener::bind(origin).unwrap();
    let upstream = Mutex::new(Vec::new());
    let mut answer = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| accept(&listener, &upstream));
        let mut client = UnixStream::connect(front).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        // A proxy may end the connection before it has read everything.
        let _ = client.write_all(sent.bytes);
        match client.read_to_end(&mut answer) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => panic!("{}: {}: {error}", front.display(), sent.name),
        }
        // Comes behind every connection that the proxy has made.
        drop(UnixStream::connect(origin));
    });
    Outcome { answers: answers(&answer, sent), upstream: upstream.into_inner().unwrap() }
}

/// Serves each connection until this process makes one itself; then as far as bytes are there.
fn accept(listener: &UnixListener, upstream: &Mutex<Vec<Vec<u8>>>) {
    let mut streams = Vec::new();
    thread::scope(|scope| {
        for nth in 0.. {
            let stream = Arc::new(listener.accept().unwrap().0);
            if socket_peercred(&stream).unwrap().pid == getpid() {
                break;
            }
            upstream.lock().unwrap().push(Vec::new());
            streams.push(stream.clone());
            scope.spawn(move || {
                serve(&stream, |bytes| upstream.lock().unwrap()[nth].extend_from_slice(bytes))
            });
        }
        // What has come is read all the same. A proxy keeps good connections for a next request, which there is none.
        streams.iter().for_each(|stream| drop(stream.shutdown(Shutdown::Read)));
    });
    upstream.lock().unwrap().retain(|bytes| !bytes.is_empty());
}

/// Answers whatever ends like a request, and tells `record` of every byte.
fn serve(mut stream: &UnixStream, mut record: impl FnMut(&[u8])) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let (mut pending, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        record(&buffer[..count]);
        pending.extend_from_slice(&buffer[..count]);
        while let Some(length) = message(&pending) {
            let body: &[u8] = if pending.starts_with(b"HEAD ") { b"" } else { b"ok" };
            pending.drain(..length);
            let answer = [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", body].concat();
            if stream.write_all(&answer).is_err() {
                return;
            }
        }
    }
}

/// The length of the request at the begin of `bytes`, once it is whole: by its chunks if it has any, else its length.
fn message(bytes: &[u8]) -> Option<usize> {
    let head = find(bytes, b"\r\n\r\n")? + 4;
    let fields = String::from_utf8_lossy(&bytes[..head]).to_lowercase();
    let body = &bytes[head..];
    if fields.contains("\r\ntransfer-encoding: chunked\r\n") {
        let last = if body.starts_with(b"0\r\n") { 0 } else { find(body, b"\r\n0\r\n")? + 2 };
        // Trailers and the empty line behind the last chunk's line.
        let trailers = last + 1;
        return Some(head + trailers + find(&body[trailers..], b"\r\n\r\n")? + 4);
    }
    let length = fields.split("\r\ncontent-length: ").nth(1).map_or(0, |rest| {
        rest.split("\r\n").next().and_then(|number| number.trim().parse().ok()).unwrap_or(0)
    });
    (body.len() >= length).then_some(head + length)
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// The statuses of the responses in `bytes`, in order.
fn answers(mut bytes: &[u8], sent: Sent) -> Vec<String> {
    let mut answers = Vec::new();
    while !bytes.is_empty() {
        let head =
            find(bytes, b"\r\n\r\n").map(|end| String::from_utf8_lossy(&bytes[..end + 4]).into_owned());
        let Some(head) = head.filter(|head| head.starts_with("HTTP/1.")) else {
            answers.push("none".into());
            break;
        };
        let status = head.get(9..12).unwrap_or_default().to_owned();
        let fields = head.to_lowercase();
        let length = fields.split("\r\ncontent-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
        let empty = (sent.bytes.starts_with(b"HEAD ") && answers.is_empty()) || status.starts_with('1');
        let length = match length.and_then(|length| length.parse().ok()) {
            _ if empty => 0,
            Some(length) => length,
            None => bytes.len() - head.len(),
        };
        answers.push(status);
        bytes = bytes.get(head.len() + length..).unwrap_or_default();
    }
    answers
}
