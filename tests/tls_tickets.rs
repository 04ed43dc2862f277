//! Sessions that are resumed by tickets: across upgrades, between machines that share keys, and where they must not be.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests and their helpers fail by panicking")]

mod support;

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustls::HandshakeKind;
use support::tls::{Authority, NAME, Trust, VERSIONS};
use support::tools::require;
use support::{Config, Conn, Dir, PATIENCE, River, Running, Target, config, until, upgrade};

/// A service `web` with one listener with TLS that has these settings beside its certificate.
fn respond(tls: &str) -> Config {
    Config::new()
        .service_text("web", &format!("listeners: [{}], {}", listener(tls), config::respond("hello")))
}

fn listener(tls: &str) -> String {
    format!("(bind: \"127.0.0.1:0\", tls: (certificates: [(cert: \"site.pem\", key: \"site.key\")], {tls}))")
}

fn serve(authority: &Authority, config: Config) -> Running {
    let dir = Dir::new();
    authority.sign(NAME).write(dir.path(), "site");
    River::in_dir(dir).config(config).serve()
}

/// A request over a connection of its own; how the client shook hands. The tickets come before the response.
#[track_caller]
fn visit(address: SocketAddr, trust: &Trust) -> HandshakeKind {
    let mut conn = Conn::open(Target::Tls(address, trust.clone()));
    conn.get("/").expect_status(200);
    conn.socket().tls().session().handshake_kind().unwrap()
}

#[test]
fn clients_resume_across_upgrades() {
    let authority = Authority::new("authority");
    let mut river = serve(&authority, respond(""));
    for version in VERSIONS {
        let mut resumed = 0;
        for _ in 0..5 {
            let address = river.web();
            let clients: Vec<Trust> = (0..10).map(|_| Trust::new(authority.client(&[version]))).collect();
            for trust in &clients {
                assert_eq!(visit(address, trust), HandshakeKind::Full);
            }
            let next = upgrade(&river);
            assert_eq!(next.web(), address);
            resumed += clients.iter().filter(|one| visit(address, one) == HandshakeKind::Resumed).count();
            river = next;
        }
        assert!(resumed >= 50, "{resumed} of 50 have resumed with {version:?}");
    }
}

#[test]
fn a_session_lasts_over_several_upgrades_and_an_instance_that_started_cold_knows_nothing_of_it() {
    let authority = Authority::new("authority");
    let first = serve(&authority, respond(""));
    let trust = Trust::new(authority.client(&VERSIONS));
    visit(first.web(), &trust);
    let second = upgrade(&first);
    let third = upgrade(&second);
    let address = third.web();
    assert_eq!(visit(address, &trust), HandshakeKind::Resumed);
    let stranger = serve(&authority, respond(""));
    assert_eq!(visit(stranger.web(), &trust), HandshakeKind::Full);
}

/// One connection of OpenSSL's client, which reads or writes its session in a file; what it says of it.
fn openssl(river: &Running, session: &str) -> String {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &river.web().to_string(), "-servername", NAME, "-tls1_3"]);
    command.args(session.split(' ')).current_dir(river.dir().path());
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // It ends with the response's connection, and has read the tickets by then.
    stdin.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
    let said = child.wait_with_output().unwrap();
    drop(stdin);
    String::from_utf8_lossy(&said.stdout).into_owned()
}

/// One connection of each of so many of OpenSSL's clients, all at once; what each says, in their order. `session` is told
/// the name of the client's file.
fn openssl_clients(river: &Running, clients: usize, session: fn(&str) -> String) -> Vec<String> {
    std::thread::scope(|scope| {
        let started: Vec<_> = (0..clients)
            .map(|nth| scope.spawn(move || openssl(river, &session(&format!("session-{nth}.pem")))))
            .collect();
        started.into_iter().map(|client| client.join().unwrap()).collect()
    })
}

/// A hundred of them, each with a ticket of the instance before the one that it is shown to.
#[test]
fn openssl_resumes_across_upgrades() {
    const UPGRADES: usize = 5;
    const CLIENTS: usize = 20;
    if !require("openssl") {
        return;
    }
    let authority = Authority::new("authority");
    let mut river = serve(&authority, respond(""));
    for said in openssl_clients(&river, CLIENTS, |file| format!("-sess_out {file}")) {
        assert!(said.contains("New, TLSv1.3") && said.contains("hello"), "{said}");
    }
    let mut full = Vec::new();
    for _ in 0..UPGRADES {
        river = upgrade(&river);
        // What the new instance gives is kept for the one after it.
        let said = openssl_clients(&river, CLIENTS, |file| format!("-sess_in {file} -sess_out {file}"));
        assert!(said.iter().all(|one| one.contains("hello")), "{said:?}");
        full.extend(said.into_iter().filter(|one| !one.contains("Reused, TLSv1.3")));
    }
    assert!(full.len() <= 1, "{} of {} have not resumed: {full:?}", full.len(), UPGRADES * CLIENTS);
}

/// The name of the key that sealed a new ticket: its first bytes, which OpenSSL shows.
fn key_name(river: &Running) -> String {
    let said = openssl(river, "-ign_eof");
    let line = said.lines().find(|line| line.trim_start().starts_with("0000 - "));
    line.unwrap_or_else(|| panic!("no ticket: {said}")).chars().take(60).collect()
}

#[test]
fn keys_are_turned_and_what_they_sealed_is_good_for_its_lifetime() {
    if !require("openssl") {
        return;
    }
    let authority = Authority::new("authority");
    let river = serve(&authority, respond("tickets: (lifetime: \"12s\", rotate: \"1s\")"));
    let trust = Trust::new(authority.client(&VERSIONS));
    visit(river.web(), &trust);
    let before = key_name(&river);
    until("a new key seals", PATIENCE, || key_name(&river) != before);
    assert_eq!(visit(river.web(), &trust), HandshakeKind::Resumed);
}

#[test]
fn there_are_no_tickets_where_there_are_to_be_none() {
    let authority = Authority::new("authority");
    let river = serve(&authority, respond("tickets: (lifetime: \"0s\")"));
    for version in VERSIONS {
        let trust = Trust::new(authority.client(&[version]));
        for _ in 0..2 {
            assert_eq!(visit(river.web(), &trust), HandshakeKind::Full);
        }
    }
}

#[test]
fn machines_that_share_key_files_resume_each_other_s_sessions() {
    let authority = Authority::new("authority");
    let (old, new) = ([1; 48], [2; 80]);
    let start = |files: &[(&str, &[u8])]| {
        let dir = Dir::new();
        authority.sign(NAME).write(dir.path(), "site");
        files.iter().for_each(|(name, secret)| fs::write(dir.join(name), secret).unwrap());
        let names: Vec<String> = files.iter().map(|(name, _)| format!("{name:?}")).collect();
        let config = respond(&format!("tickets: (key_files: [{}])", names.join(", ")));
        River::in_dir(dir).config(config.system("certificate_check: \"20ms\"")).serve()
    };
    let one = start(&[("a", &old)]);
    let two = start(&[("b", &new), ("c", &old)]);
    let stranger = start(&[("a", &[3; 48])]);
    let kept = Trust::new(authority.client(&VERSIONS));
    visit(one.web(), &kept);
    assert_eq!(visit(two.web(), &kept), HandshakeKind::Resumed);
    // The other machine's first key is unknown here, until the file says so.
    assert_eq!(visit(one.web(), &kept), HandshakeKind::Full);
    assert_eq!(visit(stranger.web(), &kept), HandshakeKind::Full);
    visit(two.web(), &kept);
    fs::write(one.dir().join("a"), new).unwrap();
    one.wait_for_line("used from now on", PATIENCE);
    assert_eq!(visit(one.web(), &kept), HandshakeKind::Resumed);
    // The secret stays with the files over an upgrade.
    let next = upgrade(&one);
    assert_eq!(visit(next.web(), &kept), HandshakeKind::Resumed);
}

#[test]
fn a_session_is_no_way_around_a_client_s_certificate() {
    let (authority, clients, others) =
        (Authority::new("authority"), Authority::new("clients"), Authority::new("others"));
    let dir = Dir::new();
    authority.sign(NAME).write(dir.path(), "site");
    fs::write(dir.join("clients.pem"), clients.pem()).unwrap();
    fs::write(dir.join("others.pem"), others.pem()).unwrap();
    fs::write(dir.join("tickets.key"), [5; 48]).unwrap();
    let shared = "tickets: (key_files: [\"tickets.key\"])";
    let listeners = [
        listener(shared),
        listener(&format!("{shared}, client_ca: \"clients.pem\"")),
        listener(&format!("{shared}, client_ca: \"others.pem\", client_auth: Optional")),
        listener(shared),
    ];
    let text = format!("listeners: [{}], {}", listeners.join(", "), config::respond("hello"));
    let river = River::in_dir(dir).config(Config::new().service_text("web", &text)).serve();
    let [open, required, other, second] = [0, 1, 2, 3].map(|nth| river.address("web", nth));
    let nobody = Trust::new(authority.client(&VERSIONS));
    visit(open, &nobody);
    let mut refused = Conn::open(Target::Tls(required, nobody.clone()));
    assert!(
        refused.try_send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").is_err()
            || refused.try_read_response("GET").is_err()
    );
    // A listener of the same service that asks for the same takes it.
    let nobody = Trust::new(authority.client(&VERSIONS));
    visit(open, &nobody);
    assert_eq!(visit(second, &nobody), HandshakeKind::Resumed);
    let client = Trust::new(authority.client_with(&clients.sign("client")));
    visit(required, &client);
    assert_eq!(visit(required, &client), HandshakeKind::Resumed);
    // Who was vouched for by one authority is unknown where another one counts.
    let mut conn = Conn::open(Target::Tls(other, client));
    let resumed = conn.try_send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").is_ok()
        && conn.try_read_response("GET").is_ok()
        && conn.socket().tls().session().handshake_kind() == Some(HandshakeKind::Resumed);
    assert!(!resumed);
}

#[test]
fn nothing_of_a_key_is_logged() {
    let authority = Authority::new("authority");
    let dir: Arc<Dir> = Dir::new();
    authority.sign(NAME).write(dir.path(), "site");
    let secret: Vec<u8> = (0..48).map(|byte| b'A' + byte % 26).collect();
    fs::write(dir.join("tickets.key"), &secret).unwrap();
    let shared = listener("tickets: (key_files: [\"tickets.key\"])");
    let text = format!("listeners: [{shared}, {}], {}", listener(""), config::respond("hello"));
    let config = Config::new().service_text("web", &text);
    let old = River::in_dir(dir).config(config).serve();
    let new = support::upgrade_to(&old, old.successor());
    visit(new.address("web", 1), &Trust::new(authority.client(&VERSIONS)));
    let private = fs::read_to_string(old.dir().join("site.key")).unwrap();
    let private = private.lines().nth(1).unwrap();
    for river in [&old, &new] {
        for line in river.log().lines() {
            let text = line.text;
            assert!(!text.contains("TicketKeys(["), "{text}");
            assert!(!text.contains("ABCDEFGH") && !text.contains(private), "{text}");
        }
    }
}
