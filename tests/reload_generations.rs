//! Several instances at a time: the one in service, those that drain, the one that waits; and who is told of them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::env;
use std::fs;
use std::mem;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use support::asker::{Asker, Instance, instances, states};
use support::config::connectors;
use support::peer::{Desk, Peer};
use support::proc::resident;
use support::*;

/// Successive instances, each with a request that it does not finish before the gate opens.
struct Family {
    origin: Origin,
    gate: Arc<Gate>,
    handoff: String,
    members: Vec<Member>,
}

struct Member {
    river: Running,
    /// Its request that is held, until it has ended.
    held: Option<Conn>,
}

impl Family {
    /// The first instance; `handoff` are the settings of that name.
    fn new(handoff: &str) -> Self {
        let (origin, gate) =
            Origin::gated(|target| target == "/hold", |_, reply| reply.respond(200, &[], b"whole"));
        let mut family = Self { origin, gate, handoff: handoff.into(), members: Vec::new() };
        let first = River::with_config(family.config()).serve();
        family.take_in(first);
        family
    }

    /// What the next instance is started with. It has a listener of its own, so that its request is surely its.
    fn config(&self) -> Config {
        let servers = connectors(&[self.origin.target().clone()]);
        let own = format!("own{}", self.members.len());
        Config::proxy(&self.origin).handoff(&self.handoff).service(&own, &["127.0.0.1:0"], &servers)
    }

    /// The newest takes over from the one before, and then has a request of its own.
    fn grow(&mut self) {
        let config = self.config();
        let incumbent = self.last();
        let next = upgrade_to(incumbent, incumbent.successor().config(config));
        self.take_in(next);
    }

    fn take_in(&mut self, river: Running) {
        let nth = self.members.len();
        let mut held = Conn::open(river.address(&format!("own{nth}"), 0));
        held.request("GET", "/hold");
        self.origin.wait_requests(nth + 1, PATIENCE);
        self.members.push(Member { river, held: Some(held) });
    }

    fn last(&self) -> &Running {
        &self.members.last().unwrap().river
    }

    fn pids(&self) -> Vec<u32> {
        self.members.iter().map(|member| member.river.pid()).collect()
    }

    fn socket(&self) -> PathBuf {
        self.last().dir().upgrade_socket()
    }

    /// The requests that the first `count` instances hold end whole, and their clients leave.
    fn release(&mut self, count: usize) {
        self.gate.open();
        for mut held in self.members.iter_mut().take(count).filter_map(|member| member.held.take()) {
            assert_eq!(held.read_response("GET").text(), "whole");
        }
    }

    /// Every request that is held ends whole.
    fn finish(mut self) {
        self.release(usize::MAX);
    }
}

/// The reports of those that drain.
fn draining(instances: &[Instance]) -> Vec<&Instance> {
    instances.iter().filter(|instance| instance.state == "Draining").collect()
}

#[test]
fn row_18_three_instances_live_and_the_one_in_service_knows_them() {
    let mut family = Family::new("guard: \"0s\"");
    family.grow();
    family.grow();
    let [first, second, third] = family.pids()[..] else { panic!("not three") };
    let asker = Asker::watch(&family.socket());
    let known = asker.wait("both drain", |all| draining(all).len() == 2);
    assert_eq!(states(&known), [(third, "Serving"), (second, "Draining"), (first, "Draining")]);
    assert_eq!(known.iter().map(|one| one.generation).collect::<Vec<_>>(), [3, 2, 1]);
    for one in &known {
        assert_eq!(one.number("connections"), Some(1), "{one:?}");
        assert_eq!(one.number("cut"), Some(0), "{one:?}");
        assert_eq!(one.number("deadline_ms").is_some(), one.state == "Draining", "{one:?}");
        assert!(one.text.contains("build:\"river "), "{one:?}");
    }
    assert!(family.members.iter().all(|member| member.river.alive()));
    family.release(2);
    // The last words of both.
    let ended = asker.wait("both ended", |all| all.iter().filter(|one| one.state == "Exited").count() == 2);
    assert_eq!(ended.first().map(|one| one.pid), Some(third));
    for one in &ended[1..] {
        assert_eq!(one.number("connections"), Some(0), "{one:?}");
        assert_eq!(one.number("moved").unwrap() + one.number("finished").unwrap(), 1, "{one:?}");
        assert_eq!((one.number("cut"), one.number("deadline_ms")), (Some(0), None), "{one:?}");
    }
    for nth in [0, 1] {
        let status = family.members[nth].river.wait_exit(PATIENCE);
        assert!(status.success());
    }
    family.finish();
}

#[test]
fn row_18_the_oldest_ends_first_when_too_many_drain() {
    let mut family = Family::new("guard: \"0s\", max_draining: 2");
    family.grow();
    family.grow();
    let asker = Asker::watch(&family.socket());
    asker.wait("two drain", |all| draining(all).len() == 2);
    assert!(family.members.iter().all(|member| member.river.alive()));
    family.grow();
    let [first, second, third, fourth] = family.pids()[..] else { panic!("not four") };
    let oldest = family.members.remove(0);
    let status = oldest.river.wait_exit(PATIENCE);
    assert!(status.success());
    oldest.river.wait_for_line("the instance in service ends this one", PATIENCE);
    oldest.held.unwrap().expect_gone_within(PATIENCE);
    let asker = Asker::watch(&family.socket());
    let known = asker.wait("one has ended", |all| all.iter().any(|one| one.state == "Exited"));
    let expected = [(fourth, "Serving"), (third, "Draining"), (second, "Draining"), (first, "Exited")];
    assert_eq!(states(&known), expected);
    assert_eq!(known[3].number("cut"), Some(1));
    family.finish();
}

/// What the process that plays a draining instance is told: where the upgrade socket is, and its generation.
const SOCKET: &str = "PLAYED_UPGRADE_SOCKET";
const GENERATION: &str = "PLAYED_GENERATION";

/// Not a test: the process that plays a draining instance, started by [`play`]. It does not end when it is told to.
#[test]
#[ignore = "played by other tests as a process of its own"]
fn a_draining_instance() {
    let Some(path) = env::var_os(SOCKET).map(PathBuf::from) else { return };
    let peer = Peer::connect(&path);
    // It lies about its pid.
    let generation = env::var(GENERATION).unwrap();
    // One that guards says so behind its generation.
    let said = match generation.strip_suffix(" guards") {
        Some(generation) => report(1, generation).replace("guard_ms:None", "guard_ms:Some(60000)"),
        None => report(1, &generation),
    };
    peer.send(&said);
    while let Some(message) = peer.receive_within(PATIENCE * 3) {
        println!("heard {}", message.text);
    }
    loop {
        thread::park();
    }
}

fn report(pid: u32, generation: &str) -> String {
    format!(
        "Draining((pid:{pid},generation:{generation},build:\"played\",state:Draining,age_ms:1000,connections:3,\
         tunnels:0,moved:0,finished:0,cut:0,deadline_ms:Some(60000),guard_ms:None))"
    )
}

/// Starts a process that says it drains, as this generation.
fn play(river: &Running, generation: &str) -> Process {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "a_draining_instance", "--ignored", "--nocapture"]);
    command.env(SOCKET, river.dir().upgrade_socket()).env(GENERATION, generation);
    Process::start("the played instance", &mut command)
}

#[test]
fn an_instance_that_is_to_end_and_does_not_is_sent_a_signal() {
    let config = Config::respond("here").handoff("max_draining: 1");
    let river = River::with_config(config).serve();
    let asker = Asker::watch(&river.dir().upgrade_socket());
    let oldest = play(&river, "3");
    asker.wait("one drains", |all| draining(all).len() == 1);
    let youngest = play(&river, "4");
    let known = asker.wait("both drain", |all| draining(all).len() == 2);
    let expected = [(river.pid(), "Serving"), (youngest.pid(), "Draining"), (oldest.pid(), "Draining")];
    assert_eq!(states(&known), expected);
    let told = river.wait_for_line("the oldest is ended", PATIENCE);
    oldest.log().wait_for("that it is to end", PATIENCE, |lines| {
        lines.iter().any(|line| line.text.starts_with("heard End(")).then_some(())
    });
    assert_eq!(oldest.wait_exit(PATIENCE).signal(), Some(2));
    let signalled = river.wait_for_line("was sent SIGINT", PATIENCE);
    assert!(told.age() - signalled.age() > Duration::from_secs(4), "it had no time to end by itself");
    let known = asker.wait("it has ended", |all| draining(all).len() == 1);
    assert_eq!(states(&known)[2], (oldest.pid(), "Exited"));
    assert!(youngest.alive() && !youngest.log().contains("heard"));
}

#[test]
fn an_instance_that_is_stopped_is_killed_when_it_is_to_end() {
    let river = River::with_config(Config::respond("here").handoff("max_draining: 1")).serve();
    let asker = Asker::watch(&river.dir().upgrade_socket());
    let oldest = play(&river, "3");
    asker.wait("one drains", |all| draining(all).len() == 1);
    oldest.pause();
    let youngest = play(&river, "4");
    river.wait_for_line("was sent SIGINT", PATIENCE);
    assert_eq!(oldest.wait_exit(PATIENCE).signal(), Some(9));
    let line = river.wait_for_line("was sent SIGKILL", PATIENCE).text;
    assert!(line.contains("ERROR") && line.contains(&format!("pid={}", oldest.pid())), "{line}");
    let known = asker.wait("it has ended", |all| draining(all).len() == 1 && all.len() == 3);
    assert_eq!(states(&known)[1..], [(youngest.pid(), "Draining"), (oldest.pid(), "Exited")]);
}

#[test]
fn the_one_that_can_take_the_service_back_is_ended_last() {
    let river = River::with_config(Config::respond("here").handoff("max_draining: 1")).serve();
    let asker = Asker::watch(&river.dir().upgrade_socket());
    let guard = play(&river, "3 guards");
    asker.wait("one drains", |all| draining(all).len() == 1);
    // Such as a successor that failed.
    let younger = play(&river, "4");
    younger.log().wait_for("that it is to end", PATIENCE, |lines| {
        lines.iter().any(|line| line.text.starts_with("heard End(")).then_some(())
    });
    assert!(guard.alive() && !guard.log().contains("heard"));
}

#[test]
fn a_draining_instance_registers_with_each_new_one_in_service() {
    let mut family = Family::new("guard: \"0s\"");
    for count in 1..=3 {
        family.grow();
        let asker = Asker::watch(&family.socket());
        let known = asker.wait("all drain here", |all| draining(all).len() == count);
        let mut expected = family.pids();
        expected.reverse();
        assert_eq!(known.iter().map(|one| one.pid).collect::<Vec<_>>(), expected);
    }
    family.finish();
}

#[test]
fn a_draining_instance_registers_with_one_that_took_the_service_back() {
    let mut family = Family::new("guard: \"60s\"");
    family.grow();
    family.grow();
    let [first, second, third] = family.pids()[..] else { panic!("not three") };
    let known = Asker::watch(&family.socket()).wait("both drain", |all| draining(all).len() == 2);
    // Only the one that handed over last can take back.
    let guards: Vec<_> = known.iter().map(|one| (one.pid, one.number("guard_ms").is_some())).collect();
    assert_eq!(guards, [(third, false), (second, true), (first, false)]);
    let Member { river: killed, .. } = family.members.pop().unwrap();
    killed.signal(Signal::KILL);
    family.last().wait_state_again("Serving", 2);
    let known = Asker::watch(&family.socket()).wait("the first drains here", |all| draining(all).len() == 1);
    assert_eq!(states(&known), [(second, "Serving"), (first, "Draining")]);
    family.finish();
}

#[test]
fn a_draining_instance_reports_to_whoever_is_in_service_and_ends_when_it_is_told() {
    let mut family = Family::new("guard: \"0s\"");
    let Member { river, held } = family.members.pop().unwrap();
    let mut idle = Conn::open(river.web());
    idle.get("/");
    let path = river.dir().upgrade_socket();
    river.signal(Signal::TERM);
    river.wait_state("Draining");
    until("nobody is in service", PATIENCE, || !path.exists());
    let desk = Desk::open(&path);
    // A build that does not know of this refuses it.
    for _ in 0..3 {
        let peer = desk.accept();
        assert!(peer.expect("Draining").text.contains("generation:1"));
        peer.send("Refuse(why:\"Draining has no place here\")");
    }
    let peer = desk.accept();
    peer.expect("Draining");
    drop(idle);
    // Told once, and again because it changed.
    let told = peer.expect("Draining").text;
    assert!(told.contains("connections:1") && told.contains("finished:1"), "{told}");
    peer.send("End(why:\"a test\")");
    assert_eq!(river.wait_exit(SOON).code(), Some(0));
    let last = peer.expect("Draining").text;
    assert!(last.contains("state:Exited") && last.contains("cut:1"), "{last}");
    assert!(peer.receive().is_none());
    assert_eq!(river.why("Exited").as_deref(), Some("a test"));
    held.unwrap().expect_gone_within(PATIENCE);
}

#[test]
fn who_watches_is_told_of_every_change() {
    let mut family = Family::new("guard: \"0s\"");
    let first = family.pids()[0];
    let asker = Asker::watch(&family.socket());
    let (known, fds) = asker.next().unwrap();
    assert_eq!((states(&known), fds.len()), (vec![(first, "Serving")], 0));
    // Numbers whose change nothing announces come too.
    let extra = Conn::open(family.last().web());
    asker.wait("two connections", |all| all[0].number("connections") == Some(2));
    drop(extra);
    asker.wait("one connection", |all| all[0].number("connections") == Some(1));
    let successor = family.last().successor().config(family.config()).start();
    let known = asker.wait("one waits", |all| all.len() == 2);
    assert_eq!(states(&known), [(first, "Serving"), (successor.pid(), "AwaitingHandoff")]);
    assert_eq!(known[1].generation, 2);
    successor.wait_state("AwaitingHandoff");
    successor.pause();
    family.last().signal(Signal::QUIT);
    let known = asker.wait("it hands over", |all| all[0].state == "Handing");
    assert_eq!(states(&known), [(first, "Handing"), (successor.pid(), "AwaitingHandoff")]);
    successor.resume();
    // The one that was asked is not the one to ask any more.
    while asker.next().is_some() {}
    successor.wait_serving();
    family.take_in(successor);
    let asker = Asker::watch(&family.socket());
    asker.wait("the first drains", |all| draining(all).len() == 1);
    family.release(1);
    let known = asker.wait("the first has ended", |all| draining(all).is_empty() && all.len() == 2);
    assert_eq!(known[1].state, "Exited");
    family.finish();
}

#[test]
fn the_first_answer_brings_the_standard_streams_to_who_wants_them() {
    let river = River::with_config(Config::respond("here")).serve();
    let path = river.dir().upgrade_socket();
    let (_, fds) = Asker::ask(&path, false, true).next().unwrap();
    let of_ours = |nth: usize| fs::read_link(format!("/proc/self/fd/{}", fds[nth].as_raw_fd())).unwrap();
    let of_theirs = |nth: usize| fs::read_link(format!("/proc/{}/fd/{nth}", river.pid())).unwrap();
    assert_eq!(fds.len(), 2);
    assert_eq!([of_ours(0), of_ours(1)], [of_theirs(1), of_theirs(2)]);
    let asker = Asker::ask(&path, true, true);
    assert_eq!(asker.next().unwrap().1.len(), 2);
    let _conn = Conn::open(river.web());
    assert_eq!(asker.next().unwrap().1.len(), 0);
}

#[test]
fn who_asks_too_much_or_nonsense_is_refused_and_nothing_else_suffers() {
    let config = Config::respond("here").handoff("max_draining: 1, guard: \"0s\"");
    let river = River::with_config(config).serve();
    let path = river.dir().upgrade_socket();
    let before = river.fds().len();
    let watchers: Vec<Asker> = (0..8).map(|_| Asker::watch(&path)).collect();
    for watcher in &watchers {
        assert_eq!(states(&watcher.next().unwrap().0), [(river.pid(), "Serving")]);
    }
    let ninth = Asker::watch(&path);
    ninth.peer().expect("Refuse");
    ninth.peer().expect_closed();
    // Who watches says nothing, and who drains says only how.
    watchers[0].peer().send("Ask(watch:true,streams:false)");
    while watchers[0].next().is_some() {}
    let drains = Peer::connect(&path);
    drains.send(&report(1, "1"));
    watchers[1].wait("it drains", |all| draining(all).len() == 1);
    drains.send("Owned");
    drains.expect_closed();
    for garbage in ["Nonsense", "Instances([])", "End(why:\"I want\")", "Draining(())", "Ask(watch:maybe)"] {
        let peer = Peer::connect(&path);
        peer.send(garbage);
        peer.expect("Refuse");
        peer.expect_closed();
    }
    // One process is one instance, however often it says so.
    let say = |nth: usize| {
        let peer = Peer::connect(&path);
        peer.send(&report(1, &nth.to_string()));
        peer
    };
    let many: Vec<Peer> = (0..50).map(say).collect();
    assert_eq!(draining(&watchers[1].wait("the last is known", |all| all[1].generation == 49)).len(), 1);
    assert_eq!(get(river.web(), "/").text(), "here");
    drop((watchers, drains, many));
    until("the descriptors are as before", PATIENCE, || river.fds().len() <= before + 1);
    let next = upgrade(&river);
    assert_eq!(get(next.web(), "/").text(), "here");
    assert!(river.wait_exit(PATIENCE).success());
}

/// A tunnel through `river` that echoes.
fn tunnel(river: &Running) -> Conn {
    let mut conn = Conn::open(river.web());
    conn.send("GET /tunnel HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n");
    conn.read_response("GET").expect_status(101);
    conn
}

fn echo(conn: &mut Conn, text: &str) {
    conn.send(text);
    assert_eq!(conn.reader().exactly(text.len()).unwrap(), text.as_bytes());
}

/// An origin that echoes, requests and what comes through tunnels.
fn echoing() -> Origin {
    Origin::builder()
        .forgetful()
        .on_head(|request, reply| {
            if request.target != "/tunnel" {
                return Ok(Next::Read);
            }
            reply.tunnel(&[("connection", "upgrade"), ("upgrade", "echo")])?;
            Ok(Next::Done)
        })
        .start()
}

#[test]
fn row_19_instances_with_tunnels_are_shown_and_do_not_pile_up() {
    let origin = echoing();
    let handoff = "guard: \"0s\", idle_connections: Close, max_draining: 2";
    let mut current = River::with_config(Config::proxy(&origin).handoff(handoff)).serve();
    let mut old: Vec<(Running, Conn)> = Vec::new();
    for nth in 1..=5_usize {
        let conn = tunnel(&current);
        let next = upgrade(&current);
        old.push((mem::replace(&mut current, next), conn));
        let asker = Asker::watch(&current.dir().upgrade_socket());
        let known = asker.wait("no more than two drain", |all| {
            draining(all).len() == nth.min(2) && draining(all)[0].generation == nth as u64
        });
        for one in draining(&known) {
            assert_eq!((one.number("tunnels"), one.number("connections")), (Some(1), Some(1)), "{one:?}");
            assert!(one.number("deadline_ms").unwrap() > 100_000, "the time of tunnels: {one:?}");
        }
    }
    let young = old.split_off(3);
    for (river, mut conn) in old {
        assert!(river.wait_exit(PATIENCE).success());
        river.wait_for_line("max_draining", PATIENCE);
        conn.expect_gone_within(PATIENCE);
    }
    for (river, mut conn) in young {
        echo(&mut conn, "still there");
        drop(conn);
        assert!(river.wait_exit(PATIENCE).success());
    }
}

/// What an instance holds.
#[derive(Debug, PartialEq, Eq)]
struct Held {
    /// Connections of clients.
    clients: usize,
    /// Connections to the origin.
    origin: usize,
    /// Sockets that are neither.
    sockets: usize,
    /// The kinds of what is no socket, sorted.
    others: Vec<String>,
}

impl Held {
    /// What it holds at one moment.
    fn by(river: &Running, origin: SocketAddr) -> Self {
        river.pause();
        let (links, peers) = (river.fds(), river.tcp_peers());
        river.resume();
        let to_origin = peers.iter().filter(|peer| **peer == origin).count();
        let (sockets, others): (Vec<_>, Vec<_>) =
            links.into_iter().partition(|link| link.starts_with("socket:"));
        // Without the number of each.
        let kind = |link: String| link.split_once(":[").map_or(link.clone(), |(kind, _)| kind.to_owned());
        Self {
            clients: peers.len() - to_origin,
            origin: to_origin,
            sockets: sockets.len() - peers.len(),
            others: others.into_iter().map(kind).collect(),
        }
    }
}

/// What an instance holds when everybody has left but those that belong to it, once that is what `holds`; and its memory
/// in KiB.
#[track_caller]
fn settled(river: &Running, origin: SocketAddr, holds: impl Fn(&Held) -> bool) -> (Held, usize) {
    Asker::watch(&river.dir().upgrade_socket()).wait("nobody drains", |all| draining(all).is_empty());
    let begin = Instant::now();
    loop {
        let held = Held::by(river, origin);
        if holds(&held) {
            return (held, resident(river.pid()));
        }
        assert!(begin.elapsed() < PATIENCE, "it goes on to hold {held:#?}");
        thread::park_timeout(Duration::from_millis(20));
    }
}

/// How many clients have a tunnel, how many ask on a connection of their own now and then, and how many all the time.
const TUNNELS: usize = 20;
const KEPT: usize = 20;
const BUSY: usize = 8;

#[test]
fn row_18_a_hundred_upgrades_leave_nothing_behind() {
    let origin = echoing();
    let config = Config::proxy(&origin).system("workers: 2");
    let mut current = River::with_config(config).serve();
    let load = Load::keep_alive(BUSY, Pacing::Think(1..=10)).start(current.web());
    let mut tunnels: Vec<Conn> = (0..TUNNELS).map(|_| tunnel(&current)).collect();
    let mut kept: Vec<Conn> = (0..KEPT).map(|_| Conn::open(current.web())).collect();
    // Each client has one connection here; to the origin each tunnel has one, and no request needs more than one.
    let belongs = |held: &Held| {
        held.clients == TUNNELS + KEPT + BUSY && (TUNNELS..=held.clients).contains(&held.origin)
    };
    let (mut early, mut told) = (None, 0);
    let mut left = Vec::new();
    for nth in 1..=100 {
        let next = upgrade(&current);
        left.push(mem::replace(&mut current, next));
        for (number, conn) in tunnels.iter_mut().enumerate() {
            echo(conn, &format!("upgrade {nth}, tunnel {number}"));
        }
        for conn in &mut kept {
            // One that had not moved when the next upgrade began is told to close. None is cut.
            if conn.get("/kept").expect_status(200).closed {
                told += 1;
                *conn = Conn::open(current.web());
            }
        }
        if nth == 10 {
            early = Some(settled(&current, origin.address(), belongs));
        }
    }
    for old in &left {
        assert!(old.wait_exit(PATIENCE).success());
        assert!(!old.log().contains("closed ungracefully"), "{}", old.log().text());
    }
    let (early, early_kib) = early.unwrap();
    // One who asked may not have been let go when the first was looked at, so it is not exactly as many.
    let (late, late_kib) = settled(&current, origin.address(), |held| {
        belongs(held) && held.others == early.others && held.sockets <= early.sockets
    });
    println!("{told} of {} answers told the client to close", 100 * KEPT);
    println!("after 10 upgrades {early_kib} KiB and {early:?}, after 100 {late_kib} KiB and {late:?}");
    assert!(
        late_kib <= early_kib + early_kib / 8 + 512,
        "KiB: {early_kib} after 10 upgrades, {late_kib} after 100"
    );
    let known = instances(&current.dir().upgrade_socket());
    assert_eq!(known[0].number("tunnels"), Some(TUNNELS as u64), "{:?}", known[0]);
    for conn in &mut tunnels {
        echo(conn, "at the end");
    }
    load.stop().expect_none_lost();
    let known = instances(&current.dir().upgrade_socket());
    assert_eq!((known[0].pid, known[0].generation), (current.pid(), 101));
    assert!(known.len() <= 17, "{} are remembered", known.len());
}
