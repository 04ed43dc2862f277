//! SIGHUP: the instance starts its own successor, and hands over to it when it waits.
//!
//! All of this is outside the machine, whose only part is the hand-over itself: to it, a successor that this instance
//! started is one like any other.

use std::env;
use std::ffi::OsString;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::Command;
use std::task::{Context, Poll};
use std::time::Duration;

use async_io::Timer;

use super::{Herald, Phase, Settings};
use crate::base::units::show_duration;
use crate::system::{News, Offspring};

/// How many of those that were started here may still run although nothing is to come of them.
const MAX_FORMERS: usize = 8;

/// How long one whose hand-over failed may take to say why.
const LAST_ORDERS: Duration = Duration::from_secs(5);

/// How this instance was started, to start its successor by.
#[derive(Clone, Debug)]
pub struct Relaunch {
    program: PathBuf,
    arguments: Vec<OsString>,
    directory: PathBuf,
}

impl Relaunch {
    /// An instance of `program` with `arguments`, and `--upgrade` if that is not among them, in `directory`.
    ///
    /// `program` is a path and not the file that runs, so that a file that replaced it since is what is started.
    pub fn new(program: PathBuf, arguments: impl IntoIterator<Item = OsString>, directory: PathBuf) -> Self {
        let mut arguments: Vec<OsString> = arguments.into_iter().collect();
        if arguments.iter().all(|argument| argument != "--upgrade") {
            arguments.push("--upgrade".into());
        }
        Self { program, arguments, directory }
    }

    /// Environment and standard streams are this process's.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments);
        // It may have been left since. Where it was gone at the start, paths are absolute or of no use.
        if !self.directory.as_os_str().is_empty() && env::current_dir().ok().as_ref() != Some(&self.directory)
        {
            command.current_dir(&self.directory);
        }
        command
    }
}

/// The reload under way, if there is one, and what is left of those before.
#[derive(Debug)]
pub(super) struct Reloads {
    relaunch: Option<Relaunch>,
    /// Whether there is a place where a successor finds this instance.
    reachable: bool,
    timeout: Duration,
    herald: Herald,
    attempt: Option<Attempt>,
    formers: Vec<Former>,
}

/// One reload, from the start of the successor on.
#[derive(Debug)]
struct Attempt {
    child: Offspring,
    stage: Stage,
    /// Until it waits, and, where its hand-over failed, until it says why.
    deadline: Timer,
    /// It was let to take over, so it may have connections, even where it has not said so yet.
    may_serve: bool,
    /// How often it was asked for again meanwhile.
    repeated: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It reads its configuration and binds.
    Starting,
    /// It says that it waits; the desk is to say so, too.
    Waiting,
    /// The hand-over to it has begun.
    Handing,
    /// The hand-over to it failed, as the log says. It is to say why, and to end.
    Lost,
}

/// One that is reaped when it has ended.
#[derive(Debug)]
struct Former(Offspring);

impl Reloads {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            relaunch: settings.relaunch.clone(),
            reachable: settings.upgrade_socket.is_some(),
            timeout: settings.handoff.ready_timeout,
            herald: settings.herald.clone(),
            attempt: None,
            formers: Vec::new(),
        }
    }

    /// SIGHUP came. `waiter` is who waits at the desk, and `successor` who has the service where this instance drains.
    pub(super) fn ask(&mut self, phase: Phase, waiter: Option<u32>, successor: Option<u32>) {
        // What there is of one after that is not under way any more.
        let over = matches!(phase, Phase::Draining { .. } | Phase::Exited);
        if let Some(attempt) = self.attempt.as_mut().filter(|_| !over) {
            attempt.repeated = attempt.repeated.saturating_add(1);
            let successor = attempt.child.pid();
            tracing::warn!(
                target: "river::lifecycle", successor,
                "SIGHUP: a reload is under way, with pid {successor}; this one is not acted upon"
            );
            return;
        }
        match (phase, successor) {
            (Phase::Serving, _) => self.start(waiter),
            (Phase::Draining { .. }, Some(pid)) => tracing::warn!(
                target: "river::lifecycle", successor = pid,
                "SIGHUP is ignored: this instance has handed over; pid {pid} is in service"
            ),
            (Phase::Draining { .. }, None) => tracing::warn!(
                target: "river::lifecycle", "SIGHUP is ignored: this instance ends"
            ),
            _ => tracing::warn!(
                target: "river::lifecycle", state = %phase, "SIGHUP is ignored in this state"
            ),
        }
    }

    fn start(&mut self, waiter: Option<u32>) {
        // A manager that sent the signal waits for this, and then for the end of the reload, whatever comes of it.
        self.herald.reloading();
        let refused = match (&self.relaunch, waiter) {
            (None, _) => Err("this instance does not know how it was started".to_owned()),
            _ if !self.reachable => {
                Err("system.upgrade_socket is not set, so a successor could not find this instance"
                    .to_owned())
            }
            (_, Some(pid)) => Err(format!(
                "pid {pid} waits already to take over; to hand over to it: kill -QUIT {}",
                std::process::id()
            )),
            _ if self.formers.len() >= MAX_FORMERS => {
                Err(format!("{MAX_FORMERS} instances that were started before still run"))
            }
            (Some(relaunch), None) => Offspring::start(relaunch.command())
                .map_err(|error| format!("cannot start {}: {error}", relaunch.program.display())),
        };
        match refused {
            Ok(child) => {
                let successor = child.pid();
                tracing::info!(
                    target: "river::lifecycle", successor, "SIGHUP: pid {successor} is started to replace this instance"
                );
                let deadline = Timer::after(self.timeout);
                self.attempt =
                    Some(Attempt { child, stage: Stage::Starting, deadline, may_serve: false, repeated: 0 });
            }
            Err(why) => fail(&self.herald, Phase::Serving, &why, 0),
        }
    }

    /// Looks after those that were started. `successor` is who has the service where this instance drains.
    pub(super) fn poll(&mut self, phase: Phase, successor: Option<u32>, cx: &mut Context<'_>) {
        self.formers.retain_mut(|former| !former.poll_end(cx));
        let Some(attempt) = &mut self.attempt else { return };
        let mut why = None;
        let mut ended = false;
        while let Poll::Ready(news) = attempt.child.poll_news(cx) {
            match news {
                News::Waiting => attempt.stage = attempt.stage.after_waiting(),
                News::Serving => {}
                News::Failed(end) => why = Some(end.why),
                News::Ended(end) => {
                    why.get_or_insert(end.why);
                    ended = true;
                }
            }
        }
        attempt.may_serve |= attempt.stage == Stage::Handing && matches!(phase, Phase::Committed { .. });
        if attempt.stage == Stage::Handing && phase == Phase::Serving {
            attempt.stage = Stage::Lost;
            attempt.deadline.set_after(LAST_ORDERS);
        }
        // It has the service; or this instance drains for another reason, and nothing can come of it.
        let passed = matches!(phase, Phase::Draining { .. } | Phase::Exited);
        let limited = attempt.stage != Stage::Handing && why.is_none() && !passed;
        if limited && Pin::new(&mut attempt.deadline).poll(cx).is_ready() {
            let pid = attempt.child.pid();
            if !attempt.may_serve {
                attempt.child.kill();
            }
            why = Some(match attempt.stage {
                // To kill it would cut the requests that it has. It steps down when it hears that it was given up;
                // SIGTERM would have it clear away what the two have in common.
                Stage::Lost if attempt.may_serve => {
                    format!("pid {pid} was let to take over and given up; it is left to end by itself")
                }
                Stage::Lost => {
                    format!("pid {pid}, to which the hand-over failed, did not end and was killed")
                }
                _ => {
                    let time = show_duration(self.timeout);
                    format!("pid {pid} did not come to wait within {time} and was killed")
                }
            });
        }
        if let Some(why) = &why
            && !passed
        {
            fail(&self.herald, phase, &brief(why), attempt.repeated);
        }
        if (why.is_some() || passed)
            && let Some(Attempt { child, may_serve, .. }) = self.attempt.take()
            && !ended
        {
            // Somebody else was handed the service, or nobody. It may not have come to the desk that would tell it so,
            // and would wait at the next one. One that was let to take over hears of its end by itself.
            let unneeded = !may_serve && matches!(phase, Phase::Draining { .. });
            if unneeded && successor != Some(child.pid()) {
                let pid = child.pid();
                tracing::warn!(
                    target: "river::lifecycle", successor = pid,
                    "pid {pid}, which was started by SIGHUP, is not needed any more and told to end"
                );
                child.ask_to_end();
            }
            let mut former = Former(child);
            if !former.poll_end(cx) {
                self.formers.push(former);
            }
        }
    }

    /// Whether the child waits and so is to be handed over to; said once.
    pub(super) fn is_ready(&mut self, phase: Phase, waiter: Option<u32>) -> bool {
        match &mut self.attempt {
            Some(attempt)
                if attempt.stage == Stage::Waiting
                    && phase == Phase::Serving
                    && waiter == Some(attempt.child.pid()) =>
            {
                attempt.stage = Stage::Handing;
                true
            }
            _ => false,
        }
    }
}

impl Stage {
    /// After the child said that it waits, which it may say late.
    fn after_waiting(self) -> Self {
        if self == Self::Starting { Self::Waiting } else { self }
    }
}

impl Former {
    /// Whether it has ended, and was reaped.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> bool {
        while let Poll::Ready(news) = self.0.poll_news(cx) {
            if matches!(news, News::Ended(_)) {
                return true;
            }
        }
        false
    }
}

/// What a child said, on one line: of the errors of a configuration what they are and where, for it has printed the
/// rest on the standard error stream.
fn brief(why: &str) -> String {
    let mut errors: Vec<String> = Vec::new();
    for line in why.lines() {
        if let Some(error) = line.strip_prefix("error: ") {
            errors.push(error.to_owned());
        } else if let (Some(place), Some(error)) = (line.trim_start().strip_prefix("--> "), errors.last_mut())
        {
            error.push_str(&format!(" ({place})"));
        }
    }
    match errors.is_empty() {
        true => why.lines().map(str::trim).collect::<Vec<_>>().join(" "),
        false => errors.join("; "),
    }
}

/// Says that nothing came of a reload. Only who serves is asked for one, so it goes on.
fn fail(herald: &Herald, phase: Phase, why: &str, repeated: u32) {
    match repeated {
        0 => tracing::error!(
            target: "river::lifecycle", why, "the reload by SIGHUP failed; this instance serves on"
        ),
        // What they asked for was not done either.
        _ => tracing::error!(
            target: "river::lifecycle", why, repeated,
            "the reload by SIGHUP failed; this instance serves on. SIGHUP came again meanwhile, to no effect"
        ),
    }
    if phase == Phase::Serving {
        herald.not_reloading(why);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_errors_of_a_configuration_fit_a_line() {
        let said = "error: \"services\" is missing\n --> river.ron:1:1\n  |\n1 | ( x: 1 )\n  | ^\n\nerror: x: unknown \
                    field\n --> river.ron:1:3\n\nriver.ron: 2 errors";
        assert_eq!(brief(said), "\"services\" is missing (river.ron:1:1); x: unknown field (river.ron:1:3)");
        assert_eq!(brief("river: no\n  more"), "river: no more");
    }

    #[test]
    fn a_successor_is_started_with_upgrade_once() {
        for given in
            [&["--config", "a"][..], &["--config", "a", "--upgrade"], &["--upgrade", "--config", "a"]]
        {
            let relaunch =
                Relaunch::new("/bin/river".into(), given.iter().map(OsString::from), "/home".into());
            let count = relaunch.command().get_args().filter(|argument| *argument == "--upgrade").count();
            assert_eq!(count, 1, "{given:?}");
        }
    }
}
