//! SIGHUP: an instance starts its own successor and hands over to it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::os::unix::fs::MetadataExt;

use support::tools::{put_program, river};
use support::*;

/// Sends SIGHUP to the instance in service and waits for the one that replaces it, the `generation`-th.
#[track_caller]
fn hang_up(family: &Family, first: &Running, generation: usize) -> Member {
    let old = family.serving();
    old.signal(Signal::HUP);
    first.wait_state_again("Serving", generation);
    let new = family.serving();
    assert_ne!(new.pid(), old.pid());
    new
}

/// Whether the process has children, ended or not.
fn has_children(pid: u32) -> bool {
    !fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap().is_empty()
}

#[test]
fn ten_in_a_row_lose_nothing() {
    let origin = Origin::builder().forgetful().start();
    let old = River::with_config(Config::proxy(&origin)).arg("--workers=2").serve();
    let family = Family::of(old.dir());
    let loads = [
        Load::keep_alive(16, Pacing::Hammer).start(old.web()),
        Load::keep_alive(16, Pacing::Think(1..=30)).start(old.web()),
        Load::per_request(8, Pacing::Hammer).start(old.web()),
    ];
    for generation in 2..=11 {
        loads.iter().for_each(|load| load.wait_for(100, PATIENCE));
        let new = hang_up(&family, &old, generation);
        let line = fs::read_to_string(format!("/proc/{}/cmdline", new.pid())).unwrap();
        let config = old.dir().config().display().to_string();
        let words: Vec<&str> = line.trim_end_matches('\0').split('\0').collect();
        assert_eq!(words, [env!("CARGO_BIN_EXE_river"), "--config", &config, "--workers=2", "--upgrade"]);
    }
    loads.iter().for_each(|load| load.wait_for(100, PATIENCE));
    for load in loads {
        load.stop().expect_none_lost();
    }
    assert!(old.ends_within(PATIENCE));
    assert_eq!(old.why("Handing").as_deref(), Some("SIGHUP"));
    family.run(&["stop"]).expect(0, &["has ended"]);
}

#[test]
fn row_22_a_bad_configuration_is_one_error_in_the_log_and_disturbs_nobody() {
    let old = River::with_config(Config::respond("plain")).serve();
    let family = Family::of(old.dir());
    let good = fs::read_to_string(old.dir().config()).unwrap();
    fs::write(old.dir().config(), good.replace("respond:", "reply:")).unwrap();
    old.signal(Signal::HUP);
    let line = old.wait_for_line("the reload by SIGHUP failed; this instance serves on", PATIENCE).text;
    assert!(line.contains("reply: unknown field") && line.contains("river.ron:"), "{line}");
    assert_eq!(Family::states(&old, old.pid()), ["Serving"]);
    let errors = old.log().lines().iter().filter(|line| line.text.contains(" ERROR ")).count();
    assert_eq!(errors, 1);
    assert_eq!(get(old.web(), "/").text(), "plain");
    until("the child was reaped", PATIENCE, || !has_children(old.pid()));

    fs::write(old.dir().config(), good.replace("plain", "other")).unwrap();
    hang_up(&family, &old, 2);
    // Until then both may answer.
    assert!(old.ends_within(PATIENCE));
    assert_eq!(get(old.web(), "/").text(), "other");
}

#[test]
fn an_address_that_is_in_use_is_named_in_the_log() {
    let old = River::with_config(Config::respond("plain")).serve();
    let _family = Family::of(old.dir());
    let (_taken, address) = old.configure_taken_address();
    old.signal(Signal::HUP);
    let line = old.wait_for_line("the reload by SIGHUP failed", PATIENCE).text;
    assert!(line.contains(&address), "{line}");
    assert_eq!(Family::states(&old, old.pid()), ["Serving"]);
}

#[test]
fn another_upgrade_socket_is_named_as_what_is_wrong() {
    let old = River::with_config(Config::respond("plain")).serve();
    let _family = Family::of(old.dir());
    let text = Config::respond("plain").text().replace("upgrade.sock", "other.sock");
    assert!(text.contains("other.sock"), "{text}");
    fs::write(old.dir().config(), text).unwrap();
    old.signal(Signal::HUP);
    let line = old.wait_for_line("the reload by SIGHUP failed", PATIENCE).text;
    let runs = format!(", but pid {}, named in ", old.pid());
    assert!(line.contains(&runs) && line.contains("another upgrade_socket"), "{line}");
    assert!(!line.contains("to start cold"), "{line}");
}

#[test]
fn a_successor_that_fails_late_is_told_of_and_reaped() {
    let old = River::with_config(Config::respond("plain")).serve();
    let family = Family::of(old.dir());
    let good = fs::read_to_string(old.dir().config()).unwrap();
    // The name can be looked for, but the file that is to be renamed to it has a longer one.
    fs::write(old.dir().config(), good.replace("river.pid", &"p".repeat(254))).unwrap();
    old.signal(Signal::HUP);
    let line = old.wait_for_line("the reload by SIGHUP failed", PATIENCE).text;
    assert!(line.contains("cannot write pidfile"), "{line}");
    until("the child was reaped", PATIENCE, || !has_children(old.pid()));
    assert_eq!(Family::states(&old, old.pid()), ["Serving", "Handing", "Serving"]);
    fs::write(old.dir().config(), good).unwrap();
    hang_up(&family, &old, 3);
}

#[test]
fn the_file_that_stands_at_the_path_now_is_what_runs_next() {
    let dir = Dir::new();
    let program = dir.join("river");
    put_program(&program, river());
    let old = River::in_dir(dir.clone()).config(Config::respond("plain")).program(&program).serve();
    let family = Family::of(&dir);
    let mut former = fs::metadata(&program).unwrap().ino();
    for generation in 2..=4 {
        put_program(&program, river());
        let new = hang_up(&family, &old, generation);
        let now = fs::metadata(&program).unwrap().ino();
        assert_ne!(now, former);
        assert_eq!(fs::metadata(format!("/proc/{}/exe", new.pid())).unwrap().ino(), now);
        former = now;
    }
}

#[test]
fn a_symbolic_link_is_followed_anew() {
    let dir = Dir::new();
    for name in ["one", "two"] {
        put_program(&dir.join(name), river());
    }
    std::os::unix::fs::symlink("one", dir.join("river")).unwrap();
    // The directory is what the path starts from, and it stays so.
    let old = River::in_dir(dir.clone())
        .config(Config::respond("plain"))
        .called("./river")
        .program(dir.join("river"));
    let old = old.serve();
    let family = Family::of(&dir);
    fs::remove_file(dir.join("river")).unwrap();
    std::os::unix::fs::symlink("two", dir.join("river")).unwrap();
    let new = hang_up(&family, &old, 2);
    assert_eq!(
        fs::read_link(format!("/proc/{}/exe", new.pid())).unwrap(),
        dir.path().canonicalize().unwrap().join("two")
    );
}

#[test]
fn a_name_without_a_slash_is_found_as_a_shell_finds_it() {
    let dir = Dir::new();
    put_program(&dir.join("river"), river());
    let path = format!("/nonexistent:{}:/usr/bin:/bin", dir.path().display());
    let old = River::in_dir(dir.clone())
        .config(Config::respond("plain"))
        .env("PATH", &path)
        .program(dir.join("river"))
        .called("river")
        .serve();
    let family = Family::of(&dir);
    let new = hang_up(&family, &old, 2);
    assert_eq!(
        fs::read_link(format!("/proc/{}/exe", new.pid())).unwrap(),
        dir.path().canonicalize().unwrap().join("river")
    );
    hang_up(&family, &old, 3);
}

#[test]
fn a_successor_that_never_waits_is_ended_in_time() {
    let dir = Dir::new();
    let program = dir.join("river");
    put_program(&program, river());
    let config = Config::respond("plain").system("handoff: (ready_timeout: \"400ms\")");
    let old = River::in_dir(dir.clone()).config(config).program(&program).serve();
    let family = Family::of(&dir);
    // It ends with whoever started it.
    put_program(&program, "#!/bin/sh\nexec tail --pid=$PPID -f /dev/null\n");
    old.signal(Signal::HUP);
    let started = old.wait_for_line("is started to replace this instance", PATIENCE).text;
    let child = Member::of(log::field(&started, "successor").unwrap().parse().unwrap());
    old.signal(Signal::HUP);
    let again =
        format!("SIGHUP: a reload is under way, with pid {}; this one is not acted upon", child.pid());
    old.wait_for_line(&again, PATIENCE);
    let line = old.wait_for_line("the reload by SIGHUP failed", PATIENCE).text;
    assert!(line.contains("did not come to wait within 400ms") && line.contains("repeated=1"), "{line}");
    assert!(child.ends_within(PATIENCE));
    until("the child was reaped", PATIENCE, || !has_children(old.pid()));

    for (script, why) in [("exit 3", "ended with exit status 3"), ("kill -KILL $$", "was ended by signal 9")]
    {
        put_program(&program, format!("#!/bin/sh\n{script}\n"));
        let mark = old.mark();
        old.signal(Signal::HUP);
        let line = old.wait_line_after(mark, "the reload by SIGHUP failed").text;
        assert!(line.contains(why), "{line}");
    }
    fs::remove_file(&program).unwrap();
    let mark = old.mark();
    old.signal(Signal::HUP);
    let line = old.wait_line_after(mark, "the reload by SIGHUP failed").text;
    assert!(line.contains("cannot start") && line.contains("No such file"), "{line}");
    until("the children were reaped", PATIENCE, || !has_children(old.pid()));
    assert_eq!(Family::states(&old, old.pid()), ["Serving"]);
    put_program(&program, river());
    hang_up(&family, &old, 2);
}

#[test]
fn a_successor_that_dies_later_is_reaped_and_the_service_taken_back() {
    let (origin, gate) =
        Origin::gated(|target| target == "/hold", |_, reply| reply.respond(200, &[], b"plain"));
    let old = River::with_config(Config::proxy(&origin).handoff("guard: \"10s\"")).serve();
    let family = Family::of(old.dir());
    let mut conn = Conn::open(old.web());
    conn.send("GET /hold HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    origin.wait_open_connections(PATIENCE, |open| open > 0);
    let new = hang_up(&family, &old, 2);
    new.signal(Signal::KILL);
    old.wait_for_line("the successor died; this instance serves again", PATIENCE);
    until("the child was reaped", PATIENCE, || !has_children(old.pid()));
    gate.open();
    conn.read_response("GET").expect_status(200);
    assert_eq!(get(old.web(), "/").text(), "plain");
    hang_up(&family, &old, 4);
}

#[test]
fn one_that_drains_names_who_serves() {
    let (origin, gate) = Origin::gated(|_| true, |_, reply| reply.respond(200, &[], b"plain"));
    let old = River::with_config(Config::proxy(&origin)).serve();
    let family = Family::of(old.dir());
    let mut conn = Conn::open(old.web());
    conn.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    origin.wait_open_connections(PATIENCE, |open| open > 0);
    let new = hang_up(&family, &old, 2);
    old.wait_for_line("to=Draining", PATIENCE);
    old.signal(Signal::HUP);
    let line = format!("SIGHUP is ignored: this instance has handed over; pid {} is in service", new.pid());
    old.wait_for_line(&line, PATIENCE);
    new.signal(Signal::TERM);
    gate.open();
    conn.read_response("GET").expect_status(200);
}

#[test]
fn where_it_cannot_be_done_it_is_said_why() {
    let config = Config::respond("plain");
    let alone = River::with_config(config.text().replace("upgrade_socket", "//")).serve();
    alone.signal(Signal::HUP);
    let line = alone.wait_for_line("the reload by SIGHUP failed; this instance serves on", PATIENCE).text;
    assert!(line.contains("system.upgrade_socket is not set"), "{line}");

    let old = River::with_config(config).serve();
    let family = Family::of(old.dir());
    let waiting = old.successor().start();
    waiting.wait_state("AwaitingHandoff");
    waiting.signal(Signal::HUP);
    waiting.wait_for_line("SIGHUP is ignored in this state", PATIENCE);
    until("the waiter is known", PATIENCE, || old.log().contains("waits to take over"));
    old.signal(Signal::HUP);
    let line = old.wait_for_line("the reload by SIGHUP failed; this instance serves on", PATIENCE).text;
    let why = format!(
        "pid {} waits already to take over; to hand over to it: kill -QUIT {}",
        waiting.pid(),
        old.pid()
    );
    assert!(line.contains(&why), "{line}");
    assert_eq!(family.pids().len(), 2);
    old.signal(Signal::QUIT);
    waiting.wait_serving();
}

#[test]
fn a_successor_that_may_have_connections_is_not_killed_when_it_is_given_up() {
    let config = Config::respond("plain").handoff("ready_timeout: \"400ms\"");
    let old = River::with_config(config).env("RIVER_FAULT", "before-send:Owned:stop").serve();
    old.signal(Signal::HUP);
    let started = old.wait_for_line("is started to replace this instance", PATIENCE).text;
    let child = Member::of(log::field(&started, "successor").unwrap().parse().unwrap());
    let line = old.wait_for_line("the reload by SIGHUP failed", PATIENCE).text;
    assert!(line.contains("it is left to end by itself"), "{line}");
    assert!(child.alive());
    child.signal(Signal::CONT);
    assert!(child.ends_within(PATIENCE));
    until("the child was reaped", PATIENCE, || !has_children(old.pid()));
    assert_eq!(Family::states(&old, child.pid()).last().map(String::as_str), Some("Exited"));
    assert_eq!(Family::states(&old, old.pid()).last().map(String::as_str), Some("Serving"));
    assert_eq!(get(old.web(), "/").text(), "plain");
}

#[test]
fn a_successor_that_comes_too_late_is_told_to_end() {
    let dir = Dir::new();
    let program = dir.join("river");
    put_program(&program, river());
    let old = River::in_dir(dir.clone()).config(Config::respond("plain")).program(&program).serve();
    put_program(&program, "#!/bin/sh\nexec sleep 600\n");
    old.signal(Signal::HUP);
    let started = old.wait_for_line("is started to replace this instance", PATIENCE).text;
    let late = Member::of(log::field(&started, "successor").unwrap().parse().unwrap());
    // Somebody else has the place at the desk before it comes.
    let new = River::in_dir(dir).upgrade().start();
    new.wait_state("AwaitingHandoff");
    until("the waiter is known", PATIENCE, || old.log().contains("waits to take over"));
    old.signal(Signal::QUIT);
    new.wait_serving();
    old.wait_for_line(&format!("pid {}, which was started by SIGHUP, is not needed", late.pid()), PATIENCE);
    assert!(late.ends_within(PATIENCE));
    assert!(new.alive());
}
