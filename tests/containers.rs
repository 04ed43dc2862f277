//! River as the first process of a container: the kernel would end its successor with it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::process::Command;

use rustix::process::{Pid, kill_process};
use support::tools::{lacks, require};
use support::*;

#[test]
fn an_instance_with_pid_1_hands_over_to_nobody_and_serves_on() {
    if !require("unshare") {
        return;
    }
    let may = Command::new("unshare").args(["--pid", "--fork", "--mount-proc", "true"]).output().unwrap();
    if !may.status.success() {
        lacks("to be root, who may make PID namespaces");
        return;
    }
    let river = River::with_config(Config::respond("here"))
        .after("exec unshare --pid --fork --kill-child --mount-proc \"$0\" \"$@\"")
        .serve();
    assert_eq!(river.dir().pid(), Some(1));
    let outer = river.pid();
    let children = fs::read_to_string(format!("/proc/{outer}/task/{outer}/children")).unwrap();
    let inner = Pid::from_raw(children.trim().parse().unwrap()).unwrap();
    kill_process(inner, Signal::HUP).unwrap();
    river.wait_for_line("the reload by SIGHUP failed", PATIENCE);
    let text = river.log().text();
    assert!(text.contains("has pid 1, as the first process of a container"), "{text}");
    // With no guard, it would have ended by now, and its successor with it.
    assert_eq!(get(river.web(), "/").text(), "here");
    assert!(!text.contains("Handing"), "{text}");
    kill_process(inner, Signal::TERM).unwrap();
    assert!(river.wait_exit(PATIENCE).success());
}
