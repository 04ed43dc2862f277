//! The servers that connections are passed on to.

use super::{Setting, setting};

pub(super) const TCP: &[Setting] = &[
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
