//! A fixed answer, as written.

use super::{Fields, Node, Report, Spanned};

/// A fixed answer.
#[derive(Debug, Default)]
pub(crate) struct Respond {
    pub(crate) status: Option<Spanned<u64>>,
    pub(crate) headers: Vec<(Spanned<String>, Spanned<String>)>,
    pub(crate) body: Option<Spanned<String>>,
}

impl Respond {
    pub(super) fn read<'s>(node: &Node<'s>, report: &mut Report<'s>) -> Option<Self> {
        let mut fields = Fields::of(node, "services.*.respond", report)?;
        let respond = Self {
            status: fields.take("status", report, |node, report| node.integer(200, 599, report)),
            headers: fields.take("headers", report, read_headers).unwrap_or_default(),
            body: fields.take("body", report, Node::string),
        };
        fields.finish(report);
        Some(respond)
    }
}

fn read_headers<'s>(
    node: &Node<'s>,
    report: &mut Report<'s>,
) -> Option<Vec<(Spanned<String>, Spanned<String>)>> {
    let entries = node.map(report)?;
    let pairs = entries.into_iter().filter_map(|(name, value)| Some((name, value.string(report)?)));
    Some(pairs.collect())
}
