//! What upgrades leave in the file system and in the table of descriptors.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::time::Duration;
use std::{fs, mem, thread};

use support::config::respond;
use support::*;

/// How many open descriptors there are of each kind.
fn fd_table(river: &Running) -> BTreeMap<String, usize> {
    let mut table = BTreeMap::new();
    for fd in river.fds() {
        // `socket:[123]` and its like have a number of their own each time; `anon_inode:[eventpoll]` has none.
        let kind = match fd.split_once(":[") {
            Some((kind, number)) if number.starts_with(|first: char| first.is_ascii_digit()) => {
                kind.to_owned()
            }
            _ => fd,
        };
        *table.entry(kind).or_insert(0) += 1;
    }
    table
}

/// Upgrades `times` times, each old instance ended before the next is started; returns the last one.
fn upgrade_times(mut current: Running, times: usize) -> Running {
    for _ in 0..times {
        let next = upgrade(&current);
        let old = mem::replace(&mut current, next);
        assert!(old.wait_exit(PATIENCE).success());
    }
    current
}

#[test]
fn row_15_the_table_of_descriptors_is_the_same_after_twenty_reloads() {
    let config = Config::new().service("web", &["127.0.0.1:0", "127.0.0.1:0"], &respond("here")).service(
        "sock",
        &["unix:web.sock"],
        &respond("here"),
    );
    let first = River::with_config(config).serve();
    let before = fd_table(&first);
    let last = upgrade_times(first, 20);
    // The connection to the one before is closed when that has said its last word.
    until("the table of descriptors is as it was", PATIENCE / 4, || {
        let now = fd_table(&last);
        if now != before {
            eprintln!("before {before:?}\nnow    {now:?}");
            thread::park_timeout(Duration::from_millis(200));
        }
        now == before
    });
    assert_eq!(get(last.web(), "/").text(), "here");
}

#[test]
fn row_16_the_pidfile_changes_hands_with_the_service_and_not_before() {
    let old = River::with_config(Config::respond("here")).serve();
    let successor = old.successor().start();
    successor.wait_state("AwaitingHandoff");
    assert_eq!(old.dir().pid(), Some(old.pid()));
    old.signal(Signal::QUIT);
    successor.wait_serving();
    assert_eq!(old.dir().pid(), Some(successor.pid()));
}

#[test]
fn row_16_files_of_another_are_not_removed() {
    let river = River::with_config(Config::respond("here")).serve();
    let dir = river.dir().clone();
    fs::write(dir.pidfile(), "1\n").unwrap();
    fs::remove_file(dir.upgrade_socket()).unwrap();
    let _other = UnixListener::bind(dir.upgrade_socket()).unwrap();
    river.signal(Signal::TERM);
    river.wait_exit(PATIENCE);
    assert_eq!(dir.pid(), Some(1));
    assert!(dir.upgrade_socket().exists());
}

#[test]
fn row_16_relative_paths_do_not_depend_on_the_working_directory() {
    let river = River::with_config(Config::respond("here")).working_in("/").serve();
    assert_eq!(river.dir().pid(), Some(river.pid()));
    assert!(river.dir().upgrade_socket().exists());
    // A path on the command line is relative to where the command was given.
    let elsewhere = Dir::new();
    let other = River::with_config(Config::respond("here"))
        .working_in(elsewhere.path())
        .arg("--pidfile")
        .arg("other.pid")
        .serve();
    let pid = fs::read_to_string(elsewhere.join("other.pid")).unwrap();
    assert_eq!(pid.trim(), other.pid().to_string());
    assert!(!other.dir().pidfile().exists());
}

#[test]
fn row_05_the_upgrade_socket_is_for_its_owner_alone() {
    let old = River::with_config(Config::respond("here")).serve();
    let mode = || old.dir().upgrade_socket().metadata().unwrap().mode() & 0o777;
    assert_eq!(mode(), 0o600);
    let _new = upgrade(&old);
    assert_eq!(mode(), 0o600);
}

#[test]
fn row_17_a_unix_listener_stays_when_an_old_instance_leaves() {
    let config = Config::new().service("sock", &["unix:web.sock"], &respond("here"));
    let old = River::with_config(config).serve();
    let path = old.dir().join("web.sock");
    let inode = || path.metadata().unwrap().ino();
    let before = inode();
    let new = upgrade_times(old, 3);
    assert_eq!(inode(), before);
    assert_eq!(get(path.as_path(), "/").text(), "here");
    new.signal(Signal::TERM);
    new.wait_exit(PATIENCE);
    assert!(!path.exists());
}

#[test]
fn row_17_a_unix_listener_of_another_is_not_removed() {
    let config = Config::new().service("sock", &["unix:web.sock"], &respond("here"));
    let river = River::with_config(config).serve();
    let path = river.dir().join("web.sock");
    fs::remove_file(&path).unwrap();
    let _other = UnixListener::bind(&path).unwrap();
    let inode = path.metadata().unwrap().ino();
    river.signal(Signal::TERM);
    river.wait_exit(PATIENCE);
    assert_eq!(path.metadata().unwrap().ino(), inode);
}

#[test]
fn row_17_a_unix_listener_of_another_is_not_removed_after_an_upgrade_either() {
    let config = Config::new().service("sock", &["unix:web.sock"], &respond("here"));
    let old = River::with_config(config).serve();
    let path = old.dir().join("web.sock");
    fs::remove_file(&path).unwrap();
    let _other = UnixListener::bind(&path).unwrap();
    let inode = path.metadata().unwrap().ino();
    let new = upgrade_times(old, 2);
    new.wait_for_line("the listener's path is lost", PATIENCE);
    new.signal(Signal::TERM);
    assert!(new.wait_exit(PATIENCE).success());
    assert_eq!(path.metadata().unwrap().ino(), inode);
}

#[test]
fn row_17_a_unix_listener_that_was_removed_from_the_configuration_goes() {
    let both = Config::respond("kept").service("sock", &["unix:web.sock"], &respond("gone"));
    let old = River::with_config(both).serve();
    let path = old.dir().join("web.sock");
    assert_eq!(get(path.as_path(), "/").text(), "gone");
    let new = upgrade_to(&old, old.successor().config(Config::respond("kept")));
    assert!(old.wait_exit(PATIENCE).success());
    assert!(!path.exists());
    assert_eq!(get(new.web(), "/").text(), "kept");
}
