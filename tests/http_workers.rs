//! How connections spread over the workers, and what happens when there is no room for more.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::HashSet;
use std::fs;
use std::thread;

use support::log::field;
use support::*;

/// The numbers of the process's descriptors whose link `wanted` holds for.
fn descriptors(pid: u32, wanted: impl Fn(&str) -> bool) -> HashSet<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let found = entries.filter_map(|entry| {
        let entry = entry.ok()?;
        let link = fs::read_link(entry.path()).ok()?;
        wanted(&link.to_string_lossy()).then(|| entry.file_name().to_string_lossy().into_owned())
    });
    found.collect()
}

/// How many of `sockets` each epoll instance of the process watches, in ascending order, those without any left out.
fn watched(pid: u32, sockets: &HashSet<String>) -> Vec<usize> {
    let epolls = descriptors(pid, |link| link == "anon_inode:[eventpoll]");
    let counts = epolls.iter().filter_map(|epoll| {
        let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{epoll}")).ok()?;
        let watched = info.lines().filter_map(|line| line.strip_prefix("tfd:")?.split_whitespace().next());
        Some(watched.filter(|fd| sockets.contains(*fd)).count())
    });
    let mut counts: Vec<usize> = counts.filter(|count| *count > 0).collect();
    counts.sort_unstable();
    counts
}

/// The time that each worker has spent on a processor, in nanoseconds (`schedstat`).
fn busy(pid: u32) -> Vec<u64> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let mut workers: Vec<(String, u64)> = tasks
        .filter_map(|task| {
            let path = task.ok()?.path();
            let name = fs::read_to_string(path.join("comm")).ok()?.trim().to_owned();
            let time = fs::read_to_string(path.join("schedstat")).ok()?.split(' ').next()?.parse().ok()?;
            name.starts_with("river-worker").then_some((name, time))
        })
        .collect();
    workers.sort();
    workers.into_iter().map(|(_, time)| time).collect()
}

#[test]
fn connections_spread_evenly_however_they_come() {
    let config = Config::respond("ok").system("workers: 2");
    let river = River::with_config(config).serve();
    let pid = river.pid();
    let is_socket = |link: &str| link.starts_with("socket:");
    // The listener is among them.
    let before = descriptors(pid, is_socket);
    let shares = || watched(pid, &(&descriptors(pid, is_socket) - &before));

    // One after the other: each finds both workers asleep, and epoll would wake the same one again and again.
    let mut conns: Vec<Conn> = (0..64).map(|_| opened(&river)).collect();
    let one_by_one = shares();
    assert!(one_by_one.len() == 2 && one_by_one[0] >= 30, "{one_by_one:?}");

    let begin = busy(pid);
    thread::scope(|scope| {
        for part in conns.chunks_mut(16) {
            scope.spawn(|| {
                for _ in 0..100 {
                    part.iter_mut().for_each(|conn| conn.request("GET", "/"));
                    part.iter_mut().for_each(|conn| assert_eq!(conn.read_response("GET").status, 200));
                }
            });
        }
    });
    let spent: Vec<u64> = busy(pid).iter().zip(&begin).map(|(now, then)| now - then).collect();
    let sum: u64 = spent.iter().sum();
    assert!(spent.len() == 2 && spent.iter().all(|time| *time * 4 > sum), "{spent:?}");

    drop(conns);
    until("the connections are gone", PATIENCE, || shares().is_empty());

    // All at once.
    let conns: Vec<Conn> = thread::scope(|scope| {
        let openers: Vec<_> =
            (0..8).map(|_| scope.spawn(|| (0..8).map(|_| opened(&river)).collect::<Vec<Conn>>())).collect();
        openers.into_iter().flat_map(|opener| opener.join().unwrap()).collect()
    });
    let at_once = shares();
    assert!(at_once.len() == 2 && at_once.iter().sum::<usize>() == conns.len(), "{at_once:?}");
    // Two workers may count the same gap and both fill it.
    assert!(at_once[0] >= 24, "{at_once:?}");
}

fn opened(river: &Running) -> Conn {
    let mut conn = Conn::open(river.web());
    assert_eq!(conn.get("/").status, 200);
    conn
}

#[test]
fn want_of_descriptors_is_survived() {
    let origin = Origin::echo();
    let config = Config::new()
        .system("workers: 2")
        .service("web", &["127.0.0.1:0"], &config::respond("ok"))
        .service("proxy", &["127.0.0.1:0"], &config::connectors(&[origin.target().clone()]));
    let river = River::with_config(config).after("ulimit -n 64").serve();
    let mut proxied = Conn::open(river.address("proxy", 0));
    assert_eq!(proxied.get("/before").status, 200);
    // The server's connection goes, so that another one is needed.
    origin.close_connections();
    let mut conns: Vec<Conn> = (0..100).map(|_| Conn::open(river.web())).collect();
    river.wait_for_line("cannot accept", PATIENCE);
    // Those that fit are served, and the others wait.
    conns.iter_mut().for_each(|conn| conn.request("GET", "/"));
    assert_eq!(conns[0].read_response("GET").status, 200);
    assert!(conns[99].is_quiet());
    // There is no descriptor for a connection to the server either, which is not the server's fault.
    let response = proxied.get("/during").expect_status(503);
    assert!(!response.closed);
    let line = river.wait_for_line("request failed", PATIENCE).text;
    assert_eq!(field(&line, "blame").as_deref(), Some("river"), "{line}");
    assert!(field(&line, "why").unwrap().contains(&origin.address().to_string()), "{line}");

    // Each that leaves makes room, and at last all have been served.
    for (nth, mut conn) in conns.into_iter().enumerate() {
        if nth > 0 {
            assert_eq!(conn.read_response("GET").status, 200, "connection {nth}");
        }
    }
    assert_eq!(proxied.get("/after").text(), "GET /after\n");
    assert_eq!(get(river.web(), "/").status, 200);
}
