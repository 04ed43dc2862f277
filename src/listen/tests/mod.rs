//! Connections that go from one fleet to another in the same process, over real sockets. What stands between two
//! instances, the channel that passes descriptors, is left out: a descriptor is duplicated instead.

mod admission;
mod endings;
mod idle;
mod requests;
mod tunnels;

use std::future::poll_fn;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::num::{NonZeroU32, NonZeroUsize};
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use http::StatusCode;

use super::{Departure, Fleet, Leave, ListenerSpec};
use crate::base::{Address, ListenerId};
use crate::proxy::{Handler, Limits, Respond, Service, Timeouts};
use crate::system::{Bound, Listening};
use crate::upstream::{Group, PoolSettings, Proto, Server, SharingSettings};

/// Far more than anything here takes.
const LIMIT: Duration = Duration::from_secs(60);

/// A listener's socket, which several fleets share as instances do.
struct Door {
    listening: Listening,
    spec: ListenerSpec,
}

impl Door {
    fn new() -> Self {
        Self::at(&Address::Tcp("127.0.0.1:0".parse().unwrap()))
    }

    fn at(address: &Address) -> Self {
        let id = ListenerId::fixed(address);
        let listening = Bound::bind(id.clone(), address, None).unwrap().listen().unwrap();
        Self {
            listening,
            spec: ListenerSpec {
                id,
                service: "web".into(),
                address: address.clone(),
                mode: None,
                activation: None,
                terms: Arc::default(),
                tls: None,
            },
        }
    }

    /// A fleet of two workers that serves here and accepts if it is to.
    fn fleet(&self, service: Service, accepts: bool) -> Fleet {
        let mut fleet = Fleet::new(
            NonZeroUsize::new(2).unwrap(),
            vec![Arc::new(service)],
            std::slice::from_ref(&self.spec),
        );
        fleet.start(if accepts { vec![self.listening.clone()] } else { Vec::new() }).unwrap();
        fleet
    }

    fn address(&self) -> SocketAddr {
        match &self.listening.address {
            Address::Tcp(address) => *address,
            Address::Unix(path) => panic!("{path:?} is no TCP address"),
        }
    }

    fn connect(&self) -> Client {
        Client::new(TcpStream::connect(self.address()).unwrap())
    }
}

/// Returns when both workers of the fleet that accepts at `door` have heard what it was told. Both serve some of these
/// connections, and hear what they are told in between.
fn heard(door: &Door) {
    for _ in 0..2 {
        let mut clients: Vec<_> = (0..8).map(|_| door.connect()).collect();
        clients.iter_mut().for_each(|client| drop(client.get("/")));
    }
}

/// A service that answers everything with `body`.
fn answers(body: &str) -> Service {
    service(Handler::Respond(Respond {
        status: StatusCode::OK,
        headers: Vec::new(),
        body: body.as_bytes().to_vec(),
    }))
}

/// A service that forwards everything to `origin`.
fn forwards(origin: SocketAddr) -> Service {
    let server = Server {
        name: origin.to_string(),
        addresses: vec![Address::Tcp(origin)],
        weight: NonZeroU32::MIN,
        tls: None,
        proto: Proto::H1Only,
    };
    let (pool, sharing) = (PoolSettings::default(), SharingSettings::default());
    let group = Group { servers: vec![server], pool, sharing };
    service(Handler::Proxy { group, via: None })
}

fn service(handler: Handler) -> Service {
    // On a machine that is busy with other things no client is to be too slow.
    let timeouts = Timeouts { head: 10 * LIMIT, idle: 10 * LIMIT, ..Timeouts::default() };
    Service { name: "web".into(), limits: Limits::default(), timeouts, h2: Default::default(), handler }
}

/// A client that waits for what it is told, with a limit.
struct Client {
    stream: TcpStream,
    /// Read and not yet looked at.
    unread: Vec<u8>,
}

/// What a client was answered.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    body: String,
    closes: bool,
}

impl Answer {
    fn keeps(body: &str) -> Self {
        Self { body: body.to_owned(), closes: false }
    }

    fn closes(body: &str) -> Self {
        Self { body: body.to_owned(), closes: true }
    }
}

impl Client {
    fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_write_timeout(Some(LIMIT)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, unread: Vec::new() }
    }

    fn send(&mut self, text: impl AsRef<[u8]>) {
        self.stream.write_all(text.as_ref()).unwrap();
    }

    fn get(&mut self, path: &str) -> Answer {
        self.send(request(path));
        self.answer()
    }

    /// Reads up to the end of the next response's head, and returns it without.
    fn head(&mut self) -> String {
        loop {
            if let Some(end) = self.unread.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = String::from_utf8(self.unread.drain(..end + 4).collect()).unwrap();
                return head.trim_end().to_ascii_lowercase();
            }
            assert!(self.read_more() > 0, "the connection ended in a head: {:?}", self.unread);
        }
    }

    fn answer(&mut self) -> Answer {
        let head = self.head();
        assert!(head.starts_with("http/1.1 200"), "{head}");
        let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let length: usize = field("content-length:").expect(&head).parse().unwrap();
        while self.unread.len() < length {
            assert!(self.read_more() > 0, "the connection ended in a body");
        }
        let body = String::from_utf8(self.unread.drain(..length).collect()).unwrap();
        Answer { body, closes: field("connection:") == Some("close") }
    }

    /// Reads `count` bytes exactly.
    fn bytes(&mut self, count: usize) -> Vec<u8> {
        while self.unread.len() < count {
            assert!(self.read_more() > 0, "the connection ended after {} bytes", self.unread.len());
        }
        self.unread.drain(..count).collect()
    }

    /// Closes the connection by a reset, since what `from` has sent was not read.
    fn reset(self, mut from: impl Write) {
        from.write_all(b"unread").unwrap();
        assert_eq!(self.stream.peek(&mut [0]).unwrap(), 1);
    }

    fn read_more(&mut self) -> usize {
        let mut buf = [0; 16 << 10];
        let count = self.stream.read(&mut buf).unwrap();
        self.unread.extend_from_slice(&buf[..count]);
        count
    }

    /// The other side has ended the connection in order and there is nothing left to read.
    fn has_ended(&mut self) -> bool {
        self.unread.is_empty() && self.read_more() == 0
    }
}

fn request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
}

/// Awaits a future for a limited time.
fn within<T>(future: impl Future<Output = T>) -> T {
    smol::block_on(async {
        let mut future = pin!(future);
        let mut limit = smol::Timer::after(LIMIT);
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(output),
            Poll::Pending => {
                assert!(pin!(&mut limit).poll(cx).is_pending(), "this takes too long");
                Poll::Pending
            }
        })
        .await
    })
}

/// The next connection that departs.
fn departure(fleet: &mut Fleet) -> Departure {
    within(poll_fn(|cx| fleet.poll_departure(cx)))
}

/// A connection that has departed already, if there is one.
fn departed(fleet: &mut Fleet) -> Option<Departure> {
    match fleet.poll_departure(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(departure) => Some(departure),
        Poll::Pending => None,
    }
}

/// The sockets of a departure as another process would get them.
fn copies(departure: &Departure) -> Vec<OwnedFd> {
    departure.fds().iter().map(|fd| fd.try_clone().unwrap()).collect()
}

/// Takes a departure to another fleet as the protocol has it, and tells whether that took it.
fn carry(departure: Departure, to: &Fleet) -> Result<(), String> {
    let text = ron::to_string(departure.moved()).unwrap();
    let moved = ron::from_str(&text).unwrap();
    match to.admit(moved, copies(&departure)) {
        Ok(admission) => {
            departure.gone();
            admission.serve();
            Ok(())
        }
        Err(why) => {
            departure.stay();
            Err(why)
        }
    }
}

/// Waits until something is so that nobody tells of.
fn until(what: &str, so: impl Fn() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Waits until a fleet has no connection.
fn idle(fleet: &mut Fleet) {
    within(poll_fn(|cx| fleet.poll_idle(cx)));
    assert_eq!(fleet.connections(), 0);
}

/// A server that does with each connection what it is told to, on a thread of its own.
fn origin(serve: impl Fn(Client) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let serve = Arc::clone(&serve);
            std::thread::spawn(move || serve(Client::new(stream.unwrap())));
        }
    });
    address
}
