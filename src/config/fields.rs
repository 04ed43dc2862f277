//! Structures: known fields taken out by name, what is left explained.

use std::collections::HashMap;

use ron::value::RawValue;

use super::diagnostics::{Place, Report};
use super::nearest::nearest;
use super::node::{Kind, MapOf, Node, options};
use super::settings;

/// The fields of a structure, taken out one after the other.
pub(super) struct Fields<'s> {
    section: &'static str,
    node: Node<'s>,
    left: Vec<(&'s str, Place, Node<'s>)>,
}

impl<'s> Fields<'s> {
    /// Takes a structure apart. `section` is its path in the table of settings, as in `services.*.limits`.
    pub(super) fn of(node: &Node<'s>, section: &'static str, report: &mut Report<'s>) -> Option<Self> {
        if node.kind() != Kind::Structure {
            let message = format!("expected a structure ( … ), found {}", node.kind());
            let problem = report.error(node.place(), message);
            if let Some(setting) = settings::of_section(section) {
                problem.help(format!("write {}: {}", setting.split().1, setting.example));
            }
            return None;
        }
        let mut left: Vec<(&'s str, Place, Node<'s>)> = Vec::new();
        let mut seen: HashMap<&'s str, Place> = HashMap::new();
        for (name, raw) in node.pairs(MapOf::Fields, report)? {
            let parent = &node.place().path;
            let path = if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") };
            let key = Place { span: report.source.span_of(name), path: path.clone() };
            if let Some(first) = seen.insert(name, key.clone()) {
                report.error(&key, "is given twice").label("again here").related(&first, "first here");
                continue;
            }
            left.push((name, key, Node::new(raw, path, report)));
        }
        Some(Self { section, node: node.clone(), left })
    }

    /// The place of a field's name, if the field has a value and is not taken yet.
    pub(super) fn place(&self, name: &str) -> Option<Place> {
        let (_, place, node) = self.left.get(self.position(name)?)?;
        (node.text() != "None").then(|| place.clone())
    }

    /// Takes a field out and reads it. Nothing comes back where it is absent, `None`, or wrong (then reported).
    pub(super) fn take<T>(
        &mut self,
        name: &'static str,
        report: &mut Report<'s>,
        read: impl FnOnce(&Node<'s>, &mut Report<'s>) -> Option<T>,
    ) -> Option<T> {
        debug_assert!(settings::is_known(self.section, name), "{}.{name} is not in the table", self.section);
        let (.., node) = self.left.remove(self.position(name)?);
        match options().from_str::<Option<&'s RawValue>>(node.text()) {
            Ok(Some(raw)) => read(&Node::new(raw, node.place().path.clone(), report), report),
            Ok(None) => None,
            Err(_) => read(&node, report),
        }
    }

    /// Takes out a field that has to be there.
    pub(super) fn require<T>(
        &mut self,
        name: &'static str,
        report: &mut Report<'s>,
        read: impl FnOnce(&Node<'s>, &mut Report<'s>) -> Option<T>,
    ) -> Option<T> {
        if self.place(name).is_some() {
            return self.take(name, report, read);
        }
        self.take(name, report, |_, _| Some(()));
        if self.is_misspelt(name) {
            return None;
        }
        let problem = report.error(&self.node.opening(), format!("{name:?} is missing"));
        if let Some(setting) = settings::find(self.section, name) {
            problem.help(format!("write {name}: {}", setting.example));
        }
        None
    }

    /// Whether an unknown field was probably meant to be this one, which [`finish`](Self::finish) says.
    pub(super) fn is_misspelt(&self, name: &str) -> bool {
        let mut unknown = self.left.iter().filter(|(other, ..)| !settings::is_known(self.section, other));
        unknown.any(|(other, ..)| nearest(other, settings::names(self.section)) == Some(name))
    }

    /// Reports every field that nobody took.
    pub(super) fn finish(self, report: &mut Report<'s>) {
        for (name, place, _) in self.left {
            let problem = report.error(&place, "unknown field");
            if settings::is_later(self.section, name) {
                problem.note(format!("{name:?} is not supported by this version"));
                continue;
            }
            if let Some(home) = settings::later_home(name) {
                problem.note(format!("{name:?} belongs in {home}, and is not supported by this version"));
            }
            if let Some(meant) = nearest(name, settings::names(self.section)) {
                problem.label(format!("did you mean {meant:?}?"));
            }
            if let Some(home) = settings::home(name) {
                problem.help(format!("{name:?} belongs in {home}"));
            }
            let known: Vec<_> = settings::names(self.section).collect();
            problem.note(format!("known here: {}", known.join(", ")));
        }
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.left.iter().position(|(other, ..)| *other == name)
    }
}
