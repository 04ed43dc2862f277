//! The other side of a hand-over, played by the test: it can leave out steps, stop half-way, and lie.
//!
//! It writes and reads the protocol as text and shares no code with River, so that a change to what goes over the
//! wire, which another build may be at the other end of, does not go unnoticed.

use std::fs::{self, Permissions};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout, socket_peercred};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect,
    listen, recvmsg, sendmsg, socket_with,
};

use super::config::Config;
use super::river::{Dir, River, Running};
use super::wait::PATIENCE;

/// What every message begins with.
const MAGIC: &str = "river-handoff/1\n";

/// One end of a hand-over's connection.
#[derive(Debug)]
pub struct Peer(OwnedFd);

/// A message as it came.
#[derive(Debug)]
pub struct Message {
    /// Its text, without what every message begins with.
    pub text: String,
    /// The descriptors that came with it.
    pub fds: Vec<OwnedFd>,
}

impl Peer {
    /// Connects to the upgrade socket at `path`, as a successor does.
    #[track_caller]
    pub fn connect(path: &Path) -> Self {
        Self::try_connect(path).unwrap()
    }

    /// Connects to the upgrade socket at `path`, if the kernel lets it.
    pub fn try_connect(path: &Path) -> Result<Self, Errno> {
        let fd = seqpacket();
        connect(&fd, &SocketAddrUnix::new(path).unwrap())?;
        Ok(Self::new(fd))
    }

    /// Connects and says hello with the given protocol versions, as a successor does.
    #[track_caller]
    pub fn hello(path: &Path, versions: &str) -> Self {
        let peer = Self::connect(path);
        peer.send(&format!("Hello(versions:{versions},pid:{},build:\"a test\")", std::process::id()));
        peer
    }

    /// Sends a message.
    #[track_caller]
    pub fn send(&self, text: &str) {
        self.send_with(text, &[]);
    }

    /// Sends a message with descriptors.
    #[track_caller]
    pub fn send_with(&self, text: &str, fds: &[BorrowedFd<'_>]) {
        self.send_raw(format!("{MAGIC}{text}").as_bytes(), fds);
    }

    /// Sends a datagram as it is.
    #[track_caller]
    pub fn send_raw(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) {
        self.try_send_raw(bytes, fds).unwrap();
    }

    /// Sends a datagram as it is, if the kernel takes it.
    pub fn try_send_raw(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
        // Room for more than the kernel takes, so that it is the kernel that refuses.
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(300))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(fds.is_empty() || control.push(SendAncillaryMessage::ScmRights(fds)));
        sendmsg(&self.0, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL).map(drop)
    }

    /// Receives the next message; `None` at the end.
    #[track_caller]
    pub fn receive(&self) -> Option<Message> {
        let mut buffer = vec![0; 256 << 10];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut into = [IoSliceMut::new(&mut buffer)];
        let received = match recvmsg(&self.0, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::CONNRESET) => return None,
            // This process was stopped and goes on.
            Err(Errno::INTR) => return self.receive(),
            Err(Errno::AGAIN) => panic!("no message within {PATIENCE:?}"),
            other => other.unwrap().bytes,
        };
        let mut fds = Vec::new();
        for part in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = part {
                fds.extend(rights);
            }
        }
        if received == 0 {
            return None;
        }
        let text = String::from_utf8_lossy(&buffer[..received]).into_owned();
        let text = text.strip_prefix(MAGIC).unwrap_or_else(|| panic!("a foreign message: {text}")).to_owned();
        Some(Message { text, fds })
    }

    /// Receives the next message, waiting for it so long; `None` at the end.
    #[track_caller]
    pub fn receive_within(&self, patience: Duration) -> Option<Message> {
        set_socket_timeout(&self.0, Timeout::Recv, Some(patience)).unwrap();
        self.receive()
    }

    /// Receives the next message, which must have this name.
    #[track_caller]
    pub fn expect(&self, name: &str) -> Message {
        let message = self.receive().unwrap_or_else(|| panic!("the end instead of {name}"));
        let got = message.text.split('(').next().unwrap_or_default();
        assert_eq!(got, name, "{}", message.text);
        message
    }

    /// Waits for the other side to close; what it says before is skipped.
    #[track_caller]
    pub fn expect_closed(&self) {
        while self.receive().is_some() {}
    }

    /// As a successor, after [`Peer::hello`]: waits until it may wait.
    #[track_caller]
    pub fn expect_welcome(&self) {
        self.expect("Welcome");
        while self.expect("Inventory").text.contains("more:true") {}
    }

    /// As a successor of protocol version 2, after [`Peer::hello`]: says that it waits.
    #[track_caller]
    pub fn wait(&self) {
        self.expect_welcome();
        self.send("Waiting");
    }

    /// As a successor: takes all batches; returns the descriptors, which this process then shares.
    #[track_caller]
    pub fn adopt_all(&self) -> Vec<OwnedFd> {
        let mut fds = Vec::new();
        for batch in 0.. {
            let offer = self.expect("Offer");
            fds.extend(offer.fds);
            self.send(&format!("Adopted(batch:{batch},unwanted:[])"));
            let of = offer.text.split("of:").nth(1).and_then(|rest| rest.split(',').next());
            if of.and_then(|of| of.parse::<u32>().ok()).unwrap() == batch + 1 {
                break;
            }
        }
        fds
    }

    fn new(fd: OwnedFd) -> Self {
        set_socket_timeout(&fd, Timeout::Recv, Some(PATIENCE)).unwrap();
        Self(fd)
    }
}

/// An upgrade socket at which the test is the instance in service.
#[derive(Debug)]
pub struct Desk(OwnedFd);

impl Desk {
    /// Listens at `path`.
    #[track_caller]
    pub fn open(path: &Path) -> Self {
        let fd = seqpacket();
        bind(&fd, &SocketAddrUnix::new(path).unwrap()).unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
        listen(&fd, 8).unwrap();
        set_socket_timeout(&fd, Timeout::Recv, Some(PATIENCE)).unwrap();
        Self(fd)
    }

    /// Waits for a connection.
    #[track_caller]
    pub fn accept(&self) -> Peer {
        Peer::new(accept_with(&self.0, SocketFlags::CLOEXEC).unwrap())
    }

    /// Waits for a successor and for its `Hello`.
    #[track_caller]
    pub fn greet(&self) -> Peer {
        let peer = self.accept();
        peer.expect("Hello");
        peer
    }

    /// Waits for a successor and lets it wait for the listeners `ids`, in version 1 of the protocol.
    #[track_caller]
    pub fn welcome(&self, ids: &[&str]) -> Peer {
        self.welcome_in(1, ids)
    }

    /// As [`Desk::welcome`], in any version of the protocol.
    #[track_caller]
    pub fn welcome_in(&self, version: u32, ids: &[&str]) -> Peer {
        let peer = self.greet();
        let pid = std::process::id();
        peer.send(&format!("Welcome(version:{version},pid:{pid},build:\"a test\",generation:1)"));
        let ids: Vec<String> = ids.iter().map(|id| format!("({id:?})")).collect();
        peer.send(&format!("Inventory(ids:[{}],more:false)", ids.join(",")));
        peer
    }
}

/// The offer of one batch that holds `listener` under the name `id`.
#[track_caller]
pub fn offer(peer: &Peer, id: &str, listener: &TcpListener, batch: u32, of: u32) {
    let label = label(id, listener.local_addr().unwrap());
    peer.send_with(&format!("Offer(batch:{batch},of:{of},labels:[{label}])"), &[listener.as_fd()]);
}

/// A successor with one listener, `web`, that was given this one and is ready to serve beside the test, which is the
/// instance in service: where it runs, its upgrade socket, and the hand-over's connection.
#[track_caller]
pub fn ready_beside(listener: &TcpListener, config: Config) -> (Arc<Dir>, Desk, Peer, Running) {
    const WEB: &str = "127.0.0.1:0#web.0";
    let dir = Dir::new();
    let desk = Desk::open(&dir.upgrade_socket());
    let successor = River::in_dir(dir.clone()).config(config).upgrade().start();
    let peer = desk.welcome(&[WEB]);
    successor.wait_state("AwaitingHandoff");
    offer(&peer, WEB, listener, 0, 1);
    peer.expect("Adopted");
    peer.expect("Ready");
    (dir, desk, peer, successor)
}

/// What an offer says of a TCP listener.
pub fn label(id: &str, address: SocketAddr) -> String {
    format!("(id:({id:?}),address:Tcp(\"{address}\"))")
}

/// The process that listens on the upgrade socket at `path`, if one does.
pub fn owner(path: &Path) -> Option<u32> {
    let fd = seqpacket();
    connect(&fd, &SocketAddrUnix::new(path).unwrap()).ok()?;
    socket_peercred(&fd).ok()?.pid.as_raw_nonzero().get().try_into().ok()
}

fn seqpacket() -> OwnedFd {
    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
}
