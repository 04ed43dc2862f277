//! The process as its parent sees it: what it inherits, its last words, its exit codes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::thread;

use nix::sys::signal::{SigSet, Signal as Number};
use support::*;

/// Starts `river` from a thread that has these signals blocked; a child inherits that.
fn start_blocking(signals: &[Number], river: River) -> Running {
    let blocked: SigSet = signals.iter().copied().collect();
    let start = move || {
        blocked.thread_block().unwrap();
        river.start()
    };
    thread::spawn(start).join().unwrap()
}

#[test]
fn signals_that_were_blocked_when_it_was_started_are_taken() {
    let all = [Number::SIGTERM, Number::SIGINT, Number::SIGQUIT, Number::SIGHUP];
    for (signal, said) in [(Signal::HUP, "SIGHUP"), (Signal::QUIT, "no instance waits")] {
        let river = start_blocking(&all, River::with_config(Config::respond("here")));
        river.wait_serving();
        river.signal(signal);
        river.wait_for_line(said, PATIENCE);
        river.signal(Signal::TERM);
        assert!(river.wait_exit(SOON).success());
    }
    let river = start_blocking(&all, River::with_config(Config::respond("here")));
    river.wait_serving();
    river.signal(Signal::INT);
    assert!(river.wait_exit(SOON).success());
}
