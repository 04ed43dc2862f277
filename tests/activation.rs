//! Socket activation: listeners that the service manager opened, beside those that River binds and inherits.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};

use support::config::respond;
use support::*;

fn socket() -> (OwnedFd, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener.into(), address)
}

fn web(listeners: &str) -> Config {
    Config::new().service_text("web", &format!("listeners: [{listeners}], {}", respond("here")))
}

#[test]
fn a_socket_is_taken_by_its_address_and_inherited_like_any() {
    let (passed, address) = socket();
    let config = web(&format!("(bind: \"{address}\"), (bind: \"127.0.0.1:0\")"));
    let river = River::with_config(config).start_activated(vec![passed], "");
    river.wait_serving();
    let origins: Vec<String> = river.listeners().into_iter().map(|one| one.origin).collect();
    assert_eq!(origins, ["activated", "fresh"]);
    assert_eq!(get(address, "/").text(), "here");
    let new = upgrade(&river);
    let origins: Vec<String> = new.listeners().into_iter().map(|one| one.origin).collect();
    assert_eq!(origins, ["inherited", "inherited"]);
    assert_eq!(get(address, "/").text(), "here");
    new.signal(Signal::TERM);
    assert!(new.wait_exit(PATIENCE).success());
    until("nobody listens", PATIENCE, || TcpStream::connect(address).is_err());
}

#[test]
fn names_tell_sockets_apart_whose_ports_the_configuration_does_not_know() {
    let ((web, web_at), (admin, admin_at)) = (socket(), socket());
    let config = Config::new()
        .service_text(
            "web",
            &format!("listeners: [(bind: \"127.0.0.1:0\", activation: \"web\")], {}", respond("web")),
        )
        .service_text(
            "admin",
            &format!("listeners: [(bind: \"127.0.0.1:0\", activation: \"admin\")], {}", respond("admin")),
        );
    let river = River::with_config(config).start_activated(vec![admin, web], "admin:web");
    river.wait_serving();
    assert_eq!((river.address("web", 0), river.address("admin", 0)), (web_at, admin_at));
    let new = upgrade(&river);
    assert_eq!((get(web_at, "/").text(), get(admin_at, "/").text()), ("web".into(), "admin".into()));
    assert_eq!((new.address("web", 0), new.address("admin", 0)), (web_at, admin_at));
}

#[test]
fn what_belongs_to_no_listener_is_closed_with_a_warning() {
    let ((stranger, address), udp) = (socket(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let river = River::with_config(web("(bind: \"127.0.0.1:0\")"))
        .start_activated(vec![stranger, udp.into()], "old:syslog");
    river.wait_serving();
    let line = river.wait_line_after(0, "belongs to no listener");
    assert!(line.text.contains(&address.to_string()), "{}", line.text);
    river.wait_line_after(0, "(syslog) that the service manager passed is no stream socket");
    assert!(TcpStream::connect(address).is_err());
    assert_eq!(river.listener("web", 0).origin, "fresh");
    assert_eq!(get(river.web(), "/").text(), "here");
}

#[test]
fn a_socket_of_the_name_at_another_address_is_refused() {
    let (passed, address) = socket();
    let config = web("(bind: \"127.0.0.2:0\", activation: \"web\")");
    let river = River::with_config(config).start_activated(vec![passed], "web");
    assert_eq!(river.wait_exit(PATIENCE).code(), Some(69));
    river.wait_line_after(0, &format!("is bound to {address}, but the configuration says 127.0.0.2:0"));
}

#[test]
fn the_manager_s_path_is_left_to_the_manager() {
    let dir = Dir::new();
    let path = dir.join("web.sock");
    let passed = UnixListener::bind(&path).unwrap();
    let config = web("(bind: \"unix:web.sock\")");
    let river = River::in_dir(dir.clone()).config(config).start_activated(vec![passed.into()], "");
    river.wait_serving();
    assert_eq!(river.listener("web", 0).origin, "activated");
    let new = upgrade(&river);
    UnixStream::connect(&path).unwrap();
    new.signal(Signal::TERM);
    assert!(new.wait_exit(PATIENCE).success());
    assert!(new.log().lines().iter().all(|line| !line.text.contains("path is lost")));
    assert!(path.exists());
}

#[test]
fn variables_that_were_meant_for_another_process_are_not_followed() {
    for pid in ["1", "", "x"] {
        let river = River::with_config(web("(bind: \"127.0.0.1:0\")"))
            .env("LISTEN_FDS", "3")
            .env("LISTEN_PID", pid)
            .serve();
        assert_eq!(river.listener("web", 0).origin, "fresh");
        assert_eq!(get(river.web(), "/").text(), "here");
    }
}

#[test]
fn more_sockets_than_are_taken_are_closed_with_a_warning() {
    let (passed, address) = socket();
    let river = River::with_config(web("(bind: \"127.0.0.1:0\")"));
    let river = river.start_activated_as(vec![passed], "", "LISTEN_FDS=5000");
    river.wait_serving();
    river.wait_line_after(0, "LISTEN_FDS says 5000; at most 4096 sockets are taken");
    // What the test's own starter left open is closed too.
    assert!(TcpStream::connect(address).is_err());
    assert_eq!(river.listener("web", 0).origin, "fresh");
    assert_eq!(get(river.web(), "/").text(), "here");
}

#[test]
fn a_number_of_sockets_that_are_not_there_takes_nothing_of_river_s_own() {
    let river =
        River::with_config(web("(bind: \"127.0.0.1:0\")")).after("export LISTEN_PID=$$ LISTEN_FDS=9").serve();
    river.wait_line_after(0, "that the service manager passed");
    assert_eq!(get(river.web(), "/").text(), "here");
    let new = upgrade(&river);
    assert_eq!(get(new.web(), "/").text(), "here");
}
