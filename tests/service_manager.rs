//! What the service manager hears: from a cold start over several upgrades to the end.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use support::manager::{Manager, Notice};
use support::peer::Peer;
use support::*;

fn monotonic() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap() * 1_000_000 + u64::try_from(now.tv_nsec).unwrap() / 1_000
}

/// How long an instance may give no sign of life, in milliseconds.
const WATCHDOG_MS: u64 = 1000;

#[track_caller]
fn expect_ready(notice: &Notice, river: &Running) {
    assert!(notice.has("READY", "1") && notice.has("MAINPID", &river.pid().to_string()), "{notice:?}");
    assert!(notice.get("STATUS").is_some_and(|status| status.starts_with("serving")), "{notice:?}");
}

#[track_caller]
fn expect_reloading(notice: &Notice, since: u64) {
    assert!(notice.has("RELOADING", "1"), "{notice:?}");
    let stamp: u64 = notice.get("MONOTONIC_USEC").unwrap().parse().unwrap();
    assert!((since..=monotonic()).contains(&stamp), "{stamp} is not after {since}");
}

/// One that is managed and serves, after its `READY=1`.
fn managed(manager: &Manager, config: Config) -> Running {
    let river = manager.manage(River::with_config(config)).serve();
    expect_ready(&manager.next(), &river);
    river
}

fn hand_over(manager: &Manager, old: &Running) -> Running {
    let new = manager.manage(old.successor()).start();
    new.wait_state("AwaitingHandoff");
    let begin = monotonic();
    old.signal(Signal::QUIT);
    new.wait_serving();
    expect_reloading(&manager.next(), begin);
    expect_ready(&manager.next(), &new);
    new
}

#[test]
fn row_20_over_several_upgrades_the_manager_follows_and_hears_of_no_end() {
    let manager = Manager::new();
    let mut river = managed(&manager, Config::respond("here"));
    for generation in 2..6 {
        let new = hand_over(&manager, &river);
        assert!(river.wait_exit(PATIENCE).success());
        // The one that has gone said nothing more, and no STOPPING above all.
        assert_eq!(manager.rest(), [], "generation {generation}");
        assert_eq!(get(new.web(), "/").text(), "here");
        river = new;
    }
    river.signal(Signal::TERM);
    let notice = manager.next();
    assert!(notice.has("STOPPING", "1"), "{notice:?}");
    assert!(river.wait_exit(PATIENCE).success());
    assert_eq!(manager.rest(), []);
}

#[test]
fn the_end_by_sigint_is_an_end_too() {
    let manager = Manager::new();
    let river = managed(&manager, Config::respond("here"));
    river.signal(Signal::INT);
    assert!(manager.next().has("STOPPING", "1"));
    assert!(river.wait_exit(PATIENCE).success());
}

#[test]
fn whoever_waits_and_leaves_says_nothing() {
    let manager = Manager::new();
    let river = managed(&manager, Config::respond("here"));
    let waiter = manager.manage(river.successor()).start();
    waiter.wait_state("AwaitingHandoff");
    waiter.signal(Signal::TERM);
    assert!(waiter.wait_exit(PATIENCE).success());
    let failing = manager.manage(river.successor().arg("--workers").arg("none")).start();
    assert_eq!(failing.wait_exit(PATIENCE).code(), Some(64));
    assert_eq!(manager.rest(), []);
}

#[test]
fn a_failed_hand_over_ends_the_reload_and_says_why() {
    let manager = Manager::new();
    let river = managed(&manager, Config::respond("here"));
    let peer = Peer::hello(&river.dir().upgrade_socket(), "[1]");
    river.wait_for_line("waits to take over", PATIENCE);
    let begin = monotonic();
    river.signal(Signal::QUIT);
    expect_reloading(&manager.next(), begin);
    peer.send("Refuse(why:\"the test does not want it\")");
    let notice = manager.next();
    expect_ready(&notice, &river);
    assert!(notice.get("STATUS").unwrap().contains("the test does not want it"), "{notice:?}");
    assert_eq!(get(river.web(), "/").text(), "here");
}

#[test]
fn sighup_is_one_reload_to_the_manager() {
    let manager = Manager::new();
    let river = managed(&manager, Config::respond("here"));
    let family = Family::of(river.dir());
    for generation in 2..4 {
        let begin = monotonic();
        family.serving().signal(Signal::HUP);
        expect_reloading(&manager.next(), begin);
        let notice = manager.next();
        river.wait_state_again("Serving", generation);
        let pid = family.serving().pid().to_string();
        assert!(notice.has("READY", "1") && notice.has("MAINPID", &pid), "{notice:?}");
    }
    assert!(river.ends_within(PATIENCE));
    assert_eq!(manager.rest(), []);
    family.run(&["stop"]).expect(0, &["has ended"]);
    assert!(manager.next().has("STOPPING", "1"));
}

#[test]
fn a_reload_that_is_refused_ends_for_the_manager_too() {
    let manager = Manager::new();
    let river = managed(&manager, Config::respond("here"));
    let expect_failure = |why: &str| {
        let begin = monotonic();
        river.signal(Signal::HUP);
        expect_reloading(&manager.next(), begin);
        let notice = manager.next();
        expect_ready(&notice, &river);
        assert!(notice.get("STATUS").unwrap().contains(why), "{notice:?}");
    };
    let good = std::fs::read_to_string(river.dir().config()).unwrap();
    std::fs::write(river.dir().config(), good.replace("respond:", "reply:")).unwrap();
    expect_failure("reply: unknown field");
    std::fs::write(river.dir().config(), good).unwrap();
    let waiter = river.successor().start();
    waiter.wait_state("AwaitingHandoff");
    river.wait_for_line("waits to take over", PATIENCE);
    expect_failure("waits already");
    assert_eq!(get(river.web(), "/").text(), "here");
}

#[test]
fn a_take_back_is_told() {
    let manager = Manager::new();
    let river = managed(&manager, Config::respond("here").handoff("guard: \"20s\""));
    let new = hand_over(&manager, &river);
    new.signal(Signal::KILL);
    let notice = manager.next();
    expect_ready(&notice, &river);
    assert!(notice.get("STATUS").unwrap().starts_with("serving again"), "{notice:?}");
}

#[test]
fn the_watchdog_is_fed_by_whoever_serves() {
    let manager = Manager::new();
    let watched = |river: River| {
        // The manager's own count of processes ends with the first instance.
        manager.manage(river).env("WATCHDOG_USEC", &format!("{WATCHDOG_MS}000")).env("WATCHDOG_PID", "1")
    };
    let old = watched(River::with_config(Config::respond("here").handoff("guard: \"1s\""))).serve();
    expect_ready(&manager.next_news(), &old);
    let new = watched(old.successor()).start();
    new.wait_state("AwaitingHandoff");
    manager.rest();
    // From before the hand-over until the first sign of life after the old one's end.
    let (mut last, mut longest, mut news) = (Instant::now(), Duration::ZERO, Vec::new());
    old.signal(Signal::QUIT);
    let begin = Instant::now();
    let mut ended = None;
    while ended.is_none_or(|ended| last <= ended) {
        assert!(begin.elapsed() < PATIENCE, "the old instance does not end, or nobody gives signs of life");
        let notice = manager.next();
        if !notice.has("WATCHDOG", "1") {
            news.push(notice);
            continue;
        }
        longest = longest.max(last.elapsed());
        last = Instant::now();
        if !old.alive() {
            ended.get_or_insert(last);
        }
    }
    println!("the longest time between two signs of life: {longest:?}");
    // Half of it is what each instance keeps to; all of it is when the manager would end the service.
    assert!(longest < Duration::from_millis(WATCHDOG_MS), "no sign of life for {longest:?}");
    assert_eq!(news.len(), 2, "{news:?}");
    assert!(news[0].has("RELOADING", "1"), "{news:?}");
    expect_ready(&news[1], &new);
    assert!(old.wait_exit(PATIENCE).success());
    manager.rest();
    let begin = Instant::now();
    for _ in 0..5 {
        assert!(manager.next().has("WATCHDOG", "1"));
    }
    assert!(
        begin.elapsed() >= Duration::from_millis(WATCHDOG_MS * 3 / 2),
        "far more often than asked for: {:?}",
        begin.elapsed()
    );
}

#[test]
fn the_watchdog_starves_with_an_instance_that_is_stopped() {
    let manager = Manager::new();
    let river =
        manager.manage(River::with_config(Config::respond("here"))).env("WATCHDOG_USEC", "100000").serve();
    assert!(manager.next().get("READY").is_some() && manager.next().has("WATCHDOG", "1"));
    river.pause();
    manager.rest();
    assert_eq!(manager.next_within(Duration::from_millis(400)), None);
    river.resume();
    assert!(manager.next().has("WATCHDOG", "1"));
}

#[test]
fn a_manager_that_cannot_be_told_is_no_reason_not_to_serve() {
    for socket in ["/nonexistent/notify", "vsock:2:1", "relative"] {
        let river = River::with_config(Config::respond("here")).env("NOTIFY_SOCKET", socket).serve();
        assert_eq!(get(river.web(), "/").text(), "here");
        river.wait_line_after(0, "service manager");
    }
}
