//! Certificates of listeners: which is shown to whom, what is asked of clients, and what happens when files change.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests and their helpers fail by panicking")]

mod support;

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DistinguishedName, DnType};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CipherSuite, ClientConfig, ClientConnection, HandshakeKind};
use support::tls::{Authority, NAME, Pair, Trust, VERSIONS};
use support::tools::require;
use support::{
    Config, Conn, Dir, Origin, PATIENCE, River, Running, SOON, Signal, Target, config, until, upgrade_to,
};

/// A service `web` with one listener with TLS, whose settings these are, in front of `origin`.
fn proxy(origin: &Origin, tls: &str) -> Config {
    let connectors = config::connectors(&[origin.target().clone()]);
    let listener = format!("(bind: \"127.0.0.1:0\", tls: ({tls}))");
    Config::new().service_text("web", &format!("listeners: [{listener}], {connectors}"))
}

const SITE: &str = "certificates: [(cert: \"site.pem\", key: \"site.key\")]";

fn serve(dir: &Arc<Dir>, config: Config) -> Running {
    River::in_dir(dir.clone()).config(config).serve()
}

fn any(authority: &Authority) -> Trust {
    Trust::new(authority.client(&VERSIONS))
}

/// A new connection, shaken hands on, and the certificate that was shown.
fn shown(river: &Running, trust: &Trust) -> (Conn, CertificateDer<'static>) {
    let conn = Conn::open(Target::Tls(river.web(), trust.clone()));
    conn.socket().tls().shake().unwrap();
    let certificate = conn.socket().tls().session().peer_certificates().unwrap()[0].clone().into_owned();
    (conn, certificate)
}

fn own(pair: &Pair) -> CertificateDer<'static> {
    pair.chain().remove(0)
}

/// Whether a client gets a response.
fn is_served(river: &Running, config: ClientConfig) -> bool {
    let mut conn = Conn::open(Target::Tls(river.web(), Trust::new(config)));
    conn.try_send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").is_ok() && conn.try_read_response("GET").is_ok()
}

fn named(subject: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, subject);
    params
}

#[test]
fn the_certificate_is_chosen_by_the_host_that_the_client_names() {
    let (authority, dir, origin) = (Authority::new("authority"), Dir::new(), Origin::echo());
    let pairs = [NAME, "a.example", "*.a.example", "b.a.example"].map(|name| authority.sign(name));
    let mut list = Vec::new();
    for (nth, pair) in pairs.iter().enumerate() {
        pair.write(dir.path(), &nth.to_string());
        list.push(format!("(cert: \"{nth}.pem\", key: \"{nth}.key\")"));
    }
    let river = serve(&dir, proxy(&origin, &format!("certificates: [{}]", list.join(", "))));
    let trust = any(&authority);
    for (host, expected) in
        [(NAME, 0), ("a.example", 1), ("A.EXAMPLE", 1), ("x.a.example", 2), ("b.a.example", 3)]
    {
        assert_eq!(shown(&river, &trust.named(host)).1, own(&pairs[expected]), "{host}");
    }
    // For anybody else there is the first, which the client refuses here.
    for host in ["x.y.a.example", "other.example"] {
        let conn = Conn::open(Target::Tls(river.web(), trust.named(host)));
        let error = conn.socket().tls().shake().unwrap_err();
        assert!(error.to_string().contains("not valid for name"), "{host}: {error}");
    }
    let mut config = authority.client(&VERSIONS);
    config.enable_sni = false;
    assert_eq!(shown(&river, &Trust::new(config)).1, own(&pairs[0]));
}

#[test]
fn versions_and_suites_are_those_that_were_chosen() {
    let (authority, dir, origin) = (Authority::new("authority"), Dir::new(), Origin::echo());
    authority.sign(NAME).write(dir.path(), "site");
    let [old, new] = VERSIONS;
    let strict = serve(&dir, proxy(&origin, &format!("{SITE}, min_version: Tls13")));
    assert!(!is_served(&strict, authority.client(&[old])) && is_served(&strict, authority.client(&[new])));
    let dir = Dir::new();
    authority.sign(NAME).write(dir.path(), "site");
    let suites = "cipher_suites: [\"TLS13_CHACHA20_POLY1305_SHA256\", \"TLS13_AES_128_GCM_SHA256\"]";
    let river = serve(&dir, proxy(&origin, &format!("{SITE}, {suites}")));
    // The server's order counts, and there is no suite for TLS 1.2.
    let (conn, _) = shown(&river, &any(&authority));
    let suite = conn.socket().tls().session().negotiated_cipher_suite().unwrap().suite();
    assert_eq!(suite, CipherSuite::TLS13_CHACHA20_POLY1305_SHA256);
    assert!(!is_served(&river, authority.client(&[old])));
}

#[test]
fn a_unix_listener_may_speak_tls() {
    let (authority, dir) = (Authority::new("authority"), Dir::new());
    authority.sign(NAME).write(dir.path(), "site");
    let listener =
        format!("listeners: [(bind: \"unix:web.sock\", tls: ({SITE}))], {}", config::respond("hello"));
    let river = serve(&dir, Config::new().service_text("web", &listener));
    let mut stream = UnixStream::connect(dir.join("web.sock")).unwrap();
    let name = ServerName::try_from(NAME).unwrap();
    let mut session = ClientConnection::new(Arc::new(authority.client(&VERSIONS)), name).unwrap();
    session.complete_io(&mut stream).unwrap();
    assert!(!session.is_handshaking());
    drop(river);
}

#[test]
fn keys_of_all_kinds_are_read_and_those_with_a_passphrase_are_not() {
    if !require("openssl") {
        return;
    }
    let dir = Dir::new();
    let openssl = |arguments: &str| {
        let run =
            Command::new("openssl").args(arguments.split(' ')).current_dir(dir.path()).output().unwrap();
        assert!(run.status.success(), "{arguments}: {}", String::from_utf8_lossy(&run.stderr));
    };
    openssl("genrsa -traditional -out pkcs1.key 2048");
    openssl("pkcs8 -topk8 -nocrypt -in pkcs1.key -out pkcs8.key");
    // With a section for the curve's parameters before that of the key.
    openssl("ecparam -name prime256v1 -genkey -out sec1.key");
    openssl("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out p384.key");
    openssl("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-521 -out p521.key");
    openssl("genpkey -algorithm ed25519 -out ed25519.key");
    let mut list = Vec::new();
    for kind in ["pkcs1", "pkcs8", "sec1", "p384", "p521", "ed25519"] {
        openssl(&format!("req -x509 -key {kind}.key -subj /CN={kind} -days 90 -out {kind}.pem"));
        list.push(format!("(cert: \"{kind}.pem\", key: \"{kind}.key\")"));
    }
    // One file for both is common.
    let both = [fs::read(dir.join("sec1.key")).unwrap(), fs::read(dir.join("sec1.pem")).unwrap()].concat();
    fs::write(dir.join("both.pem"), both).unwrap();
    list.push("(cert: \"both.pem\", key: \"both.pem\")".to_owned());
    let text = |list: &str| {
        let listener = format!("listeners: [(bind: \"127.0.0.1:0\", tls: (certificates: [{list}]))]");
        Config::new().service_text("web", &format!("{listener}, respond: ()"))
    };
    let check = |list: &str| River::in_dir(dir.clone()).config(text(list)).arg("--validate-configs").start();
    assert!(check(&list.join(", ")).wait_exit(PATIENCE).success());
    openssl("rsa -in pkcs1.key -traditional -aes128 -passout pass:x -out old.key");
    openssl("pkcs8 -topk8 -in pkcs1.key -passout pass:x -out new.key");
    for key in ["old.key", "new.key"] {
        let refused = check(&format!("(cert: \"pkcs1.pem\", key: \"{key}\")"));
        refused.wait_for_line("the private key is encrypted", PATIENCE);
        assert_eq!(refused.wait_exit(PATIENCE).code(), Some(78));
    }
}

#[test]
fn clients_without_the_right_certificate_are_refused_where_one_is_required() {
    let (authority, clients, dir, origin) =
        (Authority::new("authority"), Authority::new("clients"), Dir::new(), Origin::echo());
    authority.sign(NAME).write(dir.path(), "site");
    fs::write(dir.join("clients.pem"), clients.pem()).unwrap();
    let river = serve(&dir, proxy(&origin, &format!("{SITE}, client_ca: \"clients.pem\"")));
    assert!(is_served(&river, authority.client_with(&clients.sign("client"))));
    assert!(!is_served(&river, authority.client(&VERSIONS)));
    assert!(!is_served(&river, authority.client_with(&authority.sign("stranger"))));
    let mut expired = named("late");
    expired.not_after = rcgen::date_time_ymd(2020, 1, 1);
    assert!(!is_served(&river, authority.client_with(&clients.sign_params(expired))));
    assert_eq!(origin.wait_requests(1, PATIENCE).len(), 1);
}

#[test]
fn servers_are_told_who_the_client_is_and_clients_cannot_tell_them() {
    let (authority, clients, dir, origin) =
        (Authority::new("authority"), Authority::new("clients"), Dir::new(), Origin::echo());
    authority.sign(NAME).write(dir.path(), "site");
    fs::write(dir.join("clients.pem"), clients.pem()).unwrap();
    let settings = "client_ca: \"clients.pem\", client_auth: Optional, client_subject_header: \"X-Who\"";
    let river = serve(&dir, proxy(&origin, &format!("{SITE}, {settings}")));
    let lie = "POST / HTTP/1.1\r\nhost: a\r\nX-Who: CN=root\r\nx_who: CN=root\r\nX-Client-Verified: true\r\n\
        X_Client-verified: true\r\nConnection: x-who\r\nTransfer-Encoding: chunked\r\nX-Other: 1\r\n\r\n\
        1\r\na\r\n0\r\nX-Who: CN=root\r\nx_client_verified: true\r\nX-Trailer: 1\r\n\r\n";
    // What the server hears of a client, and how that shook hands.
    let said = |trust: &Trust| {
        let before = origin.requests().len();
        let mut conn = Conn::open(Target::Tls(river.web(), trust.clone()));
        conn.send(lie);
        conn.read_response("POST").expect_status(200);
        let request = origin.wait_requests(before + 1, PATIENCE)[before].clone();
        let all = |name: &str| -> Vec<String> {
            request.fields.all(name).chain(request.trailers.all(name)).map(str::to_owned).collect()
        };
        assert_eq!(all("x-other").len() + all("x-trailer").len(), 2);
        for alias in ["x_who", "x_client-verified", "x_client_verified"] {
            assert!(all(alias).is_empty(), "{alias}");
        }
        let kind = conn.socket().tls().session().handshake_kind().unwrap();
        (all("x-who"), all("x-client-verified"), kind)
    };
    let trust = Trust::new(authority.client_with(&clients.sign_params(named("cliént, 7"))));
    // A session that is resumed brings the certificate with it.
    for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let (subject, verified, how) = said(&trust);
        assert_eq!((subject, verified), (vec!["CN=cli\\c3\\a9nt\\, 7".to_owned()], vec!["true".to_owned()]));
        assert_eq!(how, kind);
    }
    let (subject, verified, _) = said(&any(&authority));
    assert_eq!((subject, verified), (vec![], vec!["false".to_owned()]));
}

/// Replaces the files of `name` by renaming, as an ACME client does.
fn replace(dir: &Path, name: &str, pair: &Pair) {
    put(dir, &format!("{name}.key"), &pair.key);
    put(dir, &format!("{name}.pem"), &pair.certificate);
}

fn put(dir: &Path, name: &str, text: &str) {
    fs::write(dir.join("next"), text).unwrap();
    fs::rename(dir.join("next"), dir.join(name)).unwrap();
}

#[test]
fn files_that_change_are_read_again_and_connections_stay() {
    let (authority, dir, origin) = (Authority::new("authority"), Dir::new(), Origin::echo());
    let (first, second) = (authority.sign(NAME), authority.sign(NAME));
    first.write(dir.path(), "site");
    let river = serve(&dir, proxy(&origin, SITE).system("certificate_check: \"20ms\""));
    // A fresh store of sessions each time, since a session that is resumed shows the certificate it began with.
    let (mut conn, certificate) = shown(&river, &any(&authority));
    assert_eq!(certificate, own(&first));
    replace(dir.path(), "site", &second);
    river.wait_for_line("have changed, and are used from now on", PATIENCE);
    assert_eq!(shown(&river, &any(&authority)).1, own(&second));
    conn.get("/").expect_status(200);
    // A file that is no good changes nothing, and is told of once.
    let mark = river.mark();
    put(dir.path(), "site.pem", "nothing");
    let line = river.wait_line_after(mark, "cannot be used").text;
    assert!(line.contains("site.pem") && line.contains("the file has no certificate"), "{line}");
    assert_eq!(shown(&river, &any(&authority)).1, own(&second));
    // Nor does a key that is another's, which may only have come first.
    let third = authority.sign(NAME);
    let mark = river.mark();
    put(dir.path(), "site.pem", &third.certificate);
    river.wait_line_after(mark, "is not that of the certificate");
    assert_eq!(shown(&river, &any(&authority)).1, own(&second));
    let mark = river.mark();
    put(dir.path(), "site.key", &third.key);
    river.wait_line_after(mark, "have changed, and are used from now on");
    assert_eq!(shown(&river, &any(&authority)).1, own(&third));
    let log = river.log().lines();
    let told = log.iter().filter(|line| line.text.contains("the file has no certificate")).count();
    assert_eq!(told, 1, "{log:#?}");
    conn.get("/").expect_status(200);
}

#[test]
fn sigusr1_reads_files_again_in_every_state() {
    let (authority, dir, origin) = (Authority::new("authority"), Dir::new(), Origin::echo());
    authority.sign(NAME).write(dir.path(), "site");
    // Nothing but the signal has them read, and who hands over stays.
    let config = proxy(&origin, SITE).system("certificate_check: \"0s\"").handoff("guard: \"1h\"");
    let old = serve(&dir, config);
    let ask = |river: &Running, pattern: &str| {
        let mark = river.mark();
        river.signal(Signal::USR1);
        river.wait_line_after(mark, "SIGUSR1: the files of all certificates are read again");
        river.wait_line_after(mark, pattern);
    };
    ask(&old, "are as they were");
    let new = old.successor().start();
    new.wait_state("AwaitingHandoff");
    let second = authority.sign(NAME);
    replace(dir.path(), "site", &second);
    ask(&new, "used from now on");
    ask(&old, "used from now on");
    assert_eq!(shown(&old, &any(&authority)).1, own(&second));
    old.signal(Signal::QUIT);
    new.wait_serving();
    old.wait_state("Draining");
    fs::remove_file(dir.join("site.key")).unwrap();
    for river in [&old, &new] {
        ask(river, "the file cannot be read");
        // Whoever asks again is told again.
        ask(river, "the file cannot be read");
    }
    assert_eq!(shown(&new, &any(&authority)).1, own(&second));
    new.signal(Signal::TERM);
    assert!(new.wait_exit(SOON).success());
}

#[test]
fn a_successor_reads_the_files_itself_and_a_bad_one_keeps_it_from_taking_over() {
    let (authority, dir, origin) = (Authority::new("authority"), Dir::new(), Origin::echo());
    authority.sign(NAME).write(dir.path(), "site");
    let old = serve(&dir, proxy(&origin, SITE).system("certificate_check: \"0s\""));
    fs::write(dir.join("site.pem"), "").unwrap();
    let refused = old.successor().start();
    refused.wait_for_line("the file has no certificate", PATIENCE);
    assert_eq!(refused.wait_exit(PATIENCE).code(), Some(78));
    let second = authority.sign(NAME);
    replace(dir.path(), "site", &second);
    let new = upgrade_to(&old, old.successor());
    // For a moment both accept.
    until("only the successor accepts", PATIENCE, || shown(&new, &any(&authority)).1 == own(&second));
}

#[test]
fn a_connection_in_plain_text_does_not_move_to_a_listener_with_tls() {
    let (authority, dir, origin) = (Authority::new("authority"), Dir::new(), Origin::echo());
    authority.sign(NAME).write(dir.path(), "site");
    let connectors = config::connectors(&[origin.target().clone()]);
    let old = serve(&dir, Config::new().service("web", &["127.0.0.1:0"], &connectors));
    let mut conn = Conn::open(old.web());
    conn.get("/").expect_status(200);
    let next = old.successor().config(proxy(&origin, SITE));
    old.wait_serving();
    let new = upgrade_to(&old, next);
    old.wait_for_line("TLS is spoken on its listener", PATIENCE);
    // It is answered once more where it was.
    assert!(conn.get("/").expect_status(200).closed);
    shown(&new, &any(&authority));
}

#[test]
fn the_log_says_how_long_certificates_are_good() {
    let (authority, dir, origin) = (Authority::new("authority"), Dir::new(), Origin::echo());
    let until = |days: i64| {
        let mut params = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
        let now = i64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs());
        let at = now.unwrap() + days * 86_400 + 600;
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(at.unsigned_abs());
        authority.sign_params(params)
    };
    for (name, days) in [("good", 90), ("soon", 12), ("late", -3)] {
        until(days).write(dir.path(), name);
    }
    let list = ["good", "soon", "late"].map(|name| format!("(cert: \"{name}.pem\", key: \"{name}.key\")"));
    let config = proxy(&origin, &format!("certificates: [{}]", list.join(", ")));
    let river = serve(&dir, config);
    for (pattern, level, file, days) in [
        ("certificate is good", "INFO", "good.pem", "days=90"),
        ("certificate expires soon", "WARN", "soon.pem", "days=12"),
        ("certificate has expired", "ERROR", "late.pem", "days=2"),
    ] {
        let line = river.wait_for_line(pattern, PATIENCE).text;
        assert!([level, file, days].iter().all(|part| line.contains(part)), "{line}");
    }
    // Keys that rcgen's caller wrote with the usual mode are for everybody to read.
    river.wait_for_line("every user of the machine may read this secret", PATIENCE);
    let checked = River::in_dir(dir.clone()).arg("--validate-configs").start();
    assert!(checked.wait_exit(PATIENCE).success());
    checked.wait_for_line("certificate has expired", PATIENCE);
    assert!(!checked.log().lines().iter().any(|line| line.text.contains("certificate is good")));
}

#[test]
fn certificates_that_no_client_can_ask_for_are_warned_of() {
    let (authority, dir, origin) = (Authority::new("authority"), Dir::new(), Origin::echo());
    let mut addresses = named("addresses");
    for address in ["192.0.2.1", "2001:db8::7"] {
        addresses.subject_alt_names.push(rcgen::SanType::IpAddress(address.parse().unwrap()));
    }
    let odd = CertificateParams::new(vec!["f*.example".to_owned()]).unwrap();
    for (name, params) in [("nameless", named("nameless")), ("addresses", addresses), ("odd", odd)] {
        authority.sign_params(params).write(dir.path(), name);
    }
    authority.sign(NAME).write(dir.path(), "site");
    let check = |names: &[&str]| {
        let list: Vec<_> =
            names.iter().map(|name| format!("(cert: \"{name}.pem\", key: \"{name}.key\")")).collect();
        let config = proxy(&origin, &format!("certificates: [{}]", list.join(", ")));
        let checked = River::in_dir(dir.clone()).config(config).arg("--validate-configs").start();
        assert!(checked.wait_exit(PATIENCE).success());
        let warned = |line: &support::log::Line| line.text.contains("certificate names no host");
        let mut lines = checked.log().lines();
        lines.retain(warned);
        lines.into_iter().map(|line| line.text).collect::<Vec<_>>()
    };
    let only = check(&["nameless"]);
    assert!(matches!(&only[..], [one] if one.contains("WARN") && one.contains("and no address")), "{only:?}");
    // One that clients which connect to an address get, and which is right for those.
    assert_eq!(check(&["addresses", "site"]), [""; 0]);
    let hidden = check(&["site", "nameless", "odd", "addresses"]);
    for (line, file) in hidden.iter().zip(["nameless.pem", "odd.pem", "addresses.pem"]) {
        assert!(line.contains(file) && line.contains("no client gets it"), "{line}");
    }
    assert_eq!(hidden.len(), 3, "{hidden:?}");
    let config = proxy(&origin, "certificates: [(cert: \"addresses.pem\", key: \"addresses.key\")]");
    let line = serve(&dir, config).wait_for_line("certificate is good", PATIENCE).text;
    assert!(line.contains("names=\"192.0.2.1 2001:db8::7\""), "{line}");
}

#[test]
fn sigusr1_without_certificates_is_named_and_does_not_kill() {
    let river = River::with_config(Config::respond("here")).serve();
    river.signal(Signal::USR1);
    river.wait_for_line("SIGUSR1 is ignored: no listener has certificates", PATIENCE);
    until("it still answers", SOON, || support::get(river.web(), "/").text() == "here");
}
