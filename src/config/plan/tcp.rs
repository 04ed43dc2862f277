//! Tcp services: the servers of each name in a group of their own.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::config::diagnostics::{Place, Report};
use crate::config::draft;
use crate::config::names::Names;
use crate::config::node::Spanned;
use crate::proxy::{Routes, Tcp};
use crate::upstream::{Group, PoolSettings, Proto, Server, SharingSettings};

use super::listeners::Placed;
use super::service::{checked_addresses, weight};

/// The longest name of a host, and the longest of its labels, in bytes (RFC 1035 §2.3.4).
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

pub(super) fn plan(
    service: &str,
    draft: &draft::Tcp,
    listeners: &[Placed],
    names: &Names<'_>,
    report: &mut Report<'_>,
) -> Tcp {
    let mut servers = Vec::new();
    // In the order in which they are written, so that the same file always comes to the same plan.
    let mut patterns: Vec<(String, Vec<usize>)> = Vec::new();
    let mut others = Vec::new();
    for server in &draft.servers {
        let mut own: HashMap<String, &Place> = HashMap::new();
        for written in server.sni.iter().flatten() {
            let Some(pattern) = pattern(written, report) else { continue };
            if let Some(first) = own.insert(pattern.clone(), &written.at) {
                report.error(&written.at, "the server has this name twice").related(first, "the same name");
                continue;
            }
            let place = servers.len();
            match patterns.iter_mut().find(|(other, _)| *other == pattern) {
                Some((_, places)) => places.push(place),
                None => patterns.push((pattern, vec![place])),
            }
        }
        if server.sni.is_none() {
            others.push(servers.len());
        }
        let Some(addr) = &server.addr else { continue };
        let addresses = checked_addresses(service, addr, listeners, names, report);
        let (name, weight) = (addr.value.clone(), weight(&server.weight));
        servers.push(Server { name, addresses, tls: None, weight, proto: Proto::H1Only });
    }
    // Names that have the same servers share their turn.
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut group = |places: Vec<usize>| {
        groups.iter().position(|other| *other == places).unwrap_or_else(|| {
            groups.push(places);
            groups.len() - 1
        })
    };
    let mut routes = Routes::default();
    routes.set_default((!others.is_empty()).then(|| group(others)));
    for (pattern, places) in patterns {
        routes.insert(&pattern, group(places));
    }
    let of = |places: &Vec<usize>| Group {
        servers: places.iter().filter_map(|&place| servers.get(place).cloned()).collect(),
        // Each connection belongs to one client.
        pool: PoolSettings { max_idle: 0, ..PoolSettings::default() },
        sharing: SharingSettings::default(),
    };
    Tcp { groups: groups.iter().map(of).collect(), routes }
}

/// Reports what a listener of a tcp service cannot have.
pub(super) fn check_listener(listener: &draft::Listener, tcp: &draft::Tcp, report: &mut Report<'_>) {
    if let Some(offer) = listener.offer_h2.as_ref().filter(|offer| offer.value) {
        report.error(&offer.at, "a tcp service passes connections on as they are, and speaks no HTTP/2");
    }
    let Some(tls) = &listener.tls else { return };
    for header in [&tls.client_subject_header, &tls.client_verified_header].into_iter().flatten() {
        report.error(&header.at, "a tcp service passes connections on as they are, and adds no fields");
    }
    if let Some(name) = tcp.servers.iter().flat_map(|server| &server.sni).flatten().next() {
        report
            .error(&tls.at, "where TLS ends here, servers are not chosen by the name in the ClientHello")
            .related(&name.at, "such a name");
    }
}

/// Reports limits and time-outs of requests, which a tcp service does not have.
pub(super) fn check_service(draft: &draft::Service, tcp: &draft::Tcp, report: &mut Report<'_>) {
    let message = "a tcp service passes connections on as they are, and knows of no requests";
    let limits = &draft.limits;
    for given in [&limits.max_head, &limits.max_headers, &limits.max_body].into_iter().flatten() {
        report
            .error(&given.at, message)
            .help("leave it out; of the limits, a tcp service has max_connections");
    }
    let timeouts = &draft.timeouts;
    for given in [&timeouts.idle, &timeouts.body, &timeouts.upstream_read].into_iter().flatten() {
        report
            .error(&given.at, message)
            .help("leave it out; of the time-outs, a tcp service has head, send, connect, upstream_write, request, tunnel");
    }
    if let Some(head) = &timeouts.head
        && tcp.servers.iter().all(|server| server.sni.is_none())
    {
        report
            .error(&head.at, "nothing is waited for: no server is chosen by the name in the ClientHello")
            .help("leave it out, or give a server its names in sni");
    }
    if let (Some(tunnel), Some(idle)) = (&timeouts.tunnel, &tcp.idle_timeout) {
        report
            .error(
                &tunnel.at,
                "a tcp service has one time for connections that carry nothing, and this is another",
            )
            .related(&idle.at, "the one that counts")
            .help("leave out one of the two");
    }
}

/// A name of a host in lower case, perhaps with `*.` before it.
fn pattern(written: &Spanned<String>, report: &mut Report<'_>) -> Option<String> {
    let text = written.value.to_ascii_lowercase();
    let name = text.strip_prefix("*.").unwrap_or(&text);
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let label = |label: &str| !label.is_empty() && label.len() <= MAX_LABEL && label.bytes().all(good);
    let help = if text == "*" {
        Some(
            "leave sni out: the server is for all names that no other server has, and for clients that give none",
        )
    } else if name.strip_suffix('.').is_some_and(|name| name.split('.').all(label)) {
        Some("write the name without the dot at its end")
    } else if name.contains('*') {
        Some("a star stands for the whole first label: \"*.db.example\"")
    } else if name.parse::<IpAddr>().is_ok() {
        Some("clients that connect to an address give no name")
    } else if name.len() <= MAX_NAME && name.split('.').all(label) {
        return Some(text);
    } else {
        None
    };
    let problem = report.error(&written.at, format!("{:?} is no name of a host", written.value));
    match help {
        Some(help) => problem.help(help),
        None => {
            problem.help("a name has letters, digits, hyphens and dots: \"db.example\", \"*.db.example\"")
        }
    };
    None
}
