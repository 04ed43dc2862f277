//! Connections in HTTP/2 at a hand-over: told to go, streams that are open finish, and nothing else is touched.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use support::config::respond;
use support::h2::{ACK, END_STREAM, Frames, H2, get, kind, pseudo, read};
use support::log::field;
use support::tools::require;
use support::*;

const HIGHEST: u32 = (1 << 31) - 1;

fn gated() -> (Origin, Arc<Gate>) {
    Origin::gated(
        |target| target == "/slow",
        |request, reply| reply.respond(200, &[], request.target.as_bytes()),
    )
}

/// Everything of a hand-over, frame by frame: GOAWAY with the highest stream, a PING, and only once that has come back
/// the last GOAWAY; streams opened until then are answered, later ones left alone.
fn drains_by_two_goaways(idle_connections: &str) {
    let (origin, gate) = gated();
    let config =
        support::h2::proxy(&origin).handoff(&format!("guard: \"0s\", idle_connections: {idle_connections}"));
    let old = River::with_config(config).serve();
    let mut frames = Frames::open(old.web());
    frames.get(1, "/slow");
    origin.wait_requests(1, PATIENCE);
    let new = upgrade(&old);
    let first = frames.until("GOAWAY", |frame| frame.kind == kind::GOAWAY);
    assert_eq!(first.goaway(), Some((HIGHEST, 0)));
    let ping = frames.until("PING", |frame| frame.kind == kind::PING && frame.flags == 0);
    // On its way when the first GOAWAY was.
    frames.get(3, "/race");
    let response = frames.until("a response", |frame| frame.kind == kind::HEADERS && frame.stream == 3);
    assert_eq!(response.payload[0], 0x88);
    frames.send(kind::PING, ACK, 0, &ping.payload);
    let last = frames.until("the last GOAWAY", |frame| frame.kind == kind::GOAWAY);
    assert_eq!(last.goaway(), Some((3, 0)));
    // Too late: it is not touched, and the client knows.
    frames.get(5, "/late");
    frames.headers(7, END_STREAM, &pseudo("GET", "/late"));
    gate.open();
    let rest = frames.rest();
    assert!(rest.iter().any(|frame| frame.kind == kind::HEADERS && frame.stream == 1), "{rest:?}");
    assert!(rest.iter().all(|frame| frame.stream <= 3), "{rest:?}");
    let targets: Vec<_> = origin.requests().into_iter().map(|request| request.target).collect();
    assert_eq!(targets, ["/slow", "/race"]);
    assert!(old.wait_exit(PATIENCE).success());
    assert_eq!(H2::open(new.web()).get("/new").text(), "/new");
}

#[test]
fn a_hand_over_with_moves_tells_by_two_goaways() {
    drains_by_two_goaways("Move");
}

#[test]
fn a_hand_over_with_closes_tells_by_two_goaways() {
    drains_by_two_goaways("Close");
}

#[test]
fn an_idle_connection_is_closed_at_once_and_counted_as_one() {
    let old = River::with_config(support::h2::config(&respond("old"))).serve();
    let mut clients: Vec<_> = (0..10).map(|_| H2::open(old.web())).collect();
    for client in &mut clients {
        assert_eq!((client.get("/").text(), client.get("/").text()), ("old".into(), "old".into()));
    }
    let new = upgrade_to(&old, old.successor().config(support::h2::config(&respond("new"))));
    for client in &clients {
        client.wait_end(PATIENCE).unwrap();
    }
    assert!(old.wait_exit(PATIENCE).success());
    let line = old.wait_for_line("what became of the connections", PATIENCE).text;
    let said = ["moved", "finished", "cut"].map(|name| field(&line, name).unwrap());
    assert_eq!(said, ["0", "10", "0"]);
    assert_eq!(H2::open(new.web()).get("/").text(), "new");
}

#[test]
fn a_connection_that_has_said_nothing_yet_moves() {
    let old = River::with_config(support::h2::config(&respond("old"))).serve();
    let frames = Frames::connect(old.web());
    old.wait_serving();
    let mut conn = Conn::open(old.web());
    assert_eq!(conn.get("/").text(), "old");
    let _new = upgrade_to(&old, old.successor().config(support::h2::config(&respond("new"))));
    assert!(old.wait_exit(PATIENCE).success());
    let mut frames = frames;
    frames.bytes(support::h2::PREFACE);
    frames.send(kind::SETTINGS, 0, 0, b"");
    frames.get(1, "/");
    frames.until("DATA", |frame| frame.kind == kind::DATA && frame.payload == b"new");
}

#[test]
fn a_client_that_does_not_acknowledge_is_waited_for_no_longer_than_the_drain_lasts() {
    let config = support::h2::config(&respond("old")).system("drain_timeout: \"1s\"");
    let old = River::with_config(config.clone()).serve();
    let mut frames = Frames::open(old.web());
    frames.get(1, "/");
    frames.until("an end", |frame| frame.flags & END_STREAM != 0 && frame.stream == 1);
    let _new = upgrade_to(&old, old.successor().config(config));
    frames.until("PING", |frame| frame.kind == kind::PING && frame.flags == 0);
    assert!(old.wait_exit(PATIENCE).success());
    while frames.next().is_some() {}
}

#[test]
fn a_long_stream_holds_its_connection_through_the_drain() {
    let (origin, gate) = gated();
    let old = River::with_config(support::h2::proxy(&origin)).serve();
    let mut client = H2::open(old.web());
    let (response, _) = client.begin(get("/slow"), true);
    origin.wait_requests(1, PATIENCE);
    let _new = upgrade(&old);
    old.wait_state("Draining");
    gate.open();
    assert_eq!(read(response).unwrap().text(), "/slow");
    client.wait_end(PATIENCE).unwrap();
    assert!(old.wait_exit(PATIENCE).success());
}

/// h2load opens no new connection after a GOAWAY, whoever sends it, and counts what it never sent as failed; of the streams
/// that it had only queued, at most as many as may be open, it says that they were started. What it did send is answered.
#[test]
fn h2load_across_upgrades_has_every_stream_answered_that_reached_a_server() {
    if !require("h2load") {
        return;
    }
    const STREAMS: u64 = 4 * 16;
    let reached = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&reached);
    let origin = Origin::builder()
        .answer(move |_, reply| {
            counted.fetch_add(1, Ordering::SeqCst);
            reply.respond(200, &[], b"ok")
        })
        .forgetful()
        .start();
    let mut current = River::with_config(support::h2::proxy(&origin)).serve();
    let target = format!("http://{}/", current.web());
    for round in 0..3 {
        let before = reached.load(Ordering::SeqCst);
        let mut load = Command::new("h2load")
            .args(["-n", "40000", "-c", "4", "-m", "16", "-t", "1", &target])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(load.stdout.take().unwrap()).lines().map(Result::unwrap);
        let first = lines.find(|line| line.starts_with("progress:")).unwrap();
        let new = upgrade(&current);
        let old = std::mem::replace(&mut current, new);
        let report: Vec<String> = lines.collect();
        let report = report.join("\n");
        assert!(load.wait().unwrap().success());
        assert!(old.wait_exit(PATIENCE).success());
        let [started, done, succeeded] = ["started", "done", "succeeded"].map(|name| count(&report, name));
        eprintln!("round {round}: {started} started, {done} done, {succeeded} succeeded");
        assert!((4_000..40_000).contains(&started), "{first}, then {report}");
        assert_eq!(succeeded, reached.load(Ordering::SeqCst) - before, "round {round}: {report}");
        assert!(done == started && started - succeeded <= STREAMS, "round {round}: {report}");
    }
}

/// A load that does what the RFC lets it: it tries again what was not touched, over a new connection.
#[test]
fn a_load_across_upgrades_loses_no_stream() {
    let origin = Origin::builder().forgetful().start();
    let mut current = River::with_config(support::h2::proxy(&origin)).serve();
    let address = current.web();
    let stop = Arc::new(AtomicBool::new(false));
    let finished = Arc::new(AtomicU64::new(0));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (stop, finished) = (Arc::clone(&stop), Arc::clone(&finished));
            std::thread::spawn(move || load(address, &stop, &finished))
        })
        .collect();
    for _ in 0..4 {
        let before = finished.load(Ordering::SeqCst);
        until("more responses", PATIENCE, || finished.load(Ordering::SeqCst) > before + 500);
        let new = upgrade(&current);
        let old = std::mem::replace(&mut current, new);
        assert!(old.wait_exit(PATIENCE).success());
    }
    stop.store(true, Ordering::SeqCst);
    let (mut reconnects, mut again) = (0, 0);
    for client in clients {
        let (by, tried) = client.join().unwrap();
        reconnects += by;
        again += tried;
    }
    eprintln!(
        "{} streams answered, {again} tried again, {reconnects} new connections",
        finished.load(Ordering::SeqCst)
    );
    assert!(reconnects >= 4, "{reconnects}");
}

/// Opens sixteen streams at a time until it is told to stop; how often it connected anew, and how many streams it had to
/// try again.
fn load(address: SocketAddr, stop: &AtomicBool, finished: &AtomicU64) -> (u64, u64) {
    let (mut reconnects, mut again) = (0, 0);
    let mut client = H2::open(address);
    while !stop.load(Ordering::SeqCst) {
        let mut responses = Vec::new();
        for _ in 0..16 {
            match client.try_begin(get("/"), true) {
                Ok((response, _)) => responses.push(response),
                // Nothing was sent.
                Err(_) => break,
            }
        }
        let mut goes = responses.len() < 16;
        for response in responses {
            match read(response) {
                Ok(answer) => {
                    assert_eq!(answer.text(), "GET /\n");
                    finished.fetch_add(1, Ordering::SeqCst);
                }
                // Above the last stream of a GOAWAY, or refused: not touched (RFC 9113 §8.7).
                Err(error)
                    if (error.is_go_away() && error.reason() == Some(::h2::Reason::NO_ERROR))
                        || error.reason() == Some(::h2::Reason::REFUSED_STREAM) =>
                {
                    goes = true;
                    again += 1;
                }
                Err(error) => panic!("a stream without an answer: {error}"),
            }
        }
        if goes {
            reconnects += 1;
            client = H2::open(address);
        }
    }
    (reconnects, again)
}

/// What h2load reports on its line `requests:`, by name.
fn count(report: &str, name: &str) -> u64 {
    let line =
        report.lines().find(|line| line.starts_with("requests:")).unwrap_or_else(|| panic!("{report}"));
    let entries = line.trim_start_matches("requests:").split(',');
    let entry = entries.filter_map(|entry| entry.trim().split_once(' ')).find(|(_, what)| *what == name);
    entry.unwrap_or_else(|| panic!("{name} is not in {line}")).0.parse().unwrap()
}
