//! Services: what answers, within which limits.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;

use http::HeaderValue;

use crate::base::Address;
use crate::config::address::{self, Written};
use crate::config::diagnostics::Report;
use crate::config::names::Names;
use crate::config::node::Spanned;
use crate::config::{draft, paths};
use crate::h2::ServerLimits;
use crate::h2::client::ClientSettings;
use crate::proxy::{Handler, Limits, Respond, Service, Timeouts};
use crate::upstream::{Group, PoolSettings, Proto, Server, SharingSettings};

use super::listeners::Placed;
use super::server_tls::SystemRoots;
use super::{or, respond, server_tls, tcp};

/// The longest name of a service, in bytes.
const MAX_NAME: usize = 128;

/// A port for examples of what to write.
const EXAMPLE_PORT: u16 = 3000;

pub(super) fn plan_all(
    services: &[(Spanned<String>, draft::Service)],
    listeners: &[Placed],
    names: &Names<'_>,
    report: &mut Report<'_>,
) -> Vec<Arc<Service>> {
    let mut planned = Vec::new();
    let roots = SystemRoots::default();
    for (name, draft) in services {
        check_name(name, report);
        let limits = limits(&draft.limits);
        let via = draft.via.as_ref().and_then(|via| pseudonym(via, report));
        let mut timeouts = timeouts(&draft.timeouts);
        let handler = match (&draft.connectors, &draft.respond, &draft.tcp) {
            (_, Some(respond), _) => Handler::Respond(respond::plan(respond, report)),
            (Some(connectors), None, _) => Handler::Proxy {
                group: group(name, connectors, &limits, listeners, names, &roots, report),
                via,
            },
            (None, None, Some(tcp)) => {
                tcp::check_service(draft, tcp, report);
                timeouts.tunnel = or(&tcp.idle_timeout, timeouts.tunnel);
                Handler::Tcp(tcp::plan(name, tcp, listeners, names, report))
            }
            // It has been reported that nothing answers.
            (None, None, None) => Handler::Respond(Respond {
                status: http::StatusCode::OK,
                headers: Vec::new(),
                body: Vec::new(),
            }),
        };
        let h2 = h2_limits(&draft.h2, &limits);
        planned.push(Arc::new(Service { name: name.value.as_str().into(), limits, timeouts, h2, handler }));
    }
    planned
}

fn check_name(name: &Spanned<String>, report: &mut Report<'_>) {
    let message = if name.is_empty() {
        "a service has a name".to_owned()
    } else if name.chars().any(char::is_control) {
        "the name of a service has no control characters".to_owned()
    } else if name.len() > MAX_NAME {
        format!("the name of a service has at most {MAX_NAME} bytes, this one {}", name.len())
    } else {
        return;
    };
    report.error(&name.at, message);
}

/// Checks a pseudonym, which is a token (RFC 9110 §7.6.3).
fn pseudonym(via: &Spanned<String>, report: &mut Report<'_>) -> Option<HeaderValue> {
    if via.is_empty() || !via.bytes().all(respond::is_token_byte) {
        report
            .error(&via.at, format!("{:?} is no pseudonym", via.value))
            .help("a pseudonym has letters, digits and any of !#$%&'*+-.^_`|~");
        return None;
    }
    HeaderValue::from_str(via).ok()
}

fn limits(draft: &draft::Limits) -> Limits {
    let defaults = Limits::default();
    let size = |given: &Option<Spanned<u64>>, default: usize| {
        given.as_ref().map_or(default, |given| usize::try_from(given.value).unwrap_or(usize::MAX))
    };
    Limits {
        max_connections: size(&draft.max_connections, defaults.max_connections),
        max_head: size(&draft.max_head, defaults.max_head),
        max_headers: size(&draft.max_headers, defaults.max_headers),
        max_body: or(&draft.max_body, defaults.max_body),
    }
}

/// The limits of a connection in HTTP/2. Its header blocks have those of heads, in the way that RFC 9113 §10.5.1 counts:
/// with 32 bytes for each field.
fn h2_limits(draft: &draft::H2, limits: &Limits) -> ServerLimits {
    let defaults = ServerLimits::default();
    let narrow = |given: &Option<Spanned<u64>>, default: u32| {
        given.as_ref().map_or(default, |given| u32::try_from(given.value).unwrap_or(u32::MAX))
    };
    let size = |given: &Option<Spanned<u64>>, default: usize| {
        given.as_ref().map_or(default, |given| usize::try_from(given.value).unwrap_or(usize::MAX))
    };
    let list = limits.max_head.saturating_add(limits.max_headers.saturating_mul(32));
    ServerLimits {
        max_streams: narrow(&draft.max_concurrent_streams, defaults.max_streams),
        max_header_list: u32::try_from(list).unwrap_or(u32::MAX),
        window: narrow(&draft.window, defaults.window),
        connection_window: narrow(&draft.connection_window, defaults.connection_window),
        max_unsent: size(&draft.max_unsent, defaults.max_unsent),
        max_resets: narrow(&draft.max_resets, defaults.max_resets),
        max_control_frames: narrow(&draft.max_control_frames, defaults.max_control_frames),
    }
}

fn timeouts(draft: &draft::Timeouts) -> Timeouts {
    let defaults = Timeouts::default();
    Timeouts {
        head: or(&draft.head, defaults.head),
        idle: or(&draft.idle, defaults.idle),
        body: or(&draft.body, defaults.body),
        send: or(&draft.send, defaults.send),
        connect: or(&draft.connect, defaults.connect),
        upstream_read: or(&draft.upstream_read, defaults.upstream_read),
        upstream_write: or(&draft.upstream_write, defaults.upstream_write),
        request: or(&draft.request, defaults.request),
        tunnel: or(&draft.tunnel, defaults.tunnel),
    }
}

fn group(
    service: &str,
    draft: &draft::Connectors,
    limits: &Limits,
    listeners: &[Placed],
    names: &Names<'_>,
    roots: &SystemRoots,
    report: &mut Report<'_>,
) -> Group {
    let defaults = PoolSettings::default();
    let mut servers = Vec::new();
    for server in &draft.servers {
        let Some(addr) = &server.addr else { continue };
        let addresses = checked_addresses(service, addr, listeners, names, report);
        let (weight, proto) = (weight(&server.weight), proto(server, report));
        let tls = server_tls::plan(server, proto, roots, report);
        servers.push(Server { name: addr.value.clone(), addresses, weight, tls, proto });
    }
    let pool = PoolSettings {
        max_idle: draft
            .pool
            .max_idle
            .as_ref()
            .map_or(defaults.max_idle, |given| usize::try_from(given.value).unwrap_or(usize::MAX)),
        idle_timeout: or(&draft.pool.idle_timeout, defaults.idle_timeout),
        max_requests: or(&draft.pool.max_requests, defaults.max_requests),
    };
    let sharing = sharing(&draft.h2, &pool, limits);
    Group { servers, pool, sharing }
}

/// What a server is spoken to in.
fn proto(server: &draft::Server, report: &mut Report<'_>) -> Proto {
    let Some(proto) = &server.proto else { return Proto::default() };
    match proto.as_str() {
        "H2Only" => Proto::H2Only,
        "H2OrH1" if server.tls_sni.is_some() => Proto::H2OrH1,
        "H2OrH1" => {
            report
                .error(&proto.at, "without TLS a server cannot choose the protocol")
                .help("write H2Only or H1Only, or name the server with tls_sni");
            Proto::H2OrH1
        }
        _ => Proto::H1Only,
    }
}

fn sharing(draft: &draft::Sharing, pool: &PoolSettings, limits: &Limits) -> SharingSettings {
    let defaults = SharingSettings::default();
    let own = defaults.connection;
    let count = |given: &Option<Spanned<u64>>, default: usize| {
        given.as_ref().map_or(default, |given| usize::try_from(given.value).unwrap_or(usize::MAX))
    };
    let ping_interval = match &draft.ping_interval {
        Some(given) => (!given.is_zero()).then_some(given.value),
        None => own.ping_interval,
    };
    SharingSettings {
        max_connections: count(&draft.max_connections, defaults.max_connections),
        max_waiting: count(&draft.max_waiting, defaults.max_waiting),
        connection: ClientSettings {
            max_streams: count(&draft.max_streams, own.max_streams),
            max_requests: pool.max_requests,
            window: draft
                .window
                .as_ref()
                .map_or(own.window, |given| u32::try_from(given.value).unwrap_or(own.window)),
            // Each field counts 32 bytes more than it has (RFC 9113 §6.5.2).
            max_head: u32::try_from(limits.max_head + 32 * limits.max_headers).unwrap_or(u32::MAX),
            ping_interval,
            ping_timeout: or(&draft.ping_timeout, own.ping_timeout),
            idle_timeout: pool.idle_timeout,
        },
    }
}

/// The share of a server.
pub(super) fn weight(given: &Option<Spanned<u64>>) -> NonZeroU32 {
    let weight = given.as_ref().and_then(|weight| u32::try_from(weight.value).ok());
    weight.and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN)
}

/// Every address of a server, none of which is the service's own.
pub(super) fn checked_addresses(
    service: &str,
    addr: &Spanned<String>,
    listeners: &[Placed],
    names: &Names<'_>,
    report: &mut Report<'_>,
) -> Vec<Address> {
    let addresses = server_addresses(addr, names, report);
    let mut own = listeners.iter().filter(|listener| *listener.spec.service == *service);
    if let Some(own) = own.find(|own| addresses.iter().any(|address| reaches(address, &own.spec.address))) {
        report.error(&addr.at, "the service would forward to itself").related(&own.at, "its own listener");
    }
    addresses
}

/// Whether a connection to `server` arrives at `listener`, as far as the addresses tell: they are the same, or the
/// listener is on all addresses and the server on this machine. Which other addresses the machine has is not asked.
fn reaches(server: &Address, listener: &Address) -> bool {
    server == listener
        || matches!((server, listener), (Address::Tcp(server), Address::Tcp(listener))
            if server.port() == listener.port()
                && server.is_ipv4() == listener.is_ipv4()
                && server.ip().is_loopback()
                && listener.ip().is_unspecified())
}

/// Every address of a server, in the order the resolver gave; nothing if there is none (then reported).
fn server_addresses(addr: &Spanned<String>, names: &Names<'_>, report: &mut Report<'_>) -> Vec<Address> {
    let message = match address::parse(addr, EXAMPLE_PORT) {
        Ok(Written::Numeric(address)) if address.port() == 0 => "a server has no port 0".to_owned(),
        Ok(Written::Name(_, 0)) => "a server has no port 0".to_owned(),
        Ok(Written::Numeric(address)) if address.ip().is_unspecified() => {
            let own: IpAddr = match address.ip() {
                IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            };
            let help = format!("write \"{}\" for this machine", SocketAddr::new(own, address.port()));
            report.error(&addr.at, format!("{} is no address of a server", address.ip())).help(help);
            return Vec::new();
        }
        Ok(Written::Numeric(address)) => return vec![Address::Tcp(address)],
        Ok(Written::Name(host, port)) => match names.lookup(host, port) {
            Ok(mut addresses) => {
                // Some resolvers answer with it for names that they block.
                addresses.retain(|address| !address.ip().is_unspecified());
                if !addresses.is_empty() {
                    return addresses.into_iter().map(Address::Tcp).collect();
                }
                format!("the name {host:?} has no address")
            }
            Err(message) => message,
        },
        Ok(Written::Unix(written)) => {
            let path = paths::absolute(report.source.directory(), Path::new(written));
            // The server makes its socket when it likes; only what can never work is refused.
            match paths::check_length(&path, paths::MAX_SOCKET) {
                Ok(()) if written.starts_with('@') => {
                    "abstract sockets are not supported; a path is needed".to_owned()
                }
                Ok(()) if written.chars().any(char::is_control) => {
                    "the path has control characters".to_owned()
                }
                Ok(()) => return vec![Address::Unix(path)],
                Err(message) => message,
            }
        }
        Err(mistake) => {
            let problem = report.error(&addr.at, mistake.message);
            if let Some(help) = mistake.help {
                problem.help(help);
            }
            return Vec::new();
        }
    };
    report.error(&addr.at, message);
    Vec::new()
}
