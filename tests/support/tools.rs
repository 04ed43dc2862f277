//! Programs that a test needs and a machine may lack.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
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

/// Puts a program with this content at `path` by renaming, as an operator or a package manager does.
///
/// It is copied by a process of its own: a child that another thread starts meanwhile would hold a descriptor of this
/// one's open for writing, and the program could not be run (`ETXTBSY`).
#[track_caller]
pub fn put_program(path: &Path, content: impl AsRef<[u8]>) {
    let (written, copied) = (path.with_extension("written"), path.with_extension("copied"));
    fs::write(&written, content).unwrap();
    fs::set_permissions(&written, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(Command::new("cp").arg("-p").args([&written, &copied]).status().unwrap().success());
    fs::rename(&copied, path).unwrap();
    fs::remove_file(&written).unwrap();
}

/// The content of the program under test, to be put elsewhere.
pub fn river() -> Vec<u8> {
    fs::read(env!("CARGO_BIN_EXE_river")).unwrap()
}
