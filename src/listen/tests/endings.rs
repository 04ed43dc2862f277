//! Connections that are closed, and fleets that end, while some are on their way.

use super::*;
use crate::listen::Ending;

#[test]
fn a_fleet_that_ends_does_not_end_what_is_gone() {
    let door = Door::new();
    let (mut old, new) = (door.fleet(answers("old"), true), door.fleet(answers("new"), false));
    let mut clients: Vec<_> = (0..4).map(|_| door.connect()).collect();
    for client in &mut clients {
        client.get("/");
    }
    old.leave(Leave::Move);
    let out: Vec<_> = (0..4).map(|_| departure(&mut old)).collect();
    let peers: Vec<_> = out.iter().map(|departure| departure.moved().peer).collect();
    clients.sort_by_key(|client| peers.iter().position(|peer| *peer == client.stream.local_addr().ok()));
    let mut out = out.into_iter();
    // One goes before the end; the others are settled after it.
    carry(out.next().unwrap(), &new).unwrap();
    old.stop().unwrap();
    assert_eq!(old.connections(), 0);
    carry(out.next().unwrap(), &new).unwrap();
    out.next().unwrap().stay();
    drop(out);
    for client in &mut clients[..2] {
        assert_eq!(client.get("/"), Answer::keeps("new"));
    }
    for client in &mut clients[2..] {
        assert!(client.has_ended());
    }
}

#[test]
fn what_is_on_its_way_when_all_is_closed_may_still_be_taken() {
    let door = Door::new();
    let (mut old, new) = (door.fleet(answers("old"), true), door.fleet(answers("new"), false));
    let mut clients = [door.connect(), door.connect()];
    clients.iter_mut().for_each(|client| assert_eq!(client.get("/"), Answer::keeps("old")));
    old.leave(Leave::Move);
    let [first, second] = [departure(&mut old), departure(&mut old)];
    if first.moved().peer != clients[0].stream.local_addr().ok() {
        clients.reverse();
    }
    // They are neither counted nor closed before it is clear whose they are.
    assert_eq!(old.close_connections(Ending::All), 0);
    carry(first, &new).unwrap();
    second.stay();
    idle(&mut old);
    let [first, second] = &mut clients;
    assert_eq!(first.get("/"), Answer::keeps("new"));
    assert!(second.has_ended());
}

#[test]
fn tunnels_and_others_are_counted_and_closed_apart() {
    let origin = origin(|mut server| {
        let head = server.head();
        if head.contains("upgrade") {
            server.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
        } else {
            server.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
        }
        while server.read_more() > 0 {}
    });
    let door = Door::new();
    for (what, first, second) in
        [(Ending::Requests, 0..3, 3..5), (Ending::Tunnels, 3..5, 0..3), (Ending::All, 0..5, 0..0)]
    {
        let mut fleet = door.fleet(forwards(origin), true);
        let mut clients: Vec<_> = (0..5).map(|_| door.connect()).collect();
        for client in &mut clients[..3] {
            assert_eq!(client.get("/"), Answer::keeps("ok"));
        }
        for client in &mut clients[3..] {
            client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
            assert!(client.head().starts_with("http/1.1 101"));
        }
        assert_eq!((fleet.connections(), fleet.tunnels()), (5, 2));
        assert_eq!(fleet.close_connections(what), first.len());
        clients[first.clone()].iter_mut().for_each(|client| assert!(client.has_ended()));
        until("they count still", || fleet.connections() == second.len());
        assert_eq!(fleet.tunnels(), if what == Ending::Requests { 2 } else { 0 });
        // What took their places in the workers' lists is not mistaken for them.
        let mut newcomers: Vec<_> = (0..5).map(|_| door.connect()).collect();
        newcomers.iter_mut().for_each(|client| assert_eq!(client.get("/"), Answer::keeps("ok")));
        assert_eq!(fleet.close_connections(Ending::All), second.len() + 5);
        newcomers.iter_mut().for_each(|client| assert!(client.has_ended()));
        clients[second].iter_mut().for_each(|client| assert!(client.has_ended()));
        idle(&mut fleet);
        assert_eq!((fleet.connections(), fleet.tunnels()), (0, 0));
    }
}

#[test]
fn a_client_hears_the_end_from_who_took_its_connection() {
    for cut in [true, false] {
        let door = Door::new();
        let (mut old, mut new) = (door.fleet(answers("old"), true), door.fleet(answers("new"), false));
        let mut client = door.connect();
        client.get("/");
        old.leave(Leave::Move);
        // The other instance is stopped before it reads the answer, and holds its copy.
        let out = departure(&mut old);
        new.admit(out.moved().clone(), copies(&out)).unwrap().serve();
        if cut {
            assert_eq!(client.get("/"), Answer::keeps("new"));
            assert_eq!(new.close_connections(Ending::All), 1);
        } else {
            client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            assert_eq!(client.answer(), Answer::closes("new"));
        }
        assert!(client.has_ended());
        idle(&mut new);
        out.gone();
    }
}

#[test]
fn an_end_is_heard_although_the_other_instance_holds_what_came_back() {
    let door = Door::new();
    let mut old = door.fleet(answers("old"), true);
    let mut clients = [door.connect(), door.connect()];
    clients.iter_mut().for_each(|client| assert_eq!(client.get("/"), Answer::keeps("old")));
    old.leave(Leave::Move);
    let [first, second] = [departure(&mut old), departure(&mut old)];
    let held = [copies(&first), copies(&second)];
    // One is back when all are closed, the other comes back to find nobody.
    first.stay();
    old.leave(Leave::Stay);
    until("it is served again", || old.load.away(false) == 1);
    assert_eq!(old.close_connections(Ending::All), 1);
    second.stay();
    idle(&mut old);
    clients.iter_mut().for_each(|client| assert!(client.has_ended()));
    drop(held);
}
