//! How the process ends itself, or asks itself to.

use std::io;

use rustix::process::{Signal, getpid, kill_process};

/// Asks this process to drain and end, as an operator does with SIGTERM.
///
/// # Errors
/// What `kill(2)` reports; a process may always signal itself.
pub fn ask_to_end() -> io::Result<()> {
    Ok(kill_process(getpid(), Signal::TERM)?)
}

/// Kills this process, for tests of what the other instance makes of it.
///
/// # Errors
/// What `kill(2)` reports; a process may always signal itself.
#[cfg(debug_assertions)]
pub fn kill_self() -> io::Result<()> {
    Ok(kill_process(getpid(), Signal::KILL)?)
}

/// Stops this process until somebody sends SIGCONT, for tests of what the other instance makes of it.
///
/// # Errors
/// What `kill(2)` reports; a process may always signal itself.
#[cfg(debug_assertions)]
pub fn stop_self() -> io::Result<()> {
    Ok(kill_process(getpid(), Signal::STOP)?)
}
