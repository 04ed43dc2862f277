//! The server behind the proxies: answers `GET /TEXT` with `TEXT` and a POST with its body, so that a client knows the
//! answer is to its question, and counts requests that come twice.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

const STACK: usize = 64 << 10;
/// How many threads wait for connections, at least: as many as proxies open at once, so that none is started then.
const SPARE: usize = 256;
/// Counters are spread over so many locks.
const SHARDS: usize = 64;

/// A running origin; it lives as long as the process.
#[derive(Clone)]
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
}

struct State {
    /// The last request of each client, by the client's number.
    last: Vec<Mutex<HashMap<u64, u64>>>,
    replayed: AtomicU64,
    /// Requests for `/held` are answered when it is opened.
    gate: (Mutex<bool>, Condvar),
    /// How many threads wait for a connection.
    waiting: AtomicUsize,
}

impl Origin {
    pub(crate) fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let last = (0..SHARDS).map(|_| Mutex::default()).collect();
        let state = Arc::new(State {
            last,
            replayed: AtomicU64::new(0),
            gate: (Mutex::new(false), Condvar::new()),
            waiting: AtomicUsize::new(0),
        });
        let listener = Arc::new(listener);
        (0..SPARE).try_for_each(|_| state.hire(&listener))?;
        Ok(Self { address, state })
    }

    /// How many requests have come a second time until now.
    pub(crate) fn replayed(&self) -> u64 {
        self.state.replayed.load(Ordering::Relaxed)
    }

    /// Answers requests for `/held` from now on, or no longer.
    pub(crate) fn open_gate(&self, open: bool) {
        *self.state.gate.0.lock().unwrap_or_else(PoisonError::into_inner) = open;
        self.state.gate.1.notify_all();
    }
}

impl State {
    /// Starts a thread that serves one connection after another.
    fn hire(self: &Arc<Self>, listener: &Arc<TcpListener>) -> io::Result<()> {
        let (state, listener) = (Arc::clone(self), Arc::clone(listener));
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let work = move || {
            for stream in listener.incoming().flatten() {
                if state.waiting.fetch_sub(1, Ordering::Relaxed) <= SPARE / 2
                    && state.hire(&listener).is_err()
                {
                    return;
                }
                // A connection that fails is the proxy's to notice, and the clients'.
                drop(state.serve(stream));
                state.waiting.fetch_add(1, Ordering::Relaxed);
            }
        };
        thread::Builder::new().name("origin".into()).stack_size(STACK).spawn(work).map(drop)
    }

    fn serve(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut reader = BufReader::with_capacity(8192, stream);
        let mut line = String::new();
        let mut answer = Vec::new();
        loop {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let path = line.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
            let mut length = 0;
            while !line.trim_end().is_empty() {
                line.clear();
                if reader.read_line(&mut line)? == 0 {
                    return Ok(());
                }
                if let Some((name, value)) = line.split_once(':')
                    && name.eq_ignore_ascii_case("content-length")
                {
                    length = value.trim().parse().unwrap_or(0);
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body)?;
            if length == 0 {
                body.extend(path.as_bytes());
            }
            self.note(&path);
            answer.clear();
            write!(answer, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len())?;
            answer.extend(&body);
            reader.get_mut().write_all(&answer)?;
        }
    }

    /// Each client numbers its requests, and has the next one sent only after the last: so a number that is not
    /// above the last one was repeated by the proxy.
    fn note(&self, path: &str) {
        if path == "held" {
            let open = self.gate.0.lock().unwrap_or_else(PoisonError::into_inner);
            drop(self.gate.1.wait_while(open, |open| !*open));
            return;
        }
        let Some((client, request)) = path.split_once('-') else { return };
        let (Ok(client), Ok(request)) = (client.parse::<u64>(), request.parse::<u64>()) else { return };
        let shard = usize::try_from(client).unwrap_or(0) % SHARDS;
        let Some(shard) = self.last.get(shard) else { return };
        let mut last = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let last = last.entry(client).or_default();
        if request <= *last {
            self.replayed.fetch_add(1, Ordering::Relaxed);
        }
        *last = request.max(*last);
    }
}
