//! Pieces of RON text that know where they stand.
//!
//! RON has no spans for values that are found wrong only later, and stops at its first error. So each structure is
//! taken apart into the raw text of its fields, one level at a time; every piece is then read on its own, and what
//! is wrong with one hides nothing about the others.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::ops::Deref;

use ron::extensions::Extensions;
use ron::value::RawValue;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};

use super::brackets::{self, Brackets};
use super::diagnostics::{Place, Report};
use super::nearest::nearest;
use super::settings;

/// A value with the place it was written at.
#[derive(Clone, Debug)]
pub(super) struct Spanned<T> {
    pub(super) value: T,
    pub(super) at: Place,
}

impl<T> Deref for Spanned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// One piece of the text: a whole value of any kind.
#[derive(Clone, Debug)]
pub(super) struct Node<'s> {
    text: &'s str,
    place: Place,
}

/// How RON is read: `Some(...)` need not be written.
pub(super) fn options() -> ron::Options {
    ron::Options::default().with_default_extension(Extensions::IMPLICIT_SOME | Extensions::UNWRAP_NEWTYPES)
}

impl<'s> Node<'s> {
    /// The whole document, or nothing (and one error) if it is no RON.
    pub(super) fn root(report: &mut Report<'s>) -> Option<Self> {
        let source = report.source;
        let text = source.text();
        match options().from_str::<Option<&'s RawValue>>(text) {
            Ok(Some(raw)) => Some(Self::new(raw, String::new(), report)),
            Ok(None) => {
                let at = Place { span: source.span_of(text), path: String::new() };
                report.error(&at, "the file configures nothing").help(START);
                None
            }
            Err(error) => {
                report_syntax(&error, report);
                None
            }
        }
    }

    fn new(raw: &'s RawValue, path: String, report: &Report<'s>) -> Self {
        let text = raw.trim().get_ron();
        Self { text, place: Place { span: report.source.span_of(text), path } }
    }

    /// The text as it was written.
    pub(super) fn text(&self) -> &'s str {
        self.text
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    pub(super) fn spanned<T>(&self, value: T) -> Spanned<T> {
        Spanned { value, at: self.place.clone() }
    }

    /// The place of the opening bracket, for what is missing within.
    pub(super) fn opening(&self) -> Place {
        let start = self.place.span.start;
        let length = self.text.chars().next().map_or(0, char::len_utf8);
        Place { span: start..start + length, path: self.place.path.clone() }
    }

    /// What kind of value it is, in words for a message.
    pub(super) fn kind(&self) -> &'static str {
        let first = self.text.chars().next().unwrap_or(' ');
        match first {
            '(' => "a structure ( … )",
            '[' => "a list [ … ]",
            '{' => "a map { … }",
            '"' => "a string",
            '\'' => "a character",
            '0'..='9' | '+' | '-' | '.' => "a number",
            'r' if self.text.starts_with("r\"") || self.text.starts_with("r#") => "a string",
            'b' if self.text.starts_with("b\"") || self.text.starts_with("br") => "a byte string",
            _ => match self.text {
                "true" | "false" => "a boolean",
                "None" => "None",
                _ => "a name",
            },
        }
    }

    /// Reports that something else was expected.
    pub(super) fn unexpected<T>(&self, expected: &str, report: &mut Report<'s>) -> Option<T> {
        report.error(&self.place, format!("expected {expected}, found {}", self.kind()));
        None
    }

    /// Takes a list apart.
    pub(super) fn list(&self, report: &mut Report<'s>) -> Option<Vec<Self>> {
        if !self.text.starts_with('[') {
            return self.unexpected("a list [ … ]", report);
        }
        let pieces: Vec<&'s RawValue> = self.parse(report)?;
        let path = &self.place.path;
        let pieces = pieces.into_iter().enumerate();
        Some(pieces.map(|(n, raw)| Self::new(raw, format!("{path}[{n}]"), report)).collect())
    }

    /// Takes a map apart into its keys, which are strings, and values; each may occur once only.
    pub(super) fn map(&self, report: &mut Report<'s>) -> Option<Vec<(Spanned<String>, Self)>> {
        if !self.text.starts_with('{') {
            return self.unexpected("a map { \"name\": … }", report);
        }
        let pairs = self.pairs(MapOf::Values, report)?;
        let mut entries: Vec<(Spanned<String>, Self)> = Vec::new();
        let mut first: HashMap<String, Place> = HashMap::new();
        for (key, raw) in pairs {
            let mut key = Self { text: key, place: self.place.clone() };
            key.place.span = report.source.span_of(key.text);
            if key.kind() == "a name" {
                let help = format!("write {:?}", key.text);
                report.error(&key.place, "expected a string, found a name").help(help);
                continue;
            }
            let Some(mut key) = key.string(report) else { continue };
            key.at.path = format!("{}.{:?}", self.place.path, key.value);
            let value = Self::new(raw, key.at.path.clone(), report);
            match first.entry(key.value.clone()) {
                Entry::Vacant(entry) => {
                    entry.insert(key.at.clone());
                }
                Entry::Occupied(first) => {
                    report
                        .error(&key.at, format!("{:?} occurs twice", key.value))
                        .label("again here")
                        .related(first.get(), "first here");
                }
            }
            entries.push((key, value));
        }
        Some(entries)
    }

    /// Reads this piece as `T`, whose kind has been checked.
    pub(super) fn parse<T: serde::Deserialize<'s>>(&self, report: &mut Report<'s>) -> Option<T> {
        match options().from_str(self.text) {
            Ok(value) => Some(value),
            Err(error) => {
                report.error(&self.place, syntax(&error.code));
                None
            }
        }
    }

    fn pairs(&self, of: MapOf, report: &mut Report<'s>) -> Option<Vec<(&'s str, &'s RawValue)>> {
        match options().from_str_seed(self.text, of) {
            Ok(pairs) => Some(pairs),
            Err(error) => {
                use ron::Error::{ExpectedIdentifier, SuggestRawIdentifier};
                let message = match (of, error.code) {
                    (MapOf::Fields, ExpectedIdentifier | SuggestRawIdentifier(_)) => {
                        "the fields of a structure have names: (name: value)".to_owned()
                    }
                    (_, code) => syntax(&code),
                };
                report.error(&self.place, message);
                None
            }
        }
    }
}

const START: &str = "start with: (services: {\"web\": (listeners: [(bind: \"127.0.0.1:8080\")], \
                     respond: (status: 200, body: \"hello\\n\"))})";

/// The fields of a structure, taken out one after the other.
pub(super) struct Fields<'s> {
    section: &'static str,
    node: Node<'s>,
    left: Vec<(&'s str, Place, Node<'s>)>,
}

impl<'s> Fields<'s> {
    /// Takes a structure apart. `section` is its path in the table of settings, as in `services.*.limits`.
    pub(super) fn of(node: &Node<'s>, section: &'static str, report: &mut Report<'s>) -> Option<Self> {
        if !node.text.starts_with('(') {
            return node.unexpected("a structure ( … )", report);
        }
        let mut left: Vec<(&'s str, Place, Node<'s>)> = Vec::new();
        for (name, raw) in node.pairs(MapOf::Fields, report)? {
            let parent = &node.place.path;
            let path = if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") };
            let key = Place { span: report.source.span_of(name), path: path.clone() };
            if let Some((_, first, _)) = left.iter().find(|(other, ..)| *other == name) {
                report.error(&key, "is given twice").label("again here").related(first, "first here");
                continue;
            }
            left.push((name, key, Node::new(raw, path, report)));
        }
        Some(Self { section, node: node.clone(), left })
    }

    /// The place of a field's name, if the field has a value and is not taken yet.
    pub(super) fn place(&self, name: &str) -> Option<Place> {
        let (_, place, node) = self.left.get(self.position(name)?)?;
        (node.text != "None").then(|| place.clone())
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
        match options().from_str::<Option<&'s RawValue>>(node.text) {
            Ok(Some(raw)) => read(&Node::new(raw, node.place.path, report), report),
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
        let problem = report.error(&self.node.opening(), format!("{name:?} is missing"));
        if let Some(setting) = settings::find(self.section, name) {
            problem.help(format!("write {name}: {}", setting.example));
        }
        None
    }

    /// Reports every field that nobody took.
    pub(super) fn finish(self, report: &mut Report<'s>) {
        for (name, place, _) in self.left {
            let problem = report.error(&place, "unknown field");
            if settings::is_later(self.section, name) {
                problem.note(format!("{name:?} is not supported by this version"));
                continue;
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

/// Reports why a text is no RON, at the place that is to blame for it.
fn report_syntax(error: &ron::error::SpannedError, report: &mut Report<'_>) {
    let source = report.source;
    let text = source.text();
    let start = source.offset(error.span.start.line, error.span.start.col);
    let end = source.offset(error.span.end.line, error.span.end.col);
    // The parser stands before what it did not expect, and after what it could not read.
    let next = text.get(end..).and_then(|rest| rest.chars().next());
    let span = match &error.code {
        ron::Error::InvalidEscape(_) | ron::Error::InvalidIntegerDigit { .. } => start..end,
        _ => end..end + next.filter(|c| *c != '\n').map_or(0, char::len_utf8),
    };
    let place = |span| Place { span, path: String::new() };
    let one = |at: usize| place(at..at + 1);
    let message = syntax(&error.code);
    let problem = match brackets::check(text) {
        Brackets::Nothing => {
            report.error(&place(end..end), "the file configures nothing").help(START);
            return;
        }
        Brackets::UnclosedString(at) => report.error(&one(at), "not valid RON: the string is not closed"),
        Brackets::UnclosedComment(at) => report.error(&one(at), "not valid RON: the comment is not closed"),
        Brackets::Unclosed(at) if error.code == ron::Error::Eof => {
            report.error(&one(at), "not valid RON: the bracket is not closed")
        }
        Brackets::Mismatch(opening, closing) if closing == end => report
            .error(&one(closing), "not valid RON: the bracket does not close the one that is open")
            .related(&one(opening), "this one is open"),
        _ if error.code == ron::Error::ExpectedComma => report
            .error(&place(span), message)
            .help("look for a comma, bracket or quote that is missing just before"),
        _ => report.error(&place(span), message),
    };
    problem.note("nothing after this place has been read");
}

/// Says in words what the parser stumbled over.
fn syntax(error: &ron::Error) -> String {
    let text = match error {
        ron::Error::Eof => "the text ends too early".to_owned(),
        ron::Error::ExpectedComma => "expected a comma or the closing bracket".to_owned(),
        ron::Error::ExpectedMapColon => "expected a colon after the name".to_owned(),
        ron::Error::ExpectedStructLikeEnd => "expected the closing \")\"".to_owned(),
        ron::Error::ExpectedStringEnd => "the string is not closed".to_owned(),
        ron::Error::UnclosedBlockComment => "the comment is not closed".to_owned(),
        ron::Error::TrailingCharacters => "something follows after the end".to_owned(),
        ron::Error::ExceededRecursionLimit => "brackets are nested too deeply".to_owned(),
        ron::Error::UnclosedLineComment => "the comment at the end of the file has no end of line".to_owned(),
        other => {
            let text = other.to_string();
            let mut chars = text.chars();
            chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
        }
    };
    format!("not valid RON: {text}")
}

/// Reads a structure or a map into pairs of raw text, in the order written, repeated ones included.
#[derive(Clone, Copy)]
enum MapOf {
    Fields,
    Values,
}

impl<'de> DeserializeSeed<'de> for MapOf {
    type Value = Vec<(&'de str, &'de RawValue)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        match self {
            Self::Fields => deserializer.deserialize_struct("", &[], self),
            Self::Values => deserializer.deserialize_map(self),
        }
    }
}

impl<'de> Visitor<'de> for MapOf {
    type Value = Vec<(&'de str, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("named values")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs = Vec::new();
        loop {
            let key = match self {
                Self::Fields => map.next_key::<&'de str>()?,
                Self::Values => map.next_key::<&'de RawValue>()?.map(|raw| raw.trim().get_ron()),
            };
            let Some(key) = key else { return Ok(pairs) };
            pairs.push((key, map.next_value()?));
        }
    }
}
