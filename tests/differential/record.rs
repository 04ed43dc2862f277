//! `docs/differences.md`: what happened, as a table that can be read and compared.

use std::fmt::Write;

use crate::classes::Class;
use crate::exchange::Outcome;

/// The record's text.
pub(crate) fn write(classes: &[Class], versions: &[String], outcomes: &[Vec<Outcome>]) -> String {
    let mut text = format!(
        "# Where River, nginx and HAProxy differ

The same bytes were sent to {}, with settings as equal as they can be
(`tests/differential/peers.rs`; request bodies unbuffered, half a second for whatever a client leaves undone). Of each
request stands here what the client was answered, and each byte that reached the server, a line per connection. `-` is
no answer and nothing at all. The tables are written by `RIVER_BLESS=1 cargo test --test differential`, and the same
test without it holds River to them. The words are written by hand, in `tests/differential/classes.rs`.

{}\n",
        versions.join(", "),
        summary(classes, outcomes)
    );
    let mut outcomes = outcomes.iter();
    for class in classes {
        let _ = write!(text, "\n## {}\n\n{}\n", class.name, class.reason.trim());
        for (sent, outcomes) in class.requests.iter().zip(outcomes.by_ref()) {
            let _ = write!(text, "\n### {}\n\n    {}\n\n", sent.name, shown(sent.bytes));
            text.push_str("| | answer | to the server |\n|---|---|---|\n");
            for (version, outcome) in versions.iter().zip(outcomes) {
                let name = version.split(' ').next().unwrap_or_default();
                let _ = writeln!(text, "| {name} | {} | {} |", cell(&outcome.answers), upstream(outcome));
            }
        }
    }
    text
}

/// How many requests of each class the three treat alike, as far as the answer and whether something passed go.
fn summary(classes: &[Class], outcomes: &[Vec<Outcome>]) -> String {
    let mut text =
        "| class | requests | River passes | nginx passes | HAProxy passes |\n|---|---|---|---|---|"
            .to_owned();
    let mut outcomes = outcomes.iter();
    for class in classes {
        let of_class: Vec<_> = outcomes.by_ref().take(class.requests.len()).collect();
        let passed = |nth: usize| {
            of_class.iter().filter(move |each| each[nth].answers.iter().any(|answer| answer == "200"))
        };
        let counts = [0, 1, 2].map(|nth| passed(nth).count().to_string());
        let _ = write!(text, "\n| {} | {} | {} |", class.name, of_class.len(), counts.join(" | "));
    }
    text
}

fn cell(answers: &[String]) -> String {
    if answers.is_empty() { "-".into() } else { answers.join(" ") }
}

fn upstream(outcome: &Outcome) -> String {
    if outcome.upstream.is_empty() {
        return "-".into();
    }
    let lines: Vec<_> =
        outcome.upstream.iter().map(|bytes| format!("`{}`", shown(bytes).replace('|', "\\|"))).collect();
    lines.join("<br>")
}

/// Bytes as Rust would write them, long runs of one byte cut short.
fn shown(bytes: &[u8]) -> String {
    let mut text = String::new();
    let mut rest = bytes;
    while let Some(&first) = rest.first() {
        let run = rest.iter().take_while(|&&byte| byte == first).count();
        let (repeat, said) = if run > 20 { (1, format!("{{{run} times}}")) } else { (run, String::new()) };
        for _ in 0..repeat {
            let _ = match first {
                b'\\' => write!(text, "\\\\"),
                b'"' => write!(text, "\""),
                b'\'' => write!(text, "'"),
                b'`' => write!(text, "\\x60"),
                byte => write!(text, "{}", byte.escape_ascii()),
            };
        }
        text.push_str(&said);
        rest = &rest[run..];
    }
    text
}

/// What of a record says something of the proxies that are `comparable`, in order, with the request it is about.
pub(crate) fn columns(text: &str, comparable: &[bool]) -> Vec<String> {
    let names = ["| River |", "| nginx |", "| HAProxy |"];
    let mut request = "";
    let mut kept = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("### ") {
            request = name;
        }
        let of = names.iter().position(|name| line.starts_with(name));
        if of.is_some_and(|nth| comparable[nth]) {
            kept.push(format!("{request}: {line}"));
        }
    }
    kept
}
