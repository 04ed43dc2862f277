//! Incumbents that lie to their successor: whatever comes instead of the listeners that were announced, the successor
//! refuses it by name, ends, and touches neither pidfile nor upgrade socket.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::sync::Arc;

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};
use support::config::respond;
use support::peer::{Desk, Peer, label};
use support::*;

/// The listener of [`Config::respond`].
const WEB: &str = "127.0.0.1:0#web.0";

/// A successor that waits, with the test as the instance in service.
struct Deceived {
    dir: Arc<Dir>,
    _desk: Desk,
    peer: Peer,
    successor: Running,
}

impl Deceived {
    /// One that has a listener on any port, is offered `ids`, and is started by a shell that runs `prelude` first.
    #[track_caller]
    fn start(ids: &[&str], prelude: &str) -> Self {
        Self::configured(Config::respond("new"), ids, prelude)
    }

    #[track_caller]
    fn configured(config: Config, ids: &[&str], prelude: &str) -> Self {
        let dir = Dir::new();
        let desk = Desk::open(&dir.upgrade_socket());
        let successor = River::in_dir(dir.clone()).config(config).after(prelude).upgrade().start();
        let peer = desk.welcome_in(2, ids);
        peer.expect("Waiting");
        Self { dir, _desk: desk, peer, successor }
    }

    /// It says no, says `why`, ends with `code`, and has changed nothing.
    #[track_caller]
    fn expect_refusal(self, why: &str, code: i32) {
        let inode = || self.dir.upgrade_socket().metadata().unwrap().ino();
        let before = inode();
        assert_eq!(self.successor.wait_exit(PATIENCE).code(), Some(code), "{why}");
        self.successor.wait_for_line(why, PATIENCE);
        self.peer.expect("Refuse");
        self.peer.expect_closed();
        assert_eq!(inode(), before);
        assert_eq!(self.dir.names(), ["river.ron", "upgrade.sock"]);
        assert_eq!(self.successor.states().last().map(String::as_str), Some("Exited"));
        assert!(!self.successor.states().contains(&"Serving".to_owned()));
    }
}

/// An offer of one batch with these labels and descriptors.
#[track_caller]
fn offer(peer: &Peer, labels: &[String], fds: &[BorrowedFd<'_>]) {
    peer.send_with(&format!("Offer(batch:0,of:1,labels:[{}])", labels.join(",")), fds);
}

#[test]
fn row_05_a_descriptor_that_is_not_the_listener_it_is_said_to_be_is_refused() {
    let dir = Dir::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let connected = TcpStream::connect(address).unwrap();
    let accepted = listener.accept().unwrap().0;
    let idle = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    bind(&idle, &"127.0.0.1:0".parse::<SocketAddr>().unwrap()).unwrap();
    let idle_address = TcpListener::from(idle.try_clone().unwrap()).local_addr().unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let everywhere = TcpListener::bind("0.0.0.0:0").unwrap();
    let unix = UnixListener::bind(dir.join("a.sock")).unwrap();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let (reader, _writer) = io::pipe().unwrap();
    let directory = File::open("/").unwrap();
    let cases: [(&str, SocketAddr, OwnedFd, &str); 10] = [
        ("a file", address, File::open("/dev/null").unwrap().into(), "is no usable socket"),
        ("a pipe", address, reader.into(), "is no usable socket"),
        ("a directory", address, directory.into(), "is no usable socket"),
        ("a UDP socket", udp.local_addr().unwrap(), udp.into(), "is no stream socket"),
        ("a connected socket", connected.local_addr().unwrap(), connected.into(), "does not listen"),
        ("an accepted socket", address, accepted.into(), "does not listen"),
        ("a socket that does not listen", idle_address, idle, "does not listen"),
        ("a Unix listener", address, unix.into(), "is of another family"),
        ("a listener on another port", address, other.into(), "is bound to"),
        ("a listener on all addresses", everywhere.local_addr().unwrap(), everywhere.into(), "is bound to"),
    ];
    for (what, said, fd, why) in cases {
        eprintln!("{what}");
        let deceived = Deceived::start(&[WEB], "true");
        offer(&deceived.peer, &[label(WEB, said)], &[fd.as_fd()]);
        deceived.expect_refusal(&format!("passed as {WEB} {why}"), 70);
    }
}

#[test]
fn row_05_a_listener_on_a_port_that_the_configuration_does_not_name_is_refused() {
    let [free, other] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let bind = free.local_addr().unwrap().to_string();
    drop(free);
    let address = other.local_addr().unwrap();
    // Said to be what it is, and said to be what is wanted.
    for said in [address, bind.parse().unwrap()] {
        let config = Config::new().service("web", &[&bind], &respond("new"));
        let deceived = Deceived::configured(config, &[&bind], "true");
        offer(&deceived.peer, &[label(&bind, said)], &[other.as_fd()]);
        deceived.expect_refusal(&format!("the socket passed as {bind} is bound to {address}"), 70);
    }
}

#[test]
fn row_05_what_was_announced_and_what_comes_have_to_agree() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (one, fd) = (label(WEB, address), listener.as_fd());

    let nothing = Deceived::start(&[WEB], "true");
    offer(&nothing.peer, &[], &[]);
    nothing.peer.expect("Adopted");
    nothing.expect_refusal("was announced, but not offered", 70);

    let twice = Deceived::start(&[WEB], "true");
    offer(&twice.peer, &[one.clone(), one.clone()], &[fd, fd]);
    twice.expect_refusal("was offered twice", 70);

    // Not announced, so it is bound already.
    let unannounced = Deceived::start(&[], "true");
    offer(&unannounced.peer, std::slice::from_ref(&one), &[fd]);
    unannounced.expect_refusal("was offered twice", 70);

    let without = Deceived::start(&[WEB], "true");
    offer(&without.peer, std::slice::from_ref(&one), &[]);
    without.expect_refusal("0 descriptors came for 1 listeners", 70);

    let more = Deceived::start(&[WEB], "true");
    offer(&more.peer, &[one], &[fd, fd]);
    more.expect_refusal("2 descriptors came for 1 listeners", 70);
}

#[test]
fn row_05_a_full_batch_of_what_is_no_listener_is_refused() {
    let ids: Vec<String> = (0..253).map(|nth| format!("127.0.0.1:0#web.{nth}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let address = "127.0.0.1:9".parse().unwrap();
    let labels: Vec<String> = ids.iter().map(|id| label(id, address)).collect();
    let binds = vec!["127.0.0.1:0"; 253];
    let file = File::open("/dev/null").unwrap();
    let deceived = Deceived::configured(Config::new().service("web", &binds, &respond("new")), &ids, "true");
    let message = format!("river-handoff/1\nOffer(batch:0,of:1,labels:[{}])", labels.join(","));
    let one_more = deceived.peer.try_send_raw(message.as_bytes(), &[file.as_fd(); 254]);
    assert_eq!(one_more, Err(rustix::io::Errno::INVAL), "the kernel takes 254 descriptors");
    deceived.peer.send_raw(message.as_bytes(), &[file.as_fd(); 253]);
    deceived.expect_refusal("is no usable socket", 70);
}

#[test]
fn row_05_descriptors_that_the_kernel_cut_off_are_refused_and_the_incumbent_serves_on() {
    let binds = vec!["127.0.0.1:0"; 120];
    let old = River::with_config(Config::new().service("web", &binds, &respond("here"))).serve();
    let small = old.successor().after("ulimit -n 60").start();
    small.wait_state("AwaitingHandoff");
    old.signal(Signal::QUIT);
    assert_eq!(small.wait_exit(PATIENCE).code(), Some(70));
    small.wait_for_line("the kernel cut off descriptors of the message", PATIENCE);
    old.wait_state_again("Serving", 2);
    assert!(old.why("Serving").unwrap().contains("cut off"), "{:?}", old.why("Serving"));
    assert_eq!(old.dir().pid(), Some(old.pid()));
    for nth in 0..120 {
        assert_eq!(get(old.address("web", nth), "/").text(), "here");
    }
    let new = upgrade(&old);
    assert_eq!(get(new.address("web", 119), "/").text(), "here");
}

#[test]
fn row_05_what_an_incumbent_says_out_of_order_ends_the_wait() {
    let strays: [(&[u8], &str); 7] = [
        (b"river-handoff/1\nCommit", "sent Commit where Offer was awaited"),
        (b"river-handoff/1\nDrained", "sent Drained where Offer was awaited"),
        (b"river-handoff/1\nWaiting", "sent Waiting where Offer was awaited"),
        (b"river-handoff/1\nOffer(batch:1,of:2,labels:[])", "sent Offer where Offer was awaited"),
        (b"river-handoff/1\nOffer(batch:0,of:0,labels:[])", "sent Offer where Offer was awaited"),
        (b"GET / HTTP/1.1\r\n\r\n", "not of a form that this build knows"),
        (&[b'x'; 130 << 10], "longer than any that River sends"),
    ];
    for (stray, why) in strays {
        let deceived = Deceived::start(&[WEB], "true");
        deceived.peer.send_raw(stray, &[]);
        deceived.expect_refusal(why, 70);
    }
}

#[test]
fn row_05_an_incumbent_that_never_offers_the_rest_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let config = Config::respond("new").handoff("ready_timeout: \"300ms\"");
    let deceived = Deceived::configured(config, &[WEB], "true");
    let text = format!("Offer(batch:0,of:2,labels:[{}])", label(WEB, address));
    deceived.peer.send_with(&text, &[listener.as_fd()]);
    deceived.peer.expect("Adopted");
    deceived.expect_refusal("timed out waiting for Offer", 75);
}
