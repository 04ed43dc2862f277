//! `daemonize: true`: the exit code of the start is the daemon's outcome, and the pidfile is there when it returns.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rustix::process::{Pid, kill_process};
use support::proc::exists;
use support::*;

fn config() -> Config {
    Config::respond("here").system("daemonize: true")
}

/// A daemon, by the pidfile. It is ended by the [`Family`] of its directory, which each test has before it starts one: a
/// test may fail before it knows which process the daemon is.
struct Daemon(u32);

impl Daemon {
    #[track_caller]
    fn of(dir: &Dir) -> Self {
        Self(dir.pid().expect("a pidfile"))
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.0.try_into().unwrap()).unwrap(), signal).unwrap();
    }

    fn link(&self, name: &str) -> PathBuf {
        fs::read_link(format!("/proc/{}/{name}", self.0)).unwrap()
    }

    /// The session that it belongs to.
    fn session(&self) -> u32 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0)).unwrap();
        stat.rsplit_once(')').unwrap().1.split_whitespace().nth(3).unwrap().parse().unwrap()
    }
}

/// A start in a directory of its own, which is to end as a daemon, and whatever it starts.
fn begin(river: River) -> (Running, Family) {
    let family = Family::of(river.dir());
    (river.start(), family)
}

#[test]
fn the_daemon_serves_and_its_pidfile_is_there_when_the_start_returns() {
    let (river, _family) = begin(River::with_config(config()));
    // Its output is the daemon's too, so the end of the process is what counts.
    assert!(river.ends_within(PATIENCE));
    let daemon = Daemon::of(river.dir());
    assert!(daemon.0 != river.pid() && exists(daemon.0));
    assert_eq!(daemon.session(), daemon.0);
    assert_eq!(daemon.link("fd/0"), Path::new("/dev/null"));
    assert!(river.dir().upgrade_socket().exists());
    assert_eq!(get(river.web(), "/").text(), "here");
    let environment = fs::read_to_string(format!("/proc/{}/cmdline", daemon.0)).unwrap();
    assert!(environment.contains("--config"), "{environment}");
    daemon.signal(Signal::TERM);
    until("the daemon ends", PATIENCE, || !exists(daemon.0));
    assert!(river.wait_exit(PATIENCE).success());
    assert_eq!(river.dir().names(), ["river.ron"]);
}

#[test]
fn why_the_daemon_fails_is_said_once_with_its_exit_code() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let config = Config::new().service("web", &[&address], "respond: ()").system("daemonize: true");
    let (river, _family) = begin(River::with_config(config));
    assert_eq!(river.wait_exit(PATIENCE).code(), Some(69));
    let said = river.log().lines();
    let said: Vec<_> = said.iter().filter(|line| line.text.starts_with("river: cannot listen on")).collect();
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!(river.dir().names(), ["river.ron"]);
}

#[test]
fn a_wrong_configuration_needs_no_daemon_to_be_told() {
    let (river, _family) = begin(River::with_config(config().system("workers: 0")));
    assert_eq!(river.wait_exit(PATIENCE).code(), Some(78));
}

#[test]
fn with_upgrade_it_returns_when_the_daemon_waits() {
    let (river, _family) = begin(River::with_config(config()));
    assert!(river.ends_within(PATIENCE));
    let old = Daemon::of(river.dir());
    let start = river.successor().start();
    assert!(start.ends_within(PATIENCE));
    assert_eq!(river.dir().pid(), Some(old.0));
    start.wait_state("AwaitingHandoff");
    old.signal(Signal::QUIT);
    start.wait_serving();
    let new = Daemon::of(river.dir());
    assert_ne!(new.0, old.0);
    until("the old daemon ends", PATIENCE, || !exists(old.0));
    assert_eq!(get(start.web(), "/").text(), "here");
}

#[test]
fn sighup_replaces_a_daemon_by_a_daemon() {
    let (river, _family) = begin(River::with_config(config()));
    assert!(river.ends_within(PATIENCE));
    let old = Daemon::of(river.dir());
    old.signal(Signal::HUP);
    river.wait_state_again("Serving", 2);
    let new = Daemon::of(river.dir());
    assert_ne!(new.0, old.0);
    assert_eq!((new.session(), new.link("fd/0")), (new.0, PathBuf::from("/dev/null")));
    until("the old daemon ends", PATIENCE, || !exists(old.0));
    assert_eq!(get(river.web(), "/").text(), "here");
}

#[test]
fn with_nobody_to_take_over_from_the_start_fails() {
    let (river, _family) = begin(River::with_config(config()).upgrade());
    assert_eq!(river.wait_exit(PATIENCE).code(), Some(69));
    river.wait_line_after(0, "no instance is in service");
}

/// A start whose daemon hangs: it waits for an incumbent that accepts connections and says nothing. Returns the
/// daemon's pid with it.
fn hanging() -> (Family, Arc<Dir>, support::peer::Desk, Running, Daemon) {
    let dir = Dir::new();
    let desk = support::peer::Desk::open(&dir.upgrade_socket());
    let (river, family) = begin(River::in_dir(dir.clone()).config(config()).upgrade());
    let daemon = Daemon(child_of(river.pid()));
    (family, dir, desk, river, daemon)
}

fn child_of(parent: u32) -> u32 {
    let mut child = None;
    until("the daemon is started", PATIENCE, || {
        let all = fs::read_dir(format!("/proc/{parent}/task"))
            .into_iter()
            .flatten()
            .filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok());
        child = all
            .flat_map(|text| text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>())
            .next();
        child.is_some_and(|pid| {
            // The fork of River is River only once it has become the program.
            fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains("--upgrade"))
                && support::proc::caught(pid) & 1 << (Signal::TERM.as_raw() - 1) != 0
        })
    });
    child.unwrap()
}

#[test]
fn a_daemon_that_is_killed_is_noticed() {
    let (_family, _dir, _desk, river, daemon) = hanging();
    daemon.signal(Signal::KILL);
    assert_eq!(river.wait_exit(PATIENCE).code(), Some(70));
    river.wait_line_after(0, "was ended by signal 9");
}

#[test]
fn sigterm_to_the_start_ends_the_daemon_too() {
    for signal in [Signal::TERM, Signal::INT] {
        let (_family, dir, _desk, river, daemon) = hanging();
        river.signal(signal);
        assert_eq!(river.wait_exit(PATIENCE).code(), Some(75));
        until("the daemon ends", PATIENCE, || !exists(daemon.0));
        assert_eq!(dir.pid(), None);
    }
}

#[test]
fn a_daemon_that_hangs_is_ended_after_ready_timeout() {
    let dir = Dir::new();
    let _desk = support::peer::Desk::open(&dir.upgrade_socket());
    let config = Config::respond("here").system("daemonize: true").handoff("ready_timeout: \"300ms\"");
    let (river, _family) = begin(River::in_dir(dir).config(config).upgrade());
    assert_eq!(river.wait_exit(PATIENCE).code(), Some(75));
    river.wait_line_after(0, "did not serve within 300ms");
}

#[test]
fn a_standard_input_that_is_no_readiness_socket_is_warned_of() {
    let river = River::with_config(Config::respond("here")).env("RIVER_READINESS", "stdin").serve();
    river.wait_line_after(0, "is no readiness socket");
    assert_eq!(get(river.web(), "/").text(), "here");
}

/// What a terminal shows is what `script` writes to its file.
#[test]
fn a_terminal_is_let_go_of() {
    if !tools::require("script") {
        return;
    }
    let dir = Dir::new();
    let _family = Family::of(&dir);
    fs::write(dir.config(), String::from(config())).unwrap();
    let line = format!("{} --config {}", env!("CARGO_BIN_EXE_river"), dir.config().display());
    let mut command = Command::new("script");
    command.args(["-q", "-e", "-c", &line]).arg(dir.join("typescript"));
    let mut process =
        command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null()).spawn().unwrap();
    assert!(process.wait().unwrap().success());
    let daemon = Daemon::of(&dir);
    for stream in ["fd/0", "fd/1", "fd/2"] {
        assert_eq!(daemon.link(stream), Path::new("/dev/null"));
    }
    assert!(exists(daemon.0));
}
