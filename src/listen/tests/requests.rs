//! Connections that are in the middle of something when they are to leave.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;

use super::*;

const RESPONSE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn a_request_under_way_is_finished_first() {
    let (arrived, arrivals) = channel();
    let (go, gone) = channel::<()>();
    let (arrived, gone) = (Mutex::new(arrived), Mutex::new(gone));
    let origin = origin(move |mut client| {
        client.head();
        arrived.lock().unwrap().send(()).unwrap();
        gone.lock().unwrap().recv().unwrap();
        client.send(RESPONSE);
        assert!(client.has_ended(), "an idle connection to a server is kept");
        arrived.lock().unwrap().send(()).unwrap();
    });
    let door = Door::new();
    let (mut old, new) = (door.fleet(forwards(origin), true), door.fleet(answers("new"), false));
    let mut client = door.connect();
    client.send(request("/"));
    arrivals.recv_timeout(LIMIT).unwrap();
    old.leave(Leave::Move);
    // Others depart meanwhile.
    let mut other = door.connect();
    carry(departure(&mut old), &new).unwrap();
    assert_eq!(other.get("/"), Answer::keeps("new"));
    assert!(departed(&mut old).is_none());
    go.send(()).unwrap();
    assert_eq!(client.answer(), Answer::keeps("ok"));
    let departure = departure(&mut old);
    assert_eq!(departure.moved().requests, 1);
    carry(departure, &new).unwrap();
    idle(&mut old);
    assert_eq!(client.get("/"), Answer::keeps("new"));
    arrivals.recv_timeout(LIMIT).unwrap();
}

#[test]
fn pipelined_requests_that_were_read_are_answered_before_the_connection_departs() {
    let (arrived, arrivals) = channel();
    let (go, gone) = channel::<()>();
    let (arrived, gone) = (Mutex::new(arrived), Mutex::new(gone));
    let origin = origin(move |mut client| {
        client.head();
        arrived.lock().unwrap().send(()).unwrap();
        gone.lock().unwrap().recv().unwrap();
        client.send(RESPONSE);
    });
    let door = Door::new();
    let (mut old, new) = (door.fleet(forwards(origin), true), door.fleet(answers("new"), false));
    let mut client = door.connect();
    client.send(request("/").repeat(3));
    old.leave(Leave::Move);
    for _ in 0..3 {
        arrivals.recv_timeout(LIMIT).unwrap();
        assert!(departed(&mut old).is_none());
        go.send(()).unwrap();
        assert_eq!(client.answer(), Answer::keeps("ok"));
    }
    let departure = departure(&mut old);
    assert_eq!(departure.moved().requests, 3);
    carry(departure, &new).unwrap();
    assert_eq!(client.get("/"), Answer::keeps("new"));
}

#[test]
fn a_request_that_has_begun_is_finished_first() {
    let door = Door::new();
    let (mut old, new) = (door.fleet(answers("old"), true), door.fleet(answers("new"), false));
    let mut client = door.connect();
    let text = request("/");
    let (now, later) = text.split_at(7);
    client.get("/");
    client.send(now);
    // Both workers answer others afterwards, so the bytes have been read.
    let mut others: Vec<_> = (0..8).map(|_| door.connect()).collect();
    others.iter_mut().for_each(|other| assert_eq!(other.get("/"), Answer::keeps("old")));
    old.leave(Leave::Move);
    for _ in &others {
        carry(departure(&mut old), &new).unwrap();
    }
    assert!(departed(&mut old).is_none());
    client.send(later);
    assert_eq!(client.answer(), Answer::keeps("old"));
    carry(departure(&mut old), &new).unwrap();
    others.iter_mut().for_each(|other| assert_eq!(other.get("/"), Answer::keeps("new")));
    assert_eq!(client.get("/"), Answer::keeps("new"));
}

/// Clients send one request after the other while their connections go to and fro, more of them than the window lets go
/// at a time: whatever moment a request comes at, it is answered once, and by somebody.
#[test]
fn requests_at_the_very_moment_of_a_move_are_answered() {
    const THREADS: usize = 8;
    const EACH: usize = 20;
    const ROUNDS: usize = 20;
    let door = Door::new();
    let mut fleets = [door.fleet(answers("one"), true), door.fleet(answers("two"), false)];
    let stop = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..THREADS)
        .map(|number| {
            let mut clients: Vec<_> = (0..EACH).map(|_| door.connect()).collect();
            let (stop, mut random) = (Arc::clone(&stop), fastrand::Rng::with_seed(number as u64));
            std::thread::spawn(move || {
                let mut counts = [0_usize; 2];
                while !stop.load(Ordering::SeqCst) {
                    // Some pipeline, some send a request in two pieces, and some rest.
                    let many = if number % 4 == 0 { 3 } else { 1 };
                    let text = request("/").repeat(many);
                    let (now, later) = text.split_at(if number % 4 == 1 { 20 } else { text.len() });
                    random.shuffle(&mut clients);
                    let busy = random.usize(1..=EACH);
                    clients[..busy].iter_mut().for_each(|client| client.send(now));
                    clients[..busy].iter_mut().for_each(|client| client.send(later));
                    for client in &mut clients[..busy] {
                        for _ in 0..many {
                            let answer = client.answer();
                            assert!(!answer.closes);
                            counts[usize::from(answer.body == "two")] += 1;
                        }
                        assert!(client.unread.is_empty());
                    }
                }
                counts
            })
        })
        .collect();
    for round in 0..ROUNDS {
        let [one, two] = &mut fleets;
        let (from, to) = if round % 2 == 0 { (one, two) } else { (two, one) };
        to.leave(Leave::Stay);
        from.leave(Leave::Move);
        for _ in 0..THREADS * EACH {
            carry(departure(from), to).unwrap();
        }
        assert!(departed(from).is_none());
        idle(from);
        assert_eq!(to.connections(), THREADS * EACH);
    }
    stop.store(true, Ordering::SeqCst);
    let counts = threads.into_iter().map(|thread| thread.join().unwrap());
    let [one, two] = counts.fold([0, 0], |sum, counts| [sum[0] + counts[0], sum[1] + counts[1]]);
    assert!(one > 0 && two > 0, "{one} and {two} answers");
}

/// The same where half of the moves are declined, so that connections come back with requests that came meanwhile.
#[test]
fn requests_are_answered_where_moves_are_declined() {
    const CLIENTS: usize = 8;
    let door = Door::new();
    let mut old = door.fleet(answers("old"), true);
    let (stop, answers_seen) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (address, stop) = (door.address(), Arc::clone(&stop));
            let answers_seen = Arc::clone(&answers_seen);
            std::thread::spawn(move || {
                let connect = || Client::new(TcpStream::connect(address).unwrap());
                let mut client = connect();
                while !stop.load(Ordering::SeqCst) {
                    let answer = client.get("/");
                    answers_seen.fetch_add(1, Ordering::SeqCst);
                    if answer.closes {
                        assert!(client.has_ended());
                        client = connect();
                    }
                }
            })
        })
        .collect();
    for _ in 0..100 {
        old.leave(Leave::Move);
        drop(departure(&mut old));
        departure(&mut old).stay();
        old.leave(Leave::Stay);
        let seen = answers_seen.load(Ordering::SeqCst);
        until("nobody is answered", || answers_seen.load(Ordering::SeqCst) >= seen + CLIENTS);
    }
    stop.store(true, Ordering::SeqCst);
    clients.into_iter().for_each(|client| client.join().unwrap());
}
