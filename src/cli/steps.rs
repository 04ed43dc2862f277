//! What a command prints while it works: a line for each step, with its time.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Instant;

use crate::system::columns;

/// The steps of a command, on the standard output.
#[derive(Debug)]
pub(super) struct Steps {
    begin: Instant,
    terminal: bool,
    /// What stands in the line that is still to be overwritten; empty where there is none.
    live: String,
}

impl Steps {
    /// Begins to count the time.
    pub(super) fn new() -> Self {
        Self { begin: Instant::now(), terminal: io::stdout().is_terminal(), live: String::new() }
    }

    /// Prints a step that was done just now.
    pub(super) fn step(&mut self, what: &str) {
        self.finish();
        write(&format!("{}\n", self.stamped(what)));
    }

    /// Prints where things stand: over the last such line on a terminal, as a line of its own elsewhere. What was
    /// printed already is not printed again.
    pub(super) fn progress(&mut self, what: &str) {
        if self.live == what {
            return;
        }
        match self.terminal {
            // To the line's beginning, and what is left of the former text is erased (ECMA-48 §8.3.41).
            true => write(&format!("\r{}\u{1b}[K", cut(&self.stamped(what), columns(io::stdout())))),
            false => write(&format!("{}\n", self.stamped(what))),
        }
        self.live = what.to_owned();
    }

    /// Prints a line without a time, the last one.
    pub(super) fn conclude(&mut self, what: &str) {
        self.finish();
        write(&format!("{what}\n"));
    }

    /// Ends the line that is still to be overwritten.
    pub(super) fn finish(&mut self) {
        if !std::mem::take(&mut self.live).is_empty() && self.terminal {
            write("\n");
        }
    }

    fn stamped(&self, what: &str) -> String {
        format!("{:7.3} s  {what}", self.begin.elapsed().as_secs_f64())
    }
}

/// A line that an error follows stays as it is.
impl Drop for Steps {
    fn drop(&mut self) {
        self.finish();
    }
}

/// What of a line can be overwritten later: a longer one goes on in the terminal's next line, which stays. The last
/// column is left free, as some terminals go to the next line as soon as it is used. The text is ASCII.
fn cut(line: &str, columns: Option<usize>) -> &str {
    let most = columns.map_or(usize::MAX, |columns| columns.saturating_sub(1));
    line.get(..most).unwrap_or(line)
}

fn write(text: &str) {
    // Who does not listen misses it; the work goes on.
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_leaves_the_last_column_free() {
        assert_eq!(cut("0123456789", Some(11)), "0123456789");
        assert_eq!(cut("0123456789", Some(10)), "012345678");
        assert_eq!(cut("0123456789", Some(1)), "");
        assert_eq!(cut("0123456789", None), "0123456789");
    }
}
