//! The process that starts a daemon: it starts itself once more, and its exit code says what became of that.

use std::env;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use async_io::Timer;
use futures_lite::FutureExt as _;

use super::{Exit, Failure};
use crate::system::{self, Readiness, Report, Signal, Signals};

/// How long a daemon that was told to end may take to do so.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What the wait came to.
enum Outcome {
    Said(io::Result<Option<Report>>),
    Signalled(Signal),
    TimedOut,
}

/// Starts this program once more, with the same arguments, as a daemon; returns when that serves, or waits for the
/// instance in service where it was started with `--upgrade`.
///
/// The daemon keeps the standard streams that are no terminal, and is a session of its own. It is ended if it is not
/// there after `patience`.
///
/// # Errors
/// What the daemon says of its failure, with the code it exits with; or that it ended, or took too long, or that
/// SIGTERM or SIGINT came meanwhile, of which it is told.
pub async fn daemonize(
    program: Option<OsString>,
    arguments: impl IntoIterator<Item = OsString>,
    patience: Duration,
    signals: &mut Signals,
) -> Result<(), Failure> {
    let cannot =
        |error: io::Error| Failure::new(Exit::Software, &format!("cannot start the daemon: {error}"));
    let mut command = Command::new(env::current_exe().map_err(cannot)?);
    command.arg0(program.unwrap_or_else(|| "river".into())).args(arguments);
    let (mut daemon, mut readiness) = Readiness::spawn(command).map_err(cannot)?;
    let pid = daemon.id();
    let said = async { Outcome::Said(readiness.next().await) };
    let told =
        async { end(signals).await.map_or_else(|error| Outcome::Said(Err(error)), Outcome::Signalled) };
    let late = async {
        Timer::after(patience).await;
        Outcome::TimedOut
    };
    // What was said counts, whatever else happened.
    match said.or(told).or(late).await {
        Outcome::Said(Ok(Some(Report::Waiting { .. } | Report::Serving { .. }))) => Ok(()),
        Outcome::Said(Ok(Some(Report::Failed { exit, text }))) => {
            let known = Exit::ALL.into_iter().find(|known| known.code() == exit);
            Err(Failure { exit: known.unwrap_or(Exit::Software), text })
        }
        Outcome::Said(Ok(None)) => Err(ended(pid, last_status(daemon).await)),
        Outcome::Said(Err(error)) => {
            system::tell(&daemon, Signal::Terminate);
            Err(Failure::new(
                Exit::Software,
                &format!("the daemon (pid {pid}) cannot be understood: {error}"),
            ))
        }
        Outcome::Signalled(signal) => {
            system::tell(&daemon, signal);
            let _ = last_status(daemon).await;
            Err(Failure::new(Exit::TryAgain, &format!("{signal} came before the daemon (pid {pid}) served")))
        }
        Outcome::TimedOut => {
            // It hangs, so it would not do what a gentler signal asks for.
            let _ = daemon.kill();
            let _ = last_status(daemon).await;
            let text = format!(
                "the daemon (pid {pid}) did not serve within {patience:?}, which is system.handoff.ready_timeout, and was killed"
            );
            Err(Failure::new(Exit::TryAgain, &text))
        }
    }
}

/// Waits for a signal that ends the process; others mean nothing here.
async fn end(signals: &mut Signals) -> io::Result<Signal> {
    loop {
        let signal = signals.next().await?;
        if matches!(signal, Signal::Terminate | Signal::Interrupt) {
            return Ok(signal);
        }
    }
}

/// How the daemon ended, if it does so soon.
async fn last_status(mut daemon: Child) -> Option<ExitStatus> {
    let ended = smol::unblock(move || daemon.wait().ok());
    let late = async {
        Timer::after(LAST_WORDS).await;
        None
    };
    ended.or(late).await
}

fn ended(pid: u32, status: Option<ExitStatus>) -> Failure {
    let how = match status.map(|status| (status.code(), status.signal())) {
        Some((Some(code), _)) => format!("ended with exit code {code}"),
        Some((_, Some(signal))) => format!("was ended by signal {signal}"),
        _ => "went away".to_owned(),
    };
    Failure::new(Exit::Software, &format!("the daemon (pid {pid}) {how} before it served, and said nothing"))
}
