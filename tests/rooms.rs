//! The crate's rooms stand in an order, and an import points right or skips ahead, never left
//! (`docs/decisions/0001-rooms.md`). This test reads the sources and holds the rule.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fs;
use std::path::{Path, PathBuf};

/// The rooms from the process's outside to the wire. Those that share a place may not import each other.
const ORDER: &[&[&str]] = &[
    &["cli"],
    &["config"],
    &["lifecycle"],
    &["handoff", "listen"],
    &["proxy"],
    &["upstream"],
    &["wire"],
    &["tls", "h2"],
    &["http"],
    &["runtime"],
    &["system"],
];

/// Open to every room, and standing right of all of them: they import none but each other.
const SHARED: &[&str] = &["base", "observe"];

#[test]
fn imports_point_right() {
    let mut seen = 0;
    let mut wrong = Vec::new();
    for room in rooms() {
        for file in sources(&source_root().join(&room)) {
            let text = fs::read_to_string(&file).unwrap();
            for import in imports(&text, depth(&file)) {
                seen += 1;
                if !allowed(&room, &import.room) {
                    wrong.push(format!(
                        "src/{}:{}: `{room}` imports `{}`, which stands left of it",
                        file.strip_prefix(source_root()).unwrap().display(),
                        import.line,
                        import.room,
                    ));
                }
            }
        }
    }
    assert!(seen > 0, "no import was found in src: the scanner is broken");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// `docs/decisions/0007-where-rustix-is-used.md`.
#[test]
fn system_calls_are_made_where_they_are_expected() {
    let rooms = ["runtime/", "system/"];
    let files = ["config/source.rs", "handoff/channel.rs", "handoff/upgrade_socket.rs", "observe/log.rs"]
        .map(PathBuf::from);
    let root = source_root();
    for file in sources(&root) {
        let place = file.strip_prefix(&root).unwrap();
        let expected =
            rooms.iter().any(|room| place.starts_with(room)) || files.iter().any(|one| one == place);
        let text = fs::read_to_string(&file).unwrap();
        assert!(expected || !text.contains("rustix::"), "{} uses rustix", place.display());
    }
}

#[test]
fn every_room_has_its_place_and_its_doc() {
    let mut found: Vec<String> = fs::read_dir(source_root())
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().unwrap().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    found.sort();
    let mut expected = rooms();
    expected.sort();
    assert_eq!(found, expected, "the directories of src and the order in this test differ");
    for room in rooms() {
        let path = source_root().join(&room).join("mod.rs");
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(text.starts_with("//! "), "{} does not begin with what the room is for", path.display());
    }
}

#[test]
fn the_readme_lists_every_room_in_order() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let listed: Vec<String> = readme
        .lines()
        .filter_map(|line| line.strip_prefix("| `src/")?.split_once("/` |"))
        .map(|(room, _)| room.to_owned())
        .collect();
    assert_eq!(listed, rooms(), "the table of rooms in README.md");
}

#[test]
fn the_scanner_finds_what_it_looks_for() {
    let found = |text: &str, depth: usize| -> Vec<(String, usize)> {
        imports(text, depth).into_iter().map(|import| (import.room, import.line)).collect()
    };
    let one = |room: &str, line: usize| vec![(room.to_owned(), line)];
    assert_eq!(found("use crate::proxy::Service;", 1), one("proxy", 1));
    assert_eq!(found("\npub use crate::http;", 1), one("http", 2));
    assert_eq!(found("fn f(x: crate::cli::Args) {}", 1), one("cli", 1));
    assert_eq!(
        found("use crate::{\n    base::{Address, Label},\n    cli::Args,\n    http,\n};", 1),
        [("base".to_owned(), 2), ("cli".to_owned(), 3), ("http".to_owned(), 4)]
    );
    assert_eq!(found("use super::super::cli::Args;", 2), one("cli", 1));
    assert_eq!(found("use super::super::cli::Args;", 3), []);
    assert_eq!(found("mod tests { use super::{self, cli}; } use super::proxy;", 1), one("proxy", 1));
    assert_eq!(found("pub(crate) fn f() { let _ = \"crate::cli\"; } // crate::cli", 1), []);
    assert_eq!(found("/* crate::cli /* */ crate::cli */ fn f<'a>(x: &'a str) -> char { '\"' }", 1), []);
    assert_eq!(
        found("fn f() { g(r#\"crate::cli \" \"#, '\\'', b'x'); crate::http::g() }", 1),
        one("http", 1)
    );
}

#[test]
fn the_rule_is_what_it_says() {
    assert!(allowed("cli", "config") && allowed("cli", "system") && allowed("proxy", "proxy"));
    assert!(allowed("http", "base") && allowed("system", "observe") && allowed("observe", "base"));
    assert!(!allowed("config", "cli") && !allowed("system", "runtime") && !allowed("http", "proxy"));
    assert!(!allowed("handoff", "listen") && !allowed("listen", "handoff") && !allowed("base", "system"));
}

/// One mention of a room by a path that begins at the crate's root.
#[derive(Debug)]
struct Import {
    room: String,
    line: usize,
}

fn allowed(from: &str, to: &str) -> bool {
    let place = |room: &str| ORDER.iter().position(|rooms| rooms.contains(&room));
    match (place(from), place(to)) {
        _ if from == to => true,
        (_, None) => SHARED.contains(&to),
        (None, Some(_)) => false,
        (Some(from), Some(to)) => from < to,
    }
}

fn rooms() -> Vec<String> {
    ORDER.iter().copied().flatten().chain(SHARED).map(|room| (*room).to_owned()).collect()
}

fn source_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Every Rust file under `directory`, in a stable order.
fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    let mut files = Vec::new();
    for path in entries {
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// How many `super` lead from a file's module to the crate's root.
fn depth(file: &Path) -> usize {
    let parts = file.strip_prefix(source_root()).unwrap().components().count();
    if file.file_name().is_some_and(|name| name == "mod.rs") { parts - 1 } else { parts }
}

/// Every path in `text` that reaches a room from the crate's root, by `crate::` or by enough `super::`,
/// with the groups of a `use` taken apart. `depth` is that of the file's own module.
fn imports(text: &str, depth: usize) -> Vec<Import> {
    let tokens = tokens(text);
    let word = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    let mut found = Vec::new();
    let mut braces = 0;
    let mut modules = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        match word(at) {
            "{" => braces += 1,
            "}" => {
                modules.pop_if(|opened_at| *opened_at == braces);
                braces -= 1;
            }
            "mod" if word(at + 2) == "{" => modules.push(braces + 1),
            "crate" if word(at + 1) == "::" => root_names(&tokens, at + 2, &mut found),
            "super" if word(at + 1) == "::" => {
                let mut supers = 1;
                while word(at + 2) == "super" && word(at + 3) == "::" {
                    supers += 1;
                    at += 2;
                }
                if supers == depth + modules.len() {
                    root_names(&tokens, at + 2, &mut found);
                }
            }
            _ => {}
        }
        at += 1;
    }
    let rooms = rooms();
    found.retain(|import| rooms.contains(&import.room));
    found
}

/// The names directly under the crate's root in the path or the group that begins at token `at`.
fn root_names(tokens: &[Token], mut at: usize, found: &mut Vec<Import>) {
    let mut names = |token: &Token| found.push(Import { room: token.text.clone(), line: token.line });
    let Some(first) = tokens.get(at) else { return };
    if first.text != "{" {
        return names(first);
    }
    let mut nested = 0;
    let mut first_in_path = true;
    while let Some(token) = tokens.get(at) {
        match token.text.as_str() {
            "{" => nested += 1,
            "}" if nested == 1 => return,
            "}" => nested -= 1,
            "," if nested == 1 => first_in_path = true,
            _ if nested == 1 && std::mem::take(&mut first_in_path) => names(token),
            _ => {}
        }
        at += 1;
    }
}

#[derive(Debug)]
struct Token {
    text: String,
    line: usize,
}

/// The words and marks of Rust source, without comments and literals.
fn tokens(text: &str) -> Vec<Token> {
    let mut found = Vec::new();
    let mut rest = text;
    let mut line = 1;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(length) = literal(rest) {
            length
        } else {
            let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            let length = match word {
                0 if rest.starts_with("::") => 2,
                0 => first.len_utf8(),
                word => word,
            };
            if !first.is_whitespace() {
                found.push(Token { text: rest[..length].to_owned(), line });
            }
            length
        };
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    found
}

/// The length of the block comment, with those nested in it, that `text` begins with.
fn block_comment(text: &str) -> usize {
    let mut nested = 0;
    let mut at = 0;
    while at < text.len() {
        let step = match &text.as_bytes()[at..] {
            [b'/', b'*', ..] => {
                nested += 1;
                2
            }
            [b'*', b'/', ..] => {
                nested -= 1;
                2
            }
            _ => 1,
        };
        at += step;
        if nested == 0 {
            break;
        }
    }
    at
}

/// The length of the string, byte string, raw string or character that `text` begins with, if it does.
fn literal(text: &str) -> Option<usize> {
    let body = text.strip_prefix(['b', 'c']).unwrap_or(text);
    let prefix = text.len() - body.len();
    if let Some(raw) = body.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        let quoted = raw[hashes..].strip_prefix('"')?;
        let end = format!("\"{}", "#".repeat(hashes));
        let length = quoted.find(&end).unwrap_or(quoted.len());
        return Some((prefix + 1 + hashes + 1 + length + end.len()).min(text.len()));
    }
    let quote = *body.as_bytes().first().filter(|byte| matches!(byte, b'"' | b'\''))?;
    let bytes = body.as_bytes();
    // A lifetime has no second quote after one character.
    if quote == b'\'' && bytes.get(1) != Some(&b'\\') {
        let character = body[1..].chars().next()?.len_utf8();
        return (bytes.get(1 + character) == Some(&b'\'')).then_some(prefix + character + 2);
    }
    let mut at = 1;
    while at < bytes.len() && bytes[at] != quote {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    Some((prefix + at + 1).min(text.len()))
}
