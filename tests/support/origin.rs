//! A scriptable server to stand behind River: it records what it gets and answers as it is told.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::thread;
use std::time::Duration;

use super::raw::{Fields, Reader, request_framing, wrong};
use super::reply::Reply;
use super::socket::{Listener, ReadHalf, Socket, Target};
use super::wait::{Count, Gate};

/// A request as the origin got it.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Which connection it came on, counted from 0.
    pub connection: usize,
    /// Which request of its connection it is, counted from 0.
    pub nth: usize,
    /// The method.
    pub method: String,
    /// The request target as sent.
    pub target: String,
    /// The fields of its head.
    pub fields: Fields,
    /// Its body, without the framing.
    pub body: Vec<u8>,
    /// The trailer fields of a chunked body.
    pub trailers: Fields,
    /// The bytes of its head.
    pub raw: Vec<u8>,
}

/// What becomes of a request once its head was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Its body is read, it is recorded, and the answer is given.
    Read,
    /// It has been dealt with; the connection is closed.
    Done,
}

type OnHead = dyn Fn(&Request, &mut Reply<'_>) -> io::Result<Next> + Send + Sync;
type OnRequest = dyn Fn(&Request, &mut Reply<'_>) -> io::Result<()> + Send + Sync;

/// An origin to be.
pub struct Builder {
    on_head: Box<OnHead>,
    on_request: Box<OnRequest>,
    recording: bool,
}

/// A running origin, with a thread for each connection. Dropped, it closes everything and refuses connections.
#[derive(Debug)]
pub struct Origin {
    target: Target,
    shared: Arc<Shared>,
}

impl Origin {
    /// An origin that answers every request with `METHOD TARGET\n` and the request's body.
    pub fn echo() -> Self {
        Self::builder().start()
    }

    /// An origin that answers with `answer`; an error from it closes the connection.
    pub fn with(answer: impl Fn(&Request, &mut Reply<'_>) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self::builder().answer(answer).start()
    }

    /// An origin that answers with `answer`, and requests for a target that `held` holds of not before the gate opens.
    pub fn gated(
        held: impl Fn(&str) -> bool + Send + Sync + 'static,
        answer: impl Fn(&Request, &mut Reply<'_>) -> io::Result<()> + Send + Sync + 'static,
    ) -> (Self, Arc<Gate>) {
        let gate = Arc::new(Gate::new());
        let waiting = gate.clone();
        let origin = Self::with(move |request, reply| {
            if held(&request.target) {
                waiting.pass();
            }
            answer(request, reply)
        });
        (origin, gate)
    }

    /// An origin that echoes, and asks for each body, which is held back (`Expect: 100-continue`).
    pub fn asking_for_bodies() -> Self {
        let ask = |request: &Request, reply: &mut Reply<'_>| {
            assert_eq!(request.fields.get("expect"), Some("100-continue"));
            reply.interim(100, &[])?;
            Ok(Next::Read)
        };
        Self::builder().on_head(ask).start()
    }

    /// An origin to be, which echoes.
    pub fn builder() -> Builder {
        Builder { on_head: Box::new(|_, _| Ok(Next::Read)), on_request: Box::new(echo), recording: true }
    }

    /// Where it listens.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Where it listens, on TCP.
    #[track_caller]
    pub fn address(&self) -> SocketAddr {
        match &self.target {
            Target::Tcp(address) => *address,
            other => panic!("the origin listens on {other}"),
        }
    }

    /// The requests it got whole, in the order they ended.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// How many connections it accepted.
    pub fn connections(&self) -> usize {
        self.shared.accepted.now()
    }

    /// How many of its connections are open.
    pub fn open_connections(&self) -> usize {
        self.shared.open.now()
    }

    /// Waits until it got `count` whole requests, and returns them all.
    #[track_caller]
    pub fn wait_requests(&self, count: usize, deadline: Duration) -> Vec<Request> {
        let requests = self.shared.requests.lock().unwrap();
        let few = |requests: &mut Vec<Request>| requests.len() < count;
        let (requests, _) = self.shared.recorded.wait_timeout_while(requests, deadline, few).unwrap();
        assert!(requests.len() >= count, "{} of {count} requests after {deadline:?}", requests.len());
        requests.clone()
    }

    /// Waits until `holds` of the number of open connections.
    #[track_caller]
    pub fn wait_open_connections(&self, deadline: Duration, holds: impl Fn(usize) -> bool) {
        self.shared.open.wait("the origin's open connections", deadline, holds);
    }

    /// Closes the connections that are open now, in order; goes on accepting.
    pub fn close_connections(&self) {
        for socket in self.shared.sockets.lock().unwrap().drain(..).filter_map(|socket| socket.upgrade()) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// Closes everything; from now on connections are refused.
    pub fn stop(self) {}
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        if let Some(listener) = self.shared.listener.lock().unwrap().take() {
            // Wakes the thread that waits in accept(2), which holds the other reference.
            let _ = rustix::net::shutdown(&*listener, rustix::net::Shutdown::Both);
        }
        self.shared
            .closed
            .wait("the origin's listener is closed", super::wait::PATIENCE, |closed| closed == 1);
        self.close_connections();
        if let Target::Unix(path) = &self.target {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Builder {
    /// Sets what answers each request; an error from it closes the connection.
    pub fn answer(
        mut self,
        answer: impl Fn(&Request, &mut Reply<'_>) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        self.on_request = Box::new(answer);
        self
    }

    /// Sets what is called when a request's head is there and its body was not read: it may send an interim
    /// response, wait, or answer at once.
    pub fn on_head(
        mut self,
        on_head: impl Fn(&Request, &mut Reply<'_>) -> io::Result<Next> + Send + Sync + 'static,
    ) -> Self {
        self.on_head = Box::new(on_head);
        self
    }

    /// Keeps no record of the requests, for long loads.
    pub fn forgetful(mut self) -> Self {
        self.recording = false;
        self
    }

    /// Starts it on a port of 127.0.0.1 that the kernel chooses.
    pub fn start(self) -> Origin {
        self.start_at("127.0.0.1:0".parse().unwrap())
    }

    /// Starts it on `address`, for instance on one where another origin stopped.
    pub fn start_at(self, address: SocketAddr) -> Origin {
        let listener = TcpListener::bind(address).unwrap();
        let target = Target::Tcp(listener.local_addr().unwrap());
        self.run(Listener::Tcp(listener), target)
    }

    /// Starts it on a port of 127.0.0.1 that the kernel chooses, to speak TLS. A connection ends without a close_notify
    /// unless the answer [finishes](Reply::finish) it.
    pub fn start_tls(self, config: Arc<rustls::ServerConfig>) -> Origin {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = Target::Tcp(listener.local_addr().unwrap());
        self.run(Listener::Tls(listener, config), target)
    }

    /// Starts it on the Unix socket `path`.
    pub fn start_unix(self, path: &Path) -> Origin {
        self.run(Listener::Unix(UnixListener::bind(path).unwrap()), path.into())
    }

    fn run(self, listener: Listener, target: Target) -> Origin {
        let listener = Arc::new(listener);
        let shared = Arc::new(Shared {
            script: self,
            listener: Mutex::new(Some(listener.clone())),
            stopped: AtomicBool::new(false),
            closed: Count::default(),
            accepted: Count::default(),
            open: Count::default(),
            sockets: Mutex::default(),
            requests: Mutex::default(),
            recorded: Condvar::new(),
        });
        let accepting = shared.clone();
        thread::Builder::new().name("origin".into()).spawn(move || accept(&accepting, listener)).unwrap();
        Origin { target, shared }
    }
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder").finish_non_exhaustive()
    }
}

/// An address on which nobody listens: connections to it are refused.
pub fn refusing() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[derive(Debug)]
struct Shared {
    script: Builder,
    listener: Mutex<Option<Arc<Listener>>>,
    stopped: AtomicBool,
    /// 1 once the accepting thread has dropped the listener.
    closed: Count,
    accepted: Count,
    open: Count,
    /// Weak, so that a connection's own thread alone decides when its descriptor is closed (a reset is one).
    sockets: Mutex<Vec<Weak<Socket>>>,
    requests: Mutex<Vec<Request>>,
    recorded: Condvar,
}

fn echo(request: &Request, reply: &mut Reply<'_>) -> io::Result<()> {
    let mut body = format!("{} {}\n", request.method, request.target).into_bytes();
    body.extend_from_slice(&request.body);
    reply.respond(200, &[("x-origin", "echo")], &body)
}

fn accept(shared: &Arc<Shared>, listener: Arc<Listener>) {
    while let Ok(socket) = listener.accept() {
        if shared.stopped.load(Ordering::SeqCst) {
            break;
        }
        let socket = Arc::new(socket);
        {
            let mut sockets = shared.sockets.lock().unwrap();
            sockets.retain(|socket| socket.strong_count() > 0);
            sockets.push(Arc::downgrade(&socket));
        }
        shared.open.add();
        let connection = shared.accepted.add() - 1;
        let shared = shared.clone();
        let serve = move || {
            // An error is a peer that left or sent nonsense; the tests see it from the other side.
            if let Err(error) = serve(&shared, &socket, connection)
                && error.kind() == io::ErrorKind::InvalidData
            {
                eprintln!("origin: connection {connection}: {error}");
            }
            drop(socket);
            shared.open.subtract();
        };
        thread::Builder::new().name("origin".into()).stack_size(256 << 10).spawn(serve).unwrap();
    }
    shared.listener.lock().unwrap().take();
    drop(listener);
    shared.closed.add();
}

fn serve(shared: &Shared, socket: &Arc<Socket>, connection: usize) -> io::Result<()> {
    // A connection that idles in River's pool is no failure, whatever the time it takes.
    socket.set_read_timeout(Duration::from_secs(600))?;
    let mut reader = Reader::new(ReadHalf(socket.clone()));
    for nth in 0.. {
        let Some(head) = reader.head()? else { break };
        let mut parts = head.start.split(' ');
        let (Some(method), Some(target), Some("HTTP/1.1"), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(wrong(format!("no request line: {:?}", head.start)));
        };
        let mut request = Request {
            connection,
            nth,
            method: method.to_owned(),
            target: target.to_owned(),
            fields: head.fields,
            raw: head.raw,
            ..Request::default()
        };
        let mut reply = Reply::new(socket, &mut reader, &request.method);
        if (shared.script.on_head)(&request, &mut reply)? == Next::Done {
            return Ok(());
        }
        (request.body, request.trailers) = reader.body(request_framing(&request.fields)?)?;
        if shared.script.recording {
            shared.requests.lock().unwrap().push(request.clone());
            shared.recorded.notify_all();
        }
        let mut reply = Reply::new(socket, &mut reader, &request.method);
        (shared.script.on_request)(&request, &mut reply)?;
        if reply.is_over() || request.fields.lists("connection", "close") {
            return Ok(());
        }
    }
    Ok(())
}
