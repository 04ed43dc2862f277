//! One service, as written.

use std::time::Duration;

use super::{Connectors, Fields, Listener, Node, Report, Respond, Spanned, Tcp, read_list};

/// One service.
#[derive(Debug, Default)]
pub(crate) struct Service {
    pub(crate) listeners: Vec<Listener>,
    pub(crate) limits: Limits,
    pub(crate) h2: H2,
    pub(crate) timeouts: Timeouts,
    pub(crate) connectors: Option<Connectors>,
    pub(crate) respond: Option<Respond>,
    pub(crate) tcp: Option<Tcp>,
    pub(crate) via: Option<Spanned<String>>,
}

impl Service {
    pub(super) fn read<'s>(node: &Node<'s>, report: &mut Report<'s>) -> Option<Self> {
        let before = report.count();
        let mut fields = Fields::of(node, "services.*", report)?;
        check_target(&fields, node, report);
        let h2 = fields.place("h2");
        let service = Self {
            listeners: fields
                .require("listeners", report, |node, report| {
                    read_list(node, "listener", report, Listener::read)
                })
                .unwrap_or_default(),
            limits: fields.take("limits", report, Limits::read).unwrap_or_default(),
            h2: fields.take("h2", report, H2::read).unwrap_or_default(),
            timeouts: fields.take("timeouts", report, Timeouts::read).unwrap_or_default(),
            connectors: fields.take("connectors", report, Connectors::read),
            respond: fields.take("respond", report, Respond::read),
            tcp: fields.take("tcp", report, Tcp::read),
            via: fields.take("via", report, Node::string),
        };
        fields.finish(report);
        // Where something is wrong, it may be what would have offered HTTP/2.
        if let Some(at) = h2.filter(|_| report.count() == before)
            && !service.listeners.iter().any(Listener::offers_h2)
        {
            report
                .error(&at, "no listener of the service offers HTTP/2")
                .help("add offer_h2: true to a listener, or leave h2 out");
        }
        Some(service)
    }
}

/// What a service can do with who connects to it, and what that is called in messages.
const TARGETS: [(&str, &str); 3] = [
    ("connectors", "servers to forward to"),
    ("respond", "an answer"),
    ("tcp", "servers to pass connections to"),
];

/// A service forwards, answers, or passes connections on; one of these.
fn check_target<'s>(fields: &Fields<'s>, node: &Node<'s>, report: &mut Report<'s>) {
    let mut given = TARGETS.iter().filter_map(|(name, label)| Some((*name, *label, fields.place(name)?)));
    let Some((name, label, place)) = given.next() else {
        if TARGETS.iter().any(|(name, _)| fields.is_misspelt(name)) {
            return;
        }
        report
            .error(&node.opening(), "the service has neither \"connectors\" nor \"respond\" nor \"tcp\"")
            .help("write connectors: (servers: [(addr: \"127.0.0.1:3000\")])")
            .help("or respond: (status: 200, body: \"hello\\n\")")
            .help("or tcp: (servers: [(addr: \"127.0.0.1:5432\")])");
        return;
    };
    for (other, other_label, at) in given {
        report
            .error(&at, format!("a service has either {name:?} or {other:?}, not both"))
            .label(other_label)
            .related(&place, label);
    }
    let does = match name {
        "respond" => "the service answers itself",
        "tcp" => "the service passes connections on as they are",
        _ => return,
    };
    if let Some(h2) = fields.place("h2").filter(|_| name == "tcp") {
        report
            .error(&h2, "a tcp service passes connections on as they are, and speaks no HTTP/2")
            .related(&place, "what makes it one")
            .help("leave h2 out");
    }
    if let Some(via) = fields.place("via") {
        report
            .error(&via, "nothing is forwarded, so there is nothing to add a Via field to")
            .related(&place, does);
    }
}

/// How much a client may ask for.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    pub(crate) max_connections: Option<Spanned<u64>>,
    pub(crate) max_head: Option<Spanned<u64>>,
    pub(crate) max_headers: Option<Spanned<u64>>,
    pub(crate) max_body: Option<Spanned<u64>>,
}

impl Limits {
    fn read<'s>(node: &Node<'s>, report: &mut Report<'s>) -> Option<Self> {
        let mut fields = Fields::of(node, "services.*.limits", report)?;
        let limits = Self {
            max_connections: fields
                .take("max_connections", report, |node, report| node.integer(1, 10_000_000, report)),
            max_head: fields.take("max_head", report, |node, report| node.size(1 << 10, 1 << 20, report)),
            max_headers: fields.take("max_headers", report, |node, report| node.integer(1, 1_000, report)),
            max_body: fields.take("max_body", report, |node, report| node.size(0, u64::MAX, report)),
        };
        fields.finish(report);
        Some(limits)
    }
}

/// How much a client may ask of one connection in HTTP/2.
#[derive(Debug, Default)]
pub(crate) struct H2 {
    pub(crate) max_concurrent_streams: Option<Spanned<u64>>,
    pub(crate) window: Option<Spanned<u64>>,
    pub(crate) connection_window: Option<Spanned<u64>>,
    pub(crate) max_unsent: Option<Spanned<u64>>,
    pub(crate) max_resets: Option<Spanned<u64>>,
    pub(crate) max_control_frames: Option<Spanned<u64>>,
}

impl H2 {
    fn read<'s>(node: &Node<'s>, report: &mut Report<'s>) -> Option<Self> {
        let mut fields = Fields::of(node, "services.*.h2", report)?;
        let h2 = Self {
            max_concurrent_streams: fields
                .take("max_concurrent_streams", report, |node, report| node.integer(1, 10_000, report)),
            window: fields.take("window", report, |node, report| node.size(16 << 10, 16 << 20, report)),
            connection_window: fields
                .take("connection_window", report, |node, report| node.size(64 << 10, 256 << 20, report)),
            max_unsent: fields
                .take("max_unsent", report, |node, report| node.size(16 << 10, 1 << 20, report)),
            max_resets: fields.take("max_resets", report, |node, report| node.integer(1, 1_000_000, report)),
            max_control_frames: fields
                .take("max_control_frames", report, |node, report| node.integer(10, 1_000_000, report)),
        };
        fields.finish(report);
        Some(h2)
    }
}

/// How long each step may take.
#[derive(Debug, Default)]
pub(crate) struct Timeouts {
    pub(crate) head: Option<Spanned<Duration>>,
    pub(crate) idle: Option<Spanned<Duration>>,
    pub(crate) body: Option<Spanned<Duration>>,
    pub(crate) send: Option<Spanned<Duration>>,
    pub(crate) connect: Option<Spanned<Duration>>,
    pub(crate) upstream_read: Option<Spanned<Duration>>,
    pub(crate) upstream_write: Option<Spanned<Duration>>,
    pub(crate) request: Option<Spanned<Duration>>,
    pub(crate) tunnel: Option<Spanned<Duration>>,
}

impl Timeouts {
    fn read<'s>(node: &Node<'s>, report: &mut Report<'s>) -> Option<Self> {
        let mut fields = Fields::of(node, "services.*.timeouts", report)?;
        let mut duration = |name| fields.take(name, report, Node::duration);
        let timeouts = Self {
            head: duration("head"),
            idle: duration("idle"),
            body: duration("body"),
            send: duration("send"),
            connect: duration("connect"),
            upstream_read: duration("upstream_read"),
            upstream_write: duration("upstream_write"),
            request: duration("request"),
            tunnel: duration("tunnel"),
        };
        fields.finish(report);
        Some(timeouts)
    }
}
