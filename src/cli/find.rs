//! Finding the running instance, and saying who is in service where a command fails.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use async_io::Timer;

use super::{Exit, Failure, Whereabouts};
use crate::base::{InstanceReport, InstanceState};
use crate::config;
use crate::handoff::{ConnectError, Inquiry, InquiryError, with_cause};
use crate::lifecycle;

/// How long somebody who may be about to serve is waited for, and the time between two looks.
const SOON: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(20);

/// The upgrade socket of the running instance. It may block, on the file system.
///
/// # Errors
/// When the configuration does not tell.
pub(super) fn socket(whereabouts: &Whereabouts) -> Result<PathBuf, Failure> {
    let config = match whereabouts {
        Whereabouts::Socket(path) => return Ok(path.clone()),
        Whereabouts::Config(config) => config,
    };
    if let Some(path) = config::upgrade_socket(config)? {
        return Ok(path);
    }
    let mut failure = no_socket(config);
    // It may be there under another name.
    if let Some(errors) = config::mistakes(config) {
        failure.text = format!("{}\n{}", Failure::from(errors).text.trim_end(), failure.text);
    }
    Err(failure)
}

/// A configuration without an upgrade socket, and nothing else that says where it is.
pub(super) fn no_socket(config: &Path) -> Failure {
    Failure::new(
        Exit::Config,
        &format!(
            "{}: system.upgrade_socket is not set, so the running instance cannot be found; set it there, or give \
             --upgrade-socket PATH",
            config.display()
        ),
    )
}

/// Asks the instance in service at the upgrade socket `path`.
///
/// # Errors
/// When nobody is in service there, of which `nobody` has more to say, or cannot be reached.
pub(super) fn ask(
    path: &Path,
    watch: bool,
    streams: bool,
    nobody: impl FnOnce() -> String,
) -> Result<Inquiry, Failure> {
    Inquiry::open(path, watch, streams).map_err(|error| {
        let what_to_do = match &error {
            InquiryError::Connect(ConnectError::Nobody(..)) => nobody(),
            _ => String::new(),
        };
        Failure::new(Exit::Unavailable, &format!("{}{what_to_do}", with_cause(&error)))
    })
}

/// As [`ask`], at the upgrade socket `path` of `whereabouts`. Where nobody is there, the failure says who is named in the
/// pidfile, such as an instance that drains after SIGTERM; and what is wrong with the configuration, for with that none can
/// have started.
///
/// # Errors
/// As [`ask`].
pub(super) async fn ask_or_explain(path: &Path, whereabouts: Whereabouts) -> Result<Inquiry, Failure> {
    let mut is_nobody = false;
    let asked = ask(path, false, false, || {
        is_nobody = true;
        String::new()
    });
    let mut failure = match asked {
        Ok(inquiry) => return Ok(inquiry),
        Err(failure) => failure,
    };
    if let (true, Whereabouts::Config(config)) = (is_nobody, whereabouts) {
        let name = config.display().to_string();
        let look = move || {
            let unreachable = lifecycle::unreachable_instance(config::pid_file(&config).as_deref());
            (unreachable, config::mistakes(&config))
        };
        let (unreachable, errors) = smol::unblock(look).await;
        failure.text = format!("{}{}", failure.text.trim_end(), unreachable.unwrap_or_default());
        if let Some(errors) = errors {
            let errors = Failure::from(errors).text;
            failure.text =
                format!("{}\nriver: {name} does not pass --validate-configs:\n{errors}", failure.text);
        }
    }
    Err(failure)
}

/// Whether an instance is in service by its own account.
pub(super) fn in_service(report: &InstanceReport) -> bool {
    matches!(report.state, InstanceState::Serving | InstanceState::Handing)
}

/// Who is in service at the upgrade socket `path`, found out by asking.
pub(super) async fn who_serves(path: &Path) -> Option<u32> {
    let mut inquiry = Inquiry::open(path, false, false).ok()?;
    match inquiry.first().await {
        Ok(answer) => answer.instances.into_iter().find(in_service).map(|report| report.pid),
        // It is there, and of a build that does not answer: whoever has the upgrade socket is in service.
        Err(InquiryError::Refused(_) | InquiryError::Unexpected(_)) => Some(inquiry.peer().pid()),
        Err(_) => None,
    }
}

/// As [`who_serves`], given a moment: one whose successor died has to take the service back first.
pub(super) async fn who_serves_soon(path: &Path) -> Option<u32> {
    let deadline = Instant::now() + SOON;
    loop {
        let found = who_serves(path).await;
        if found.is_some() || Instant::now() >= deadline {
            return found;
        }
        Timer::after(PAUSE).await;
    }
}

/// A sentence that says who is in service, for the end of a failure. `before` is who was.
pub(super) async fn statement(path: &Path, before: u32) -> String {
    match who_serves_soon(path).await {
        Some(pid) if pid == before => format!("pid {pid} is still serving"),
        Some(pid) => format!("pid {pid} is serving now, no longer pid {before}"),
        None => format!("nobody answers at {}: pid {before} serves no longer, or is stuck", path.display()),
    }
}

/// Text of another process, safe to print: what would move the cursor or change colours is written out.
pub(super) fn shown(text: &str) -> String {
    text.chars()
        .flat_map(|character| match character.is_control() {
            true => character.escape_default().collect::<Vec<_>>(),
            false => vec![character],
        })
        .collect()
}
