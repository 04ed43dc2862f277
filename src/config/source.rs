//! The text of a configuration file, and where in it something stands.

use std::fmt::Write as _;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};
use rustix::fs::OFlags;

/// The largest file that is read, in bytes. A configuration of a thousand services stays far below it.
pub const MAX_SIZE: usize = 4 << 20;

/// The text of a configuration file.
#[derive(Clone, Debug)]
pub struct Source {
    /// The path as the user wrote it, for messages.
    name: Box<str>,
    /// The absolute directory that relative paths in the text start from.
    directory: Box<Path>,
    text: String,
    /// Of what was in the file, in hexadecimal.
    sha256: Box<str>,
}

impl Source {
    /// Takes a text as if it had been read from the file `name`, whose relative paths start from `directory`.
    pub fn from_text(name: &str, directory: &Path, text: &str) -> Self {
        let sha256 = digest(&SHA256, text.as_bytes()).as_ref().iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        // An editor's byte order mark says nothing about the settings.
        let mut text = text.strip_prefix('\u{feff}').unwrap_or(text).to_owned();
        // RON wants the last line's comment to end, too.
        if !text.ends_with('\n') {
            text.push('\n');
        }
        Self { name: name.into(), directory: directory.into(), text, sha256: sha256.into() }
    }

    /// Reads the file at `path`.
    ///
    /// # Errors
    ///
    /// A sentence that says why it cannot be read, is no regular file, is too large, or is no text.
    pub fn read(path: &Path) -> Result<Self, String> {
        let name = path.display().to_string();
        let absolute =
            std::path::absolute(path).map_err(|error| format!("cannot tell where {name:?} is: {error}"))?;
        let bytes = read_bounded(path)?;
        Self::from_bytes(&name, absolute.parent().unwrap_or(Path::new("/")), bytes)
    }

    /// Takes bytes as if they had been read from the file `name`.
    ///
    /// # Errors
    ///
    /// A sentence that says where they are no UTF-8.
    pub fn from_bytes(name: &str, directory: &Path, bytes: Vec<u8>) -> Result<Self, String> {
        let text = String::from_utf8(bytes).map_err(|error| {
            let good = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
            let line = 1 + good.iter().filter(|byte| **byte == b'\n').count();
            let column = 1 + String::from_utf8_lossy(good).chars().rev().take_while(|c| *c != '\n').count();
            format!("the file is not UTF-8 text: line {line}, column {column}")
        })?;
        Ok(Self::from_text(name, directory, &text))
    }

    /// The path as the user wrote it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The digest of what the file holds, as `sha256sum` prints it.
    pub(super) fn sha256(&self) -> &str {
        &self.sha256
    }

    /// The absolute directory that relative paths start from.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Where `piece`, a slice of this text, stands in it.
    pub(super) fn span_of(&self, piece: &str) -> Range<usize> {
        let start = (piece.as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize);
        self.clamp(start..start.saturating_add(piece.len()))
    }

    /// The byte offset of a place given by its line and column (in characters), both counted from 1.
    pub(super) fn offset(&self, line: usize, column: usize) -> usize {
        let start: usize = self.text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
        let rest = self.text.get(start..).unwrap_or_default();
        start + rest.char_indices().nth(column.saturating_sub(1)).map_or(rest.len(), |(at, _)| at)
    }

    /// The part of a span that lies on its first line; carets under more than one line tell nobody more.
    pub(super) fn first_line(&self, span: Range<usize>) -> Range<usize> {
        let span = self.clamp(span);
        let text = self.text.get(span.clone()).unwrap_or_default();
        let line = text.lines().next().unwrap_or_default().trim_end();
        span.start..span.start + line.len()
    }

    /// The lines that hold the spans, from the first to the last: their number (from 1) and byte range.
    pub(super) fn lines_of<'a>(
        &self,
        spans: impl Iterator<Item = &'a Range<usize>> + Clone,
    ) -> (usize, Range<usize>) {
        let first = spans.clone().map(|span| span.start).min().unwrap_or(0);
        let last = spans.map(|span| span.end).max().unwrap_or(0);
        let before = self.text.get(..first).unwrap_or(&self.text);
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        let end =
            self.text.get(last..).and_then(|rest| rest.find('\n')).map_or(self.text.len(), |at| last + at);
        (1 + before.matches('\n').count(), start..end)
    }

    fn clamp(&self, span: Range<usize>) -> Range<usize> {
        let start = self.text.floor_char_boundary(span.start);
        start..self.text.ceil_char_boundary(span.end).max(start)
    }
}

/// Opens a regular file without waiting for anybody, as a FIFO without a writer would make it.
fn open(path: &Path) -> Result<File, String> {
    let cannot = |error: io::Error| format!("cannot read the file: {error}");
    // Asked first as well, since opening some devices does something.
    check_kind(&fs::metadata(path).map_err(cannot)?)?;
    // Both without effect on a regular file; the bits of an open flag fit into any integer.
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(cannot)?;
    check_kind(&file.metadata().map_err(cannot)?)?;
    Ok(file)
}

/// Refuses what is read only once or has no directory of its own: relative paths start from there, and a successor
/// reads the file again.
fn check_kind(metadata: &Metadata) -> Result<(), String> {
    let kind = metadata.file_type();
    let what = match () {
        () if kind.is_file() => return Ok(()),
        () if kind.is_dir() => "a directory",
        () if kind.is_fifo() => "a pipe (FIFO)",
        () if kind.is_socket() => "a socket",
        () => "a device",
    };
    Err(format!("this is {what}; a configuration is a regular file"))
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = open(path)?.take(MAX_SIZE as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| format!("cannot read the file: {error}"))?;
    if bytes.len() > MAX_SIZE {
        return Err(format!("the file is larger than {} MiB", MAX_SIZE >> 20));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::from_text("river.ron", Path::new("/"), text)
    }

    #[test]
    fn lines_and_columns_become_offsets() {
        let source = source("aé\nbc\n");
        assert_eq!(source.offset(1, 1), 0);
        assert_eq!(source.offset(1, 3), 3);
        assert_eq!(source.offset(2, 2), 5);
        assert_eq!(source.offset(9, 9), 7);
    }

    #[test]
    fn pieces_know_where_they_stand() {
        let source = source("one two");
        let piece = &source.text()[4..7];
        assert_eq!(source.span_of(piece), 4..7);
    }

    #[test]
    fn lines_around_spans_are_found() {
        let source = source("a\nbb\nccc\nd");
        assert_eq!(source.lines_of([2..3, 6..7].iter()), (2, 2..8));
        assert_eq!(source.first_line(2..8), 2..4);
        assert_eq!(source.lines_of(std::iter::once(&(10..10))), (4, 9..10));
    }

    #[test]
    fn a_byte_order_mark_is_dropped() {
        assert_eq!(source("\u{feff}()").text(), "()\n");
    }
}
