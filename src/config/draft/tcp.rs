//! The servers that bytes are passed on to, as written.

use std::time::Duration;

use super::{Fields, Node, Report, Spanned, read_list};

/// The servers of a tcp service.
#[derive(Debug, Default)]
pub(crate) struct Tcp {
    pub(crate) servers: Vec<TcpServer>,
    pub(crate) idle_timeout: Option<Spanned<Duration>>,
}

impl Tcp {
    pub(super) fn read<'s>(node: &Node<'s>, report: &mut Report<'s>) -> Option<Self> {
        let mut fields = Fields::of(node, "services.*.tcp", report)?;
        let servers = fields
            .require("servers", report, |node, report| read_list(node, "server", report, TcpServer::read))
            .unwrap_or_default();
        let idle_timeout = fields.take("idle_timeout", report, Node::duration);
        fields.finish(report);
        Some(Self { servers, idle_timeout })
    }
}

/// One server.
#[derive(Debug, Default)]
pub(crate) struct TcpServer {
    pub(crate) addr: Option<Spanned<String>>,
    pub(crate) weight: Option<Spanned<u64>>,
    /// The names that it is for; for all others where it is not given.
    pub(crate) sni: Option<Vec<Spanned<String>>>,
}

impl TcpServer {
    fn read<'s>(node: &Node<'s>, report: &mut Report<'s>) -> Option<Self> {
        let mut fields = Fields::of(node, "services.*.tcp.servers[]", report)?;
        let server = Self {
            addr: fields.require("addr", report, Node::string),
            weight: fields.take("weight", report, |node, report| node.integer(1, 1_000, report)),
            sni: fields.take("sni", report, |node, report| read_list(node, "name", report, Node::string)),
        };
        fields.finish(report);
        Some(server)
    }
}
