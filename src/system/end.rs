//! How processes are asked to end, and how this one ends itself.

use std::io;
use std::os::fd::AsFd;
use std::process::Child;

use rustix::process::{Pid, Signal as Raw, getpid, kill_process, pidfd_send_signal};

use super::Signal;

/// Asks this process to drain and end, as an operator does with SIGTERM.
///
/// # Errors
/// What `kill(2)` reports; a process may always signal itself.
pub fn ask_to_end() -> io::Result<()> {
    Ok(kill_process(getpid(), Raw::TERM)?)
}

/// Asks the process behind a pidfd to end at once, as an operator does with SIGINT.
///
/// # Errors
/// What `pidfd_send_signal(2)` reports: the process has ended, or is another user's.
pub fn ask_another_to_end(process: impl AsFd) -> io::Result<()> {
    Ok(pidfd_send_signal(process, Raw::INT)?)
}

/// Ends the process behind a pidfd without asking it: one that is stopped or stuck hears no other signal.
///
/// # Errors
/// What `pidfd_send_signal(2)` reports: the process has ended, or is another user's.
pub fn end_another(process: impl AsFd) -> io::Result<()> {
    Ok(pidfd_send_signal(process, Raw::KILL)?)
}

/// Passes a signal on to a child that has not been waited for. One that has ended minds nothing.
pub fn tell(child: &Child, signal: Signal) {
    let raw = match signal {
        Signal::Terminate => Raw::TERM,
        Signal::Interrupt => Raw::INT,
        Signal::Quit => Raw::QUIT,
        Signal::Hangup => Raw::HUP,
        Signal::User1 => Raw::USR1,
        Signal::User2 => Raw::USR2,
    };
    // Nobody else gets its pid before it was waited for.
    let _ = kill_process(Pid::from_child(child), raw);
}

/// Kills this process, for tests of what the other instance makes of it.
///
/// # Errors
/// What `kill(2)` reports; a process may always signal itself.
#[cfg(debug_assertions)]
pub fn kill_self() -> io::Result<()> {
    Ok(kill_process(getpid(), Raw::KILL)?)
}

/// Stops this process until somebody sends SIGCONT, for tests of what the other instance makes of it.
///
/// # Errors
/// What `kill(2)` reports; a process may always signal itself.
#[cfg(debug_assertions)]
pub fn stop_self() -> io::Result<()> {
    Ok(kill_process(getpid(), Raw::STOP)?)
}
