//! One listener, as written.

use crate::config::node::Kind;

use super::{Fields, Node, Report, Spanned, Tls};

/// One listener of a service.
#[derive(Debug, Default)]
pub(crate) struct Listener {
    pub(crate) bind: Option<Spanned<String>>,
    pub(crate) mode: Option<Spanned<u64>>,
    pub(crate) activation: Option<Spanned<String>>,
    pub(crate) tls: Option<Tls>,
    pub(crate) offer_h2: Option<Spanned<bool>>,
}

impl Listener {
    pub(super) fn read<'s>(node: &Node<'s>, report: &mut Report<'s>) -> Option<Self> {
        let mut fields = Fields::of(node, "services.*.listeners[]", report)?;
        let listener = Self {
            bind: fields.require("bind", report, Node::string),
            mode: fields.take("mode", report, read_mode),
            activation: fields.take("activation", report, Node::string),
            tls: fields.take("tls", report, Tls::read),
            offer_h2: fields.take("offer_h2", report, Node::boolean),
        };
        fields.finish(report);
        Some(listener)
    }

    /// Whether clients may speak HTTP/2. Those that speak TLS choose in their handshake, so nothing is lost by offering
    /// it where nothing is said.
    pub(crate) fn offers_h2(&self) -> bool {
        self.offer_h2.as_ref().map_or(self.tls.is_some(), |offer| offer.value)
    }
}

fn read_mode<'s>(node: &Node<'s>, report: &mut Report<'s>) -> Option<Spanned<u64>> {
    if node.kind() == Kind::String {
        let digits = node.text().trim_matches(['"', ' ']).trim_start_matches("0o");
        let problem = report.error(node.place(), "expected an integer in octal, found a string");
        if digits.bytes().all(|digit| (b'0'..=b'7').contains(&digit)) && !digits.is_empty() {
            problem.help(format!("write 0o{digits}"));
        }
        return None;
    }
    let mode = node.integer(0, u64::from(u32::MAX), report)?;
    if mode.value > 0o777 {
        let text = node.text();
        let problem = report.error(node.place(), "a mode goes from 0o0 to 0o777");
        if !text.starts_with("0o") {
            problem.label(format!("{text} is 0o{:o}", mode.value));
        }
        if text.bytes().all(|digit| (b'0'..=b'7').contains(&digit)) && text.len() <= 4 {
            problem.help(format!("a mode is written in octal: 0o{}", text.trim_start_matches('0')));
        }
        return None;
    }
    Some(mode)
}
