//! Configuration files, good and bad, and what is said about them.
//!
//! Every `fixtures/config/bad/*.ron` has the errors it must bring beside it. `RIVER_BLESS=1 cargo test --test config`
//! writes them anew; read the difference before it is committed.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use proptest::prelude::*;
use river::base::Address;
use river::cli;
use river::config::{self, Errors, Lookup, MAX_SIZE, Overrides, Plan, SETTINGS, Setting, Source};
use river::proxy::Handler;
use river::tls::{CipherSuite, MinVersion};
use river::upstream::Proto;
use tempfile::TempDir;

/// Knows only two names, so that no test asks the network.
fn resolve(hosts: &[&str]) -> Vec<Lookup> {
    let one = |host: &&str| match *host {
        "localhost" => Ok(vec!["[::1]:0".parse().unwrap(), ([127, 0, 0, 1], 0).into()]),
        "six" => Ok(vec!["[::1]:0".parse().unwrap()]),
        _ => Err(io::Error::other("the name is unknown")),
    };
    hosts.iter().map(one).collect()
}

/// A directory with the files that configurations name: certificates that are made for these tests.
fn certificates() -> &'static Path {
    static DIRECTORY: LazyLock<TempDir> = LazyLock::new(|| {
        let directory = tempfile::tempdir().unwrap();
        let put = |name: &str, content: &[u8]| fs::write(directory.path().join(name), content).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let params =
            rcgen::CertificateParams::new(["a.example".to_owned(), "*.a.example".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        put("cert.pem", certificate.pem().as_bytes());
        put("key.pem", key.serialize_pem().as_bytes());
        put("other.key", rcgen::KeyPair::generate().unwrap().serialize_pem().as_bytes());
        put("clients.pem", certificate.pem().as_bytes());
        let mut authority = rcgen::CertificateParams::default();
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        authority.distinguished_name.push(rcgen::DnType::CommonName, "authority");
        let authority = rcgen::CertifiedIssuer::self_signed(authority, rcgen::KeyPair::generate().unwrap());
        let authority = authority.unwrap();
        let leaf_key = rcgen::KeyPair::generate().unwrap();
        let leaf = rcgen::CertificateParams::new(["leaf.example".to_owned()]).unwrap();
        let leaf = leaf.signed_by(&leaf_key, &authority).unwrap();
        put("leaf.pem", leaf.pem().as_bytes());
        put("authority.pem", authority.pem().as_bytes());
        put("authority-and-leaf.pem", format!("{}{}", authority.pem(), leaf.pem()).as_bytes());
        put("junk.pem", b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n");
        put("junk.key", b"-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n");
        put("cert.der", certificate.der());
        put("damaged.pem", certificate.pem().replace("-----END", "----END").as_bytes());
        put("tickets.key", &[7; 48]);
        put("old.key", &[8; 80]);
        put("short.key", &[9; 31]);
        put("encrypted.key", ENCRYPTED.as_bytes());
        put("empty.pem", b"");
        put("two.key", format!("{0}{0}", key.serialize_pem()).as_bytes());
        fs::create_dir(directory.path().join("directory.pem")).unwrap();
        directory
    });
    DIRECTORY.path()
}

/// What a key with a passphrase begins with; the rest is not looked at.
const ENCRYPTED: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";

fn plan(source: &Source) -> Result<Plan, Errors> {
    Plan::from_source(source, &Overrides::default(), &resolve)
}

fn plan_text(text: &str) -> Result<Plan, Errors> {
    plan(&Source::from_text("river.ron", certificates(), text))
}

/// A file as if it stood where the certificates are that it names.
fn source_of(path: impl AsRef<Path>) -> Source {
    let text = fs::read_to_string(&path).unwrap();
    Source::from_text(&path.as_ref().display().to_string(), certificates(), &text)
}

fn plan_file(path: impl AsRef<Path>) -> Plan {
    plan(&source_of(path)).unwrap_or_else(|errors| panic!("{errors}"))
}

fn files(directory: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "ron"))
        .collect();
    files.sort();
    files
}

/// Whether a file is about TLS; then what it names is made by these tests.
fn uses_certificates(file: &Path) -> bool {
    file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("tls-"))
}

#[test]
fn bad_files_bring_their_errors() {
    let files = files("fixtures/config/bad");
    assert!(files.len() >= 40, "only {} bad files", files.len());
    let bless = std::env::var_os("RIVER_BLESS").is_some();
    let mut wrong = Vec::new();
    for file in &files {
        let source = match uses_certificates(file) {
            true => source_of(file),
            false => Source::read(file).unwrap(),
        };
        let errors = match plan(&source) {
            Ok(plan) => panic!("{} is accepted: {plan:#?}", file.display()),
            Err(errors) => format!("{errors}\n"),
        };
        let golden = file.with_extension("stderr");
        if bless {
            fs::write(&golden, &errors).unwrap();
        }
        if fs::read_to_string(&golden).unwrap_or_default() != errors {
            wrong.push(errors);
        }
    }
    assert!(wrong.is_empty(), "these differ from their .stderr file:\n\n{}", wrong.join("\n"));
}

#[test]
fn good_files_are_accepted() {
    for file in files("fixtures/config/good") {
        plan_file(file);
    }
}

#[test]
fn every_setting_arrives_in_the_plan() {
    let plan = plan_file("fixtures/config/good/all.ron");
    let here = certificates();
    assert_eq!(plan.system.workers.get(), 3);
    assert_eq!(plan.system.pid_file, Some(here.join("river.pid")));
    assert_eq!(plan.system.upgrade_socket, Some(here.join("river-upgrade.sock")));
    assert!(plan.system.daemonize);
    assert_eq!(plan.system.account.map(|account| account.uid()), Some(0));
    assert_eq!(plan.system.drain_timeout, Duration::from_secs(300));
    assert_eq!(plan.system.handoff.ready_timeout, Duration::from_secs(60));
    assert_eq!(plan.system.tunnel_drain_timeout, Duration::from_secs(3600));
    assert_eq!(plan.system.handoff.guard, Duration::from_secs(20));
    assert_eq!(plan.system.handoff.max_draining.get(), 2);
    assert!(!plan.system.handoff.move_connections);
    let ids: Vec<_> = plan.listeners.iter().map(|listener| listener.id.to_string()).collect();
    let socket = format!("unix:{}", here.join("web.sock").display());
    let tcp = ["0.0.0.0:8080", "[::1]:8080", "127.0.0.1:8081", "127.0.0.1:0#web.0"];
    assert_eq!(ids[..4], tcp);
    let secure = format!("unix:{}", here.join("secure.sock").display());
    assert_eq!(ids[4..], [socket.as_str(), "127.0.0.1:9000", secure.as_str(), "127.0.0.1:5432"]);
    assert_eq!(plan.listeners[4].mode, Some(0o660));
    assert_eq!(plan.listeners[1].activation.as_deref(), Some("web"));

    assert_eq!(plan.system.certificate_check, Duration::from_secs(60));
    assert!(plan.listeners[0].tls.is_none() && plan.listeners[0].terms.tls.is_none());
    let tls = plan.listeners[5].tls.as_ref().unwrap();
    let settings = tls.settings();
    assert_eq!(&*settings.service, "hello");
    assert_eq!(settings.certificates[1].cert, here.join("cert.pem"));
    assert_eq!((settings.certificates.len(), settings.min_version), (2, MinVersion::Tls13));
    let suites = [CipherSuite::TLS13_CHACHA20_POLY1305_SHA256, CipherSuite::TLS13_AES_128_GCM_SHA256];
    assert_eq!(settings.cipher_suites, suites);
    let client = settings.client_auth.as_ref().unwrap();
    assert_eq!((&client.ca, client.required), (&here.join("clients.pem"), false));
    assert_eq!(
        (client.subject_header.as_str(), client.verified_header.as_str()),
        ("x-subject", "x-verified")
    );
    let handshake = tls.acceptor().limits();
    assert_eq!((handshake.timeout, handshake.max_concurrent), (Duration::from_secs(5), 200));
    let tickets = &settings.tickets;
    assert_eq!((tickets.lifetime.as_secs(), tickets.key_files.len()), (28_800, 0));
    assert_eq!(tickets.rotate, Duration::from_secs(3 * 3600));
    let shared = plan.listeners[6].tls.as_ref().unwrap().settings();
    assert_eq!(shared.tickets.key_files, [here.join("tickets.key"), here.join("old.key")]);

    let web = &plan.services[0];
    let limits = &web.limits;
    let numbers = (limits.max_connections, limits.max_head, limits.max_headers, limits.max_body);
    assert_eq!(numbers, (5_000, 16 << 10, 64, 1 << 20));
    let h2 = &web.h2;
    assert_eq!((h2.max_streams, h2.max_header_list, h2.window), (64, (16 << 10) + 32 * 64, 1 << 20));
    assert_eq!((h2.connection_window, h2.max_unsent), (4 << 20, 64 << 10));
    assert_eq!((h2.max_resets, h2.max_control_frames), (1000, 5000));
    let offers: Vec<bool> = plan.listeners.iter().map(|listener| listener.terms.offer_h2).collect();
    assert_eq!(offers, [true, false, false, false, false, true, true, false]);
    let t = &web.timeouts;
    let steps =
        [t.head, t.idle, t.body, t.send, t.connect, t.upstream_read, t.upstream_write, t.request, t.tunnel];
    let millis = [5_000, 75_000, 20_000, 21_000, 500, 30_000, 31_000, 5_400_000, 600_000];
    assert_eq!(steps, millis.map(Duration::from_millis));
    let Handler::Proxy { group, via } = &web.handler else { panic!("web forwards") };
    assert_eq!(via.as_ref().unwrap(), "river");
    assert_eq!(group.servers[0].weight.get(), 2);
    let addresses: Vec<String> = group.servers[1].addresses.iter().map(Address::to_string).collect();
    assert_eq!(addresses, ["[::1]:3000", "127.0.0.1:3000"]);
    assert_eq!(group.servers[2].addresses, [Address::Unix("/run/app.sock".into())]);
    assert_eq!(group.servers[2].name, "unix:/run/app.sock");
    assert!(group.servers[2].tls.is_none());
    assert!(group.servers[3].tls.as_ref().is_some_and(|tls| !tls.verifies()));
    assert_eq!(group.pool.max_idle, 16);
    assert_eq!(group.pool.idle_timeout, Duration::from_secs(30));
    assert_eq!(group.pool.max_requests, 1_000);
    assert_eq!(group.servers.iter().map(|server| server.proto).collect::<Vec<_>>(), {
        [Proto::H1Only, Proto::H2Only, Proto::H1Only, Proto::H1Only]
    });
    let sharing = &group.sharing;
    let shared = &sharing.connection;
    assert_eq!((sharing.max_connections, sharing.max_waiting, shared.max_streams), (2, 10, 50));
    assert_eq!((shared.window, shared.max_requests), (1 << 20, 1_000));
    assert_eq!(shared.max_head, (16 << 10) + 32 * 64);
    assert_eq!(shared.idle_timeout, Duration::from_secs(30));
    assert_eq!(shared.ping_interval, Some(Duration::from_secs(120)));
    assert_eq!(shared.ping_timeout, Duration::from_secs(3));

    let Handler::Respond(respond) = &plan.services[1].handler else { panic!("hello answers") };
    assert_eq!(respond.status, 503);
    assert_eq!(respond.headers[1], ("retry-after".parse().unwrap(), "30".parse().unwrap()));
    assert_eq!(respond.body, b"later\n");

    let db = &plan.services[2];
    assert_eq!(db.timeouts.tunnel, Duration::from_secs(7200));
    let Handler::Tcp(tcp) = &db.handler else { panic!("db passes bytes on") };
    let servers = |name| {
        let group = &tcp.groups[tcp.routes.find(name).unwrap()];
        let server = |server: &river::upstream::Server| format!("{} {}", server.name, server.weight);
        group.servers.iter().map(server).collect::<Vec<_>>()
    };
    assert_eq!(servers(Some("one.db.example")), ["10.0.0.9:5432 3"]);
    assert_eq!(servers(Some("two.db.example")), ["10.0.0.9:5432 3", "localhost:5433 1"]);
    assert_eq!(servers(Some("db.example")), ["unix:/run/db.sock 1"]);
    assert_eq!(servers(None), ["unix:/run/db.sock 1"]);
}

#[test]
fn names_with_the_same_servers_share_a_group() {
    let plan = plan_text(
        r#"(services: {"db": (listeners: [(bind: "127.0.0.1:1")], tcp: (servers: [
            (addr: "10.0.0.1:1", sni: ["a", "b"]), (addr: "10.0.0.2:1", sni: ["b", "a", "c"]),
        ]))})"#,
    )
    .unwrap();
    let Handler::Tcp(tcp) = &plan.services[0].handler else { panic!() };
    assert_eq!(tcp.groups.len(), 2);
    assert_eq!(tcp.routes.find(Some("a")), tcp.routes.find(Some("b")));
    assert_eq!(tcp.groups[tcp.routes.find(Some("c")).unwrap()].servers.len(), 1);
    assert_eq!(tcp.routes.find(None), None);
    assert!(tcp.routes.by_name());
}

#[test]
fn authorities_vouch_for_others_or_for_themselves() {
    for file in ["authority.pem", "clients.pem"] {
        let tls = format!("certificates: [(cert: \"cert.pem\", key: \"key.pem\")], client_ca: \"{file}\"");
        let server = format!("(addr: \"127.0.0.1:3000\", tls_sni: \"app.example\", tls_ca: \"{file}\")");
        let text = format!(
            "(services: {{\"web\": (listeners: [(bind: \"127.0.0.1:8080\", tls: ({tls}))], \
             connectors: (servers: [{server}]))}})"
        );
        plan_text(&text).unwrap_or_else(|errors| panic!("{file}: {errors}"));
    }
}

#[test]
fn all_notations_of_ron_are_read() {
    let plan = plan_file("fixtures/config/good/notations.ron");
    assert_eq!(plan.system.workers.get(), 2);
    assert_eq!(plan.system.handoff.guard, Duration::from_secs(1));
    assert_eq!(&*plan.services[0].name, "a \"service\"");
    assert_eq!(plan.listeners[0].id.to_string(), "[::1]:8080");
    assert_eq!(plan.listeners[1].mode, Some(0o600));
    let socket = certificates().join("plain.sock");
    assert_eq!(plan.listeners[1].address, Address::Unix(socket));
    let Handler::Respond(respond) = &plan.services[0].handler else { panic!("it answers") };
    assert_eq!(respond.body, b"abc\n");
}

#[test]
fn listeners_on_port_0_keep_their_own_identities() {
    let plan = plan_text(
        r#"(services: {
            "a": (listeners: [(bind: "127.0.0.1:0"), (bind: "[::1]:0"), (bind: "localhost:0")], respond: ()),
            "b": (listeners: [(bind: "127.0.0.1:0"), (bind: "six:0")], respond: ()),
        })"#,
    )
    .unwrap();
    let ids: Vec<_> = plan.listeners.iter().map(|listener| listener.id.to_string()).collect();
    assert_eq!(ids, ["127.0.0.1:0#a.0", "[::1]:0#a.0", "127.0.0.1:0#a.1", "127.0.0.1:0#b.0", "[::1]:0#b.0"]);
}

#[test]
fn wildcards_of_both_families_share_a_port() {
    let text = r#"(services: {"a": (listeners: [(bind: "0.0.0.0:80"), (bind: "[::]:80")], respond: ())})"#;
    assert_eq!(plan_text(text).unwrap().listeners.len(), 2);
}

#[test]
fn overrides_beat_the_file() {
    let source = source_of("fixtures/config/good/all.ron");
    let directory = tempfile::tempdir().unwrap();
    let overrides = Overrides {
        workers: NonZeroUsize::new(7),
        pid_file: Some(directory.path().join("other.pid")),
        upgrade_socket: Some(directory.path().join("other.sock")),
    };
    let plan = Plan::from_source(&source, &overrides, &resolve).unwrap();
    assert_eq!(plan.system.workers.get(), 7);
    assert_eq!(plan.system.pid_file, overrides.pid_file);
    assert_eq!(plan.system.upgrade_socket, overrides.upgrade_socket);
}

#[test]
fn a_wrong_override_says_where_it_comes_from() {
    let source = Source::read(Path::new("fixtures/config/good/minimal.ron")).unwrap();
    let pid_file = Some(PathBuf::from("/missing/river.pid"));
    let overrides = Overrides { pid_file, ..Overrides::default() };
    let errors = Plan::from_source(&source, &overrides, &resolve).unwrap_err().to_string();
    assert!(errors.contains("system.pid_file: the directory \"/missing\" cannot be used"), "{errors}");
    assert!(errors.contains("comes from the command line or the environment"), "{errors}");
}

#[test]
fn files_that_cannot_be_read_say_why() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::write(path("binary.ron"), b"(\n  \xff)").unwrap();
    fs::write(path("large.ron"), vec![b' '; MAX_SIZE + 1]).unwrap();
    fs::create_dir(path("directory.ron")).unwrap();
    let cases = [
        ("missing.ron", "cannot read the file: No such file or directory"),
        ("directory.ron", "this is a directory; a configuration is a regular file"),
        ("binary.ron", "the file is not UTF-8 text: line 2, column 3"),
        ("large.ron", "the file is larger than 4 MiB"),
    ];
    for (name, reason) in cases {
        let errors = config::load(&path(name), &Overrides::default()).unwrap_err();
        let expected = format!("error: {}: {reason}", path(name).display());
        assert!(errors.to_string().starts_with(&expected), "{errors}");
        assert_eq!(errors.count(), 1);
    }
}

#[test]
fn deep_nesting_is_refused_and_overflows_no_stack() {
    for (open, close) in [("[", "]"), ("(", ")"), ("{\"a\":", "}"), ("Some(", ")"), ("(a:", ")"), ("a(", ")")]
    {
        for depth in [120, 128, 1_000, 200_000] {
            let value = format!("{}1{}", open.repeat(depth), close.repeat(depth));
            let text = format!("(services: {value}, system: (workers: {value}))");
            let errors = plan_text(&text).unwrap_err();
            assert!(errors.count() > 0);
        }
    }
}

#[test]
fn a_thousand_errors_are_counted_and_a_hundred_shown() {
    let listeners = "(bind: \"x\"),\n".repeat(1_000);
    let text = format!("(services: {{\"a\": (listeners: [{listeners}], respond: ())}})");
    let errors = plan_text(&text).unwrap_err();
    assert_eq!(errors.count(), 1_000);
    let text = errors.to_string();
    assert_eq!(text.matches("error: ").count(), 100);
    assert!(text.ends_with("river.ron: 1000 errors, 100 shown"), "{text}");
}

#[test]
fn validation_says_ok_in_one_line() {
    let line = cli::validate(Path::new("fixtures/demo.ron"), &Overrides::default()).unwrap();
    assert_eq!(line, "fixtures/demo.ron: OK (3 services, 3 listeners)");
}

/// A whole file in which one setting has the value given.
fn file_with(path: &str, value: &str) -> String {
    let (parent, name) = path.rsplit_once('.').unwrap_or(("", path));
    let field = format!("{name}: {value}");
    let listeners = "listeners: [(bind: \"127.0.0.1:8080\")]";
    let servers = "servers: [(addr: \"127.0.0.1:3000\")]";
    let h2_listeners = "listeners: [(bind: \"127.0.0.1:8080\", offer_h2: true)]";
    let h2_servers = "servers: [(addr: \"127.0.0.1:3000\", proto: H2Only)]";
    let connectors = format!("connectors: ({servers})");
    let rest = match parent.strip_prefix("services.*") {
        None if path == "system.daemonize" => {
            return file_with("system", &format!("({field}, pid_file: \"/river.pid\")"));
        }
        None if parent == "system" => return file_with("system", &format!("({field})")),
        None if parent == "system.handoff" => return file_with("system.handoff", &format!("({field})")),
        None if name == "services" => return format!("({field})"),
        None => return format!("({field}, services: {{\"web\": ({listeners}, {connectors})}})"),
        Some(rest) => rest.trim_start_matches('.'),
    };
    let service = match rest {
        "" if name == "listeners" => format!("{field}, {connectors}"),
        "" if name == "connectors" => format!("{listeners}, {field}"),
        "" if name == "respond" => format!("{listeners}, {field}"),
        "" if name == "tcp" => format!("{listeners}, {field}"),
        "" if name == "h2" => format!("{h2_listeners}, {connectors}, {field}"),
        "" => format!("{listeners}, {connectors}, {field}"),
        tls if tls.starts_with("listeners[].tls") => {
            let certificates = "certificates: [(cert: \"cert.pem\", key: \"key.pem\")]";
            let tls = match tls.trim_start_matches("listeners[].tls").trim_start_matches('.') {
                "" if name == "certificates" => field,
                "" if name.starts_with("client_") && name != "client_ca" => {
                    format!("{certificates}, client_ca: \"clients.pem\", {field}")
                }
                "" => format!("{certificates}, {field}"),
                "certificates[]" if name == "cert" => format!("certificates: [({field}, key: \"key.pem\")]"),
                "certificates[]" => format!("certificates: [(cert: \"cert.pem\", {field})]"),
                section => format!("{certificates}, {section}: ({field})"),
            };
            format!("listeners: [(bind: \"127.0.0.1:8080\", tls: ({tls}))], {connectors}")
        }
        "listeners[]" if name == "bind" => format!("listeners: [({field})], {connectors}"),
        "listeners[]" => format!("listeners: [(bind: \"unix:/web.sock\", {field})], {connectors}"),
        "respond" => format!("{listeners}, respond: ({field})"),
        "tcp" if name == "servers" => format!("{listeners}, tcp: ({field})"),
        "tcp" => format!("{listeners}, tcp: ({servers}, {field})"),
        "tcp.servers[]" if name == "addr" => format!("{listeners}, tcp: (servers: [({field})])"),
        "tcp.servers[]" => format!("{listeners}, tcp: (servers: [(addr: \"127.0.0.1:3000\", {field})])"),
        "connectors" if name == "servers" => format!("{listeners}, connectors: ({field})"),
        "connectors" if name == "h2" => format!("{listeners}, connectors: ({h2_servers}, {field})"),
        "connectors" => format!("{listeners}, connectors: ({servers}, {field})"),
        "connectors.servers[]" if name == "addr" => {
            format!("{listeners}, connectors: (servers: [({field})])")
        }
        "connectors.servers[]" if name == "tls_sni" => {
            let server = format!("(addr: \"127.0.0.1:3000\", {field}, tls_verify: false)");
            format!("{listeners}, connectors: (servers: [{server}])")
        }
        "connectors.servers[]" if name == "tls_verify" => {
            let server = format!("(addr: \"127.0.0.1:3000\", tls_sni: \"app.example\", {field})");
            format!("{listeners}, connectors: (servers: [{server}])")
        }
        "connectors.servers[]" => {
            format!("{listeners}, connectors: (servers: [(addr: \"127.0.0.1:3000\", {field})])")
        }
        _ => {
            let (section, inner) = rest.split_once('.').unwrap_or((rest, ""));
            match inner {
                "" if section == "h2" => format!("{h2_listeners}, {connectors}, h2: ({field})"),
                "h2" => format!("{listeners}, {section}: ({h2_servers}, h2: ({field}))"),
                "" => format!("{listeners}, {connectors}, {section}: ({field})"),
                inner => format!("{listeners}, {section}: ({servers}, {inner}: ({field}))"),
            }
        }
    };
    format!("(services: {{\"web\": ({service})}})")
}

#[test]
fn the_example_of_every_setting_is_accepted() {
    // What these name need not be there; certificates are, for what is written of them is read.
    let elsewhere = |setting: &&Setting| {
        matches!(setting.kind, "path" | "user" | "group") && !setting.path.contains(".tls.")
    };
    for setting in SETTINGS.iter().filter(|setting| !elsewhere(setting)) {
        let text = file_with(setting.path, setting.example);
        plan_text(&text).unwrap_or_else(|errors| panic!("{}: {text}\n{errors}", setting.path));
    }
}

#[test]
fn the_defaults_of_the_table_are_those_that_are_used() {
    let is_value = |setting: &&Setting| !setting.default.chars().all(|c| c.is_ascii_lowercase() || c == ' ');
    let mut compared = 0;
    for setting in SETTINGS.iter().filter(is_value) {
        let given = plan_text(&file_with(setting.path, setting.default));
        let given = given.unwrap_or_else(|errors| panic!("{}\n{errors}", setting.path));
        let mut absent = plan_text(&file_with(setting.path, "None")).unwrap();
        assert_ne!(given.sha256, absent.sha256, "{}", setting.path);
        absent.sha256.clone_from(&given.sha256);
        assert_eq!(given, absent, "{}", setting.path);
        compared += 1;
    }
    assert!(compared > 25, "only {compared} settings have a default");
}

#[test]
fn the_file_with_all_settings_has_all_of_them() {
    let text = fs::read_to_string("fixtures/config/good/all.ron").unwrap();
    for setting in SETTINGS {
        let name = setting.path.rsplit('.').next().unwrap();
        assert!(text.contains(&format!("{name}: ")), "{} is not in all.ron", setting.path);
    }
}

/// What a mutation does to a text: at a place (in thousandths of its length), over a length, with a piece.
fn mutate(text: &[u8], (kind, at, length, piece): &(u8, usize, usize, Vec<u8>)) -> Vec<u8> {
    let start = text.len() * at / 1_000;
    let end = (start + length).min(text.len());
    let (before, middle, after) = (&text[..start], &text[start..end], &text[end..]);
    match kind {
        0 => [before, after].concat(),
        1 => [before, piece, middle, after].concat(),
        2 => [before, piece, after].concat(),
        3 => [before, middle, middle, after].concat(),
        _ => before.to_vec(),
    }
}

fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let tokens = "( ) [ ] { } , : \" ' \\ / // /* */ #! r# r#\" Some( None () 0 -1 1e9 0x .. unix: \u{feff} é \0 \n \r \t true b\" 'a' \u{1b}[31m";
    let tokens: Vec<Vec<u8>> = tokens.split(' ').map(|token| token.as_bytes().to_vec()).collect();
    prop_oneof![prop::sample::select(tokens), prop::collection::vec(any::<u8>(), 0..8)]
}

/// Reads bytes as a configuration and prints what is wrong with them, which must not panic.
fn try_everything(bytes: Vec<u8>) {
    if let Ok(source) = Source::from_bytes("river.ron", Path::new("/"), bytes)
        && let Err(errors) = plan(&source)
    {
        assert!(errors.count() > 0);
        assert!(!errors.render(false).contains('\u{1b}'), "a terminal could be told what to do");
        errors.render(true);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn mutated_files_bring_no_panic(
        file in 0_usize..1_000,
        mutations in prop::collection::vec((0_u8..5, 0_usize..=1_000, 0_usize..40, pieces()), 1..6),
    ) {
        let mut all = files("fixtures/config/good");
        // A whole file breaks in more ways than one that is broken already.
        if file % 4 == 0 {
            all = files("fixtures/config/bad");
        }
        let text = fs::read(&all[file % all.len()]).unwrap();
        try_everything(mutations.iter().fold(text, |text, mutation| mutate(&text, mutation)));
    }

    #[test]
    fn random_bytes_bring_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        try_everything(bytes);
    }

    #[test]
    fn random_tokens_bring_no_panic(tokens in prop::collection::vec(pieces(), 0..60)) {
        try_everything(tokens.concat());
    }
}
