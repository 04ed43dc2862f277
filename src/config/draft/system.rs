//! `system`, as written.

use std::time::Duration;

use super::{Fields, Node, Report, Spanned};

/// Settings of the process.
#[derive(Debug, Default)]
pub(crate) struct System {
    pub(crate) workers: Option<Spanned<u64>>,
    pub(crate) pid_file: Option<Spanned<String>>,
    pub(crate) upgrade_socket: Option<Spanned<String>>,
    pub(crate) daemonize: Option<Spanned<bool>>,
    pub(crate) user: Option<Spanned<String>>,
    pub(crate) group: Option<Spanned<String>>,
    pub(crate) drain_timeout: Option<Spanned<Duration>>,
    pub(crate) tunnel_drain_timeout: Option<Spanned<Duration>>,
    pub(crate) certificate_check: Option<Spanned<Duration>>,
    pub(crate) ready_timeout: Option<Spanned<Duration>>,
    pub(crate) guard: Option<Spanned<Duration>>,
    pub(crate) max_draining: Option<Spanned<u64>>,
    pub(crate) idle_connections: Option<Spanned<String>>,
}

impl System {
    pub(super) fn read<'s>(node: &Node<'s>, report: &mut Report<'s>) -> Option<Self> {
        let mut fields = Fields::of(node, "system", report)?;
        let mut system = Self {
            workers: fields.take("workers", report, |node, report| node.integer(1, 1024, report)),
            pid_file: fields.take("pid_file", report, Node::string),
            upgrade_socket: fields.take("upgrade_socket", report, Node::string),
            daemonize: fields.take("daemonize", report, Node::boolean),
            user: fields.take("user", report, Node::string),
            group: fields.take("group", report, Node::string),
            drain_timeout: fields.take("drain_timeout", report, Node::duration),
            tunnel_drain_timeout: fields.take("tunnel_drain_timeout", report, Node::duration),
            certificate_check: fields.take("certificate_check", report, Node::duration_or_zero),
            ..Self::default()
        };
        fields.take("handoff", report, |node, report| system.read_handoff(node, report));
        fields.finish(report);
        Some(system)
    }

    fn read_handoff<'s>(&mut self, node: &Node<'s>, report: &mut Report<'s>) -> Option<()> {
        let mut fields = Fields::of(node, "system.handoff", report)?;
        self.ready_timeout = fields.take("ready_timeout", report, Node::duration);
        self.guard = fields.take("guard", report, Node::duration_or_zero);
        self.max_draining = fields.take("max_draining", report, |node, report| node.integer(1, 1000, report));
        self.idle_connections = fields
            .take("idle_connections", report, |node, report| node.variant(&["Move", "Close"], &[], report));
        fields.finish(report);
        Some(())
    }
}
