//! The one table of settings: what the configuration file may say.
//!
//! Unknown fields are explained from it, `river.ron.5` is compared with it, and a test holds it against what is
//! really read and against the defaults that are really used.

/// One field of the configuration file.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Its path; `*` stands for a name and `[]` for a place in a list.
    pub path: &'static str,
    /// What kind of value it takes, in words.
    pub kind: &'static str,
    /// Its value where it is not given, as it would be written; `required` and `none` say what they mean.
    pub default: &'static str,
    /// The command line's flag that beats it.
    pub flag: Option<&'static str>,
    /// The environment variable that beats it, beaten by the flag.
    pub env: Option<&'static str>,
    /// What it does, in one sentence.
    pub meaning: &'static str,
    /// A value as it would be written.
    pub example: &'static str,
}

impl Setting {
    /// The path of the structure that holds it (empty at the top) and its name there.
    pub fn split(&self) -> (&'static str, &'static str) {
        self.path.rsplit_once('.').unwrap_or(("", self.path))
    }
}

const fn setting(
    path: &'static str,
    kind: &'static str,
    default: &'static str,
    meaning: &'static str,
    example: &'static str,
) -> Setting {
    Setting { path, kind, default, flag: None, env: None, meaning, example }
}

const fn overridden(setting: Setting, flag: &'static str, env: &'static str) -> Setting {
    Setting { flag: Some(flag), env: Some(env), ..setting }
}

/// Every setting, in the order of the manual page.
pub const SETTINGS: &[Setting] = &[
    setting("system", "structure", "()", "Settings of the process.", "(workers: 2)"),
    overridden(
        setting(
            "system.workers",
            "integer from 1 to 1024",
            "one per core this process may use",
            "Worker threads.",
            "2",
        ),
        "--workers",
        "RIVER_WORKERS",
    ),
    overridden(
        setting(
            "system.pid_file",
            "path",
            "none",
            "File that holds the process id of the instance in service.",
            "\"/run/river/river.pid\"",
        ),
        "--pidfile",
        "RIVER_PIDFILE",
    ),
    overridden(
        setting(
            "system.upgrade_socket",
            "path",
            "none",
            "Unix socket over which an instance hands over to the next one.",
            "\"/run/river/upgrade.sock\"",
        ),
        "--upgrade-socket",
        "RIVER_UPGRADE_SOCKET",
    ),
    setting(
        "system.daemonize",
        "boolean",
        "false",
        "Whether River goes on in the background, as a daemon.",
        "true",
    ),
    setting(
        "system.user",
        "user",
        "none",
        "The user, by name or number, that a River started by root becomes once it has bound its addresses.",
        "\"river\"",
    ),
    setting(
        "system.group",
        "group",
        "primary group of the user",
        "The group, by name or number, that it runs as.",
        "\"river\"",
    ),
    setting(
        "system.drain_timeout",
        "duration",
        "\"60s\"",
        "How long an instance that leaves waits for its connections to end.",
        "\"5m\"",
    ),
    setting(
        "system.tunnel_drain_timeout",
        "duration",
        "\"10m\"",
        "How long an instance that leaves waits for its tunnels to end, where they cannot move to its successor.",
        "\"1h\"",
    ),
    setting(
        "system.certificate_check",
        "duration",
        "\"5s\"",
        "How often the files of certificates are looked at; \"0s\" is only at SIGUSR1.",
        "\"1m\"",
    ),
    setting("system.handoff", "structure", "()", "How a hand-over goes.", "(ready_timeout: \"30s\")"),
    setting(
        "system.handoff.ready_timeout",
        "duration",
        "\"30s\"",
        "How long the successor may take from the offer of the listeners until it is ready.",
        "\"1m\"",
    ),
    setting(
        "system.handoff.guard",
        "duration",
        "\"10s\"",
        "How long after the hand-over the listeners can be taken back; \"0s\" is not at all.",
        "\"20s\"",
    ),
    setting(
        "system.handoff.max_draining",
        "integer from 1 to 1000",
        "8",
        "How many earlier instances may drain at a time; the oldest ends first.",
        "2",
    ),
    setting(
        "system.handoff.idle_connections",
        "Move or Close",
        "Move",
        "What becomes of connections without a request: they move to the successor, or close with their next response.",
        "Close",
    ),
    setting(
        "services",
        "map of names to services",
        "required",
        "What is served.",
        "{\"web\": (listeners: [(bind: \"127.0.0.1:8080\")], respond: (body: \"hello\\n\"))}",
    ),
    setting(
        "services.*.listeners",
        "list of structures",
        "required",
        "Where the service is reached.",
        "[(bind: \"127.0.0.1:8080\")]",
    ),
    setting(
        "services.*.listeners[].bind",
        "address",
        "required",
        "The address to listen on.",
        "\"127.0.0.1:8080\"",
    ),
    setting(
        "services.*.listeners[].mode",
        "integer from 0o0 to 0o777",
        "0o666",
        "The permissions of a Unix socket's path.",
        "0o660",
    ),
    setting(
        "services.*.listeners[].activation",
        "string",
        "none",
        "The name of the socket that the service manager passes for the listener.",
        "\"web\"",
    ),
    setting(
        "services.*.listeners[].tls",
        "structure",
        "none",
        "How clients are taken, which then speak TLS.",
        "(certificates: [(cert: \"cert.pem\", key: \"key.pem\")])",
    ),
    setting(
        "services.*.listeners[].tls.certificates",
        "list of structures",
        "required",
        "The certificates, chosen by the host that a client names; the first is for all others.",
        "[(cert: \"cert.pem\", key: \"key.pem\")]",
    ),
    setting(
        "services.*.listeners[].tls.certificates[].cert",
        "path",
        "required",
        "The certificate, with its chain behind it, in PEM.",
        "\"cert.pem\"",
    ),
    setting(
        "services.*.listeners[].tls.certificates[].key",
        "path",
        "required",
        "The private key of the certificate, in PEM, without a passphrase.",
        "\"key.pem\"",
    ),
    setting(
        "services.*.listeners[].tls.min_version",
        "Tls12 or Tls13",
        "Tls12",
        "The oldest version of TLS that a client may speak.",
        "Tls13",
    ),
    setting(
        "services.*.listeners[].tls.cipher_suites",
        "list of strings",
        "all that are known",
        "The cipher suites that may be used, the preferred one first.",
        "[\"TLS13_AES_128_GCM_SHA256\", \"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256\"]",
    ),
    setting(
        "services.*.listeners[].tls.client_ca",
        "path",
        "none",
        "The authorities whose certificates clients are asked for, in PEM.",
        "\"clients.pem\"",
    ),
    setting(
        "services.*.listeners[].tls.client_auth",
        "Required or Optional",
        "Required",
        "Whether a client without a certificate is refused.",
        "Optional",
    ),
    setting(
        "services.*.listeners[].tls.client_subject_header",
        "string",
        "\"X-Client-Subject\"",
        "The field that tells servers the subject of the client's certificate.",
        "\"X-Subject\"",
    ),
    setting(
        "services.*.listeners[].tls.client_verified_header",
        "string",
        "\"X-Client-Verified\"",
        "The field that tells servers whether the client has shown a certificate.",
        "\"X-Verified\"",
    ),
    setting(
        "services.*.listeners[].tls.handshake",
        "structure",
        "()",
        "How much handshakes may take.",
        "(timeout: \"5s\")",
    ),
    setting(
        "services.*.listeners[].tls.handshake.timeout",
        "duration",
        "\"10s\"",
        "From the begin of a connection to the end of its handshake.",
        "\"5s\"",
    ),
    setting(
        "services.*.listeners[].tls.handshake.max_concurrent",
        "integer from 1 to 1000000",
        "1000",
        "Handshakes that are worked on at one time, over all workers; others wait for their turn.",
        "200",
    ),
    setting(
        "services.*.listeners[].tls.tickets",
        "structure",
        "()",
        "How sessions are resumed.",
        "(lifetime: \"8h\")",
    ),
    setting(
        "services.*.listeners[].tls.tickets.lifetime",
        "duration",
        "\"24h\"",
        "How long a session can be resumed; \"0s\" is never.",
        "\"8h\"",
    ),
    setting(
        "services.*.listeners[].tls.tickets.rotate",
        "duration",
        "\"12h\"",
        "How long a key seals new tickets.",
        "\"4h\"",
    ),
    setting(
        "services.*.listeners[].tls.tickets.key_files",
        "list of paths",
        "[]",
        "Secrets that ticket keys are made from, so that several machines share them; the first seals.",
        "[\"tickets.key\"]",
    ),
    setting(
        "services.*.listeners[].offer_h2",
        "true or false",
        "true with tls and false without",
        "Whether clients may speak HTTP/2.",
        "true",
    ),
    setting("services.*.limits", "structure", "()", "How much a client may ask for.", "(max_body: \"1MiB\")"),
    setting(
        "services.*.limits.max_connections",
        "integer from 1 to 10000000",
        "20000",
        "Connections to the service at one time, over all workers.",
        "5000",
    ),
    setting(
        "services.*.limits.max_head",
        "size from 1KiB to 1MiB",
        "\"32KiB\"",
        "Bytes of the head of a request or response.",
        "\"16KiB\"",
    ),
    setting(
        "services.*.limits.max_headers",
        "integer from 1 to 1000",
        "100",
        "Header fields of a request or response.",
        "64",
    ),
    setting("services.*.limits.max_body", "size", "\"64MiB\"", "Bytes of the body of a request.", "\"1GiB\""),
    setting(
        "services.*.h2",
        "structure",
        "()",
        "How much a client may ask of one connection in HTTP/2.",
        "(max_concurrent_streams: 64)",
    ),
    setting(
        "services.*.h2.max_concurrent_streams",
        "integer from 1 to 10000",
        "128",
        "Streams that are open at one time.",
        "64",
    ),
    setting(
        "services.*.h2.window",
        "size from 16KiB to 16MiB",
        "\"128KiB\"",
        "Bytes that a client may send on a stream before the server has taken them.",
        "\"1MiB\"",
    ),
    setting(
        "services.*.h2.connection_window",
        "size from 64KiB to 256MiB",
        "\"512KiB\"",
        "The same over all streams of a connection.",
        "\"4MiB\"",
    ),
    setting(
        "services.*.h2.max_unsent",
        "size from 16KiB to 1MiB",
        "\"32KiB\"",
        "Bytes of a response that may wait for the connection to take them.",
        "\"64KiB\"",
    ),
    setting(
        "services.*.h2.max_resets",
        "integer from 1 to 1000000",
        "200",
        "Streams that a client may reset within 10 seconds.",
        "1000",
    ),
    setting(
        "services.*.h2.max_control_frames",
        "integer from 10 to 1000000",
        "1000",
        "Frames without use to any stream that a client may send within 10 seconds.",
        "5000",
    ),
    setting("services.*.timeouts", "structure", "()", "How long each step may take.", "(connect: \"1s\")"),
    setting(
        "services.*.timeouts.head",
        "duration",
        "\"10s\"",
        "Until the head of a request has arrived.",
        "\"5s\"",
    ),
    setting(
        "services.*.timeouts.idle",
        "duration",
        "\"60s\"",
        "Between two requests of a connection.",
        "\"75s\"",
    ),
    setting(
        "services.*.timeouts.body",
        "duration",
        "\"60s\"",
        "Between two reads of the body of a request.",
        "\"20s\"",
    ),
    setting(
        "services.*.timeouts.send",
        "duration",
        "\"60s\"",
        "Until the client takes the next bytes of a response.",
        "\"20s\"",
    ),
    setting(
        "services.*.timeouts.connect",
        "duration",
        "\"3s\"",
        "Until a connection to a server stands.",
        "\"500ms\"",
    ),
    setting(
        "services.*.timeouts.upstream_read",
        "duration",
        "\"60s\"",
        "Until the head of a server's response has arrived, and between two reads of its body.",
        "\"30s\"",
    ),
    setting(
        "services.*.timeouts.upstream_write",
        "duration",
        "\"60s\"",
        "Until the server takes the next bytes of a request.",
        "\"30s\"",
    ),
    setting(
        "services.*.timeouts.request",
        "duration",
        "\"5m\"",
        "From the first byte of a request to the end of the head of its response.",
        "\"1m\"",
    ),
    setting(
        "services.*.timeouts.tunnel",
        "duration",
        "\"1h\"",
        "Without a byte in either direction of a tunnel.",
        "\"10m\"",
    ),
    setting(
        "services.*.connectors",
        "structure",
        "none",
        "The servers that requests are forwarded to.",
        "(servers: [(addr: \"127.0.0.1:3000\")])",
    ),
    setting(
        "services.*.connectors.load_balance",
        "structure",
        "()",
        "How a server is chosen.",
        "(selection: RoundRobin)",
    ),
    setting(
        "services.*.connectors.load_balance.selection",
        "RoundRobin",
        "RoundRobin",
        "The way a server is chosen: each in turn, as often as its weight says.",
        "RoundRobin",
    ),
    setting(
        "services.*.connectors.servers",
        "list of structures",
        "required",
        "The servers.",
        "[(addr: \"127.0.0.1:3000\")]",
    ),
    setting(
        "services.*.connectors.servers[].addr",
        "address",
        "required",
        "The address of the server.",
        "\"127.0.0.1:3000\"",
    ),
    setting(
        "services.*.connectors.servers[].weight",
        "integer from 1 to 1000",
        "1",
        "Its share of the requests, relative to the other servers.",
        "2",
    ),
    setting(
        "services.*.connectors.servers[].proto",
        "H1Only, H2Only or H2OrH1",
        "H1Only",
        "The protocol that the server is spoken to in: HTTP/1.1, HTTP/2, or the one of both that it chooses over TLS.",
        "H2Only",
    ),
    setting(
        "services.*.connectors.servers[].tls_sni",
        "name of a host, or IP address",
        "none",
        "The server is spoken to over TLS, and its certificate has to be for this name.",
        "\"app.example\"",
    ),
    setting(
        "services.*.connectors.servers[].tls_ca",
        "path",
        "those of the system",
        "File with the authorities, in PEM, one of which has to vouch for the server's certificate.",
        "\"ca.pem\"",
    ),
    setting(
        "services.*.connectors.servers[].tls_cert",
        "path",
        "none",
        "File with the certificate, in PEM, that is shown to a server which asks for one.",
        "\"client.pem\"",
    ),
    setting(
        "services.*.connectors.servers[].tls_key",
        "path",
        "none",
        "File with the private key of tls_cert, in PEM.",
        "\"client.key\"",
    ),
    setting(
        "services.*.connectors.servers[].tls_verify",
        "boolean",
        "true",
        "Whether the server's certificate is verified.",
        "false",
    ),
    setting(
        "services.*.connectors.pool",
        "structure",
        "()",
        "How idle connections to the servers are kept.",
        "(max_idle: 16)",
    ),
    setting(
        "services.*.connectors.pool.max_idle",
        "integer from 0 to 100000",
        "128",
        "Idle connections kept for each worker and server.",
        "16",
    ),
    setting(
        "services.*.connectors.pool.idle_timeout",
        "duration",
        "\"60s\"",
        "How long an idle connection is kept.",
        "\"30s\"",
    ),
    setting(
        "services.*.connectors.pool.max_requests",
        "integer from 1 to 1000000000",
        "10000",
        "Requests that a connection carries before it is closed.",
        "1000",
    ),
    setting(
        "services.*.connectors.h2",
        "structure",
        "()",
        "How connections in HTTP/2 to the servers are shared.",
        "(max_streams: 50)",
    ),
    setting(
        "services.*.connectors.h2.max_streams",
        "integer from 1 to 10000",
        "100",
        "Requests that a connection carries at a time.",
        "50",
    ),
    setting(
        "services.*.connectors.h2.max_connections",
        "integer from 1 to 1000",
        "8",
        "Connections that take requests at a time, for each worker and server.",
        "2",
    ),
    setting(
        "services.*.connectors.h2.max_waiting",
        "integer from 0 to 100000",
        "1000",
        "Requests that wait for room on them, for each worker and server.",
        "100",
    ),
    setting(
        "services.*.connectors.h2.window",
        "size from 65535 to 16MiB",
        "\"256KiB\"",
        "How much of one response may be on its way to a client that does not read it.",
        "\"1MiB\"",
    ),
    setting(
        "services.*.connectors.h2.ping_interval",
        "duration",
        "\"30s\"",
        "How long a server may be silent before it is asked whether it is there; \"0s\" asks never.",
        "\"2m\"",
    ),
    setting(
        "services.*.connectors.h2.ping_timeout",
        "duration",
        "\"10s\"",
        "How long it may take to answer that before its connection is replaced.",
        "\"3s\"",
    ),
    setting(
        "services.*.via",
        "string",
        "none",
        "The pseudonym that is added in a Via field to what is forwarded.",
        "\"river\"",
    ),
    setting(
        "services.*.respond",
        "structure",
        "none",
        "A fixed answer to every request.",
        "(status: 200, body: \"hello\\n\")",
    ),
    setting(
        "services.*.respond.status",
        "integer from 200 to 599",
        "200",
        "The status of the answer.",
        "503",
    ),
    setting(
        "services.*.respond.headers",
        "map of strings to strings",
        "{}",
        "Header fields of the answer.",
        "{\"content-type\": \"text/plain\"}",
    ),
    setting("services.*.respond.body", "string", "\"\"", "The body of the answer.", "\"hello\\n\""),
    setting(
        "services.*.tcp",
        "structure",
        "none",
        "The servers that connections are passed on to, whatever they carry.",
        "(servers: [(addr: \"127.0.0.1:5432\")])",
    ),
    setting(
        "services.*.tcp.servers",
        "list of structures",
        "required",
        "The servers of the tcp service.",
        "[(addr: \"127.0.0.1:5432\")]",
    ),
    setting(
        "services.*.tcp.servers[].addr",
        "address",
        "required",
        "The address that connections are passed on to.",
        "\"127.0.0.1:5432\"",
    ),
    setting(
        "services.*.tcp.servers[].weight",
        "integer from 1 to 1000",
        "1",
        "Its share of the connections, relative to the other servers for the same clients.",
        "2",
    ),
    setting(
        "services.*.tcp.servers[].sni",
        "list of strings",
        "none",
        "The server names in a TLS ClientHello that the server is for.",
        "[\"db.example\", \"*.db.example\"]",
    ),
    setting(
        "services.*.tcp.idle_timeout",
        "duration",
        "as for tunnels",
        "How long a connection may carry nothing in either direction.",
        "\"10m\"",
    ),
];

/// Fields that later versions read, so that this one can say so.
const LATER: &[&str] = &[
    "system.log",
    "system.admin",
    "services.*.client_address",
    "services.*.routes",
    "services.*.path_control",
    "services.*.rate_limiting",
    "services.*.access_log",
    "services.*.file_server",
    "services.*.listeners[].proxy_protocol",
    "services.*.connectors.retries",
    "services.*.connectors.load_balance.health_check",
];

/// Ways to choose a server that later versions have.
pub(super) const LATER_SELECTIONS: &[&str] = &["Random", "Fnv", "Ketama", "LeastConn", "P2c"];

/// The setting `name` of a section.
pub(super) fn find(section: &str, name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.split() == (section, name))
}

/// Whether a section has a setting of that name.
pub(super) fn is_known(section: &str, name: &str) -> bool {
    find(section, name).is_some()
}

/// Whether a section has a setting of that name in a later version.
pub(super) fn is_later(section: &str, name: &str) -> bool {
    LATER.iter().any(|path| path.rsplit_once('.') == Some((section, name)))
}

/// The names of a section's settings.
pub(super) fn names(section: &str) -> impl Iterator<Item = &'static str> {
    SETTINGS.iter().map(Setting::split).filter(move |(parent, _)| *parent == section).map(|(_, name)| name)
}

/// The section that a setting of that name belongs in, if there is exactly one.
pub(super) fn home(name: &str) -> Option<&'static str> {
    let mut homes = SETTINGS.iter().map(Setting::split).filter(|(_, other)| *other == name);
    match (homes.next(), homes.next()) {
        (Some((section, _)), None) if !section.is_empty() => Some(section),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether `parent` (as in `services.*.listeners[]`) is `section` or one of its entries.
    fn parent_is(parent: &str, section: &str) -> bool {
        parent.strip_prefix(section).is_some_and(|rest| matches!(rest, "" | "[]" | ".*"))
    }

    #[test]
    fn paths_are_unique_and_have_their_sections_before_them() {
        for (at, setting) in SETTINGS.iter().enumerate() {
            let (section, _) = setting.split();
            let before = SETTINGS.get(..at).unwrap_or_default();
            assert!(before.iter().all(|other| other.path != setting.path), "{} occurs twice", setting.path);
            let known = section.is_empty() || before.iter().any(|other| parent_is(section, other.path));
            assert!(known, "{} has no section", setting.path);
        }
    }

    #[test]
    fn no_setting_is_both_known_and_later() {
        assert!(LATER.iter().all(|path| SETTINGS.iter().all(|setting| setting.path != *path)));
    }

    #[test]
    fn strays_are_sent_home() {
        assert_eq!(home("max_head"), Some("services.*.limits"));
        assert_eq!(home("services"), None);
        assert_eq!(home("anything"), None);
    }
}
