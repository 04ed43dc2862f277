//! Single values: strings, numbers, durations, sizes, names of variants.

use std::time::Duration;

use crate::base::units;

use super::diagnostics::Report;
use super::nearest::nearest;
use super::node::{Kind, Node, Spanned, options};

/// Longer than any duration that is meant: ten years.
const MAX_DURATION: Duration = Duration::from_secs(10 * 365 * 86_400);

const SIZE_HELP: &str = "write \"512B\", \"16KiB\", \"64MiB\" or \"1GiB\", or an integer for bytes";

const DURATION_HELP: &str = "write whole numbers with units: \"250ms\", \"30s\", \"5m\", \"1h30m\"";

impl<'s> Node<'s> {
    /// Reads a string.
    pub(super) fn string(&self, report: &mut Report<'s>) -> Option<Spanned<String>> {
        if self.kind() != Kind::String {
            return self.unexpected("a string", report);
        }
        self.parse(report).map(|text: String| self.spanned(text))
    }

    /// Reads `true` or `false`.
    pub(super) fn boolean(&self, report: &mut Report<'s>) -> Option<Spanned<bool>> {
        if self.kind() != Kind::Boolean {
            return self.unexpected("true or false", report);
        }
        Some(self.spanned(self.text() == "true"))
    }

    /// Reads an integer within `range`, in any of RON's notations.
    pub(super) fn integer(&self, min: u64, max: u64, report: &mut Report<'s>) -> Option<Spanned<u64>> {
        let expected = format!("an integer from {min} to {max}");
        if self.kind() != Kind::Number {
            return self.unexpected(&expected, report);
        }
        let number = options().from_str::<u64>(self.text()).ok();
        match number.filter(|number| (min..=max).contains(number)) {
            Some(number) => Some(self.spanned(number)),
            None => {
                report.error(self.place(), format!("expected {expected}, found {}", self.text()));
                None
            }
        }
    }

    /// Reads a duration, which is never zero.
    pub(super) fn duration(&self, report: &mut Report<'s>) -> Option<Spanned<Duration>> {
        let duration = self.duration_or_zero(report)?;
        if duration.is_zero() {
            report.error(&duration.at, "a duration of zero is not possible").help(DURATION_HELP);
            return None;
        }
        Some(duration)
    }

    /// Reads a duration that may be zero.
    pub(super) fn duration_or_zero(&self, report: &mut Report<'s>) -> Option<Spanned<Duration>> {
        if self.kind() == Kind::Number {
            let text = self.text();
            let problem = report.error(self.place(), format!("the duration {text} has no unit"));
            if text.bytes().all(|byte| byte.is_ascii_digit()) {
                problem.help(format!(
                    "write \"{text}s\" for seconds, or \"{text}ms\", \"{text}m\", \"{text}h\""
                ));
            }
            return None;
        }
        if self.kind() != Kind::String {
            return self.unexpected("a duration such as \"30s\"", report);
        }
        let text = self.string(report)?;
        let problem = match units::parse_duration(&text) {
            Ok(duration) if duration > MAX_DURATION => {
                "a duration of more than ten years is a mistake".to_owned()
            }
            Ok(duration) => return Some(self.spanned(duration)),
            Err(error) => format!("the duration {:?} {error}", text.value),
        };
        report.error(&text.at, problem).help(DURATION_HELP);
        None
    }

    /// Reads a size in bytes: an integer, or a string with a unit.
    pub(super) fn size(&self, min: u64, max: u64, report: &mut Report<'s>) -> Option<Spanned<u64>> {
        let bytes = match self.kind() {
            Kind::Number => options().from_str::<u64>(self.text()).ok(),
            Kind::String => {
                let text = self.string(report)?;
                match units::parse_size(&text) {
                    Ok(bytes) => Some(bytes),
                    Err(error) => {
                        let message = format!("the size {:?} {error}", text.value);
                        report.error(&text.at, message).help(SIZE_HELP);
                        return None;
                    }
                }
            }
            _ => return self.unexpected("a size such as \"16KiB\"", report),
        };
        match bytes.filter(|bytes| (min..=max).contains(bytes)) {
            Some(bytes) => Some(self.spanned(bytes)),
            None => {
                let text = self.text();
                if (min, max) == (0, u64::MAX) {
                    report.error(self.place(), format!("expected a size, found {text}")).help(SIZE_HELP);
                    return None;
                }
                let message = format!("expected a size from {} to {}, found {text}", bound(min), bound(max));
                let problem = report.error(self.place(), message);
                // Who writes bytes is told the bound in bytes: 64KiB is one more than the 65535 of RFC 9113.
                let broken = if bytes.is_some_and(|bytes| bytes > max) { max } else { min };
                let shown = bound(broken);
                if shown.ends_with("iB") && !text.contains("iB") {
                    problem.label(format!("{shown} is {broken} bytes"));
                }
                None
            }
        }
    }

    /// Reads a name out of `known`; those in `later` are known but not supported yet.
    pub(super) fn variant(
        &self,
        known: &[&str],
        later: &[&str],
        report: &mut Report<'s>,
    ) -> Option<Spanned<String>> {
        if self.kind() != Kind::Name {
            let expected = format!("one of: {}", known.join(", "));
            let message = format!("expected {expected}, found {}", self.kind());
            let problem = report.error(self.place(), message);
            let bare = self.text().trim_matches('"');
            if known.contains(&bare) {
                problem.help(format!("write {bare} without quotes"));
            } else if let Some(meant) = meant(bare, known) {
                problem.label(format!("did you mean {meant}?"));
            }
            return None;
        }
        let name = self.text().split(['(', ' ', '\t', '\n', '\r', '/']).next().unwrap_or_default();
        if known.contains(&name) && name == self.text() {
            return Some(self.spanned(name.to_owned()));
        }
        if known.contains(&name) {
            report
                .error(self.place(), format!("{name} takes no arguments"))
                .help(format!("write {name} alone"));
            return None;
        }
        let problem = report.error(self.place(), format!("unknown name {name}"));
        if later.contains(&name) {
            problem.note(format!("{name} is not supported by this version"));
        } else if let Some(meant) = meant(name, known) {
            problem.label(format!("did you mean {meant}?"));
        }
        problem.note(format!("known here: {}", known.join(", ")));
        None
    }
}

/// The end of a range of sizes, in words.
fn bound(bytes: u64) -> String {
    let shown = units::show_size(bytes);
    if shown.ends_with("iB") { shown } else { format!("{bytes} bytes") }
}

/// What was probably meant by a name that is not known: the nearest, or else all that it begins.
fn meant(name: &str, known: &[&str]) -> Option<String> {
    if let Some(one) = nearest(name, known.iter().copied()) {
        return Some(one.to_owned());
    }
    let begins =
        |known: &&&str| known.get(..name.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(name));
    let begun: Vec<&str> = known.iter().filter(|known| name.len() > 1 && begins(known)).copied().collect();
    (!begun.is_empty()).then(|| begun.join(" or "))
}
