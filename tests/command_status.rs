//! `river status`: the instances there are.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::thread;

use support::peer::Desk;
use support::*;

/// The cells of the table that it prints, without the heading.
fn table(text: &str) -> Vec<Vec<&str>> {
    let mut lines =
        text.lines().map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect());
    let heading: Vec<&str> = lines.next().unwrap();
    let expected = [
        "PID",
        "STATE",
        "GENERATION",
        "AGE",
        "CONNECTIONS",
        "TUNNELS",
        "MOVED",
        "ENDS WITHIN",
        "GUARD",
        "BUILD",
    ];
    assert_eq!(heading, expected);
    lines.collect()
}

/// What follows `name` in the `nth` object of a JSON text, up to the next comma or brace.
fn member(text: &str, nth: usize, name: &str) -> String {
    let object = text.split('{').nth(nth + 2).unwrap_or_else(|| panic!("no object {nth} in {text}"));
    let value =
        object.split(&format!("\"{name}\": ")).nth(1).unwrap_or_else(|| panic!("no {name} in {object}"));
    value.split([',', '}']).next().unwrap().to_owned()
}

#[test]
fn the_instance_in_service_is_shown_with_what_it_does() {
    let river = River::with_config(Config::respond("plain")).serve();
    let family = Family::of(river.dir());
    let mut conn = Conn::open(river.web());
    conn.get("/").expect_status(200);
    let said = family.run(&["status"]);
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
    let rows = table(&said.out);
    let [row] = rows.as_slice() else { panic!("{said:?}") };
    let build = format!("river {}", env!("CARGO_PKG_VERSION"));
    assert_eq!(row[..3], [&river.pid().to_string(), "Serving", "1"]);
    assert_eq!(row[4..], ["1", "0", "0", "-", "-", &build]);
    assert!(row[3].ends_with('s'), "{row:?}");
}

#[test]
fn those_that_drain_are_shown_with_their_deadline() {
    let (origin, gate) = Origin::gated(|_| true, |_, reply| reply.respond(200, &[], b"plain"));
    let old =
        River::with_config(Config::proxy(&origin).system("drain_timeout: \"90s\"").handoff("guard: \"10s\""))
            .serve();
    let family = Family::of(old.dir());
    let mut conn = Conn::open(old.web());
    conn.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    origin.wait_open_connections(PATIENCE, |open| open > 0);
    let new = upgrade(&old);
    let mut said = family.run(&["status"]);
    until("the old one has reported", PATIENCE, || {
        said = family.run(&["status"]);
        table(&said.out).len() == 2
    });
    let rows = table(&said.out);
    assert_eq!(rows[0][..3], [&new.pid().to_string(), "Serving", "2"]);
    assert_eq!(rows[1][..3], [&old.pid().to_string(), "Draining", "1"]);
    assert_eq!(rows[1][4], "1");
    assert!(rows[1][7].starts_with("1m2") && rows[1][8].ends_with('s'), "{rows:?}");

    let json = family.run(&["status", "--json"]).out;
    assert_eq!(member(&json, 0, "pid"), new.pid().to_string());
    assert_eq!(member(&json, 0, "deadline_ms"), "null");
    assert_eq!(member(&json, 1, "state"), "\"Draining\"");
    assert_eq!(member(&json, 1, "connections"), "1");
    let left: u64 = member(&json, 1, "deadline_ms").parse().unwrap();
    assert!((60_000..=90_000).contains(&left), "{json}");
    gate.open();
    conn.read_response("GET").expect_status(200);
}

#[test]
fn the_json_is_what_a_parser_takes() {
    if !tools::require("python3") {
        return;
    }
    let river = River::with_config(Config::respond("plain")).serve();
    let json = Family::of(river.dir()).run(&["status", "--json"]).expect(0, &["{"]).out;
    assert_eq!(json.lines().count(), 1);
    let script = "import json, sys\nfor one in json.load(sys.stdin)['instances']: print(sorted(one.items()))";
    let mut python = Command::new("python3")
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    python.stdin.take().unwrap().write_all(json.as_bytes()).unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success(), "{json}");
    let age = member(&json, 0, "age_ms");
    let expected = format!(
        "[('age_ms', {age}), ('build', 'river {}'), ('connections', 0), ('cut', 0), ('deadline_ms', None), \
         ('finished', 0), ('generation', 1), ('guard_ms', None), ('moved', 0), ('pid', {}), ('state', 'Serving'), \
         ('tunnels', 0)]\n",
        env!("CARGO_PKG_VERSION"),
        river.pid()
    );
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
}

#[test]
fn nobody_in_service_is_a_failure() {
    let dir = Dir::new();
    let family = Family::of(&dir);
    fs::write(dir.config(), Config::respond("plain").text()).unwrap();
    let nobody = "river: no instance is in service at the upgrade socket";
    let said = family.run(&["status"]).expect_error(69, &[nobody]);
    assert_eq!(said.out, "");
    let said = family.run(&["status", "--json"]).expect_error(69, &[nobody]);
    assert_eq!(said.out, "{\"instances\": []}\n");
    assert!(!said.err.contains("--validate-configs"), "nothing is wrong with it: {}", said.err);
}

#[test]
fn where_nobody_is_in_service_the_mistakes_of_the_configuration_are_said() {
    let dir = Dir::new();
    let family = Family::of(&dir);
    let write = |text: &str| fs::write(dir.config(), text).unwrap();
    let good = Config::respond("plain").text();
    let nobody = "river: no instance is in service at the upgrade socket";
    let mistakes = "river.ron does not pass --validate-configs:\n";
    // One that is found where the text is read, and one that is found by what it says.
    write(&good.replace("respond: (", "h3: 1, respond: (body: \"other\", status: 204, "));
    let found = [nobody, mistakes, "services.\"web\".h3: unknown field", " --> "];
    family.run(&["status"]).expect_error(69, &found);
    family.run(&["status", "--json"]).expect_error(69, &found).expect(69, &["{\"instances\": []}\n"]);
    family.run(&["stop"]).expect_error(69, &found);
    // No name is looked up, and two names are not taken for one address.
    let bind = "(bind: \"127.0.0.1:0\")";
    assert!(good.contains(bind), "{good}");
    write(&good.replace(bind, "(bind: \"one.invalid:80\"), (bind: \"two.invalid:80\")"));
    let said = family.run(&["status"]).expect_error(69, &[nobody]);
    assert!(!said.err.contains("--validate-configs"), "{}", said.err);
}

#[test]
fn an_upgrade_socket_that_is_not_told_is_said_with_what_hides_it() {
    let dir = Dir::new();
    let family = Family::of(&dir);
    let with = |system: &str| {
        let text =
            format!("(system: ({system}), services: {{\"a\": (listeners: [(bind: \"x\")], respond: ())}})");
        fs::write(dir.config(), text).unwrap();
        family.run(&["status"])
    };
    let unset = "system.upgrade_socket is not set";
    // The listener's address is wrong too; both are said, and last what the command needs.
    with("").expect_error(78, &["services.\"a\".listeners[0].bind: the port is missing", unset]);
    with("upgrade_soket: \"a.sock\"").expect_error(78, &["did you mean \"upgrade_socket\"?", unset]);
    for (path, what) in [
        ("\"\"", "the path is empty"),
        ("\".\"", "\".\" is a directory"),
        ("\"@river\"", "abstract sockets are not supported"),
        ("3", "expected a string, found a number"),
    ] {
        let said = with(&format!("upgrade_socket: {path}"));
        let said = said.expect_error(78, &["system.upgrade_socket: ", what, "river.ron:1:27"]);
        assert!(!said.err.contains(unset), "{}", said.err);
    }
    // A directory may come with the instance.
    let nobody = "river: no instance is in service at the upgrade socket";
    with("upgrade_socket: \"later/a.sock\"").expect_error(69, &[nobody, "the port is missing"]);
}

#[test]
fn all_that_matters_of_the_configuration_is_its_socket() {
    let river = River::with_config(Config::respond("plain")).serve();
    let family = Family::of(river.dir());
    let pid = river.pid().to_string();
    // What is wrong elsewhere is not of interest, and no name is looked up.
    let text = Config::respond("plain").text().replace("respond:", "reply:");
    fs::write(river.dir().config(), text).unwrap();
    family.run(&["status"]).expect(0, &[&pid]);
    fs::write(river.dir().config(), "(").unwrap();
    family.run(&["status"]).expect_error(78, &["error:"]);
    // Nor is there need of one.
    let socket = river.dir().upgrade_socket().display().to_string();
    family.run(&["status", "--upgrade-socket", &socket]).expect(0, &[&pid]);
    let command = River::in_dir(river.dir().clone()).without_config().arg("status");
    Said::of(&command.clone().env("RIVER_UPGRADE_SOCKET", &socket).start()).expect(0, &[&pid]);
    Said::of(&command.start()).expect_error(64, &["nothing says where the running instance is"]);
    fs::write(river.dir().config(), Config::respond("plain").text().replace("upgrade_socket", "//")).unwrap();
    family
        .run(&["status"])
        .expect_error(78, &["system.upgrade_socket is not set", "give --upgrade-socket PATH"]);
}

#[test]
fn an_instance_that_does_not_answer_is_told_from_none() {
    let dir = Dir::new();
    let family = Family::of(&dir);
    fs::write(dir.config(), Config::respond("plain").text()).unwrap();
    let desk = Desk::open(&dir.upgrade_socket());
    let pid = format!("pid {}", std::process::id());
    thread::scope(|scope| {
        scope.spawn(|| {
            let peer = desk.accept();
            assert_eq!(peer.expect("Ask").text, "Ask(watch:false,streams:false)");
            peer.send("Refuse(why:\"what is \\u{1b}[1mthat\")");
        });
        let why = format!("river: {pid} is in service, but does not say more: what is \\u{{1b}}[1mthat\n");
        family.run(&["status"]).expect_error(70, &[&why]);
    });
    // It is not waited for beyond the time of a greeting.
    let why = format!(
        "river: {pid}, which has the upgrade socket {}, did not answer within 5s\n",
        dir.upgrade_socket().display()
    );
    family.run(&["status"]).expect_error(75, &[&why]);
}

#[test]
fn sigint_ends_it() {
    let dir = Dir::new();
    let family = Family::of(&dir);
    fs::write(dir.config(), Config::respond("plain").text()).unwrap();
    let desk = Desk::open(&dir.upgrade_socket());
    let status = family.command(&["status"]).start();
    let peer = desk.accept();
    peer.expect("Ask");
    status.signal(Signal::INT);
    Said::by(&status, SOON).expect_error(75, &["SIGINT came before this was done"]);
}

#[test]
fn one_that_drains_after_sigterm_is_named_though_nobody_is_in_service() {
    let (origin, gate) = Origin::gated(|_| true, |_, reply| reply.respond(200, &[], b"whole"));
    let river = River::with_config(Config::proxy(&origin)).serve();
    let family = Family::of(river.dir());
    let mut conn = Conn::open(river.web());
    conn.request("GET", "/");
    origin.wait_requests(1, PATIENCE);
    river.signal(Signal::TERM);
    river.wait_state("Draining");
    let runs = format!("but pid {}, named in {}, runs", river.pid(), river.dir().pidfile().display());
    let nobody = "river: no instance is in service at the upgrade socket";
    family.run(&["status"]).expect_error(69, &[nobody, &runs]);
    family.run(&["stop"]).expect_error(69, &[nobody, &runs]);
    gate.open();
    assert_eq!(conn.read_response("GET").text(), "whole");
    assert!(river.wait_exit(PATIENCE).success());
}
