//! The load: clients that count every request which did not get its whole, correct response.

use std::io::{self, ErrorKind, Read, Write};
use std::mem;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::record::{Inbox, Sample};

/// After this a request counts as lost.
const PATIENCE: Duration = Duration::from_secs(10);
/// A client hands its samples over when it has this many.
const BATCH: usize = 1024;
const STACK: usize = 64 << 10;
/// Requests that a pipelining client sends at once.
const DEPTH: usize = 4;
/// Bytes of the body that a posting client sends, and gets back.
const BODY: usize = 4096;

/// How a class of clients behaves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Keeps its connection and sends the next request as soon as the last is answered.
    Hammer,
    /// Keeps its connection and thinks for up to half a second between requests.
    Think,
    /// Opens a connection for each request, up to 20 ms apart.
    Fresh,
    /// Keeps its connection, posts a body, and gets it back; up to 20 ms apart.
    Post,
    /// Keeps its connection and sends four requests at once; up to 20 ms apart.
    Pipeline,
}

impl Pace {
    pub(crate) const ALL: [Self; 5] = [Self::Hammer, Self::Think, Self::Fresh, Self::Post, Self::Pipeline];

    pub(crate) fn describe(self) -> &'static str {
        match self {
            Self::Hammer => "keep-alive, no pause",
            Self::Think => "keep-alive, slow think",
            Self::Fresh => "connection per request",
            Self::Post => "post with a body",
            Self::Pipeline => "four requests at once",
        }
    }

    fn pause(self) -> Duration {
        Duration::from_micros(match self {
            Self::Hammer => 0,
            Self::Think => fastrand::u64(20_000..500_000),
            Self::Fresh | Self::Post | Self::Pipeline => fastrand::u64(0..20_000),
        })
    }
}

/// Clients that run. Dropped, they end soon.
pub(crate) struct Crowd {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Crowd {
    pub(crate) fn new() -> Self {
        Self { stop: Arc::default(), threads: Vec::new() }
    }

    /// Adds `count` clients of one class. `epoch` is where the samples' time begins.
    pub(crate) fn add(
        &mut self,
        pace: Pace,
        count: usize,
        proxy: SocketAddr,
        epoch: Instant,
        inbox: &Arc<Inbox>,
    ) -> io::Result<()> {
        for _ in 0..count {
            let client = Client::new(pace, proxy, Arc::clone(inbox), Arc::clone(&self.stop));
            let run = move || client.run(epoch);
            self.threads.push(thread::Builder::new().name("client".into()).stack_size(STACK).spawn(run)?);
        }
        Ok(())
    }

    /// Waits for each client's last request.
    pub(crate) fn end(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic has been printed by now.
            let _ = thread.join();
        }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

struct Client {
    pace: Pace,
    /// Unique in this run, so that the origin can tell a request that came twice.
    number: u64,
    proxy: SocketAddr,
    inbox: Arc<Inbox>,
    stop: Arc<AtomicBool>,
    connection: Option<TcpStream>,
    requests: u64,
    /// Read and not yet used: the begin of the next pipelined response.
    unread: Vec<u8>,
}

impl Client {
    fn new(pace: Pace, proxy: SocketAddr, inbox: Arc<Inbox>, stop: Arc<AtomicBool>) -> Self {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        Self { pace, number, proxy, inbox, stop, connection: None, requests: 0, unread: Vec::new() }
    }

    fn run(mut self, epoch: Instant) {
        let mut samples = Vec::with_capacity(BATCH);
        while !self.stop.load(Ordering::Relaxed) {
            thread::sleep(self.pace.pause());
            let begin = epoch.elapsed();
            let count = if self.pace == Pace::Pipeline { DEPTH } else { 1 };
            let mut answered = 0;
            let outcome = self.exchange(count, || {
                samples.push(Sample { begin, end: epoch.elapsed() });
                answered += 1;
            });
            if let Err(cause) = outcome {
                self.connection = None;
                for _ in answered..count {
                    self.inbox.lose(cause.clone());
                }
                // Where the proxy is gone altogether, do not spin.
                thread::sleep(Duration::from_millis(10));
            }
            if samples.len() + DEPTH > BATCH {
                self.inbox.add(mem::replace(&mut samples, Vec::with_capacity(BATCH)));
            }
        }
        self.inbox.add(samples);
    }

    /// `count` requests at once and their responses, on the connection at hand or a new one. `answered` is called for each response. The error is the cause of
    /// the loss of the rest.
    fn exchange(&mut self, count: usize, mut answered: impl FnMut()) -> Result<(), String> {
        let reused = self.connection.is_some();
        let mut stream = match self.connection.take() {
            Some(stream) => stream,
            None => {
                self.inbox.connect();
                self.unread.clear();
                connect(self.proxy).map_err(|error| format!("cannot connect: {}", name(&error)))?
            }
        };
        let on = if reused { "a kept connection" } else { "a new connection" };
        let mut requests = Vec::new();
        let mut expected = Vec::new();
        for _ in 0..count {
            self.requests += 1;
            expected.push(self.ask(&mut requests));
        }
        stream.write_all(&requests).map_err(|error| format!("cannot send on {on}: {}", name(&error)))?;
        for (at, expected) in expected.iter().enumerate() {
            let close = self.receive(&mut stream, expected, on)?;
            answered();
            if close && at + 1 < count {
                return Err("the connection ended among pipelined requests".to_owned());
            }
            if close || self.pace == Pace::Fresh {
                return Ok(());
            }
        }
        self.connection = Some(stream);
        Ok(())
    }

    /// Writes one request and gives the body that its response has to have.
    fn ask(&self, out: &mut Vec<u8>) -> Vec<u8> {
        let id = format!("{}-{}", self.number, self.requests);
        let close = if self.pace == Pace::Fresh { "Connection: close\r\n" } else { "" };
        if self.pace != Pace::Post {
            out.extend(format!("GET /{id} HTTP/1.1\r\nHost: bench\r\n{close}\r\n").as_bytes());
            return id.into_bytes();
        }
        let mut body = id.clone().into_bytes();
        body.resize(BODY, b'.');
        let head = format!("POST /{id} HTTP/1.1\r\nHost: bench\r\nContent-Length: {BODY}\r\n\r\n");
        out.extend(head.as_bytes());
        out.extend(&body);
        body
    }

    /// Reads one response; says whether the connection ends with it.
    fn receive(&mut self, stream: &mut TcpStream, expected: &[u8], on: &str) -> Result<bool, String> {
        loop {
            if let Some(response) = parse(&self.unread)? {
                if response.status != 200 {
                    return Err(format!("status {}", response.status));
                }
                if response.body != expected {
                    return Err("the response to another request".to_owned());
                }
                let (close, length) = (response.close, response.length);
                self.unread.drain(..length);
                return Ok(close);
            }
            let mut chunk = [0; 4096];
            match stream.read(&mut chunk) {
                Ok(0) if self.unread.is_empty() => {
                    return Err(format!("{on} was closed before the response"));
                }
                Ok(0) => return Err(format!("{on} was closed within the response")),
                Ok(length) => self.unread.extend_from_slice(&chunk[..length]),
                Err(error) => return Err(format!("no response on {on}: {}", name(&error))),
            }
        }
    }
}

/// A connection as the clients make it.
pub(crate) fn connect(proxy: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(proxy)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

struct Response<'a> {
    status: u16,
    close: bool,
    body: &'a [u8],
    /// Bytes of the whole response.
    length: usize,
}

/// The first response, once it is whole.
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
    let Some(body) = answer.get(length..length + size) else { return Ok(None) };
    let close = field("connection").is_some_and(|field| field.value.eq_ignore_ascii_case(b"close"));
    Ok(Some(Response { status: head.code.unwrap_or(0), close, body, length: length + size }))
}

/// A name by which equal errors are counted together.
fn name(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => format!("nothing within {} s", PATIENCE.as_secs()),
        kind => kind.to_string(),
    }
}
