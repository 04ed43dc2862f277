//! What is taken from another instance, and what is declined.

use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use super::*;
use crate::base::{Held, MAX_HELD, Moved, MovedState, MovedTunnel};

/// A connection to nobody in particular: the client's end, and the end that is passed on.
fn pair() -> (Client, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (Client::new(client), listener.accept().unwrap().0)
}

fn idle_from(door: &Door, client: &Client) -> Moved {
    let peer = client.stream.local_addr().ok();
    Moved { listener: door.spec.id.clone(), peer, requests: 7, state: MovedState::Idle, spare: None }
}

fn tunnel_from(door: &Door, client: &Client, to_server: Held, to_client: Held) -> Moved {
    let (server, request) = ("one:80".to_owned(), "GET / HTTP/1.1".to_owned());
    let state = MovedState::Tunnel(MovedTunnel { server, request, to_server, to_client });
    Moved { state, ..idle_from(door, client) }
}

#[test]
fn an_admitted_connection_counts_before_it_is_served_and_gives_its_place_back() {
    let door = Door::new();
    let mut service = answers("new");
    service.limits.max_connections = 2;
    let mut fleet = door.fleet(service, true);
    // A socket that blocks is made one that does not.
    let (mut client, passed) = pair();
    let admission = fleet.admit(idle_from(&door, &client), vec![passed.into()]).unwrap();
    assert_eq!(fleet.connections(), 1);
    let (mut second, passed) = pair();
    let second_admission = fleet.admit(idle_from(&door, &second), vec![passed.into()]).unwrap();
    let (third, passed) = pair();
    let why = fleet.admit(idle_from(&door, &third), vec![passed.into()]).unwrap_err();
    assert!(why.contains("limits.max_connections"), "{why}");
    // Who is accepted counts by the same limit, and waits until there is room again.
    let mut accepted = door.connect();
    accepted.send(request("/"));
    drop(second_admission);
    assert!(second.has_ended());
    assert_eq!(accepted.answer(), Answer::keeps("new"));
    assert_eq!(fleet.connections(), 2);
    client.send(request("/"));
    admission.serve();
    assert_eq!(client.answer(), Answer::keeps("new"));
    drop((client, accepted));
    idle(&mut fleet);
}

#[test]
fn admitted_connections_are_spread_over_the_workers() {
    let door = Door::new();
    let fleet = door.fleet(answers("new"), false);
    let clients: Vec<_> = (0..100)
        .map(|_| {
            let (client, passed) = pair();
            fleet.admit(idle_from(&door, &client), vec![passed.into()]).unwrap().serve();
            client
        })
        .collect();
    assert_eq!(fleet.load.per_worker(), [50, 50]);
    drop(clients);
}

#[test]
fn what_is_not_as_it_is_said_to_be_is_declined() {
    let door = Door::new();
    let fleet = door.fleet(answers("new"), false);
    let declined = |moved: Moved, fds: Vec<OwnedFd>, expected: &str| {
        let why = fleet.admit(moved, fds).unwrap_err();
        assert!(why.contains(expected), "{why} and not {expected}");
    };
    let (client, passed) = pair();
    let one = || OwnedFd::from(passed.try_clone().unwrap());
    let idle = || idle_from(&door, &client);
    let unknown = ListenerId::fixed(&Address::Tcp("127.0.0.1:1".parse().unwrap()));
    declined(Moved { listener: unknown, ..idle() }, vec![one()], "there is no listener 127.0.0.1:1");
    declined(idle(), vec![], "0 sockets");
    declined(idle(), vec![one(), one()], "2 sockets");
    declined(Moved { peer: "127.0.0.1:1".parse().ok(), ..idle() }, vec![one()], "somebody else");
    declined(Moved { peer: None, ..idle() }, vec![one()], "somebody else");
    let (unix, _far) = UnixStream::pair().unwrap();
    declined(idle(), vec![unix.into()], "somebody else");
    declined(idle(), vec![tempfile::tempfile().unwrap().into()], "no usable socket");
    declined(idle(), vec![UdpSocket::bind("127.0.0.1:0").unwrap().into()], "no TCP or Unix stream");
    declined(idle(), vec![TcpListener::bind("127.0.0.1:0").unwrap().into()], "listens");
    let tunnel = || tunnel_from(&door, &client, Held::default(), Held::default());
    declined(tunnel(), vec![one()], "1 sockets");
    declined(tunnel(), vec![one(), TcpListener::bind("127.0.0.1:0").unwrap().into()], "the server's");
    let (lost, reset) = pair();
    let moved = idle_from(&door, &lost);
    lost.reset(&reset);
    until("it is not reset", || reset.peer_addr().is_err());
    declined(moved, vec![reset.into()], "not connected");
    let much = || Held { bytes: vec![0; MAX_HELD + 1], ended: false };
    for (up, down) in [(much(), Held::default()), (Held::default(), much())] {
        declined(tunnel_from(&door, &client, up, down), vec![one(), one()], "holds more");
    }
    assert_eq!(fleet.connections(), 0);
    // The same socket as it is.
    fleet.admit(idle(), vec![one()]).unwrap();
}

#[test]
fn a_connection_that_is_declined_is_closed_in_order_by_who_has_it() {
    let (door, other_door) = (Door::new(), Door::at(&Address::Tcp("127.0.0.2:0".parse().unwrap())));
    let mut full = answers("new");
    full.limits.max_connections = 1;
    let full = door.fleet(full, false);
    let (guest, passed) = pair();
    let admission = full.admit(idle_from(&door, &guest), vec![passed.into()]).unwrap();
    let elsewhere = other_door.fleet(answers("new"), false);
    for (to, why) in [(&full, "max_connections"), (&elsewhere, "there is no listener")] {
        let mut old = door.fleet(answers("old"), true);
        let mut client = door.connect();
        assert_eq!(client.get("/"), Answer::keeps("old"));
        old.leave(Leave::Move);
        let refusal = carry(departure(&mut old), to).unwrap_err();
        assert!(refusal.contains(why), "{refusal}");
        assert_eq!(client.get("/"), Answer::closes("old"));
        assert!(client.has_ended());
        idle(&mut old);
    }
    drop(admission);
    assert_eq!((full.connections(), elsewhere.connections()), (0, 0));
}

#[test]
fn a_fleet_that_does_not_run_admits_nobody() {
    let door = Door::new();
    let size = NonZeroUsize::new(2).unwrap();
    let fleet = Fleet::new(size, vec![Arc::new(answers("new"))], std::slice::from_ref(&door.spec));
    let (client, passed) = pair();
    assert!(fleet.admit(idle_from(&door, &client), vec![passed.into()]).is_err());
}

#[test]
fn a_tunnel_sends_what_it_came_with_and_then_the_end() {
    let door = Door::new();
    let mut fleet = door.fleet(answers("new"), false);
    let bytes = |seed: u8| -> Vec<u8> { (0..MAX_HELD).map(|i| seed.wrapping_add(i as u8)).collect() };
    for (up_ended, down_ended) in [(false, false), (true, false), (false, true), (true, true)] {
        let ((mut client, at_client), (mut server, at_server)) = (pair(), pair());
        let up = Held { bytes: bytes(1), ended: up_ended };
        let down = Held { bytes: bytes(2), ended: down_ended };
        let moved = tunnel_from(&door, &client, up, down);
        fleet.admit(moved, vec![at_client.into(), at_server.into()]).unwrap().serve();
        assert!(server.bytes(MAX_HELD) == bytes(1) && client.bytes(MAX_HELD) == bytes(2));
        let mut pass_end = |ended: bool, upward: bool| {
            let (from, to) = if upward { (&mut client, &mut server) } else { (&mut server, &mut client) };
            if !ended {
                from.send("more");
                assert_eq!(to.bytes(4), b"more");
                from.stream.shutdown(std::net::Shutdown::Write).unwrap();
            }
            assert!(to.has_ended());
        };
        pass_end(up_ended, true);
        pass_end(down_ended, false);
        idle(&mut fleet);
        assert_eq!(fleet.tunnels(), 0);
    }
}
