//! Everything that is wrong with a configuration, said at once.

use std::error::Error;
use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet, normalize_untrusted_str};

use super::source::Source;

/// How many problems are printed in full; the rest is counted.
const MAX_SHOWN: usize = 100;

/// The width of a line that carets are printed under; longer lines are cut around them.
const WIDTH: usize = 120;

/// Where a value stands: its bytes in the text and its path, as in `services."web".listeners[0].bind`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(super) struct Place {
    pub(super) span: Range<usize>,
    pub(super) path: String,
}

/// One problem.
#[derive(Clone, Debug)]
pub(super) struct Diagnostic {
    path: String,
    message: String,
    span: Option<Range<usize>>,
    label: String,
    related: Vec<(Range<usize>, String)>,
    notes: Vec<(bool, String)>,
}

impl Diagnostic {
    /// What stands beside the caret.
    pub(super) fn label(&mut self, text: impl Into<String>) -> &mut Self {
        self.label = text.into();
        self
    }

    /// Another place that has to do with it.
    pub(super) fn related(&mut self, place: &Place, label: impl Into<String>) -> &mut Self {
        self.related.push((place.span.clone(), label.into()));
        self
    }

    /// What to write instead.
    pub(super) fn help(&mut self, text: impl Into<String>) -> &mut Self {
        self.notes.push((true, text.into()));
        self
    }

    /// What else is good to know.
    pub(super) fn note(&mut self, text: impl Into<String>) -> &mut Self {
        self.notes.push((false, text.into()));
        self
    }

    fn title(&self) -> String {
        let title = match self.path.as_str() {
            "" => self.message.clone(),
            path => format!("{path}: {}", self.message),
        };
        normalize_untrusted_str(&title)
    }
}

/// Collects the problems of one configuration.
#[derive(Debug)]
pub(super) struct Report<'s> {
    pub(super) source: &'s Source,
    problems: Vec<Diagnostic>,
}

impl<'s> Report<'s> {
    pub(super) fn new(source: &'s Source) -> Self {
        Self { source, problems: Vec::new() }
    }

    /// Adds a problem at a place of the text.
    pub(super) fn error(&mut self, place: &Place, message: impl Into<String>) -> &mut Diagnostic {
        self.push(&place.path, Some(place.span.clone()), message.into())
    }

    /// Adds a problem of a value that does not come from the text.
    pub(super) fn elsewhere(&mut self, path: &str, message: impl Into<String>) -> &mut Diagnostic {
        self.push(path, None, message.into())
    }

    /// How many problems there are so far.
    pub(super) fn count(&self) -> usize {
        self.problems.len()
    }

    /// Whether there is a problem at one of these paths.
    pub(super) fn is_about(&self, paths: &[&str]) -> bool {
        self.problems.iter().any(|problem| paths.contains(&problem.path.as_str()))
    }

    /// The problems in the order of the text, or nothing if there are none.
    pub(super) fn finish(self) -> Result<(), Errors> {
        if self.problems.is_empty() {
            return Ok(());
        }
        let mut problems = self.problems;
        problems.sort_by_key(|problem| problem.span.as_ref().map_or(usize::MAX, |span| span.start));
        Err(Errors { name: self.source.name().to_owned(), source: Some(self.source.clone()), problems })
    }

    fn push(&mut self, path: &str, span: Option<Range<usize>>, message: String) -> &mut Diagnostic {
        let at = self.problems.len();
        self.problems.push(Diagnostic {
            path: path.to_owned(),
            message,
            span,
            label: String::new(),
            related: Vec::new(),
            notes: Vec::new(),
        });
        &mut self.problems[at]
    }
}

/// Everything that is wrong with a configuration, in the order of its text; never empty.
///
/// `Display` prints each problem with `file:line:column`, the path of the field, the line with a caret and what
/// to write instead, and then their number. It is plain; [`Errors::render`] can colour it.
#[derive(Clone, Debug)]
pub struct Errors {
    name: String,
    source: Option<Source>,
    problems: Vec<Diagnostic>,
}

impl Errors {
    /// The one problem of a file that cannot be read at all.
    pub(super) fn unreadable(name: String, message: String) -> Self {
        let problem = Diagnostic {
            path: name.clone(),
            message,
            span: None,
            label: String::new(),
            related: Vec::new(),
            notes: Vec::new(),
        };
        Self { name, source: None, problems: vec![problem] }
    }

    /// How many problems there are.
    pub fn count(&self) -> usize {
        self.problems.len()
    }

    /// The text for a person, with ANSI colours if `color` is set.
    pub fn render(&self, color: bool) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() }.term_width(WIDTH);
        let mut text = String::new();
        for problem in self.problems.iter().take(MAX_SHOWN) {
            text.push_str(&self.render_one(problem, &renderer));
            text.push_str("\n\n");
        }
        let count = self.problems.len();
        let name = normalize_untrusted_str(&self.name);
        let plural = if count == 1 { "" } else { "s" };
        text.push_str(&format!("{name}: {count} error{plural}"));
        if count > MAX_SHOWN {
            text.push_str(&format!(", {MAX_SHOWN} shown"));
        }
        text
    }

    fn render_one(&self, problem: &Diagnostic, renderer: &Renderer) -> String {
        let title = problem.title();
        let mut group = Group::with_title(Level::ERROR.primary_title(title));
        if let (Some(source), Some(span)) = (&self.source, &problem.span) {
            let primary = source.first_line(span.clone());
            let related: Vec<_> = problem
                .related
                .iter()
                .map(|(span, label)| (source.first_line(span.clone()), label))
                .collect();
            let (line, range) = source.lines_of(related.iter().map(|(span, _)| span).chain([&primary]));
            let within = |span: &Range<usize>| {
                span.start.saturating_sub(range.start)..span.end.saturating_sub(range.start)
            };
            let mut annotation = AnnotationKind::Primary.span(within(&primary));
            if !problem.label.is_empty() {
                annotation = annotation.label(normalize_untrusted_str(&problem.label));
            }
            let text = source.text().get(range.clone()).unwrap_or_default();
            let mut snippet = Snippet::source(text).line_start(line).path(&self.name).annotation(annotation);
            for (span, label) in &related {
                let label = normalize_untrusted_str(label);
                snippet = snippet.annotation(AnnotationKind::Context.span(within(span)).label(label));
            }
            group = group.element(snippet);
        }
        for (help, note) in &problem.notes {
            let level = if *help { Level::HELP } else { Level::NOTE };
            group = group.element(level.message(normalize_untrusted_str(note)));
        }
        renderer.render(&[group])
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl Error for Errors {}
