//! Load that counts: every request has to get its whole and correct response, and each one that does not is named.
//!
//! A request is lost when its client began to send it and did not get the whole response that belongs to it: the
//! connection could not be made, was closed or reset, timed out, or carried something else. That a second attempt
//! would have succeeded does not help.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::client::Conn;
use super::socket::Target;

/// No load runs longer than this, whatever happens to the test that started it.
const LONGEST: Duration = Duration::from_secs(300);

/// How many losses a report names; it counts them all.
const NAMED: usize = 20;

static LOADS: AtomicU64 = AtomicU64::new(0);

/// When a client sends its next request.
#[derive(Clone, Debug)]
pub enum Pacing {
    /// At once when it has the response to the one before, without a look at the connection; as `wrk` does.
    Hammer,
    /// After a pause of so many milliseconds, as someone who reads does. It is how the load is shaped, no
    /// synchronisation. Before it sends it sees whether the connection was closed meanwhile, as a browser does.
    Think(RangeInclusive<u64>),
}

/// Load to be.
#[derive(Clone, Debug)]
#[must_use]
pub struct Plan {
    clients: usize,
    pacing: Pacing,
    keep_alive: bool,
    body: Option<usize>,
    depth: usize,
}

impl Plan {
    /// POST requests with a body of so many bytes instead of GET.
    pub fn post(mut self, bytes: usize) -> Self {
        self.body = Some(bytes);
        self
    }

    /// Sends so many requests at once, pipelined. Those that stand unanswered behind a response with
    /// `Connection: close` were not taken by the server (RFC 9112 §9.6) and are sent again; they count as `resent`.
    pub fn pipelined(mut self, depth: usize) -> Self {
        self.depth = depth;
        self
    }

    /// Starts the load against a server that echoes as [`super::Origin::echo`] does.
    pub fn start(self, target: impl Into<Target>) -> Load {
        let shared = Arc::new(Shared {
            load: LOADS.fetch_add(1, Ordering::SeqCst),
            target: target.into(),
            begin: Instant::now(),
            stop: AtomicBool::new(false),
            finished: AtomicU64::new(0),
            awaited: AtomicU64::new(u64::MAX),
            lock: Mutex::new(()),
            changed: Condvar::new(),
        });
        let client = |number| {
            let (shared, plan) = (shared.clone(), self.clone());
            let run = move || Client { shared, plan, number, tally: Report::default(), sequence: 0 }.run();
            thread::Builder::new().name("load".into()).stack_size(256 << 10).spawn(run).unwrap()
        };
        let clients = (0..self.clients).map(client).collect();
        Load { shared, clients }
    }
}

/// Load that runs; dropped, it stops.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<Report>>,
}

impl Load {
    /// Clients that keep one connection each for as long as the server does.
    pub fn keep_alive(clients: usize, pacing: Pacing) -> Plan {
        Plan { clients, pacing, keep_alive: true, body: None, depth: 1 }
    }

    /// Clients that open a connection for each request.
    pub fn per_request(clients: usize, pacing: Pacing) -> Plan {
        Plan { clients, pacing, keep_alive: false, body: None, depth: 1 }
    }

    /// How many requests are finished, those lost included.
    pub fn finished(&self) -> u64 {
        self.shared.finished.load(Ordering::SeqCst)
    }

    /// Waits until `more` further requests are finished, and panics when `deadline` passes first. One load is
    /// waited for by one thread at a time.
    #[track_caller]
    pub fn wait_for(&self, more: u64, deadline: Duration) {
        let shared = &self.shared;
        let guard = shared.lock.lock().unwrap();
        let goal = self.finished() + more;
        shared.awaited.store(goal, Ordering::SeqCst);
        let short = |(): &mut ()| self.finished() < goal;
        drop(shared.changed.wait_timeout_while(guard, deadline, short).unwrap());
        shared.awaited.store(u64::MAX, Ordering::SeqCst);
        let missing = goal.saturating_sub(self.finished());
        assert!(missing == 0, "{missing} of {more} requests are missing after {deadline:?}");
    }

    /// Lets every client finish the request it is at, and adds up.
    pub fn stop(mut self) -> Report {
        self.shared.halt();
        let mut report = Report::default();
        for client in self.clients.drain(..) {
            report.add(client.join().unwrap());
        }
        report.latencies.sort_unstable();
        report
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.halt();
    }
}

/// What came of a load.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Requests that were sent, counted once however often.
    pub sent: u64,
    /// Those with their whole, correct response.
    pub ok: u64,
    /// Those without.
    pub lost: u64,
    /// The first of the lost, each with its time since the load's start and the reason.
    pub losses: Vec<String>,
    /// The client's end of the connection of each lost one, as far as there was a TCP connection.
    pub lost_from: Vec<Option<SocketAddr>>,
    /// Connections opened after a client's first, of keep-alive clients.
    pub reconnects: u64,
    /// Connections found closed by the server between two requests, with no `Connection: close` before.
    pub cut_idle: u64,
    /// Pipelined requests sent again after a `Connection: close`.
    pub resent: u64,
    /// Microseconds from the send to the whole response of each request, sorted.
    pub latencies: Vec<u32>,
}

impl Report {
    /// Panics unless requests were sent and each got its response; returns the report.
    #[track_caller]
    pub fn expect_none_lost(self) -> Self {
        assert!(self.sent > 0, "the load sent nothing");
        assert!(self.lost == 0, "{} of {} requests lost:\n{}", self.lost, self.sent, self.losses.join("\n"));
        assert_eq!(self.sent, self.ok);
        self
    }

    /// Panics if a request was lost on any but the `excused` connections, named by the client's end.
    #[track_caller]
    pub fn expect_none_lost_but(&self, excused: &HashSet<SocketAddr>) {
        let counts = |from: &Option<SocketAddr>| from.is_none_or(|from| !excused.contains(&from));
        let lost: Vec<_> = self.lost_from.iter().filter(|from| counts(from)).collect();
        assert!(lost.is_empty(), "lost on {lost:?}: {}", self.losses.join("\n"));
    }

    /// The latency that the given share (0.0 to 1.0) of the requests stayed below.
    pub fn percentile(&self, share: f64) -> Duration {
        let last = self.latencies.len().saturating_sub(1);
        let at = (last as f64 * share) as usize;
        Duration::from_micros(self.latencies.get(at).copied().unwrap_or(0).into())
    }

    fn add(&mut self, other: Self) {
        self.sent += other.sent;
        self.ok += other.ok;
        self.lost += other.lost;
        self.reconnects += other.reconnects;
        self.cut_idle += other.cut_idle;
        self.resent += other.resent;
        self.losses.extend(other.losses);
        self.losses.truncate(NAMED);
        self.lost_from.extend(other.lost_from);
        self.latencies.extend(other.latencies);
    }
}

#[derive(Debug)]
struct Shared {
    load: u64,
    target: Target,
    begin: Instant,
    stop: AtomicBool,
    finished: AtomicU64,
    /// The value of `finished` that somebody waits for, so that the others need not take the lock.
    awaited: AtomicU64,
    /// Held to wait on `changed`, and to notify it.
    lock: Mutex<()>,
    changed: Condvar,
}

impl Shared {
    fn halt(&self) {
        self.stop.store(true, Ordering::SeqCst);
        drop(self.lock.lock());
        self.changed.notify_all();
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::SeqCst) || self.begin.elapsed() > LONGEST
    }

    fn finish_one(&self) {
        let finished = self.finished.fetch_add(1, Ordering::SeqCst) + 1;
        if finished >= self.awaited.load(Ordering::SeqCst) {
            drop(self.lock.lock());
            self.changed.notify_all();
        }
    }
}

struct Client {
    shared: Arc<Shared>,
    plan: Plan,
    number: usize,
    tally: Report,
    sequence: u64,
}

/// A request and the response body that belongs to it.
struct Exchange {
    name: String,
    bytes: Vec<u8>,
    expected: Vec<u8>,
}

impl Client {
    fn run(mut self) -> Report {
        let mut conn = None;
        let mut connected = false;
        while !self.shared.is_over() {
            if let Pacing::Think(range) = self.plan.pacing.clone() {
                self.think(range);
                let idle = |conn: &mut Conn| !conn.is_quiet();
                if conn.take_if(idle).is_some() {
                    self.tally.cut_idle += 1;
                }
                if self.shared.is_over() {
                    break;
                }
            }
            let batch: Vec<Exchange> = (0..self.plan.depth).map(|_| self.exchange()).collect();
            self.tally.sent += batch.len() as u64;
            let mut rest = batch.as_slice();
            while !rest.is_empty() {
                let begin = Instant::now();
                let open = match conn.take() {
                    Some(open) => open,
                    None => {
                        self.tally.reconnects += u64::from(connected && self.plan.keep_alive);
                        connected = true;
                        match Conn::try_open(&self.shared.target) {
                            Ok(open) => open,
                            Err(error) => {
                                self.lose(rest, None, "cannot connect", &error);
                                break;
                            }
                        }
                    }
                };
                let (dealt_with, kept) = self.round(open, rest, begin);
                rest = &rest[dealt_with..];
                self.tally.resent += rest.len() as u64;
                conn = kept;
            }
        }
        self.tally
    }

    /// Sends `batch` over `conn` and reads the responses; returns how many requests are dealt with, answered or
    /// lost, and the connection where it stays.
    fn round(&mut self, mut conn: Conn, batch: &[Exchange], begin: Instant) -> (usize, Option<Conn>) {
        let from = conn.socket().local_address();
        let bytes: Vec<u8> = batch.iter().flat_map(|exchange| exchange.bytes.iter().copied()).collect();
        // The server may have answered and left before it read all of it; then the response is there nevertheless.
        let sent = conn.try_send(&bytes);
        let method = if self.plan.body.is_some() { "POST" } else { "GET" };
        for (nth, exchange) in batch.iter().enumerate() {
            let response = match conn.try_read_response(method) {
                Ok(response) => response,
                Err(error) => {
                    match sent {
                        Err(error) => self.lose(&batch[nth..], from, "cannot send", &error),
                        Ok(()) => self.lose(&batch[nth..], from, "no whole response", &error),
                    }
                    return (batch.len(), None);
                }
            };
            if response.status == 200 && response.body == exchange.expected {
                self.tally.ok += 1;
                self.tally.latencies.push(begin.elapsed().as_micros().try_into().unwrap_or(u32::MAX));
                self.shared.finish_one();
            } else {
                let got = io::Error::other(format!("{} {:?}", response.status, response.text()));
                self.lose(&batch[nth..=nth], from, "a wrong response", &got);
            }
            if response.closed {
                return (nth + 1, None);
            }
        }
        (batch.len(), self.plan.keep_alive.then_some(conn))
    }

    fn exchange(&mut self) -> Exchange {
        let name = format!("/load/{}/{}/{}", self.shared.load, self.number, self.sequence);
        self.sequence += 1;
        let connection = if self.plan.keep_alive { "" } else { "connection: close\r\n" };
        let (method, length, body) = match self.plan.body {
            None => ("GET", String::new(), Vec::new()),
            Some(bytes) => {
                let body: Vec<u8> = name.bytes().cycle().take(bytes).collect();
                ("POST", format!("content-length: {bytes}\r\n"), body)
            }
        };
        let head = format!("{method} {name} HTTP/1.1\r\nhost: load.example\r\n{connection}{length}\r\n");
        let bytes = [head.as_bytes(), &body].concat();
        let expected = [format!("{method} {name}\n").as_bytes(), &body].concat();
        Exchange { name, bytes, expected }
    }

    fn lose(&mut self, exchanges: &[Exchange], from: Option<SocketAddr>, step: &str, error: &io::Error) {
        for exchange in exchanges {
            self.tally.lost += 1;
            self.tally.lost_from.push(from);
            if self.tally.losses.len() < NAMED {
                let at = self.shared.begin.elapsed().as_secs_f64();
                self.tally.losses.push(format!("{at:.3}s {}: {step}: {error}", exchange.name));
            }
            self.shared.finish_one();
        }
    }

    fn think(&self, range: RangeInclusive<u64>) {
        let pause = Duration::from_millis(fastrand::u64(range));
        let end = Instant::now() + pause;
        let guard = self.shared.lock.lock().unwrap();
        let early = |(): &mut ()| !self.shared.is_over() && Instant::now() < end;
        drop(self.shared.changed.wait_timeout_while(guard, pause, early).unwrap());
    }
}
