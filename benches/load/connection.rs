//! One connection to the server.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with, sockopt};
use rustls::ClientConnection;

use crate::response::Response;

/// Both directions at once and for good, one event for each change.
const EVENTS: EventFlags =
    EventFlags::IN.union(EventFlags::OUT).union(EventFlags::RDHUP).union(EventFlags::ET);

/// What has come of a connection.
#[derive(Clone, Copy, Default)]
pub(crate) struct Progress {
    /// The response is whole.
    pub(crate) answered: bool,
    /// The server has ended its direction.
    pub(crate) closed: bool,
}

/// A connection, plain or TLS.
pub(crate) struct Connection {
    stream: TcpStream,
    tls: Option<Box<ClientConnection>>,
    /// How much of the request has been sent; nothing is being sent where there is none.
    sent: Option<usize>,
    response: Response,
}

impl Connection {
    /// Begins to connect; epoll reports what comes of it with `token`.
    pub(crate) fn open(
        address: &SocketAddr,
        tls: Option<ClientConnection>,
        epoll: &OwnedFd,
        token: u64,
    ) -> io::Result<Self> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(family, SocketType::STREAM, flags, None)?;
        sockopt::set_tcp_nodelay(&socket, true)?;
        match connect(&socket, address) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        epoll::add(epoll, &socket, EventData::new_u64(token), EVENTS)?;
        let (tls, response) = (tls.map(Box::new), Response::default());
        Ok(Self { stream: socket.into(), tls, sent: None, response })
    }

    /// Begins to send `request`.
    pub(crate) fn ask(&mut self, request: &[u8]) -> io::Result<()> {
        self.response.clear();
        self.sent = Some(0);
        if let Some(tls) = &mut self.tls {
            // Kept until the handshake is done.
            tls.writer().write_all(request)?;
        }
        self.send(request)
    }

    /// Sends and takes what can be sent and taken. `scratch` is what is read into.
    pub(crate) fn drive(&mut self, request: &[u8], scratch: &mut [u8]) -> io::Result<Progress> {
        self.send(request)?;
        let progress = self.receive(scratch)?;
        // What the handshake has to say to what has come.
        self.send(request)?;
        Ok(progress)
    }

    fn send(&mut self, request: &[u8]) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            while tls.wants_write() {
                match tls.write_tls(&mut self.stream) {
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                }
            }
            return Ok(());
        }
        while let Some(rest) = self.sent.and_then(|sent| request.get(sent..)).filter(|rest| !rest.is_empty())
        {
            match self.stream.write(rest) {
                Ok(count) => self.sent = self.sent.map(|sent| sent + count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn receive(&mut self, scratch: &mut [u8]) -> io::Result<Progress> {
        let mut progress = Progress::default();
        let secret = self.tls.is_some();
        loop {
            let source: &mut dyn Read = match &mut self.tls {
                None => &mut self.stream,
                Some(tls) => match tls.read_tls(&mut self.stream) {
                    Ok(0) => return Ok(Progress { closed: true, ..progress }),
                    Ok(_) => {
                        tls.process_new_packets().map_err(io::Error::other)?;
                        &mut tls.reader()
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(progress),
                    Err(error) => return Err(error),
                },
            };
            loop {
                match source.read(scratch) {
                    // Over TLS this is a `close_notify`, and the end of the stream is still to come.
                    Ok(0) if secret => break,
                    Ok(0) => return Ok(Progress { closed: true, ..progress }),
                    Ok(count) => {
                        let whole = self.response.take(scratch.get(..count).unwrap_or_default());
                        progress.answered |= whole.map_err(io::Error::other)?;
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                }
            }
            if !secret {
                return Ok(progress);
            }
        }
    }
}
