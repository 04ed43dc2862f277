//! TLS on a listener, as written.

use std::time::Duration;

use crate::config::diagnostics::Place;

use super::{Fields, Node, Report, Spanned, read_list};

/// How clients are taken that speak TLS.
#[derive(Debug, Default)]
pub(crate) struct Tls {
    /// Where it begins.
    pub(crate) at: Place,
    pub(crate) certificates: Vec<Certificate>,
    pub(crate) min_version: Option<Spanned<String>>,
    pub(crate) cipher_suites: Option<Spanned<Vec<Spanned<String>>>>,
    pub(crate) client_ca: Option<Spanned<String>>,
    pub(crate) client_auth: Option<Spanned<String>>,
    pub(crate) client_subject_header: Option<Spanned<String>>,
    pub(crate) client_verified_header: Option<Spanned<String>>,
    pub(crate) handshake: Handshake,
    pub(crate) tickets: Tickets,
}

impl Tls {
    pub(super) fn read<'s>(node: &Node<'s>, report: &mut Report<'s>) -> Option<Self> {
        let mut fields = Fields::of(node, "services.*.listeners[].tls", report)?;
        let tls = Self {
            at: node.opening(),
            certificates: fields
                .require("certificates", report, |node, report| {
                    read_list(node, "certificate", report, Certificate::read)
                })
                .unwrap_or_default(),
            min_version: fields
                .take("min_version", report, |node, report| node.variant(&["Tls12", "Tls13"], &[], report)),
            cipher_suites: fields.take("cipher_suites", report, read_strings),
            client_ca: fields.take("client_ca", report, Node::string),
            client_auth: fields.take("client_auth", report, |node, report| {
                node.variant(&["Required", "Optional"], &[], report)
            }),
            client_subject_header: fields.take("client_subject_header", report, Node::string),
            client_verified_header: fields.take("client_verified_header", report, Node::string),
            handshake: fields.take("handshake", report, Handshake::read).unwrap_or_default(),
            tickets: fields.take("tickets", report, Tickets::read).unwrap_or_default(),
        };
        fields.finish(report);
        Some(tls)
    }
}

/// A certificate and its key.
#[derive(Debug, Default)]
pub(crate) struct Certificate {
    pub(crate) cert: Option<Spanned<String>>,
    pub(crate) key: Option<Spanned<String>>,
}

impl Certificate {
    fn read<'s>(node: &Node<'s>, report: &mut Report<'s>) -> Option<Self> {
        let mut fields = Fields::of(node, "services.*.listeners[].tls.certificates[]", report)?;
        let certificate = Self {
            cert: fields.require("cert", report, Node::string),
            key: fields.require("key", report, Node::string),
        };
        fields.finish(report);
        Some(certificate)
    }
}

/// How long handshakes may take, and how many may go on.
#[derive(Debug, Default)]
pub(crate) struct Handshake {
    pub(crate) timeout: Option<Spanned<Duration>>,
    pub(crate) max_concurrent: Option<Spanned<u64>>,
}

impl Handshake {
    fn read<'s>(node: &Node<'s>, report: &mut Report<'s>) -> Option<Self> {
        let mut fields = Fields::of(node, "services.*.listeners[].tls.handshake", report)?;
        let handshake = Self {
            timeout: fields.take("timeout", report, Node::duration),
            max_concurrent: fields
                .take("max_concurrent", report, |node, report| node.integer(1, 1_000_000, report)),
        };
        fields.finish(report);
        Some(handshake)
    }
}

/// How sessions are resumed.
#[derive(Debug, Default)]
pub(crate) struct Tickets {
    pub(crate) lifetime: Option<Spanned<Duration>>,
    pub(crate) rotate: Option<Spanned<Duration>>,
    pub(crate) key_files: Option<Spanned<Vec<Spanned<String>>>>,
}

impl Tickets {
    fn read<'s>(node: &Node<'s>, report: &mut Report<'s>) -> Option<Self> {
        let mut fields = Fields::of(node, "services.*.listeners[].tls.tickets", report)?;
        let tickets = Self {
            lifetime: fields.take("lifetime", report, Node::duration_or_zero),
            rotate: fields.take("rotate", report, Node::duration),
            key_files: fields.take("key_files", report, read_strings),
        };
        fields.finish(report);
        Some(tickets)
    }
}

fn read_strings<'s>(node: &Node<'s>, report: &mut Report<'s>) -> Option<Spanned<Vec<Spanned<String>>>> {
    let strings = node.list(report)?.iter().filter_map(|node| node.string(report)).collect();
    Some(node.spanned(strings))
}
