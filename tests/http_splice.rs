//! A system that does not splice, told by a filter of system calls: responses are as whole as ever, and the log says it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::process::Command;

use support::tools::{lacks, require};
use support::*;

/// Becomes a program that cannot `splice(2)`: at all, or not out of the pipe. The pipe is made when there are both sockets,
/// so the descriptor that is read from is the larger one only there.
const FILTER: &str = r#"
import ctypes, os, struct, sys
number = {"x86_64": 275, "aarch64": 76}[os.uname().machine]
def op(code, true, false, value):
    return struct.pack("HBBI", code, true, false, value)
LOAD, EQUALS, GREATER, TO_X, RETURN = 0x20, 0x15, 0x2D, 0x07, 0x06
ALLOW, EINVAL = 0x7FFF0000, 0x00050000 | 22
ops = [op(LOAD, 0, 0, 0), op(EQUALS, 1, 0, number), op(RETURN, 0, 0, ALLOW)]
if sys.argv[1] == "sink":
    ops += [op(LOAD, 0, 0, 32), op(TO_X, 0, 0, 0), op(LOAD, 0, 0, 16), op(GREATER, 1, 0, 0), op(RETURN, 0, 0, ALLOW)]
ops += [op(RETURN, 0, 0, EINVAL)]
program = ctypes.create_string_buffer(b"".join(ops))
filter = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(ops), ctypes.addressof(program)))
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, filter, 0, 0):
    sys.exit("no filter: " + os.strerror(ctypes.get_errno()))
os.execv(sys.argv[2], sys.argv[2:])
"#;

#[test]
fn where_splice_is_refused_bodies_are_copied_and_the_log_says_so_once() {
    const LENGTH: usize = 3 << 20;
    if !require("python3") {
        return;
    }
    let loads = Command::new("python3").args(["-c", "import ctypes"]).status().unwrap();
    if !loads.success() {
        lacks("ctypes of python3");
        return;
    }
    let body: Vec<u8> = (0..LENGTH).map(|at| (at * 7 + at / 251) as u8).collect();
    let sent = body.clone();
    let origin = Origin::with(move |_, reply| reply.respond(200, &[], &sent));
    for end in ["source", "sink"] {
        let dir = Dir::new();
        fs::write(dir.join("filter.py"), FILTER).unwrap();
        let config = Config::proxy(&origin).system("workers: 1");
        let river = River::in_dir(dir)
            .config(config)
            .after(&format!("exec python3 filter.py {end} \"$0\" \"$@\""))
            .serve();
        let mut conn = Conn::open(river.web());
        for _ in 0..3 {
            let got = conn.get("/").expect_status(200).body;
            assert!(got == body, "{end}: {} bytes", got.len());
        }
        let line = river.wait_for_line("splice is refused", PATIENCE).text;
        assert!(line.contains("WARN") && line.contains(&format!("end={end:?}")), "{line}");
        assert_eq!(river.log().text().matches("splice is refused").count(), 1, "{}", river.log().text());
    }
}
