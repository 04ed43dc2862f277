//! Programs that a test needs and a machine may lack.

use std::env;
use std::thread;

/// Whether `tool` is on the `PATH`.
///
/// Where it is missing the test says so by its name and is to return; where `RIVER_REQUIRE_TOOLS=1`, as in CI, it
/// fails instead.
#[track_caller]
pub fn require(tool: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    if env::split_paths(&path).any(|directory| directory.join(tool).is_file()) {
        return true;
    }
    lacks(tool)
}

/// Says that the machine lacks `what` a test needs, as [`require`] does; gives false.
#[track_caller]
pub fn lacks(what: &str) -> bool {
    let test = thread::current().name().unwrap_or("a test").to_owned();
    assert!(env::var_os("RIVER_REQUIRE_TOOLS").is_none_or(|value| value != "1"), "{test} needs {what}");
    eprintln!("skipped: {test} needs {what}");
    false
}
