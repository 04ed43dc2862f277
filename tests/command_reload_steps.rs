//! `river reload` where the test is the instance in service, so that it can leave a hand-over at any step.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::net::TcpListener;
use std::sync::Arc;

use async_signal::{Signal as Raw, Signals};
use futures_lite::{FutureExt, StreamExt};
use support::peer::{self, Desk, Peer};
use support::*;

/// A reload of this process: it catches the SIGQUIT that it is sent.
struct Reload {
    quits: Signals,
    desk: Desk,
    listener: TcpListener,
    command: Running,
    dir: Arc<Dir>,
    family: Family,
}

impl Reload {
    /// Starts it, and answers its question as an earlier build does.
    fn begin(arguments: &[&str]) -> Self {
        // Before anybody can send one.
        let quits = Signals::new([Raw::Quit]).unwrap();
        let dir = Dir::new();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let config = Config::new().service("web", &[&address], &config::respond("new"));
        fs::write(dir.config(), config.text()).unwrap();
        let desk = Desk::open(&dir.upgrade_socket());
        let family = Family::of(&dir);
        let command = family.command(&[&["reload"], arguments].concat()).start();
        let reload = Self { quits, desk, listener, command, dir, family };
        reload.refuse_to_answer("true");
        reload
    }

    fn refuse_to_answer(&self, streams: &str) {
        let asker = self.desk.accept();
        assert_eq!(asker.expect("Ask").text, format!("Ask(watch:false,streams:{streams})"));
        asker.send("Refuse(why:\"Ask has no place here\")");
    }

    /// Lets the new instance wait, and waits for the SIGQUIT that follows.
    fn wait_quit(&mut self) -> (Peer, Member) {
        let id = format!("{}", self.listener.local_addr().unwrap());
        let new = self.desk.welcome(&[&id]);
        let line = self.command.wait_for_line(" started", PATIENCE).text;
        let pid = line.split_once("pid ").unwrap().1.split(' ').next().unwrap().parse().unwrap();
        async_io::block_on(self.quits.next().or(async {
            async_io::Timer::after(PATIENCE).await;
            panic!("no SIGQUIT came")
        }));
        self.command.wait_for_line(&format!("SIGQUIT sent to pid {}", std::process::id()), PATIENCE);
        (new, Member::of(pid))
    }

    /// It failed, and says that this process still serves.
    fn expect_failed(&self, code: i32, why: &str) {
        self.refuse_to_answer("false");
        let statement = format!("\nriver: pid {} is still serving\n", std::process::id());
        Said::of(&self.command).expect_error(code, &["river: the reload failed: ", why, &statement]);
        assert_eq!(self.family.pids(), []);
    }
}

#[test]
fn a_new_instance_that_does_not_serve_in_time_is_killed() {
    let mut reload = Reload::begin(&["--timeout", "10s"]);
    let (peer, new) = reload.wait_quit();
    // It says nothing, so it cannot be that it ends the service.
    peer.expect_closed();
    assert!(new.ends_within(PATIENCE));
    let why = format!("10s are over before the new instance served; pid {} was ended", new.pid());
    reload.expect_failed(75, &why);
}

#[test]
fn sigint_before_the_new_instance_serves_ends_it() {
    let mut reload = Reload::begin(&[]);
    let (peer, new) = reload.wait_quit();
    reload.command.signal(Signal::INT);
    peer.expect_closed();
    reload.expect_failed(
        75,
        &format!("SIGINT came before the new instance served; pid {} was ended", new.pid()),
    );
}

#[test]
fn a_new_instance_that_dies_before_it_serves_is_told_of() {
    let mut reload = Reload::begin(&[]);
    let (_peer, new) = reload.wait_quit();
    new.signal(Signal::KILL);
    reload.expect_failed(70, &format!("pid {} was ended by signal 9", new.pid()));
}

#[test]
fn a_refusal_after_sigquit_is_told_of() {
    let mut reload = Reload::begin(&[]);
    let (peer, _new) = reload.wait_quit();
    peer.send("Refuse(why:\"I would rather not\")");
    reload.expect_failed(75, "the hand-over failed: refused: I would rather not");
}

#[test]
fn an_instance_of_an_earlier_build_is_replaced_all_the_same() {
    let mut reload = Reload::begin(&["--timeout=10s"]);
    let (peer, new) = reload.wait_quit();
    let id = reload.listener.local_addr().unwrap().to_string();
    peer::offer(&peer, &id, &reload.listener, 0, 1);
    peer.expect("Adopted");
    peer.expect("Ready");
    peer.send("Commit");
    peer.expect("Owned");
    // This process neither reports nor ends.
    let over = format!("10s are over: pid {} goes on to drain by itself", std::process::id());
    let said = Said::of(&reload.command);
    let log = format!("pid={} ", new.pid());
    assert!(
        said.err.contains(&log),
        "an instance whose streams are not to be had logs to the reload's: {said:?}"
    );
    said.expect(0, &[&format!("pid {} is in service\n", new.pid()), &over]);
    assert_eq!(reload.dir.pid(), Some(new.pid()));
    assert_eq!(get(reload.listener.local_addr().unwrap(), "/").text(), "new");
}
