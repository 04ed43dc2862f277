//! Which bracket is to blame when a text is no RON: the parser only knows where it gave up.

/// What the brackets of a text come to, strings and comments left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Brackets {
    /// There is nothing but space and comments.
    Nothing,
    /// Each is closed by its like.
    Balanced,
    /// The one that stands at this offset is never closed.
    Unclosed(usize),
    /// The one at the first offset is closed, at the second, by one of another kind.
    Mismatch(usize, usize),
    /// The one at this offset closes none.
    Stray(usize),
    /// A string never ends: the one at this offset, the first that goes over the end of a line, or else the last.
    UnclosedString(usize),
    /// A comment that begins at this offset never ends.
    UnclosedComment(usize),
}

/// Looks at the brackets of a text.
pub(super) fn check(text: &str) -> Brackets {
    let mut open: Vec<(usize, char)> = Vec::new();
    let mut seen = false;
    let mut long_string = None;
    let mut at = 0;
    while let Some(rest) = text.get(at..)
        && let Some(c) = rest.chars().next()
    {
        let length = match c {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => match block_comment(rest) {
                Some(length) => length,
                None => return Brackets::UnclosedComment(at),
            },
            '"' => match string(rest) {
                Some(length) => {
                    let long = rest.get(..length).is_some_and(|string| string.contains('\n'));
                    long_string = long_string.or(long.then_some(at));
                    length
                }
                None => return Brackets::UnclosedString(long_string.unwrap_or(at)),
            },
            'r' if rest.starts_with("r\"") || rest.starts_with("r#") => raw_string(rest).unwrap_or(1),
            // Only a whole character in quotes hides a bracket; a lone quote is for the parser to refuse.
            '\'' => character(rest),
            '(' | '[' | '{' => {
                open.push((at, c));
                1
            }
            ')' | ']' | '}' => match open.pop() {
                Some((_, opening)) if closes(opening, c) => 1,
                Some((opening, _)) => return Brackets::Mismatch(opening, at),
                None => return Brackets::Stray(at),
            },
            other => other.len_utf8(),
        };
        seen |= !c.is_whitespace() && c != '/';
        at += length.max(1);
    }
    match open.last() {
        Some((opening, _)) => Brackets::Unclosed(*opening),
        None if seen => Brackets::Balanced,
        None => Brackets::Nothing,
    }
}

fn closes(opening: char, closing: char) -> bool {
    matches!((opening, closing), ('(', ')') | ('[', ']') | ('{', '}'))
}

/// The length of a block comment, which may hold others.
fn block_comment(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut depth = 0_usize;
    let mut at = 0;
    loop {
        match (bytes.get(at)?, bytes.get(at + 1)) {
            (b'/', Some(b'*')) => {
                depth += 1;
                at += 2;
            }
            (b'*', Some(b'/')) => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => at += 1,
        }
    }
}

fn string(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

fn raw_string(text: &str) -> Option<usize> {
    let inner = text.strip_prefix('r')?.trim_start_matches('#');
    let hashes = text.len() - inner.len() - 1;
    let inner = inner.strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = inner.find(&end)?;
    Some(1 + hashes + 1 + length + end.len())
}

fn character(text: &str) -> usize {
    let mut chars = text.chars().skip(1);
    match (chars.next(), chars.next(), chars.next()) {
        (Some('\\'), Some(escaped), Some('\'')) => 3 + escaped.len_utf8(),
        (Some(c), Some('\''), _) if c != '\\' => 2 + c.len_utf8(),
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn brackets_are_matched() {
        let cases = [
            ("", Brackets::Nothing),
            (" // (\n /* [ /* { */ */", Brackets::Nothing),
            ("(a: [1], b: {\"x\": 'c'})", Brackets::Balanced),
            ("(a: \"(\\\"[\", b: r#\"{\"\"#, c: '(', d: '\\'')", Brackets::Balanced),
            ("(a: [1, 2", Brackets::Unclosed(4)),
            ("(a: [1, 2)", Brackets::Mismatch(4, 9)),
            ("(a: \"b)", Brackets::UnclosedString(4)),
            ("(a: \"b,\n c: \"d\")", Brackets::UnclosedString(4)),
            ("(a: /* b)", Brackets::UnclosedComment(4)),
            ("())", Brackets::Stray(2)),
        ];
        for (text, expected) in cases {
            assert_eq!(check(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "[ -~\n]{0,40}|[()\\[\\]{}\"'/*r#\\\\é\n]{0,40}") {
            let _ = check(&text);
        }
    }
}
