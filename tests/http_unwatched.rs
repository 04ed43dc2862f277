//! A system that has no watch left for a connection, told by a filter of system calls: who has to be waited for is sent
//! away, the log says why, and those that are watched go on.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::process::Command;

use support::tools::{lacks, require};
use support::*;

/// Becomes a program that can watch no descriptor beyond the first ones (`ENOSPC`, as beyond `max_user_watches`).
const FILTER: &str = r#"
import ctypes, os, struct, sys
number = {"x86_64": 233, "aarch64": 21}[os.uname().machine]
def op(code, true, false, value):
    return struct.pack("HBBI", code, true, false, value)
LOAD, EQUALS, GREATER, RETURN = 0x20, 0x15, 0x25, 0x06
ALLOW, ENOSPC, ADD, LAST = 0x7FFF0000, 0x00050000 | 28, 1, 40
ops = [op(LOAD, 0, 0, 0), op(EQUALS, 0, 5, number), op(LOAD, 0, 0, 24), op(EQUALS, 0, 3, ADD)]
ops += [op(LOAD, 0, 0, 32), op(GREATER, 0, 1, LAST), op(RETURN, 0, 0, ENOSPC), op(RETURN, 0, 0, ALLOW)]
program = ctypes.create_string_buffer(b"".join(ops))
filter = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(ops), ctypes.addressof(program)))
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, filter, 0, 0):
    sys.exit("no filter: " + os.strerror(ctypes.get_errno()))
os.execv(sys.argv[1], sys.argv[1:])
"#;

#[test]
fn a_connection_that_cannot_be_watched_is_closed_and_the_log_says_why() {
    if !require("python3") {
        return;
    }
    let loads = Command::new("python3").args(["-c", "import ctypes"]).status().unwrap();
    if !loads.success() {
        lacks("ctypes of python3");
        return;
    }
    let dir = Dir::new();
    fs::write(dir.join("filter.py"), FILTER).unwrap();
    let river = River::in_dir(dir)
        .config(Config::respond("ok").system("workers: 1"))
        .after("exec python3 filter.py \"$0\" \"$@\"")
        .serve();
    // They stay, and take the descriptors that can be watched. Between two requests somebody has to be waited for.
    let mut held = Vec::new();
    loop {
        let mut conn = Conn::open(river.web());
        let request = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        let mut again = || conn.try_send(request).is_ok() && conn.try_read_response("GET").is_ok();
        if !(again() && again()) {
            break;
        }
        held.push(conn);
        assert!(held.len() < 60, "everybody is watched");
    }
    let line = river.wait_for_line("cannot be watched", PATIENCE).text;
    assert!(line.contains("ERROR") && line.contains("No space left"), "{line}");
    for conn in &mut held {
        assert_eq!(conn.get("/").text(), "ok");
    }
}
