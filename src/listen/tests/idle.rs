//! Connections that wait for a request.

use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;

use super::*;
use crate::base::MovedState;
use crate::listen::WINDOW;

#[test]
fn an_idle_connection_departs_and_is_answered_by_the_other_fleet() {
    let door = Door::new();
    let (mut old, new) = (door.fleet(answers("old"), true), door.fleet(answers("new"), false));
    let mut client = door.connect();
    assert_eq!(client.get("/"), Answer::keeps("old"));
    assert_eq!(client.get("/"), Answer::keeps("old"));
    old.leave(Leave::Move);
    let departure = departure(&mut old);
    let moved = departure.moved();
    assert_eq!((moved.requests, &moved.listener), (2, &door.spec.id));
    assert_eq!((moved.peer, &moved.state), (client.stream.local_addr().ok(), &MovedState::Idle));
    // It counts until it is settled.
    assert_eq!((old.connections(), new.connections()), (1, 0));
    carry(departure, &new).unwrap();
    assert_eq!(new.connections(), 1);
    idle(&mut old);
    assert_eq!(client.get("/"), Answer::keeps("new"));
    drop(old);
    assert_eq!(client.get("/"), Answer::keeps("new"));
}

#[test]
fn an_idle_connection_to_the_server_goes_along() {
    let connections = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&connections);
    let origin = origin(move |mut client| {
        counter.fetch_add(1, Ordering::SeqCst);
        while !client.has_ended() {
            client.head();
            client.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let door = Door::new();
    let (mut old, new) = (door.fleet(forwards(origin), true), door.fleet(forwards(origin), false));
    let mut client = door.connect();
    assert_eq!(client.get("/"), Answer::keeps("ok"));
    old.leave(Leave::Move);
    let departure = departure(&mut old);
    assert_eq!((departure.moved().spare, departure.fds().len()), (Some(1), 2));
    carry(departure, &new).unwrap();
    idle(&mut old);
    drop(old);
    assert_eq!(client.get("/"), Answer::keeps("ok"));
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[test]
fn a_connection_that_comes_back_leaves_the_one_to_the_server_behind() {
    let (ended, ends) = channel();
    let ended = Mutex::new(ended);
    let origin = origin(move |mut client| {
        client.head();
        client.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        ended.lock().unwrap().send(client.has_ended()).unwrap();
    });
    let door = Door::new();
    let mut fleet = door.fleet(forwards(origin), true);
    let mut client = door.connect();
    assert_eq!(client.get("/"), Answer::keeps("ok"));
    fleet.leave(Leave::Move);
    departure(&mut fleet).stay();
    assert!(ends.recv_timeout(LIMIT).unwrap());
    assert_eq!(client.get("/"), Answer::closes("ok"));
}

#[test]
fn what_is_known_of_a_connection_travels_on() {
    let door = Door::new();
    let mut fleets = [door.fleet(answers("one"), true), door.fleet(answers("two"), false)];
    let mut client = door.connect();
    for round in 0..10 {
        assert_eq!(client.get("/"), Answer::keeps(["one", "two"][round % 2]));
        let [one, two] = &mut fleets;
        let (from, to) = if round % 2 == 0 { (one, two) } else { (two, one) };
        from.leave(Leave::Move);
        let departure = departure(from);
        assert_eq!(departure.moved().requests, round as u64 + 1);
        assert_eq!(departure.moved().peer, client.stream.local_addr().ok());
        to.leave(Leave::Stay);
        carry(departure, to).unwrap();
    }
}

#[test]
fn a_connection_on_which_no_request_has_begun_departs() {
    let door = Door::new();
    let (mut old, new) = (door.fleet(answers("old"), true), door.fleet(answers("new"), false));
    // One from before, one from after.
    let mut before = door.connect();
    until("it is not accepted", || old.connections() == 1);
    old.leave(Leave::Move);
    let departure_of_before = departure(&mut old);
    let mut after = door.connect();
    let departure_of_after = departure(&mut old);
    for departure in [departure_of_before, departure_of_after] {
        assert_eq!((departure.moved().requests, departure.fds().len()), (0, 1));
        carry(departure, &new).unwrap();
    }
    assert_eq!([before.get("/"), after.get("/")], [Answer::keeps("new"), Answer::keeps("new")]);
}

#[test]
fn a_unix_connection_departs() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("web.sock");
    let door = Door::at(&Address::Unix(path.clone()));
    let (mut old, new) = (door.fleet(answers("old"), true), door.fleet(answers("new"), false));
    let mut client = UnixStream::connect(&path).unwrap();
    client.set_read_timeout(Some(LIMIT)).unwrap();
    let mut get = |body: &str| {
        client.write_all(request("/").as_bytes()).unwrap();
        let (mut read, mut buf) = (Vec::new(), [0; 1000]);
        while !read.ends_with(body.as_bytes()) {
            let count = client.read(&mut buf).unwrap();
            assert!(count > 0, "{}", String::from_utf8_lossy(&read));
            read.extend_from_slice(&buf[..count]);
        }
    };
    get("\r\n\r\nold");
    old.leave(Leave::Move);
    let departure = departure(&mut old);
    assert_eq!(departure.moved().peer, None);
    carry(departure, &new).unwrap();
    get("\r\n\r\nnew");
}

#[test]
fn bytes_in_the_kernel_go_with_the_connection() {
    let door = Door::new();
    let (mut old, new) = (door.fleet(answers("old"), true), door.fleet(answers("new"), false));
    let mut client = door.connect();
    client.get("/");
    old.leave(Leave::Move);
    let departure = departure(&mut old);
    // A request and a half, on the way.
    let text = request("/").repeat(2);
    let (now, later) = text.split_at(text.len() - 10);
    client.send(now);
    carry(departure, &new).unwrap();
    assert_eq!(client.answer(), Answer::keeps("new"));
    client.send(later);
    assert_eq!(client.answer(), Answer::keeps("new"));
}

#[test]
fn a_request_that_came_on_the_way_is_answered_where_the_connection_stays() {
    let door = Door::new();
    let mut old = door.fleet(answers("old"), true);
    let mut client = door.connect();
    client.get("/");
    old.leave(Leave::Move);
    let departure = departure(&mut old);
    client.send(request("/"));
    departure.stay();
    assert_eq!(client.answer(), Answer::closes("old"));
    assert!(client.has_ended());
}

#[test]
fn a_connection_that_was_declined_is_told_to_close_and_is_not_offered_again() {
    let door = Door::new();
    let mut old = door.fleet(answers("old"), true);
    let mut client = door.connect();
    client.get("/");
    old.leave(Leave::Move);
    departure(&mut old).stay();
    // Another departs, so this one would have too.
    let _other = door.connect();
    assert_eq!(departure(&mut old).moved().requests, 0);
    assert!(departed(&mut old).is_none());
    old.leave(Leave::Move);
    let _another = door.connect();
    assert_eq!(departure(&mut old).moved().requests, 0);
    assert_eq!(client.get("/"), Answer::closes("old"));
    assert!(client.has_ended());
}

#[test]
fn a_fleet_that_stays_after_all_forgets_who_was_declined() {
    let door = Door::new();
    let (mut old, new) = (door.fleet(answers("old"), true), door.fleet(answers("new"), false));
    let mut client = door.connect();
    client.get("/");
    for _ in 0..3 {
        old.leave(Leave::Move);
        departure(&mut old).stay();
        old.leave(Leave::Stay);
        heard(&door);
        assert_eq!(client.get("/"), Answer::keeps("old"));
    }
    old.leave(Leave::Move);
    // Told to stay while it is out.
    let out = departure(&mut old);
    old.leave(Leave::Stay);
    heard(&door);
    drop(out);
    assert_eq!(client.get("/"), Answer::keeps("old"));
    old.leave(Leave::Move);
    carry(departure(&mut old), &new).unwrap();
    assert_eq!(client.get("/"), Answer::keeps("new"));
}

#[test]
fn departures_that_nobody_took_up_go_back() {
    for (how, expected) in [(Leave::Stay, Answer::keeps("old")), (Leave::Close, Answer::closes("old"))] {
        let door = Door::new();
        let mut old = door.fleet(answers("old"), true);
        let mut clients: Vec<_> = (0..10).map(|_| door.connect()).collect();
        clients.iter_mut().for_each(|client| assert_eq!(client.get("/"), Answer::keeps("old")));
        old.leave(Leave::Move);
        // One is taken up, and some of the others have departed too.
        let one = departure(&mut old);
        old.leave(how);
        heard(&door);
        drop(one);
        for client in &mut clients {
            assert_eq!(client.get("/"), expected);
        }
        assert!(departed(&mut old).is_none());
    }
}

#[test]
fn a_socket_that_somebody_holds_on_to_stays_all_the_same() {
    let door = Door::new();
    let mut old = door.fleet(answers("old"), true);
    let mut client = door.connect();
    client.get("/");
    old.leave(Leave::Move);
    let departure = departure(&mut old);
    let held: Vec<_> = departure.fds().to_vec();
    let copy = copies(&departure);
    departure.stay();
    assert_eq!(client.get("/"), Answer::closes("old"));
    // The end reaches the client although the socket is open elsewhere.
    assert!(client.has_ended());
    drop((held, copy));
}

#[test]
fn no_more_are_on_the_way_than_the_window_allows_and_the_others_are_served() {
    let door = Door::new();
    let (mut old, new) = (door.fleet(answers("old"), true), door.fleet(answers("new"), false));
    let mut clients: Vec<_> = (0..3 * WINDOW).map(|_| door.connect()).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.get("/"), Answer::keeps("old")));
    old.leave(Leave::Move);
    let mut out: Vec<_> = (0..WINDOW).map(|_| departure(&mut old)).collect();
    let is_out = |client: &Client, out: &[Departure]| {
        out.iter().any(|departure| departure.moved().peer == client.stream.local_addr().ok())
    };
    // Nobody settles anything, and the others are answered, and told to stay.
    for client in clients.iter_mut().filter(|client| !is_out(client, &out)) {
        assert_eq!(client.get("/"), Answer::keeps("old"));
        assert!(departed(&mut old).is_none());
    }
    // As many as are settled may follow.
    for _ in 0..2 {
        assert_eq!(out.len(), WINDOW);
        for departure in out.drain(..) {
            carry(departure, &new).unwrap();
        }
        out = (0..WINDOW).map(|_| departure(&mut old)).collect();
        assert!(departed(&mut old).is_none());
    }
    out.drain(..).for_each(|departure| carry(departure, &new).unwrap());
    idle(&mut old);
    clients.iter_mut().for_each(|client| assert_eq!(client.get("/"), Answer::keeps("new")));
    assert_eq!(new.connections(), 3 * WINDOW);
}

#[test]
fn a_thousand_idle_connections_move() {
    let door = Door::new();
    let (mut old, new) = (door.fleet(answers("old"), true), door.fleet(answers("new"), false));
    let mut clients: Vec<_> = (0..1000).map(|_| door.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/"), Answer::keeps("old"));
    }
    old.leave(Leave::Move);
    for _ in 0..1000 {
        carry(departure(&mut old), &new).unwrap();
    }
    idle(&mut old);
    assert_eq!(new.connections(), 1000);
    for client in &mut clients {
        assert_eq!(client.get("/"), Answer::keeps("new"));
    }
}

#[test]
fn a_client_that_closes_is_noticed_by_whoever_has_the_connection() {
    let door = Door::new();
    let (mut old, mut new) = (door.fleet(answers("old"), true), door.fleet(answers("new"), false));
    let clients = [door.connect(), door.connect()];
    until("they are not accepted", || old.connections() == 2);
    old.leave(Leave::Move);
    let [first, second] = [departure(&mut old), departure(&mut old)];
    drop(clients);
    // It was closed on the way; the kernel may or may not say that it has a peer still.
    first.stay();
    let _ = carry(second, &new);
    idle(&mut old);
    idle(&mut new);
}
