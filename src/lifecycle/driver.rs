//! The one function that runs the machine.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_lite::Stream;

use super::adoption::{Adoption, check_files};
use super::machine::Machine;
use super::office::Office;
use super::sources::Sources;
use super::{Booting, Cause, DataPath, Exit, Fallback, Instance, Settings};
use crate::handoff::{ConnectError, Taker, connect_to, with_cause};
use crate::system::{Account, Listening, PidFile, Signal};

/// Runs an instance from its start to its end. `signals` are [`Signals`](crate::system::Signals) but in tests.
///
/// Dropping the future half-way leaves pidfile, upgrade socket and socket paths behind; nothing else depends on it.
///
/// # Errors
/// The cause of an end that nobody asked for, with the exit code that goes with it. It is for the caller to print.
pub async fn run<D: DataPath>(
    settings: Settings,
    signals: impl Stream<Item = io::Result<Signal>> + Unpin,
    data_path: D,
) -> Result<(), Cause> {
    let settings = Arc::new(settings);
    let advice = advice(&settings);
    let mut adoption = Adoption::new(Arc::clone(&settings));
    let booting = Instance::new(Office::new(settings.clone(), data_path));
    let mut cause = None;
    let mut machine = boot(booting, &settings, &mut adoption, &mut cause);
    let mut sources = Sources::new(&settings, signals, adoption);
    loop {
        if let Machine::Exited(exited) = machine {
            let exit = exited.exit();
            sources.last_word(&exited);
            let stopped = exited.into_world().close();
            return match exit {
                Exit::Success => stopped.map_err(|why| Cause::new(Exit::Software, why)),
                _ => Err(cause.unwrap_or_else(|| Cause::new(exit, "the instance ended"))),
            };
        }
        let happening = sources.next(&mut machine).await;
        machine = machine.turn(happening, &mut cause, &advice);
        // It may drain for a long time before it ends with this.
        if let Some(Cause { exit, why }) = &cause {
            settings.herald.failed(*exit, &format!("river: {why}"));
        }
    }
}

fn boot<D: DataPath>(
    booting: Instance<Office<D>, Booting>,
    settings: &Settings,
    adoption: &mut Adoption,
    cause: &mut Option<Cause>,
) -> Machine<Office<D>> {
    // Where the process is yet to become another user, its files are that one's matter.
    let checked = match settings.account.as_ref().is_none_or(Account::is_current) {
        true => check_files(settings),
        false => Ok(()),
    };
    let prepared = checked.and_then(|()| {
        if settings.upgrade {
            return meet_incumbent(settings).map(|taker| Start::Upgrade(Box::new(taker)));
        }
        check_alone(settings)?;
        adoption.bind_all_but(&[])?;
        adoption.listen().map(Start::Cold)
    });
    let started = match prepared {
        Ok(Start::Upgrade(taker)) => return Machine::Meeting(booting, *taker),
        Ok(Start::Cold(sockets)) => {
            let file = settings.pid_file.as_ref();
            let holder = file.and_then(|path| Some((path, PidFile::other_holder(path)?)));
            booting.cold_start(sockets).inspect(|_| warn_of_replaced(holder))
        }
        Err(cause) => Err(Fallback { instance: booting.fail(&cause), cause }),
    };
    match started {
        Ok(serving) => Machine::Serving(serving),
        Err(fallback) => {
            *cause = Some(fallback.cause);
            Machine::Exited(fallback.instance)
        }
    }
}

/// Says that this instance took the pidfile from a process that lives, `holder`.
fn warn_of_replaced(holder: Option<(&PathBuf, u32)>) {
    if let Some((path, pid)) = holder {
        // One that drains still has its pid there, and must not keep another from starting.
        tracing::warn!(
            target: "river::lifecycle", pid_file = %path.display(), pid,
            "the pidfile held the pid of another living instance, and holds this one's now; if that one drains, all is \
             well, but instances that serve beside each other need pidfiles of their own"
        );
    }
}

/// What an instance starts with.
enum Start {
    Cold(Vec<Listening>),
    Upgrade(Box<Taker>),
}

/// A cold start beside an instance in service would take its files; it has to take over instead.
fn check_alone(settings: &Settings) -> Result<(), Cause> {
    let Some(path) = &settings.upgrade_socket else { return Ok(()) };
    match connect_to(path, settings.account.as_ref().map(Account::uid)) {
        Err(ConnectError::Nobody(..)) => Ok(()),
        Ok((_, peer)) => Err(Cause::new(
            Exit::Unavailable,
            format!(
                "another instance (pid {}) is in service at {}; to take over from it, use --upgrade",
                peer.pid(),
                path.display()
            ),
        )),
        Err(error) => Err(Cause::new(Exit::Unavailable, with_cause(&error))),
    }
}

fn meet_incumbent(settings: &Settings) -> Result<Taker, Cause> {
    let Some(path) = &settings.upgrade_socket else {
        return Err(Cause::new(
            Exit::Config,
            "--upgrade needs system.upgrade_socket, the path where the instance in service is found",
        ));
    };
    let user = settings.account.as_ref().map(Account::uid);
    let (channel, peer) = connect_to(path, user).map_err(|error| {
        let what_to_do = match error {
            ConnectError::Nobody(..) => nobody_to_replace(settings.pid_file.as_deref(), &settings.command),
            _ => String::new(),
        };
        Cause::new(Exit::Unavailable, format!("{}{what_to_do}", with_cause(&error)))
    })?;
    Taker::new(channel, peer, &settings.build, settings.handoff.ready_timeout)
        .map_err(|error| Cause::new(Exit::Software, with_cause(&error)))
}

/// What there is to say where no instance is found that could be replaced, for the end of a sentence: `command`, which
/// starts one cold, unless a living instance has its pid in this configuration's pidfile.
pub fn nobody_to_replace(pid_file: Option<&Path>, command: &str) -> String {
    unreachable_instance(pid_file).unwrap_or_else(|| format!("; to start cold: {command}"))
}

/// The end of a sentence about nobody being at the upgrade socket, where a living instance has its pid in the pidfile all
/// the same.
pub fn unreachable_instance(pid_file: Option<&Path>) -> Option<String> {
    let path = pid_file?;
    let pid = PidFile::other_holder(path)?;
    Some(format!(
        ", but pid {pid}, named in {}, runs: the configuration has another upgrade_socket than that instance, or that one \
         ends; a reload cannot change the upgrade socket",
        path.display()
    ))
}

/// What to tell an operator whose SIGQUIT finds nobody waiting.
fn advice(settings: &Settings) -> String {
    match settings.upgrade_socket {
        Some(_) => format!(
            "no instance waits to take over, so this one goes on serving; to start one: {} --upgrade; then: kill -QUIT {}",
            settings.command,
            std::process::id()
        ),
        None => {
            "system.upgrade_socket is not set, so there is nobody to hand over to; this instance goes on serving"
                .to_owned()
        }
    }
}
