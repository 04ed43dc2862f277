//! The configuration as it was written: every value of the right kind, with its place, and nothing checked beyond.
//!
//! An absent value is `None`; so is one that was wrong, which has been reported by then. A draft with holes goes on
//! to the checks of [`super::plan`], so that what they find is reported together with the rest.

mod connectors;
mod listener;
mod respond;
mod service;
mod system;
mod tcp;
mod tls;

use super::diagnostics::Report;
use super::fields::Fields;
use super::node::{Node, Spanned};

pub(super) use connectors::{Connectors, Server, Sharing};
pub(super) use listener::Listener;
pub(super) use respond::Respond;
pub(super) use service::{H2, Limits, Service, Timeouts};
pub(super) use system::System;
pub(super) use tcp::Tcp;
pub(super) use tls::{Certificate, Handshake, Tickets, Tls};

/// A whole file.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) system: System,
    pub(super) services: Vec<(Spanned<String>, Service)>,
}

impl Draft {
    /// Reads the file of `report`.
    pub(super) fn read(report: &mut Report<'_>) -> Self {
        let Some(root) = Node::root(report) else { return Self::default() };
        let Some(mut fields) = Fields::of(&root, "", report) else { return Self::default() };
        let system = fields.take("system", report, System::read).unwrap_or_default();
        let services = fields.require("services", report, read_services).unwrap_or_default();
        fields.finish(report);
        Self { system, services }
    }
}

fn read_services<'s>(node: &Node<'s>, report: &mut Report<'s>) -> Option<Vec<(Spanned<String>, Service)>> {
    let before = report.count();
    let entries = node.map(report)?;
    if entries.is_empty() && report.count() == before {
        report.error(node.place(), "there is no service").help("write at least one: \"web\": (listeners: …)");
    }
    let services = entries.into_iter().map(|(name, node)| {
        let service = Service::read(&node, report).unwrap_or_default();
        (name, service)
    });
    Some(services.collect())
}

/// Reads a list whose entries are structures; it must not be empty.
fn read_list<'s, T>(
    node: &Node<'s>,
    what: &str,
    report: &mut Report<'s>,
    read: impl Fn(&Node<'s>, &mut Report<'s>) -> Option<T>,
) -> Option<Vec<T>> {
    let nodes = node.list(report)?;
    if nodes.is_empty() {
        report.error(node.place(), format!("there is no {what}"));
    }
    Some(nodes.iter().filter_map(|node| read(node, report)).collect())
}
