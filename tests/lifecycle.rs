//! The lifecycle in real processes, with real signals and real deaths. Each process is this test binary again, with
//! workers that answer every connection with their pid.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "lifecycle/instance.rs"]
mod instance;

use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use instance::{Directory, Instance};

/// The successor is killed after it took over: the incumbent, which still drains, serves again within 100 ms.
#[test]
fn row_2_a_successor_killed_after_it_took_over_is_replaced_by_the_incumbent() {
    let directory = Directory::new();
    let old = Instance::start(&directory, &["cold", "hold"]);
    old.until_serving();
    let held = directory.connect();
    let mut new = Instance::start(&directory, &["upgrade"]);
    directory.hand_over(&old, &new);
    new.kill(rustix::process::Signal::KILL);
    new.wait();
    let died = Instant::now();
    assert_eq!(directory.ask(), old.pid(), "the connection that was queued is answered by the incumbent");
    assert!(died.elapsed() < Duration::from_millis(500), "{:?}", died.elapsed());
    directory.until("the pidfile is restored", || directory.pid_file() == Some(old.pid()));
    // It can hand over again.
    let next = Instance::start(&directory, &["upgrade"]);
    directory.hand_over(&old, &next);
    drop(held);
}

/// Killed right before `Owned`: the incumbent has never stopped, and has its files.
#[test]
fn row_2_a_successor_killed_while_it_gets_ready_changes_nothing() {
    let directory = Directory::new();
    let old = Instance::start(&directory, &["cold"]);
    old.until_serving();
    let mut new = Instance::start(&directory, &["upgrade", "die-at-start"]);
    new.until_logged("to start it: kill -QUIT");
    old.kill(rustix::process::Signal::QUIT);
    new.wait();
    old.until_logged("this instance serves on");
    assert_eq!((directory.ask(), directory.pid_file()), (old.pid(), Some(old.pid())));
    let next = Instance::start(&directory, &["upgrade"]);
    directory.hand_over(&old, &next);
}

#[test]
fn row_1_quit_with_nobody_waiting_says_what_to_do_and_serves_on() {
    let directory = Directory::new();
    let old = Instance::start(&directory, &["cold"]);
    old.until_serving();
    old.kill(rustix::process::Signal::QUIT);
    old.until_logged("no instance waits to take over");
    old.kill(rustix::process::Signal::HUP);
    old.until_logged("SIGHUP has no meaning yet");
    assert_eq!(directory.ask(), old.pid());
}

#[test]
fn row_7_the_waiting_instance_ends_by_a_signal_and_the_incumbent_does_not_mind() {
    let directory = Directory::new();
    let old = Instance::start(&directory, &["cold"]);
    old.until_serving();
    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::INT] {
        let mut new = Instance::start(&directory, &["upgrade"]);
        new.until_logged("to start it: kill -QUIT");
        new.kill(rustix::process::Signal::QUIT);
        new.until_logged("SIGQUIT is ignored in this state");
        new.kill(signal);
        assert_eq!(new.wait(), Some(0));
        assert_eq!((directory.ask(), directory.pid_file()), (old.pid(), Some(old.pid())));
    }
}

#[test]
fn row_24_signals_that_were_inherited_ignored_are_obeyed() {
    let directory = Directory::new();
    for signal in [rustix::process::Signal::INT, rustix::process::Signal::TERM] {
        let mut one = Instance::start_ignoring(&directory, &["cold"], "INT QUIT TERM HUP");
        one.until_serving();
        one.kill(rustix::process::Signal::QUIT);
        one.until_logged("no instance waits");
        let asked = Instant::now();
        one.kill(signal);
        assert_eq!(one.wait(), Some(0));
        assert!(asked.elapsed() < Duration::from_millis(500), "{:?}", asked.elapsed());
        assert_eq!(directory.pid_file(), None);
    }
}

/// The successor is frozen, so the incumbent is in the middle of a hand-over when it is asked to end.
#[test]
fn row_8_signals_are_obeyed_at_once_during_a_hand_over() {
    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::INT] {
        let directory = Directory::new();
        let mut old = Instance::start(&directory, &["cold"]);
        old.until_serving();
        let mut new = Instance::start(&directory, &["upgrade"]);
        new.until_logged("to start it: kill -QUIT");
        new.kill(rustix::process::Signal::STOP);
        old.kill(rustix::process::Signal::QUIT);
        old.until_logged("to=Handing");
        assert_eq!(directory.ask(), old.pid());
        let asked = Instant::now();
        old.kill(signal);
        assert_eq!(old.wait(), Some(0));
        assert!(asked.elapsed() < Duration::from_millis(500), "{:?}", asked.elapsed());
        new.kill(rustix::process::Signal::CONT);
        assert_eq!(new.wait(), Some(75));
    }
}

#[test]
fn an_incumbent_that_dies_is_told_from_one_that_refuses() {
    let directory = Directory::new();
    let mut old = Instance::start(&directory, &["cold"]);
    old.until_serving();
    let mut new = Instance::start(&directory, &["upgrade"]);
    new.until_logged("to start it: kill -QUIT");
    old.kill(rustix::process::Signal::KILL);
    old.wait();
    assert_eq!(new.wait(), Some(69));
    new.until_logged("nobody serves now; to start cold: river --config test.ron");
    // What a killed process left behind does not hinder the next.
    let next = Instance::start(&directory, &["cold"]);
    next.until_serving();
    assert_eq!((directory.ask(), directory.pid_file()), (next.pid(), Some(next.pid())));
}

#[test]
fn a_terminate_in_the_waiter_s_incumbent_tells_the_waiter() {
    let directory = Directory::new();
    let mut old = Instance::start(&directory, &["cold"]);
    old.until_serving();
    let mut new = Instance::start(&directory, &["upgrade"]);
    new.until_logged("to start it: kill -QUIT");
    old.kill(rustix::process::Signal::TERM);
    assert_eq!(old.wait(), Some(0));
    assert_eq!(new.wait(), Some(75));
}

#[test]
fn row_17_a_unix_listener_s_path_lives_as_long_as_an_instance_serves() {
    let directory = Directory::new();
    let mut old = Instance::start(&directory, &["cold"]);
    old.until_serving();
    let inode = std::fs::metadata(directory.web()).unwrap().ino();
    let mut new = Instance::start(&directory, &["upgrade"]);
    directory.hand_over(&old, &new);
    assert_eq!(old.wait(), Some(0));
    assert_eq!(std::fs::metadata(directory.web()).unwrap().ino(), inode, "it was bound again");
    assert_eq!(directory.ask(), new.pid());
    new.kill(rustix::process::Signal::TERM);
    assert_eq!(new.wait(), Some(0));
    assert_eq!(directory.entries(), Vec::<String>::new());
}

/// Rows 10 and 16: the pidfile is never missing or dead through successive upgrades, and each incumbent ends at once.
#[test]
fn row_16_the_pidfile_names_a_living_process_at_every_moment() {
    let directory = Directory::new();
    let mut old = Instance::start(&directory, &["cold"]);
    old.until_serving();
    let watch = directory.watch_pid_file();
    for _ in 0..5 {
        let new = Instance::start(&directory, &["upgrade"]);
        directory.hand_over(&old, &new);
        assert_eq!(old.wait(), Some(0));
        old = new;
    }
    assert!(watch.stop() > 0, "the watcher never looked");
}

#[test]
fn row_15_no_descriptor_leaks_through_successive_upgrades() {
    let directory = Directory::new();
    let mut old = Instance::start(&directory, &["cold"]);
    old.until_serving();
    let mut first = None;
    for generation in 2..=12 {
        let new = Instance::start(&directory, &["upgrade"]);
        directory.hand_over(&old, &new);
        assert_eq!(old.wait(), Some(0));
        old = new;
        // The connection to the predecessor is closed when its end was read, a moment after the process has ended.
        let expected = *first.get_or_insert_with(|| old.settled_descriptors());
        directory.until(&format!("{expected} descriptors in generation {generation}"), || {
            old.descriptors() == expected
        });
    }
}
