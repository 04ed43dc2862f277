//! The settings of the process: flags and environment over the file, the file over the defaults.

use std::error::Error as _;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use crate::config::diagnostics::{Place, Report};
use crate::config::node::Spanned;
use crate::config::{draft, paths};
use crate::system::{Account, AccountError};

use super::{
    DEFAULT_CERTIFICATE_CHECK, DEFAULT_DRAIN_TIMEOUT, DEFAULT_TUNNEL_DRAIN_TIMEOUT, Handoff, Overrides,
    System, or,
};

/// What is checked about a path beyond that a file can be made there.
type Check = fn(&str, &Path) -> Result<(), String>;

pub(super) fn plan(draft: &draft::System, overrides: &Overrides, report: &mut Report<'_>) -> System {
    let workers =
        draft.workers.as_ref().and_then(|n| usize::try_from(n.value).ok()).and_then(NonZeroUsize::new);
    let defaults = Handoff::default();
    let pid_file =
        path("system.pid_file", &draft.pid_file, &overrides.pid_file, paths::check_pid_file, report);
    let upgrade_socket = path(
        "system.upgrade_socket",
        &draft.upgrade_socket,
        &overrides.upgrade_socket,
        paths::check_socket,
        report,
    );
    if let (Some((pid_file, pid_place)), Some((socket, socket_place))) = (&pid_file, &upgrade_socket)
        && pid_file == socket
    {
        let message = "is the same path as the pid file";
        match (socket_place, pid_place) {
            (Some(at), Some(other)) => {
                report.error(at, message).label("the socket").related(other, "the pid file");
            }
            (Some(at), None) | (None, Some(at)) => {
                report.error(at, "the pid file and the upgrade socket are the same path");
            }
            (None, None) => {
                report.elsewhere("system.upgrade_socket", message);
            }
        }
    }
    let daemonize = daemonize(draft, pid_file.is_some(), report);
    let account = account(draft, report);
    System {
        workers: overrides.workers.or(workers).unwrap_or_else(cores),
        pid_file: pid_file.map(|(path, _)| path),
        upgrade_socket: upgrade_socket.map(|(path, _)| path),
        daemonize,
        account,
        handoff: Handoff {
            ready_timeout: or(&draft.ready_timeout, defaults.ready_timeout),
            guard: or(&draft.guard, defaults.guard),
            max_draining: draft
                .max_draining
                .as_ref()
                .and_then(|most| usize::try_from(most.value).ok())
                .and_then(NonZeroUsize::new)
                .unwrap_or(defaults.max_draining),
            move_connections: draft
                .idle_connections
                .as_ref()
                .map_or(defaults.move_connections, |what| what.value == "Move"),
        },
        drain_timeout: or(&draft.drain_timeout, DEFAULT_DRAIN_TIMEOUT),
        tunnel_drain_timeout: or(&draft.tunnel_drain_timeout, DEFAULT_TUNNEL_DRAIN_TIMEOUT),
        certificate_check: or(&draft.certificate_check, DEFAULT_CERTIFICATE_CHECK),
    }
}

/// Who starts a daemon has nothing but its pidfile to find it again.
fn daemonize(draft: &draft::System, pid_file: bool, report: &mut Report<'_>) -> bool {
    let Some(daemonize) = draft.daemonize.as_ref().filter(|daemonize| daemonize.value) else { return false };
    if !pid_file {
        report
            .error(&daemonize.at, "a daemon needs system.pid_file, or nobody could tell which process it is")
            .help("add pid_file: \"/run/river/river.pid\"");
    }
    true
}

fn account(draft: &draft::System, report: &mut Report<'_>) -> Option<Account> {
    let Some(user) = &draft.user else {
        if let Some(group) = &draft.group {
            report.error(&group.at, "a group needs system.user beside it");
        }
        return None;
    };
    let group = draft.group.as_ref();
    let error = match Account::find(&user.value, group.map(|group| group.value.as_str())) {
        Ok(account) => return Some(account),
        Err(error) => error,
    };
    let at = match (&error, group) {
        (AccountError::NoGroup(_), Some(group)) => &group.at,
        _ => &user.at,
    };
    let problem = report.error(at, error.to_string());
    if let Some(cause) = error.source() {
        problem.note(cause.to_string());
    }
    None
}

/// The path that counts, with its place if it comes from the file. It is kept where it is wrong, too.
fn path(
    setting: &str,
    given: &Option<Spanned<String>>,
    beats: &Option<PathBuf>,
    check: Check,
    report: &mut Report<'_>,
) -> Option<(PathBuf, Option<Place>)> {
    if let Some(path) = beats {
        if let Err(message) = check(&path.display().to_string(), path) {
            report
                .elsewhere(setting, message)
                .note("the path comes from the command line or the environment");
        }
        return Some((path.clone(), None));
    }
    let given = given.as_ref()?;
    let path = paths::absolute(report.source.directory(), Path::new(&given.value));
    if let Err(message) = check(&given.value, &path) {
        report.error(&given.at, message);
    }
    Some((path, Some(given.at.clone())))
}

/// One worker per core this process may use.
fn cores() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}
