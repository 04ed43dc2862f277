//! Tunnels that move, with what is on its way in them.

use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;

use super::*;
use crate::base::{MAX_HELD, MovedState, MovedTunnel};

const UPGRADE: &str = "GET /tunnel HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";

/// Two fleets of one service whose server hands its ends of connections to the test, after it has read the request.
struct Rig {
    door: Door,
    old: Fleet,
    new: Fleet,
    servers: Receiver<Client>,
}

impl Rig {
    fn new() -> Self {
        let (accepted, servers) = channel();
        let origin = origin(move |mut server| {
            assert!(server.head().contains("upgrade"));
            // Nobody asks for it any more where a test has failed.
            let _ = accepted.send(server);
        });
        let door = Door::new();
        let (old, new) = (door.fleet(forwards(origin), true), door.fleet(forwards(origin), false));
        Self { door, old, new, servers }
    }

    /// A tunnel through the old fleet: the client's end and the server's.
    fn tunnel(&self) -> (Client, Client) {
        let mut client = self.door.connect();
        client.send(UPGRADE);
        let mut server = self.servers.recv_timeout(LIMIT).unwrap();
        server.send(SWITCH);
        assert!(client.head().starts_with("http/1.1 101"));
        (client, server)
    }

    /// Moves one tunnel from the old fleet to the new one, which becomes the old one; what it held.
    fn move_one(&mut self) -> MovedTunnel {
        self.new.leave(Leave::Stay);
        self.old.leave(Leave::Move);
        let departure = departure(&mut self.old);
        let held = tunnel_of(&departure);
        carry(departure, &self.new).unwrap();
        std::mem::swap(&mut self.old, &mut self.new);
        held
    }
}

fn tunnel_of(departure: &Departure) -> MovedTunnel {
    assert_eq!(departure.fds().len(), 2);
    match &departure.moved().state {
        MovedState::Tunnel(tunnel) => tunnel.clone(),
        MovedState::Idle => panic!("it is no tunnel"),
    }
}

fn speak(from: &mut Client, to: &mut Client, text: &str) {
    from.send(text);
    assert_eq!(to.bytes(text.len()), text.as_bytes());
}

#[test]
fn a_tunnel_moves_and_neither_end_notices() {
    let mut rig = Rig::new();
    let (mut client, mut server) = rig.tunnel();
    assert_eq!((rig.old.connections(), rig.old.tunnels()), (1, 1));
    rig.old.leave(Leave::Move);
    let departure = departure(&mut rig.old);
    assert_eq!(departure.moved().peer, client.stream.local_addr().ok());
    let tunnel = tunnel_of(&departure);
    assert_eq!(tunnel.server, server.stream.local_addr().unwrap().to_string());
    assert_eq!(tunnel.request, "GET /tunnel HTTP/1.1");
    assert_eq!((tunnel.to_server, tunnel.to_client), Default::default());
    assert_eq!((rig.old.tunnels(), rig.new.tunnels()), (1, 0));
    // What is said meanwhile waits in the kernel.
    client.send("from the client, ");
    server.send("from the server, ");
    carry(departure, &rig.new).unwrap();
    assert_eq!(server.bytes(17), b"from the client, ");
    assert_eq!(client.bytes(17), b"from the server, ");
    idle(&mut rig.old);
    assert_eq!((rig.old.tunnels(), rig.new.tunnels()), (0, 1));
    drop(rig.old);
    speak(&mut client, &mut server, "and more");
    speak(&mut server, &mut client, "and more");
    drop(client);
    assert!(server.has_ended());
    drop(server);
    idle(&mut rig.new);
    assert_eq!(rig.new.tunnels(), 0);
}

#[test]
fn a_tunnel_moves_ten_times_and_more() {
    let mut rig = Rig::new();
    let (mut client, mut server) = rig.tunnel();
    for round in 0..30 {
        let text = format!("round {round}");
        speak(&mut client, &mut server, &text);
        rig.move_one();
        speak(&mut server, &mut client, &text);
    }
}

#[test]
fn an_upgrade_under_way_is_finished_and_the_tunnel_departs() {
    let mut rig = Rig::new();
    let mut client = rig.door.connect();
    client.send(UPGRADE);
    // What the client says before it is answered goes along.
    client.send("early, ");
    let mut server = rig.servers.recv_timeout(LIMIT).unwrap();
    rig.old.leave(Leave::Move);
    server.send(SWITCH.to_owned() + "also early, ");
    carry(departure(&mut rig.old), &rig.new).unwrap();
    assert!(client.head().starts_with("http/1.1 101"));
    assert_eq!(client.bytes(12), b"also early, ");
    assert_eq!(server.bytes(7), b"early, ");
    speak(&mut client, &mut server, "late");
    speak(&mut server, &mut client, "late");
}

#[test]
fn a_tunnel_that_is_declined_goes_on_and_is_not_offered_again() {
    let mut rig = Rig::new();
    let (mut client, mut server) = rig.tunnel();
    rig.old.leave(Leave::Move);
    let out = departure(&mut rig.old);
    client.send("meanwhile");
    out.stay();
    assert_eq!(server.bytes(9), b"meanwhile");
    speak(&mut server, &mut client, "hello");
    // Another one departs, so this one would have too.
    let other = rig.door.connect();
    assert_eq!(departure(&mut rig.old).moved().state, MovedState::Idle);
    assert!(departed(&mut rig.old).is_none());
    rig.old.leave(Leave::Stay);
    drop(other);
    until("the other is kept", || rig.old.connections() == 1);
    speak(&mut client, &mut server, "hello");
    assert_eq!(rig.old.tunnels(), 1);
    rig.move_one();
    speak(&mut client, &mut server, "hello");
    assert_eq!((rig.old.tunnels(), rig.new.tunnels()), (1, 0));
}

#[test]
fn half_closed_tunnels_move() {
    for clients_end in [true, false] {
        let mut rig = Rig::new();
        let (client, server) = rig.tunnel();
        let (mut quiet, mut speaker) = if clients_end { (client, server) } else { (server, client) };
        quiet.stream.shutdown(Shutdown::Write).unwrap();
        assert!(speaker.has_ended());
        for round in 0..5 {
            let tunnel = rig.move_one();
            assert_eq!((tunnel.to_server.ended, tunnel.to_client.ended), (clients_end, !clients_end));
            speak(&mut speaker, &mut quiet, &format!("round {round}"));
            // Told of the end once and no more.
            assert_eq!(speaker.stream.read(&mut [0]).unwrap(), 0);
        }
        speaker.send("last");
        drop(speaker);
        assert_eq!(quiet.bytes(4), b"last");
        assert!(quiet.has_ended());
        idle(&mut rig.old);
    }
}

#[test]
fn an_end_that_comes_on_the_way_is_passed_on_wherever_the_tunnel_goes_on() {
    for is_taken in [true, false] {
        let mut rig = Rig::new();
        let (mut client, mut server) = rig.tunnel();
        rig.old.leave(Leave::Move);
        let out = departure(&mut rig.old);
        client.send("last");
        client.stream.shutdown(Shutdown::Write).unwrap();
        if is_taken {
            carry(out, &rig.new).unwrap();
        } else {
            out.stay();
        }
        assert_eq!(server.bytes(4), b"last");
        assert!(server.has_ended());
        speak(&mut server, &mut client, "hello");
        drop(server);
        assert!(client.has_ended());
        idle(if is_taken { &mut rig.new } else { &mut rig.old });
    }
}

#[test]
fn a_reset_on_the_way_ends_the_tunnel_wherever_it_goes_on() {
    for clients_end in [true, false] {
        let mut rig = Rig::new();
        let (client, server) = rig.tunnel();
        let (lost, mut other) = if clients_end { (client, server) } else { (server, client) };
        // What is not read when a connection is closed makes that a reset.
        other.send("unread");
        assert_eq!(lost.stream.peek(&mut [0]).unwrap(), 1);
        rig.old.leave(Leave::Move);
        let out = departure(&mut rig.old);
        drop(lost);
        // Declined, for a socket without a peer is no connection; and the tunnel ends.
        assert!(carry(out, &rig.new).is_err());
        assert!(matches!(other.stream.read(&mut [0]), Ok(0) | Err(_)));
        idle(&mut rig.old);
        idle(&mut rig.new);
    }
}

#[test]
fn both_ends_hear_the_end_of_a_tunnel_although_the_other_instance_holds_its_sockets() {
    for (taken, lost) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut rig = Rig::new();
        let (mut client, mut server) = rig.tunnel();
        rig.old.leave(Leave::Move);
        let out = departure(&mut rig.old);
        let held = copies(&out);
        let (out, has) = if taken {
            rig.new.admit(out.moved().clone(), copies(&out)).unwrap().serve();
            (Some(out), &mut rig.new)
        } else {
            out.stay();
            (None, &mut rig.old)
        };
        speak(&mut client, &mut server, "it goes on");
        if lost {
            client.reset(&server.stream);
        } else {
            has.close_connections(crate::listen::Ending::Tunnels);
            assert!(client.has_ended());
        }
        assert!(server.has_ended());
        idle(has);
        drop(held);
        out.into_iter().for_each(Departure::gone);
    }
}

#[test]
fn a_tunnel_that_holds_too_much_goes_on_until_it_holds_less() {
    const BYTES: usize = 24 << 20;
    let mut rig = Rig::new();
    let (mut client, mut server) = rig.tunnel();
    let sent = Pattern::new().from(0, BYTES).to_vec();
    let expected = sent.clone();
    let writer = std::thread::spawn(move || {
        server.send(&sent);
        server
    });
    // The client has read some, so the tunnel reads as much as it can at a time.
    let mut read = client.bytes(1 << 20);
    rig.old.leave(Leave::Move);
    let mut out = None;
    while read.len() < BYTES {
        read.extend(client.bytes(1 << 10));
        if out.is_none() {
            out = departed(&mut rig.old);
        }
        if let Some(out) = out.take() {
            assert!(tunnel_of(&out).to_client.bytes.len() <= MAX_HELD);
            carry(out, &rig.new).unwrap();
        }
    }
    assert!(read == expected);
    drop(writer.join().unwrap());
    assert!(client.has_ended());
    assert_eq!(rig.new.connections(), 1);
    drop(client);
    idle(&mut rig.old);
    idle(&mut rig.new);
}

/// A stream of bytes in which a gap, a repeat or a swap shows.
#[derive(Clone)]
struct Pattern(Arc<Vec<u8>>);

impl Pattern {
    /// It begins again after so many bytes, which is longer than anything that could go missing, and a prime number.
    const PERIOD: usize = 4_000_037;

    fn new() -> Self {
        let mut random = fastrand::Rng::with_seed(1);
        let once: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(Self::PERIOD).collect();
        Self(Arc::new(once.repeat(8)))
    }

    fn from(&self, offset: usize, count: usize) -> &[u8] {
        &self.0[offset % Self::PERIOD..][..count]
    }
}

/// Writes the pattern in pieces of all sizes until it is told to stop, and then ends; how much it was.
fn write_pattern(
    mut to: TcpStream,
    pattern: Pattern,
    stop: Arc<AtomicBool>,
    mut random: fastrand::Rng,
) -> JoinHandle<usize> {
    std::thread::spawn(move || {
        let mut offset = 0;
        while !stop.load(Ordering::SeqCst) {
            let count = random.usize(1..300_000);
            to.write_all(pattern.from(offset, count)).unwrap();
            offset += count;
        }
        to.shutdown(Shutdown::Write).unwrap();
        offset
    })
}

/// Reads the pattern to the end, more slowly than it is written; how much it was.
fn read_pattern(mut from: TcpStream, pattern: Pattern, mut random: fastrand::Rng) -> JoinHandle<usize> {
    std::thread::spawn(move || {
        let (mut offset, mut buf) = (0, [0; 20_000]);
        loop {
            let piece = random.usize(1..buf.len());
            let count = from.read(&mut buf[..piece]).unwrap();
            if count == 0 {
                return offset;
            }
            assert!(buf[..count] == *pattern.from(offset, count), "at {offset}");
            offset += count;
        }
    })
}

#[test]
fn tunnels_under_load_move_without_a_gap_or_a_repeat() {
    const TUNNELS: usize = 4;
    const MOVES: usize = 25;
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut rig = Rig::new();
    let stop = Arc::new(AtomicBool::new(false));
    let (mut threads, pattern) = (Vec::new(), Pattern::new());
    for _ in 0..TUNNELS {
        let (client, server) = rig.tunnel();
        for (from, to) in [(&client, &server), (&server, &client)] {
            let [from, to] = [from, to].map(|end| end.stream.try_clone().unwrap());
            let writer = write_pattern(from, pattern.clone(), Arc::clone(&stop), random.fork());
            threads.push((writer, read_pattern(to, pattern.clone(), random.fork())));
        }
    }
    let (mut up, mut down, mut declined) = (0, 0, 0);
    let mut moves = 0;
    // Whether bytes are held at the moment of a move is chance; without them it would show nothing.
    while moves < MOVES || (moves < 20 * MOVES && (up == 0 || down == 0 || declined == 0)) {
        moves += 1;
        rig.new.leave(Leave::Stay);
        rig.old.leave(Leave::Move);
        let mut left = TUNNELS;
        while left > 0 {
            let out = departure(&mut rig.old);
            let tunnel = tunnel_of(&out);
            up += tunnel.to_server.bytes.len();
            down += tunnel.to_client.bytes.len();
            assert!(tunnel.to_server.bytes.len().max(tunnel.to_client.bytes.len()) <= MAX_HELD);
            if random.u8(..) < 80 {
                declined += 1;
                out.stay();
                // It is offered again only then.
                rig.old.leave(Leave::Stay);
                rig.old.leave(Leave::Move);
            } else {
                carry(out, &rig.new).unwrap();
                left -= 1;
            }
        }
        idle(&mut rig.old);
        std::mem::swap(&mut rig.old, &mut rig.new);
    }
    stop.store(true, Ordering::SeqCst);
    for (writer, reader) in threads {
        assert_eq!(writer.join().unwrap(), reader.join().unwrap());
    }
    idle(&mut rig.old);
    idle(&mut rig.new);
    // Otherwise it shows nothing.
    assert!(up > 0 && down > 0 && declined > 0, "{up} and {down} bytes were held, {declined} declined");
}
