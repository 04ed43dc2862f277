//! Text that is no RON, explained.

use super::brackets::{self, Brackets};
use super::diagnostics::{Place, Report};

/// What to write into a file that says nothing.
pub(super) const START: &str = "start with: (services: {\"web\": (listeners: [(bind: \"127.0.0.1:8080\")], \
                     respond: (status: 200, body: \"hello\\n\"))})";

/// Reports why a text is no RON, at the place that is to blame for it.
pub(super) fn report(error: &ron::error::SpannedError, report: &mut Report<'_>) {
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
    let message = sentence(&error.code);
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
        Brackets::Stray(at) if at == end => {
            report.error(&one(at), "not valid RON: the bracket closes none that is open")
        }
        _ if error.code == ron::Error::TrailingCharacters && !behind_bracket(text, end) => report
            .error(&place(span), "not valid RON: a configuration is one structure, which begins with \"(\"")
            .help(START),
        _ if error.code == ron::Error::ExpectedComma && names_in_quotes(text, end) => {
            report.error(&place(span), message).help(
                "names in quotes stand in a map: { \"name\": … }; those of fields have no quotes: (name: …)",
            )
        }
        _ if error.code == ron::Error::ExpectedComma => report
            .error(&place(span), message)
            .help("look for a comma, bracket or quote that is missing just before"),
        _ if error.code == ron::Error::ExpectedChar => {
            report.error(&place(span), message).help("write text in double quotes")
        }
        _ if is_about_extensions(&error.code) => report
            .error(&place(span), message)
            .help("leave #![enable(…)] out: what River reads of RON needs none"),
        _ => report.error(&place(span), message),
    };
    problem.note("nothing after this place has been read");
}

/// Whether what was read up to here ends with a bracket. Of YAML and the like it is but the first word.
fn behind_bracket(text: &str, at: usize) -> bool {
    text.get(..at).is_some_and(|before| before.trim_end().ends_with([')', ']', '}']))
}

/// Whether the parser stands between a string and a colon.
fn names_in_quotes(text: &str, at: usize) -> bool {
    let (before, behind) = text.split_at_checked(at).unwrap_or_default();
    behind.trim_start().starts_with(':') && before.trim_end().ends_with('"')
}

fn is_about_extensions(error: &ron::Error) -> bool {
    matches!(
        error,
        ron::Error::ExpectedAttribute | ron::Error::ExpectedAttributeEnd | ron::Error::NoSuchExtension(_)
    )
}

/// Says in words what the parser stumbled over.
pub(super) fn sentence(error: &ron::Error) -> String {
    let text = match error {
        ron::Error::Eof => "the text ends too early".to_owned(),
        ron::Error::ExpectedComma => "expected a comma or the closing bracket".to_owned(),
        ron::Error::ExpectedMapColon => "expected a colon after the name".to_owned(),
        ron::Error::ExpectedStructLikeEnd => "expected the closing \")\"".to_owned(),
        ron::Error::ExpectedStringEnd => "the string is not closed".to_owned(),
        ron::Error::UnclosedBlockComment => "the comment is not closed".to_owned(),
        ron::Error::TrailingCharacters => "something follows after the end".to_owned(),
        ron::Error::ExceededRecursionLimit => "brackets are nested too deeply".to_owned(),
        ron::Error::ExpectedIdentifier => "expected a name".to_owned(),
        ron::Error::ExpectedInteger | ron::Error::ExpectedFloat => "this is no number".to_owned(),
        ron::Error::ExpectedChar => "single quotes hold one character".to_owned(),
        ron::Error::ExpectedByteLiteral | ron::Error::ExpectedByteString => "these are no bytes".to_owned(),
        ron::Error::ExpectedAttribute | ron::Error::ExpectedAttributeEnd => {
            "expected #![enable(…)], or nothing of the kind".to_owned()
        }
        ron::Error::NoSuchExtension(name) => format!("there is no extension {name:?} of RON"),
        ron::Error::UnexpectedChar(c) => format!("no value begins with {c:?}"),
        ron::Error::InvalidIdentifier(name) | ron::Error::SuggestRawIdentifier(name) => {
            format!("{name:?} is no name")
        }
        other => {
            let text = other.to_string();
            let mut chars = text.chars();
            chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
        }
    };
    format!("not valid RON: {text}")
}
