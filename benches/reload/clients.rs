//! The load: clients that count every request which did not get its whole, correct response.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::record::{Inbox, Sample};

/// After this a request counts as lost.
const PATIENCE: Duration = Duration::from_secs(10);
/// A client hands its samples over when it has this many, or the oldest is this old.
const BATCH: usize = 128;
const BATCH_AGE: Duration = Duration::from_millis(20);
const STACK: usize = 64 << 10;

/// How a class of clients behaves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Keeps its connection and sends the next request as soon as the last is answered.
    Hammer,
    /// Keeps its connection and thinks for up to half a second between requests.
    Think,
    /// Opens a connection for each request, up to 20 ms apart.
    Fresh,
}

impl Pace {
    pub(crate) fn describe(self) -> &'static str {
        match self {
            Self::Hammer => "keep-alive, no pause",
            Self::Think => "keep-alive, slow think",
            Self::Fresh => "connection per request",
        }
    }

    fn pause(self) -> Duration {
        Duration::from_micros(match self {
            Self::Hammer => 0,
            Self::Think => fastrand::u64(20_000..500_000),
            Self::Fresh => fastrand::u64(0..20_000),
        })
    }
}

/// Starts `count` clients of one class; they end soon after `stop` is set.
pub(crate) fn start(
    pace: Pace,
    count: usize,
    river: SocketAddr,
    epoch: Instant,
    inbox: &Arc<Inbox>,
    stop: &Arc<AtomicBool>,
) -> io::Result<Vec<JoinHandle<()>>> {
    (0..count)
        .map(|number| {
            let inbox = Arc::clone(inbox);
            let stop = Arc::clone(stop);
            let run = move || run(pace, number, river, epoch, &inbox, &stop);
            thread::Builder::new().name(format!("client {number}")).stack_size(STACK).spawn(run)
        })
        .collect()
}

fn run(pace: Pace, number: usize, river: SocketAddr, epoch: Instant, inbox: &Inbox, stop: &AtomicBool) {
    let mut connection = None;
    let mut samples = Vec::with_capacity(BATCH);
    let mut request = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(pace.pause());
        request += 1;
        let id = format!("{number}-{request}");
        let begin = epoch.elapsed();
        match exchange(&mut connection, river, &id, pace == Pace::Fresh) {
            Ok(()) => samples.push(Sample { begin, end: epoch.elapsed() }),
            Err(cause) => {
                connection = None;
                inbox.lose(cause);
                // Where River is gone altogether, do not spin.
                thread::sleep(Duration::from_millis(10));
            }
        }
        let old = samples.first().is_some_and(|sample| sample.end + BATCH_AGE < epoch.elapsed());
        if samples.len() >= BATCH || old || pace != Pace::Hammer {
            inbox.add(&mut samples);
        }
    }
    inbox.add(&mut samples);
}

/// One request and its response, on the connection at hand or a new one. The error is the cause of the loss.
fn exchange(
    connection: &mut Option<TcpStream>,
    river: SocketAddr,
    id: &str,
    close: bool,
) -> Result<(), String> {
    let reused = connection.is_some();
    let mut stream = match connection.take() {
        Some(stream) => stream,
        None => connect(river).map_err(|error| format!("cannot connect: {}", name(&error)))?,
    };
    let on = if reused { "a kept connection" } else { "a new connection" };
    let field = if close { "Connection: close\r\n" } else { "" };
    let request = format!("GET /{id} HTTP/1.1\r\nHost: bench\r\n{field}\r\n");
    stream.write_all(request.as_bytes()).map_err(|error| format!("cannot send on {on}: {}", name(&error)))?;
    let mut answer = Vec::with_capacity(512);
    let response = loop {
        let mut chunk = [0; 1024];
        match stream.read(&mut chunk) {
            Ok(0) if answer.is_empty() => return Err(format!("{on} was closed before the response")),
            Ok(0) => return Err(format!("{on} was closed within the response")),
            Ok(length) => answer.extend_from_slice(&chunk[..length]),
            Err(error) => return Err(format!("no response on {on}: {}", name(&error))),
        }
        if let Some(response) = parse(&answer)? {
            break response;
        }
    };
    if response.status != 200 {
        return Err(format!("status {}", response.status));
    }
    if response.body != id.as_bytes() {
        return Err("the response to another request".to_owned());
    }
    if !close && !response.close {
        *connection = Some(stream);
    }
    Ok(())
}

fn connect(river: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(river)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

struct Response<'a> {
    status: u16,
    close: bool,
    body: &'a [u8],
}

/// The response, once it is whole.
fn parse(answer: &[u8]) -> Result<Option<Response<'_>>, String> {
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(length) =
        head.parse(answer).map_err(|error| format!("bad response: {error}"))?
    else {
        return Ok(None);
    };
    let field = |name: &str| head.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
    let size: usize = field("content-length")
        .and_then(|field| str::from_utf8(field.value).ok()?.parse().ok())
        .ok_or_else(|| "bad response: no length".to_owned())?;
    let body = &answer[length..];
    if body.len() > size {
        return Err("more than the response".to_owned());
    }
    let close = field("connection").is_some_and(|field| field.value.eq_ignore_ascii_case(b"close"));
    Ok((body.len() == size).then_some(Response { status: head.code.unwrap_or(0), close, body }))
}

/// A name by which equal errors are counted together.
fn name(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => format!("nothing within {} s", PATIENCE.as_secs()),
        kind => kind.to_string(),
    }
}
