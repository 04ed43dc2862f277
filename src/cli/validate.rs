//! `--validate-configs`.

use std::path::Path;

use crate::config::{self, Errors, Overrides, Plan};

/// Reads and checks the configuration; binds and changes nothing. Gives one line that says so if all is well; what will
/// soon be wrong with a certificate, or is in a way that keeps nobody from starting, is logged.
///
/// # Errors
///
/// Everything that is wrong; the process then exits with [`super::Exit::Config`].
pub fn validate(path: &Path, overrides: &Overrides) -> Result<String, Errors> {
    let plan = config::load(path, overrides)?;
    plan.certificates().log_what_is_wrong();
    Ok(summary(path, &plan))
}

/// One line that says that all is well, and with how much.
pub(super) fn summary(path: &Path, plan: &Plan) -> String {
    let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let services = count(plan.services.len(), "service");
    let listeners = count(plan.listeners.len(), "listener");
    format!("{}: OK ({services}, {listeners})", path.display())
}
