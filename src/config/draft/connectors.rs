//! The servers of a service, as written.

use std::time::Duration;

use crate::config::settings;

use super::{Fields, Node, Report, Spanned, read_list};

/// The servers of a service and how they are used.
#[derive(Debug, Default)]
pub(crate) struct Connectors {
    pub(crate) servers: Vec<Server>,
    pub(crate) pool: Pool,
    pub(crate) h2: Sharing,
}

impl Connectors {
    pub(super) fn read<'s>(node: &Node<'s>, report: &mut Report<'s>) -> Option<Self> {
        let before = report.count();
        let mut fields = Fields::of(node, "services.*.connectors", report)?;
        let sharing = fields.place("h2");
        fields.take("load_balance", report, read_load_balance);
        let servers = fields
            .require("servers", report, |node, report| read_list(node, "server", report, Server::read))
            .unwrap_or_default();
        let pool = fields.take("pool", report, Pool::read).unwrap_or_default();
        let h2 = fields.take("h2", report, Sharing::read).unwrap_or_default();
        fields.finish(report);
        // Where something is wrong, it may be what would have asked for HTTP/2.
        if let Some(at) = sharing.filter(|_| report.count() == before)
            && !servers.iter().any(Server::may_speak_h2)
        {
            report
                .error(&at, "no server is spoken to in HTTP/2")
                .help("add proto: H2Only to a server, or proto: H2OrH1 beside its tls_sni; or leave h2 out");
        }
        Some(Self { servers, pool, h2 })
    }
}

/// There is one way to choose a server so far, and nothing to keep of it.
fn read_load_balance<'s>(node: &Node<'s>, report: &mut Report<'s>) -> Option<()> {
    let mut fields = Fields::of(node, "services.*.connectors.load_balance", report)?;
    fields.take("selection", report, |node, report| {
        node.variant(&["RoundRobin"], settings::LATER_SELECTIONS, report)
    });
    fields.finish(report);
    Some(())
}

/// One server.
#[derive(Debug, Default)]
pub(crate) struct Server {
    pub(crate) addr: Option<Spanned<String>>,
    pub(crate) weight: Option<Spanned<u64>>,
    pub(crate) proto: Option<Spanned<String>>,
    pub(crate) tls_sni: Option<Spanned<String>>,
    pub(crate) tls_ca: Option<Spanned<String>>,
    pub(crate) tls_cert: Option<Spanned<String>>,
    pub(crate) tls_key: Option<Spanned<String>>,
    pub(crate) tls_verify: Option<Spanned<bool>>,
}

impl Server {
    fn read<'s>(node: &Node<'s>, report: &mut Report<'s>) -> Option<Self> {
        let mut fields = Fields::of(node, "services.*.connectors.servers[]", report)?;
        let server = Self {
            addr: fields.require("addr", report, Node::string),
            weight: fields.take("weight", report, |node, report| node.integer(1, 1_000, report)),
            proto: fields.take("proto", report, |node, report| node.variant(PROTOCOLS, &[], report)),
            tls_sni: fields.take("tls_sni", report, Node::string),
            tls_ca: fields.take("tls_ca", report, Node::string),
            tls_cert: fields.take("tls_cert", report, Node::string),
            tls_key: fields.take("tls_key", report, Node::string),
            tls_verify: fields.take("tls_verify", report, Node::boolean),
        };
        fields.finish(report);
        Some(server)
    }

    /// Whether it is, or may turn out to be, spoken to in HTTP/2.
    fn may_speak_h2(&self) -> bool {
        self.proto.as_ref().is_some_and(|proto| proto.value != "H1Only")
    }
}

/// How idle connections are kept.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    pub(crate) max_idle: Option<Spanned<u64>>,
    pub(crate) idle_timeout: Option<Spanned<Duration>>,
    pub(crate) max_requests: Option<Spanned<u64>>,
}

impl Pool {
    fn read<'s>(node: &Node<'s>, report: &mut Report<'s>) -> Option<Self> {
        let mut fields = Fields::of(node, "services.*.connectors.pool", report)?;
        let pool = Self {
            max_idle: fields.take("max_idle", report, |node, report| node.integer(0, 100_000, report)),
            idle_timeout: fields.take("idle_timeout", report, Node::duration),
            max_requests: fields
                .take("max_requests", report, |node, report| node.integer(1, 1_000_000_000, report)),
        };
        fields.finish(report);
        Some(pool)
    }
}

/// What a server may be spoken to in.
const PROTOCOLS: &[&str] = &["H1Only", "H2Only", "H2OrH1"];

/// How connections in HTTP/2 are shared.
#[derive(Debug, Default)]
pub(crate) struct Sharing {
    pub(crate) max_streams: Option<Spanned<u64>>,
    pub(crate) max_connections: Option<Spanned<u64>>,
    pub(crate) max_waiting: Option<Spanned<u64>>,
    pub(crate) window: Option<Spanned<u64>>,
    pub(crate) ping_interval: Option<Spanned<Duration>>,
    pub(crate) ping_timeout: Option<Spanned<Duration>>,
}

impl Sharing {
    fn read<'s>(node: &Node<'s>, report: &mut Report<'s>) -> Option<Self> {
        let mut fields = Fields::of(node, "services.*.connectors.h2", report)?;
        let sharing = Self {
            max_streams: fields.take("max_streams", report, |node, report| node.integer(1, 10_000, report)),
            max_connections: fields
                .take("max_connections", report, |node, report| node.integer(1, 1_000, report)),
            max_waiting: fields.take("max_waiting", report, |node, report| node.integer(0, 100_000, report)),
            window: fields.take("window", report, |node, report| node.size(65_535, 16 << 20, report)),
            ping_interval: fields.take("ping_interval", report, Node::duration_or_zero),
            ping_timeout: fields.take("ping_timeout", report, Node::duration),
        };
        fields.finish(report);
        Some(sharing)
    }
}
