//! Clients that are slow on purpose (`slowhttptest`): River ends their connections when their time is over, and serves
//! the others meanwhile.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::process::Command;
use std::time::Duration;

use support::*;

/// Connections of each attack; they are all made within its first second.
const ATTACKERS: usize = 100;

/// Where the attackers go.
const ATTACKED: &str = "/attacked";

/// When an attack that River has not ended gives up.
const GIVES_UP: Duration = Duration::from_secs(20);

fn proxy(origin: &Origin, timeouts: &str) -> Running {
    let config = Config::proxy(origin).system("workers: 1").with(&format!("timeouts: ({timeouts})"));
    River::with_config(config.with("limits: (max_connections: 150)")).serve()
}

/// Runs an attack while honest clients go on, and returns what it said at its end. It ends early only when it has no
/// connection left, and River must have ended each of them.
#[track_caller]
fn attack(river: &Running, arguments: &[&str]) -> String {
    let load = Load::keep_alive(4, Pacing::Think(1..=5)).start(river.web());
    load.wait_for(100, PATIENCE);
    let attackers = ATTACKERS.to_string();
    let url = format!("http://{}{ATTACKED}", river.web());
    let output = Command::new("slowhttptest")
        .env_clear()
        .args(["-c", &attackers, "-r", &attackers, "-l", &GIVES_UP.as_secs().to_string(), "-u", &url])
        .args(arguments)
        .output()
        .unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    // Those who came before are still served, and those who come now.
    load.wait_for(100, PATIENCE);
    let report = load.stop().expect_none_lost();
    assert!(report.percentile(0.99) < SOON, "honest clients waited {:?}", report.percentile(0.99));
    assert_eq!(get(river.web(), "/after").status, 200);
    said
}

#[track_caller]
fn ended(said: &str) {
    eprintln!("{said}");
    assert!(said.contains("No open connections left"), "{said}");
    assert!(!said.contains("service available:   NO"), "{said}");
}

#[test]
fn slow_heads_are_ended() {
    if !tools::require("slowhttptest") {
        return;
    }
    let origin = Origin::echo();
    let river = proxy(&origin, "head: \"2s\"");
    // A field more every second, and never an end.
    ended(&attack(&river, &["-H", "-i", "1", "-x", "8"]));
    assert!(origin.requests().iter().all(|request| !request.fields.has("x-a")));
}

#[test]
fn slow_bodies_are_ended() {
    if !tools::require("slowhttptest") {
        return;
    }
    let origin = Origin::echo();
    let river = proxy(&origin, "body: \"30s\", request: \"3s\"");
    // Some bytes more every second, of many.
    ended(&attack(&river, &["-B", "-i", "1", "-s", "100000", "-x", "8"]));
}

#[test]
fn slow_readers_are_ended() {
    if !tools::require("slowhttptest") {
        return;
    }
    let origin = Origin::with(|request, reply| match request.target.as_str() {
        ATTACKED => reply.respond(200, &[], &vec![b'x'; 4 << 20]),
        target => reply.respond(200, &[], format!("GET {target}\n").as_bytes()),
    });
    let river = proxy(&origin, "send: \"1s\"");
    // Two kilobytes every three seconds, of four megabytes, into the smallest buffer that there is. What has come by then
    // has to be read before the connection is found to be ended.
    ended(&attack(&river, &["-X", "-n", "3", "-z", "2000", "-w", "1", "-y", "5"]));
}

#[test]
fn many_ranges_are_the_servers_affair() {
    if !tools::require("slowhttptest") {
        return;
    }
    let origin = Origin::echo();
    let river = proxy(&origin, "idle: \"2s\"");
    ended(&attack(&river, &["-R", "-a", "5", "-b", "2000"]));
}
