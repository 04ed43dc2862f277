//! How the process asks itself to end.

use std::io;

use rustix::process::{Signal, getpid, kill_process};

/// Asks this process to drain and end, as an operator does with SIGTERM.
///
/// # Errors
/// What `kill(2)` reports; a process may always signal itself.
pub fn ask_to_end() -> io::Result<()> {
    Ok(kill_process(getpid(), Signal::TERM)?)
}
