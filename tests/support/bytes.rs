//! A server that knows no protocol: each connection is a thread that does as it is told.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::socket::{Listener, Socket};
use super::wait::Count;

/// A running server. Dropped, it refuses connections; those that are open go on.
#[derive(Debug)]
pub struct BytesOrigin {
    address: SocketAddr,
    listener: Arc<Listener>,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stopped: AtomicBool,
    accepted: Count,
    open: Count,
}

impl BytesOrigin {
    /// Serves each connection with `serve`, which owns it; an error ends it like any other end.
    pub fn with(serve: impl Fn(Arc<Socket>) -> io::Result<()> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let listener = Arc::new(Listener::Tcp(listener));
        let (shared, serve) = (Arc::new(Shared::default()), Arc::new(serve));
        let (from, counts) = (listener.clone(), shared.clone());
        let accepting = thread::spawn(move || {
            while let Ok(socket) = from.accept()
                && !counts.stopped.load(Ordering::SeqCst)
            {
                counts.accepted.add();
                counts.open.add();
                let (serve, counts) = (serve.clone(), counts.clone());
                thread::spawn(move || {
                    let socket = Arc::new(socket);
                    socket.set_read_timeout(Duration::from_secs(600)).unwrap();
                    let _ = serve(socket);
                    counts.open.subtract();
                });
            }
        });
        Self { address, listener, shared, accepting: Some(accepting) }
    }

    /// Says `name`, then sends back what comes, until the client ends.
    pub fn named(name: &'static str) -> Self {
        Self::with(move |socket| {
            (&*socket).write_all(name.as_bytes())?;
            echo(&socket)
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections it accepted.
    pub fn connections(&self) -> usize {
        self.shared.accepted.now()
    }

    /// Waits until `holds` of the number of open connections.
    #[track_caller]
    pub fn wait_open(&self, holds: impl Fn(usize) -> bool) {
        self.shared.open.wait("the server's open connections", super::wait::PATIENCE, holds);
    }
}

impl Drop for BytesOrigin {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // Wakes the thread that waits in accept(2).
        let _ = rustix::net::shutdown(&*self.listener, rustix::net::Shutdown::Both);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

/// Sends back what comes, until the peer ends; then ends too.
pub fn echo(socket: &Socket) -> io::Result<()> {
    let (mut from, mut to) = (socket, socket);
    let mut bytes = vec![0; 64 << 10];
    loop {
        match from.read(&mut bytes)? {
            0 => return socket.shutdown(Shutdown::Write),
            count => to.write_all(&bytes[..count])?,
        }
    }
}

/// The settings of a tcp service in front of `servers`.
pub fn tcp(servers: &[SocketAddr]) -> String {
    let servers: Vec<String> = servers.iter().map(|server| format!("(addr: \"{server}\")")).collect();
    format!("tcp: (servers: [{}])", servers.join(", "))
}
