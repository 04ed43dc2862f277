//! How connections spread over the workers, and what happens when there is no room for more.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::HashMap;
use std::fs;
use std::thread;

use support::log::field;
use support::*;

/// How many descriptors each epoll instance of the process watches, by the instance's own descriptor.
fn watched(pid: u32) -> HashMap<String, usize> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let epolls = entries.filter_map(|entry| {
        let entry = entry.ok()?;
        let is_epoll = fs::read_link(entry.path()).ok()?.to_string_lossy() == "anon_inode:[eventpoll]";
        is_epoll.then(|| entry.file_name().to_string_lossy().into_owned())
    });
    epolls
        .filter_map(|fd| {
            let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")).ok()?;
            Some((fd, info.lines().filter(|line| line.starts_with("tfd:")).count()))
        })
        .collect()
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
    let gained = |before: &HashMap<String, usize>| -> Vec<usize> {
        let now = watched(river.pid());
        let mut gained: Vec<usize> = now
            .iter()
            .map(|(fd, count)| count - before.get(fd).unwrap_or(&0))
            .filter(|count| *count > 0)
            .collect();
        gained.sort_unstable();
        gained
    };
    let before = watched(river.pid());

    // One after the other: each finds both workers asleep, and epoll would wake the same one again and again.
    let mut conns: Vec<Conn> = (0..64).map(|_| opened(&river)).collect();
    let one_by_one = gained(&before);
    assert!(one_by_one.len() == 2 && one_by_one[0] >= 30, "{one_by_one:?}");

    let begin = busy(river.pid());
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
    let spent: Vec<u64> = busy(river.pid()).iter().zip(&begin).map(|(now, then)| now - then).collect();
    let sum: u64 = spent.iter().sum();
    assert!(spent.len() == 2 && spent.iter().all(|time| *time * 4 > sum), "{spent:?}");

    drop(conns);
    until("the connections are gone", PATIENCE, || gained(&before).is_empty());

    // All at once.
    let conns: Vec<Conn> = thread::scope(|scope| {
        let openers: Vec<_> =
            (0..8).map(|_| scope.spawn(|| (0..8).map(|_| opened(&river)).collect::<Vec<Conn>>())).collect();
        openers.into_iter().flat_map(|opener| opener.join().unwrap()).collect()
    });
    let at_once = gained(&before);
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
    assert!(river.fds().len() <= 64);
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
