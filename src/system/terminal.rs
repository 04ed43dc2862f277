//! What there is to know of a terminal.

use std::os::fd::AsFd;

use rustix::termios::tcgetwinsize;

/// How many columns the terminal `fd` has now; `None` where it is no terminal, or one that does not know.
pub fn columns(fd: impl AsFd) -> Option<usize> {
    let size = tcgetwinsize(fd).ok()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}
