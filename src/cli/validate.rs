//! `--validate-configs`, and how a configuration's errors are printed.

use std::io::{self, IsTerminal, Write};
use std::path::Path;

use crate::config::{self, Errors, Overrides, Plan};

/// Reads and checks the configuration; binds and changes nothing. Gives one line that says so if all is well.
///
/// # Errors
///
/// Everything that is wrong, for [`report`]; the process then exits with [`super::Exit::Config`].
pub fn validate(path: &Path, overrides: &Overrides) -> Result<String, Errors> {
    config::load(path, overrides).map(|plan| summary(path, &plan))
}

/// Prints the errors to the standard error stream, in colours if that is a terminal and `NO_COLOR` is not set.
pub fn report(errors: &Errors) {
    let stderr = io::stderr();
    let color = stderr.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    // Nobody is left to be told when the standard error stream is closed.
    let _ = writeln!(stderr.lock(), "{}", errors.render(color));
}

fn summary(path: &Path, plan: &Plan) -> String {
    let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let services = count(plan.services.len(), "service");
    let listeners = count(plan.listeners.len(), "listener");
    format!("{}: OK ({services}, {listeners})", path.display())
}
