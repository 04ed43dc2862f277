//! `river reload`: what it does, what it says, and how it ends.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use support::*;

/// An origin whose `/hold` answers when the gate opens.
fn holding() -> (Origin, Arc<Gate>) {
    Origin::gated(|target| target == "/hold", |_, reply| reply.respond(200, &[], b"plain"))
}

/// A connection with a request that is held, and that ends with its response.
fn held(address: std::net::SocketAddr, origin: &Origin) -> Conn {
    let mut conn = Conn::open(address);
    conn.send("GET /hold HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    origin.wait_open_connections(PATIENCE, |open| open > 0);
    conn
}

/// A program that stands in for the new instance.
fn program(dir: &Dir, script: &str) -> PathBuf {
    let path = dir.join("new-river");
    tools::put_program(&path, format!("#!/bin/sh\n{script}\n"));
    path
}

/// What never waits to take over, and ends with whoever started it.
const HANGS: &str = "exec tail --pid=$PPID -f /dev/null";

fn still_serving(old: &Running) -> String {
    format!("pid {} is still serving", old.pid())
}

#[test]
fn row_21_the_caller_learns_how_a_reload_went_and_no_request_is_lost() {
    let origin = Origin::builder().forgetful().start();
    let old = River::with_config(Config::proxy(&origin)).serve();
    let family = Family::of(old.dir());
    let loads = [
        Load::keep_alive(16, Pacing::Hammer).start(old.web()),
        Load::keep_alive(8, Pacing::Think(1..=30)).start(old.web()),
        Load::per_request(8, Pacing::Hammer).start(old.web()),
    ];
    let mut before = old.pid();
    for generation in 1..=3 {
        loads.iter().for_each(|load| load.wait_for(200, PATIENCE));
        let said = family.run(&["reload"]);
        let now = family.serving().pid();
        assert_ne!(now, before);
        said.expect(
            0,
            &[
                "river.ron: OK (1 service, 1 listener)\n",
                &format!(
                    "pid {before} is in service (river {}, generation {generation})\n",
                    env!("CARGO_PKG_VERSION")
                ),
                &format!("pid {now} started\n"),
                &format!("pid {now} waits to take over\n"),
                &format!("SIGQUIT sent to pid {before}\n"),
                &format!("pid {now} is in service\n"),
                &format!("pid {before} has no connection left"),
                "\nmoved ",
                ", cut 0\n",
            ],
        );
        before = now;
    }
    loads.iter().for_each(|load| load.wait_for(200, PATIENCE));
    for load in loads {
        load.stop().expect_none_lost();
    }
    assert!(old.ends_within(PATIENCE));
    // The new ones log where the first one did.
    assert_eq!(old.wait_state_again("Serving", 4).text.matches("generation=4").count(), 1);
    family.run(&["stop"]).expect(0, &["has ended"]);
}

#[test]
fn row_22_a_bad_configuration_disturbs_nobody() {
    let old = River::with_config(Config::respond("plain")).serve();
    let family = Family::of(old.dir());
    let mark = old.mark();
    let good = fs::read_to_string(old.dir().config()).unwrap();
    fs::write(old.dir().config(), good.replace("respond:", "reply:")).unwrap();
    let nothing = format!("\nriver: nothing was changed; {}\n", still_serving(&old));
    family.run(&["reload"]).expect_error(78, &["error:", "reply", "unknown field", &nothing]);
    // Where the file is no RON, it does not tell where to ask.
    fs::write(old.dir().config(), "(").unwrap();
    let socket = old.dir().upgrade_socket().display().to_string();
    family.run(&["reload", "--upgrade-socket", &socket]).expect_error(78, &["error:", &nothing]);
    let unknown = "\nriver: nothing was changed; an instance that was serving still is\n";
    family.run(&["reload"]).expect_error(78, &["error:", unknown]);
    assert_eq!(old.mark(), mark, "the instance in service was asked for something");
    assert_eq!(get(old.web(), "/").text(), "plain");
    fs::write(old.dir().config(), good).unwrap();
    family.run(&["reload"]).expect(0, &["is in service"]);
}

#[test]
fn row_22_a_new_address_that_is_in_use_disturbs_nobody() {
    let old = River::with_config(Config::respond("plain")).serve();
    let family = Family::of(old.dir());
    let (_taken, address) = old.configure_taken_address();
    family.run(&["reload"]).expect_error(
        69,
        &["river: the reload failed: ", &address, &format!("\nriver: {}\n", still_serving(&old))],
    );
    assert_eq!(Family::states(&old, old.pid()), ["Serving"]);
    assert_eq!(get(old.web(), "/").text(), "plain");
}

#[test]
fn a_configuration_that_fails_late_leaves_the_old_one_in_service() {
    let old = River::with_config(Config::respond("plain")).serve();
    let family = Family::of(old.dir());
    // The name can be looked for, but the file that is to be renamed to it has a longer one.
    let text = Config::respond("plain").text().replace("river.pid", &"p".repeat(254));
    fs::write(old.dir().config(), text).unwrap();
    let statement = format!("\nriver: {}\n", still_serving(&old));
    family.run(&["reload"]).expect_error(73, &["river: the reload failed: cannot write pidfile", &statement]);
    old.wait_state_again("Serving", 2);
    assert_eq!(get(old.web(), "/").text(), "plain");
    assert_eq!(old.dir().pid(), Some(old.pid()));
}

#[test]
fn what_becomes_of_a_new_instance_that_is_none_is_said() {
    let old = River::with_config(Config::respond("plain")).serve();
    let family = Family::of(old.dir());
    let statement = still_serving(&old);
    for (script, code, why) in [
        ("kill -KILL $$", 70, "was ended by signal 9"),
        ("exit 3", 70, "ended with exit status 3"),
        ("exit 75", 75, "ended with exit status 75"),
        ("exit 0", 75, "ended with exit status 0"),
    ] {
        let fake = program(old.dir(), script);
        Said::of(&family.command(&["reload"]).called(fake).start()).expect_error(code, &[why, &statement]);
    }
    let missing = family.command(&["reload"]).called(old.dir().join("none")).start();
    Said::of(&missing).expect_error(69, &["cannot start", "none: No such file", &statement]);
    assert_eq!(Family::states(&old, old.pid()), ["Serving"]);
    family.run(&["reload"]).expect(0, &["is in service"]);
}

#[test]
fn nobody_in_service_is_told_with_the_command_that_starts_cold() {
    let dir = Dir::new();
    let family = Family::of(&dir);
    fs::write(dir.config(), Config::respond("plain").text()).unwrap();
    let command =
        format!("; to start cold: {} --config {}", env!("CARGO_BIN_EXE_river"), dir.config().display());
    family.run(&["reload"]).expect_error(69, &["no instance is in service at the upgrade socket", &command]);
    assert_eq!(family.pids(), []);
    fs::write(dir.config(), Config::respond("plain").text().replace("upgrade_socket", "//")).unwrap();
    family.run(&["reload"]).expect_error(78, &["system.upgrade_socket is not set"]);
}

#[test]
fn the_new_instance_is_refused_where_another_waits() {
    let old = River::with_config(Config::respond("plain")).serve();
    let family = Family::of(old.dir());
    let waiting = old.successor().start();
    waiting.wait_state("AwaitingHandoff");
    let refused = format!("pid {} is waiting already", waiting.pid());
    family.run(&["reload"]).expect_error(75, &[&refused, &still_serving(&old)]);
    assert!(waiting.alive());
    old.signal(Signal::QUIT);
    waiting.wait_serving();
}

#[test]
fn an_instance_that_took_over_meanwhile_is_the_one_that_hands_over() {
    let old = River::with_config(Config::respond("plain")).serve();
    let family = Family::of(old.dir());
    let late = program(
        old.dir(),
        &format!(
            "while [ ! -e '{}' ]; do sleep 0.01; done\nexec '{}' \"$@\"",
            old.dir().join("go").display(),
            env!("CARGO_BIN_EXE_river")
        ),
    );
    let reload = family.command(&["reload"]).called(late).start();
    let new = started(&reload);
    let between = upgrade(&old);
    fs::write(old.dir().join("go"), "").unwrap();
    Said::of(&reload).expect(
        0,
        &[
            &format!("pid {} waits to take over\n", new.pid()),
            &format!("pid {} took over from pid {} meanwhile\n", between.pid(), old.pid()),
            &format!("SIGQUIT sent to pid {}\n", between.pid()),
            &format!("pid {} is in service\n", new.pid()),
            &format!("pid {} has no connection left", between.pid()),
        ],
    );
    assert_eq!(family.serving().pid(), new.pid());
}

#[test]
fn of_two_reloads_at_once_each_succeeds_or_is_refused() {
    let old = River::with_config(Config::respond("plain")).serve();
    let family = Family::of(old.dir());
    for _ in 0..5 {
        let before = family.serving().pid();
        let both = [0, 1].map(|_| family.command(&["reload"]).start());
        // Their own time would be over much later.
        let said = both.map(|one| Said::of(&one));
        assert!(said.iter().any(|one| one.code == Some(0)), "{said:#?}");
        for one in &said {
            let refused = matches!(one.code, Some(69 | 75)) && one.err.contains("the reload failed: ");
            assert!(one.code == Some(0) || refused, "{one:#?}");
        }
        assert_ne!(family.serving().pid(), before);
    }
    assert_eq!(get(old.web(), "/").text(), "plain");
}

#[test]
fn an_instance_in_service_that_is_stuck_is_not_waited_for_beyond_the_time() {
    let old = River::with_config(Config::respond("plain")).serve();
    let family = Family::of(old.dir());
    old.pause();
    let (pid, socket) = (old.pid(), old.dir().upgrade_socket());
    let why =
        format!("pid {pid}, which has the upgrade socket {}, did not answer; nothing was", socket.display());
    let over = |done: &str| format!("river: 300ms are over; {why} {done}\n");
    family.run(&["reload", "--timeout", "300ms"]).expect_error(75, &[&over("changed")]);
    family.run(&["stop", "--timeout", "300ms"]).expect_error(75, &[&over("done")]);
    old.resume();
    assert_eq!(get(old.web(), "/").text(), "plain");
}

#[test]
fn a_new_instance_that_never_waits_is_ended_when_the_time_is_over() {
    let old = River::with_config(Config::respond("plain")).serve();
    let family = Family::of(old.dir());
    let fake = program(old.dir(), HANGS);
    let reload = family.command(&["reload", "--timeout=500ms"]).called(fake).start();
    let new = started(&reload);
    let why =
        format!("500ms are over before the new instance waited to take over; pid {} was ended", new.pid());
    Said::of(&reload).expect_error(75, &[&why, &still_serving(&old)]);
    assert!(!new.alive());
}

#[test]
fn sigint_before_the_new_one_waits_ends_it() {
    let old = River::with_config(Config::respond("plain")).serve();
    let family = Family::of(old.dir());
    let fake = program(old.dir(), HANGS);
    let reload = family.command(&["reload"]).called(fake).start();
    let new = started(&reload);
    reload.signal(Signal::INT);
    let why = format!("SIGINT came before the new instance waited to take over; pid {} was ended", new.pid());
    Said::of(&reload).expect_error(75, &[&why, &still_serving(&old)]);
    assert!(!new.alive());
    assert_eq!(Family::states(&old, old.pid()), ["Serving"]);
}

/// The process that a reload says it started.
fn started(reload: &Running) -> Member {
    let line = reload.wait_for_line(" started", PATIENCE).text;
    let pid = line.split_once("pid ").unwrap().1.split(' ').next().unwrap();
    Member::of(pid.parse().unwrap())
}

#[test]
fn the_old_one_is_followed_until_its_last_connection_has_ended() {
    let (origin, gate) = holding();
    let old = River::with_config(Config::proxy(&origin)).serve();
    let family = Family::of(old.dir());
    let mut conn = held(old.web(), &origin);
    let reload = family.command(&["reload"]).start();
    reload.wait_for_line(
        &format!("pid {} drains: 1 connection; moved 0, finished 0, cut 0", old.pid()),
        PATIENCE,
    );
    assert!(reload.alive());
    gate.open();
    conn.read_response("GET").expect_status(200);
    let left = format!("pid {} has no connection left", old.pid());
    Said::of(&reload).expect(0, &[&left, "\nmoved 0, finished 1, cut 0\n"]);
}

#[test]
fn that_all_has_moved_is_told_when_it_has() {
    let old = River::with_config(Config::respond("plain").handoff("guard: \"10s\"")).serve();
    let family = Family::of(old.dir());
    let mut conn = Conn::open(old.web());
    conn.get("/").expect_status(200);
    let reload = family.command(&["reload"]).start();
    let new = started(&reload);
    let serves = reload.wait_for_line(&format!("pid {} is in service", new.pid()), PATIENCE);
    let done = reload.wait_for_line(&format!("pid {} has no connection left", old.pid()), PATIENCE);
    Said::of(&reload).expect(0, &["\nmoved 1, finished 0, cut 0\n"]);
    let took = done.at.saturating_duration_since(serves.at);
    assert!(took < Duration::from_millis(700), "{took:?}");
    conn.get("/").expect_status(200);
}

#[test]
fn connections_that_are_cut_are_counted() {
    let (origin, gate) = holding();
    let old = River::with_config(Config::proxy(&origin).system("drain_timeout: \"300ms\"")).serve();
    let family = Family::of(old.dir());
    let _conn = held(old.web(), &origin);
    family.run(&["reload"]).expect(0, &["drains: 1 connection", "\nmoved 0, finished 0, cut 1\n"]);
    gate.open();
}

#[test]
fn that_the_old_one_drains_longer_than_the_time_is_no_failure() {
    let (origin, gate) = holding();
    let old = River::with_config(Config::proxy(&origin)).serve();
    let family = Family::of(old.dir());
    let conn = held(old.web(), &origin);
    let over = format!("10s are over: pid {} goes on to drain by itself", old.pid());
    family.run(&["reload", "--timeout", "10s"]).expect(0, &["is in service", "drains: 1 connection", &over]);
    let new = family.serving();

    // Neither is that nobody wants to see the end of it.
    let reload = family.command(&["reload"]).start();
    let told = format!("pid {} is in service", started(&reload).pid());
    reload.wait_for_line(&told, PATIENCE);
    reload.wait_for_line("has no connection left", PATIENCE);
    assert_eq!(Said::of(&reload).code, Some(0));
    assert_ne!(family.serving().pid(), new.pid());
    assert!(old.alive());
    gate.open();
    drop(conn);
}

#[test]
fn sigint_after_the_new_one_serves_changes_nothing() {
    let (origin, gate) = holding();
    let old = River::with_config(Config::proxy(&origin)).serve();
    let family = Family::of(old.dir());
    let mut conn = held(old.web(), &origin);
    let reload = family.command(&["reload"]).start();
    reload.wait_for_line("drains: 1 connection", PATIENCE);
    reload.signal(Signal::INT);
    Said::of(&reload).expect(0, &[&format!("SIGINT came: pid {} goes on to drain by itself", old.pid())]);
    assert!(old.alive() && family.serving().alive());
    gate.open();
    conn.read_response("GET").expect_status(200);
}

#[test]
fn the_death_of_the_new_one_is_noticed_while_the_old_one_drains() {
    let (origin, gate) = holding();
    let old = River::with_config(Config::proxy(&origin).handoff("guard: \"10s\"")).serve();
    let family = Family::of(old.dir());
    let mut conn = held(old.web(), &origin);
    let reload = family.command(&["reload"]).start();
    let new = started(&reload);
    reload.wait_for_line("drains: 1 connection", PATIENCE);
    new.signal(Signal::KILL);
    let why = format!("the reload failed: pid {} was ended by signal 9 after it had served", new.pid());
    Said::of(&reload).expect_error(70, &[&why, &still_serving(&old)]);
    gate.open();
    conn.read_response("GET").expect_status(200);
    assert_eq!(get(old.web(), "/").text(), "plain");
}

#[test]
fn what_beats_the_file_is_passed_on_and_the_terminal_is_not() {
    let dir = Dir::new();
    let socket = dir.join("other.sock").display().to_string();
    let pidfile = dir.join("other.pid");
    let config = Config::respond("plain");
    let old = River::in_dir(dir.clone()).config(config).arg("--upgrade-socket").arg(&socket).serve();
    let family = Family::of(&dir);
    let runs = format!(
        ", but pid {}, named in {}, runs: the configuration has another upgrade_socket than that instance, or that one ends",
        old.pid(),
        dir.pidfile().display()
    );
    let said = family.run(&["reload"]).expect_error(69, &["no instance is in service", &runs]);
    assert!(!said.err.contains("to start cold"), "{said:?}");
    let pidfile = pidfile.to_str().unwrap();
    family
        .run(&["reload", "--workers=1", "--upgrade-socket", &socket, "--pidfile", pidfile])
        .expect(0, &["is in service"]);
    let new: u32 = fs::read_to_string(pidfile).unwrap().trim().parse().unwrap();
    let line = fs::read_to_string(format!("/proc/{new}/cmdline")).unwrap();
    let config = dir.config().display().to_string();
    let words: Vec<&str> = line.trim_end_matches('\0').split('\0').collect();
    let flags = [
        "--upgrade",
        "--config",
        &config,
        "--upgrade-socket",
        &socket,
        "--pidfile",
        pidfile,
        "--workers",
        "1",
    ];
    assert_eq!(words, [&[env!("CARGO_BIN_EXE_river")], &flags[..]].concat());
    // Fields behind the name: state, parent, process group.
    let stat = fs::read_to_string(format!("/proc/{new}/stat")).unwrap();
    let group = stat.rsplit_once(") ").unwrap().1.split(' ').nth(2).unwrap();
    assert_eq!(group, new.to_string(), "a signal to the reload's process group reaches the new instance");
    assert!(old.ends_within(PATIENCE));
}

/// `river reload` on a terminal of its own, after the commands that `prepare` it; and what that has shown so far.
fn reload_on_a_terminal(old: &Running, prepare: &str) -> (Process, impl Fn() -> String) {
    let shown = old.dir().join("typescript");
    let (river, config) = (env!("CARGO_BIN_EXE_river"), old.dir().config());
    let mut command = std::process::Command::new("script");
    command.args(["-qefc", &format!("{prepare}{river} reload --config {}", config.display())]).arg(&shown);
    let script = Process::start("script", &mut command);
    (script, move || fs::read_to_string(&shown).unwrap_or_default())
}

#[test]
fn on_a_terminal_how_the_old_one_drains_is_one_line() {
    if !tools::require("script") {
        return;
    }
    let (origin, gate) = holding();
    let old = River::with_config(Config::proxy(&origin)).serve();
    let _family = Family::of(old.dir());
    let mut conn = held(old.web(), &origin);
    let (script, shown) = reload_on_a_terminal(&old, "");
    let line = "drains: 1 connection; moved 0, finished 0, cut 0";
    until("it shows how the old one drains", PATIENCE, || shown().contains(line));
    gate.open();
    conn.read_response("GET").expect_status(200);
    assert!(script.wait_exit(PATIENCE).success());
    let seen = shown();
    let live = seen.find(&format!("{line}\u{1b}[K")).expect("what is left of the former text is erased");
    assert_eq!(seen[..live].rfind('\r'), seen[..live].rfind('\n').map(|at| at + 1), "{seen:?}");
}

#[test]
fn on_a_narrow_terminal_the_line_is_cut() {
    if !tools::require("script") {
        return;
    }
    let (origin, gate) = holding();
    let old = River::with_config(Config::proxy(&origin)).serve();
    let _family = Family::of(old.dir());
    let mut conn = held(old.web(), &origin);
    let (script, shown) = reload_on_a_terminal(&old, "stty cols 32; ");
    until("it shows how the old one drains", PATIENCE, || shown().contains("\u{1b}[K"));
    gate.open();
    conn.read_response("GET").expect_status(200);
    assert!(script.wait_exit(PATIENCE).success());
    let seen = shown();
    for live in seen.split("\u{1b}[K").take(seen.matches("\u{1b}[K").count()) {
        let live = live.rsplit('\r').next().unwrap();
        assert_eq!(live.len(), 31, "{live:?} in {seen:?}");
    }
}
