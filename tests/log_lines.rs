//! What every line of the log tells: which process says it, and which configuration that one has.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;

use aws_lc_rs::digest::{SHA256, digest};
use support::log::field;
use support::*;

/// As `sha256sum` prints it.
fn sha256(path: &std::path::Path) -> String {
    digest(&SHA256, &fs::read(path).unwrap()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_configuration_that_each_instance_has_is_told_by_its_digest() {
    let old = River::with_config(Config::respond("old")).serve();
    let file = old.dir().config();
    let before = sha256(&file);
    let new = upgrade_to(&old, old.successor().config(Config::respond("new")));
    let after = sha256(&file);
    assert_ne!(before, after);
    for (river, digest) in [(&old, before), (&new, after)] {
        let line = river.wait_for_line("configuration read", PATIENCE).text;
        assert_eq!(field(&line, "sha256").as_deref(), Some(&*digest), "{line}");
        assert_eq!(
            field(&line, "file").map(fs::canonicalize).unwrap().unwrap(),
            fs::canonicalize(&file).unwrap()
        );
    }
}

#[test]
fn each_line_begins_with_its_time_and_its_process() {
    let river = River::with_config(Config::respond("here")).serve();
    let mut conn = Conn::open(river.web());
    conn.send("GET / HTTP/1.1\r\n\r\n");
    conn.read_response("GET").expect_status(400);
    river.wait_for_line("request failed", PATIENCE);
    let text = river.log().text();
    let lines = text.lines().filter(|line| line.contains("river::")).collect::<Vec<_>>();
    assert!(lines.len() > 3, "{text}");
    for line in lines {
        // In front of it stands when the test heard of it.
        let begin = line.split(" err ").nth(1).unwrap().split_whitespace().collect::<Vec<_>>();
        let [time, pid, level, ..] = begin[..] else { panic!("{line}") };
        assert!(time.starts_with("20") && time.ends_with('Z'), "{line}");
        assert_eq!(pid, river.pid().to_string(), "{line}");
        assert!(matches!(level, "INFO" | "WARN"), "{line}");
    }
}
