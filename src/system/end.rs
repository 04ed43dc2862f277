//! How the process asks itself, and an earlier one, to end.

use std::io;
use std::os::fd::AsFd;

use rustix::process::{Signal, getpid, kill_process, pidfd_send_signal};

/// Asks this process to drain and end, as an operator does with SIGTERM.
///
/// # Errors
/// What `kill(2)` reports; a process may always signal itself.
pub fn ask_to_end() -> io::Result<()> {
    Ok(kill_process(getpid(), Signal::TERM)?)
}

/// Asks the process behind a pidfd to end at once, as an operator does with SIGINT.
///
/// # Errors
/// What `pidfd_send_signal(2)` reports: the process has ended, or is another user's.
pub fn ask_another_to_end(process: impl AsFd) -> io::Result<()> {
    Ok(pidfd_send_signal(process, Signal::INT)?)
}
