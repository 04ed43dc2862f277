//! `docs/reload-failures.md` names the tests of each of the 24 ways in which reloads fail. This test reads the sources
//! and holds the table: every row has tests, every test that is named is there, and none is left out. With
//! `RIVER_BLESS=1` it writes the tests into the table instead.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::{env, fs};

/// How many rows there are.
const ROWS: usize = 24;

/// The tests of each row, as `file: test`.
type Table = BTreeMap<usize, BTreeSet<String>>;

#[test]
fn every_row_is_played_by_the_tests_that_the_table_names() {
    let written = written();
    if env::var_os("RIVER_BLESS").is_some_and(|value| value == "1") {
        bless(&written);
    }
    let named = named();
    let all: Vec<usize> = (1..=ROWS).collect();
    assert_eq!(
        written.keys().copied().collect::<Vec<_>>(),
        all,
        "rows without a test, or tests without a row"
    );
    for row in all {
        let (named, written) = (&named[&row], &written[&row]);
        let lost: Vec<_> = named.difference(written).collect();
        assert!(
            lost.is_empty(),
            "row {row} of docs/reload-failures.md names tests that are not there: {lost:?}"
        );
        let left_out: Vec<_> = written.difference(named).collect();
        assert!(left_out.is_empty(), "row {row} of docs/reload-failures.md leaves out {left_out:?}");
    }
}

/// Writes the last column anew.
fn bless(written: &Table) {
    let path = root().join("docs/reload-failures.md");
    let mut text = String::new();
    for line in fs::read_to_string(&path).unwrap().lines() {
        match line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>()[..] {
            [row, what, _] if row.parse::<usize>().is_ok() => {
                text += &format!("| {row} | {what} | {} |\n", cell(&written[&row.parse().unwrap()]));
            }
            _ => text += &format!("{line}\n"),
        }
    }
    fs::write(path, text).unwrap();
}

fn cell(tests: &BTreeSet<String>) -> String {
    let mut files: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (file, test) in tests.iter().filter_map(|test| test.split_once(": ")) {
        files.entry(file).or_default().push(format!("`{test}`"));
    }
    let files = files.into_iter().map(|(file, tests)| format!("`{file}`: {}", tests.join(", ")));
    files.collect::<Vec<_>>().join("; ")
}

/// What the table says: `| 1 | … | `file`: `test`, `test`; `file`: `test` |`.
fn named() -> Table {
    let text = fs::read_to_string(root().join("docs/reload-failures.md")).unwrap();
    let mut table = Table::new();
    for line in text.lines() {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [row, what, tests] = cells[..] else { continue };
        let Ok(row) = row.parse() else { continue };
        assert!(!what.is_empty(), "row {row} does not say what goes wrong");
        let mut names = BTreeSet::new();
        for file in tests.split("; ") {
            let (file, tests) =
                file.split_once(": ").unwrap_or_else(|| panic!("row {row}: no tests in {file}"));
            names.extend(tests.split(", ").map(|test| format!("{}: {}", bare(file), bare(test))));
        }
        assert!(table.insert(row, names).is_none(), "row {row} is there twice");
    }
    table
}

/// What the sources have: functions `row_NN_…` that are tests.
fn written() -> Table {
    let mut table = Table::new();
    for entry in fs::read_dir(root().join("tests")).unwrap() {
        let path = entry.unwrap().path();
        let Some(file) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".rs")) else {
            continue;
        };
        let text = fs::read_to_string(&path).unwrap();
        let mut attributes = String::new();
        for line in text.lines() {
            if line.starts_with("#[") {
                attributes.push_str(line);
                continue;
            }
            if let Some((row, test)) = line.strip_prefix("fn row_").and_then(|rest| rest.split_once('_')) {
                let test = test.split('(').next().unwrap_or_default();
                assert!(attributes.contains("#[test]"), "{file}: row_{row}_{test} is no test");
                assert!(!attributes.contains("#[ignore"), "{file}: row_{row}_{test} does not run by itself");
                table.entry(row.parse().unwrap()).or_default().insert(format!("{file}: {test}"));
            }
            attributes.clear();
        }
    }
    table
}

/// A name without the backquotes around it.
fn bare(name: &str) -> &str {
    name.strip_prefix('`')
        .and_then(|name| name.strip_suffix('`'))
        .unwrap_or_else(|| panic!("{name} has no `…`"))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
