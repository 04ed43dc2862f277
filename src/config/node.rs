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

use super::diagnostics::{Place, Report};
use super::syntax;

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

/// A kind of value; `Display` puts it in words for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Structure,
    List,
    Map,
    String,
    Character,
    Number,
    Bytes,
    Boolean,
    Name,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Structure => "a structure ( … )",
            Self::List => "a list [ … ]",
            Self::Map => "a map { … }",
            Self::String => "a string",
            Self::Character => "a character",
            Self::Number => "a number",
            Self::Bytes => "bytes",
            Self::Boolean => "a boolean",
            Self::Name => "a name",
        })
    }
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
                report.error(&at, "the file configures nothing").help(syntax::START);
                None
            }
            Err(error) => {
                syntax::report(&error, report);
                None
            }
        }
    }

    pub(super) fn new(raw: &'s RawValue, path: String, report: &Report<'s>) -> Self {
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

    /// What kind of value it is, as far as its first characters tell.
    pub(super) fn kind(&self) -> Kind {
        match self.text.chars().next().unwrap_or(' ') {
            '(' => Kind::Structure,
            '[' => Kind::List,
            '{' => Kind::Map,
            '"' => Kind::String,
            '\'' => Kind::Character,
            '0'..='9' | '+' | '-' | '.' => Kind::Number,
            'r' if self.text.starts_with("r\"") || self.text.starts_with("r#") => Kind::String,
            'b' if ["b\"", "b'", "br\"", "br#"].iter().any(|start| self.text.starts_with(start)) => {
                Kind::Bytes
            }
            _ => match self.text {
                "true" | "false" => Kind::Boolean,
                _ => Kind::Name,
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
        if self.kind() != Kind::List {
            let message = format!("expected a list [ … ], found {}", self.kind());
            let problem = report.error(&self.place, message);
            if matches!(self.kind(), Kind::String | Kind::Structure) {
                problem.help("write [ … ] around it, also where it is the only one");
            }
            return None;
        }
        let pieces: Vec<&'s RawValue> = self.parse(report)?;
        let path = &self.place.path;
        let pieces = pieces.into_iter().enumerate();
        Some(pieces.map(|(n, raw)| Self::new(raw, format!("{path}[{n}]"), report)).collect())
    }

    /// Takes a map apart into its keys, which are strings, and values; each may occur once only.
    pub(super) fn map(&self, report: &mut Report<'s>) -> Option<Vec<(Spanned<String>, Self)>> {
        if self.kind() != Kind::Map {
            return self.unexpected("a map { \"name\": … }", report);
        }
        let pairs = self.pairs(MapOf::Values, report)?;
        let mut entries: Vec<(Spanned<String>, Self)> = Vec::new();
        let mut first: HashMap<String, Place> = HashMap::new();
        for (key, raw) in pairs {
            let mut key = Self { text: key, place: self.place.clone() };
            key.place.span = report.source.span_of(key.text);
            if key.kind() == Kind::Name {
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
                report.error(&self.place, syntax::sentence(&error.code));
                None
            }
        }
    }

    pub(super) fn pairs(&self, of: MapOf, report: &mut Report<'s>) -> Option<Vec<(&'s str, &'s RawValue)>> {
        match options().from_str_seed(self.text, of) {
            Ok(pairs) => Some(pairs),
            Err(error) => {
                use ron::Error::{ExpectedIdentifier, SuggestRawIdentifier};
                let message = match (of, error.code) {
                    (MapOf::Fields, ExpectedIdentifier | SuggestRawIdentifier(_)) => {
                        "the fields of a structure have names: (name: value)".to_owned()
                    }
                    (_, code) => syntax::sentence(&code),
                };
                report.error(&self.place, message);
                None
            }
        }
    }
}

/// Reads a structure or a map into pairs of raw text, in the order written, repeated ones included.
#[derive(Clone, Copy)]
pub(super) enum MapOf {
    /// A structure.
    Fields,
    /// A map.
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
