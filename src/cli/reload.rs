//! `river reload`.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use async_io::Timer;
use futures_lite::{FutureExt as _, future};

use super::find::{self, shown};
use super::follow::{Followed, follow};
use super::patience::{Enough, Patience};
use super::program::anywhere;
use super::steps::Steps;
use super::validate::summary;
use super::{Exit, Failure};
use crate::base::InstanceReport;
use crate::config::{self, Errors, Overrides};
use crate::handoff::{Answer, Inquiry};
use crate::lifecycle;
use crate::system::{End, News, Offspring, Signals};

/// How long an instance that is not wanted any more has to end in good order.
const LAST_ORDERS: Duration = Duration::from_secs(1);

/// What is to be replaced by what.
#[derive(Clone, Debug)]
pub struct Reload {
    /// The configuration of the new instance, as the user wrote it.
    pub config: PathBuf,
    /// What beats the file.
    pub overrides: Overrides,
    /// How long all of it may take.
    pub timeout: Duration,
    /// The program of the new instance.
    pub program: PathBuf,
    /// Where relative paths start from.
    pub directory: PathBuf,
    /// The command that starts this configuration cold, to be told where nobody is in service.
    pub cold: String,
}

/// Starts a new instance, lets the one in service hand over to it, and follows both to the end, with a line for each
/// step on the standard output.
///
/// # Errors
/// When the new instance did not take over; the text says why, and who is in service. From the moment on in which it
/// serves, only its death is an error: that the former one still drains when the time is over is none.
pub async fn reload(order: Reload, signals: &mut Signals) -> Result<(), Failure> {
    let mut steps = Steps::new();
    let mut patience = Patience::new(signals, order.timeout);
    let untouched = |enough| Failure::new(Exit::TryAgain, &format!("{enough}; nothing was changed"));
    let (config, overrides) = (order.config.clone(), order.overrides.clone());
    let loaded = patience.with_blocking(move || config::load(&config, &overrides)).await;
    let plan = match loaded.map_err(untouched)? {
        Ok(plan) => plan,
        Err(errors) => return Err(unusable(&order, errors).await),
    };
    steps.step(&summary(&order.config, &plan));
    let path = plan.system.upgrade_socket.ok_or_else(|| find::no_socket(&order.config))?;

    let nobody = || lifecycle::nobody_to_replace(plan.system.pid_file.as_deref(), &order.cold);
    let mut old = find::ask(&path, false, true, nobody)?;
    let pid = old.peer().pid();
    let answer =
        patience.with(old.first()).await.map_err(|enough| unanswered(enough, pid, &path, "changed"))?;
    let answer = answer.ok();
    steps.step(&format!("pid {pid} is in service{}", of_what_kind(answer.as_ref(), pid)));

    let program = order.program.clone();
    let mut command = successor(&order, answer.and_then(|answer| answer.streams));
    if !plan.system.daemonize {
        // What is typed at the terminal, such as Ctrl-C, is not for it. A daemon leaves the terminal by itself, which
        // the head of a process group could not.
        command.process_group(0);
    }
    let new = match Offspring::start(command) {
        Ok(new) => new,
        Err(error) => {
            let why = format!("cannot start {}: {error}", program.display());
            return Err(failed(Exit::Unavailable, &why, &path, pid).await);
        }
    };
    steps.step(&format!("pid {} started", new.pid()));
    let mut attempt = Attempt { steps, patience, path, old, new };
    attempt.hand_over().await?;
    attempt.follow().await
}

/// A reload from the start of the new instance on.
struct Attempt<'s> {
    steps: Steps,
    patience: Patience<'s>,
    path: PathBuf,
    old: Inquiry,
    new: Offspring,
}

impl Attempt<'_> {
    /// Until the new instance serves.
    async fn hand_over(&mut self) -> Result<(), Failure> {
        let new = self.new.pid();
        match self.patience.with(self.new.news()).await {
            Ok(News::Waiting) => {
                self.steps.step(&format!("pid {new} waits to take over"));
                self.turn_to_incumbent();
            }
            // Nobody else served any more.
            Ok(News::Serving) => return self.served(),
            Ok(News::Failed(end) | News::Ended(end)) => return Err(self.lost(&end).await),
            Err(enough) => {
                // Nothing was asked of the one in service yet, which does not mind.
                self.new.ask_to_end();
                return Err(self.end_new(enough, "before the new instance waited to take over").await);
            }
        }
        // Where it has ended meanwhile, the new one says so.
        let old = self.old.peer().pid();
        let told = self.old.peer().tell_to_hand_over();
        self.steps.step(&match told {
            Ok(()) => format!("SIGQUIT sent to pid {old}"),
            Err(error) => format!("SIGQUIT cannot be sent to pid {old}: {error}"),
        });
        loop {
            let news = match self.patience.with(self.new.news()).await {
                Ok(news) => news,
                // What it has said by now counts.
                Err(enough) => match future::poll_once(self.new.news()).await {
                    Some(news) => news,
                    None => {
                        // It may have been let to take over. Killed it says nothing, so the service is taken back;
                        // an end in good order would be the end of the service.
                        self.new.kill();
                        return Err(self.end_new(enough, "before the new instance served").await);
                    }
                },
            };
            match news {
                News::Waiting => {}
                News::Serving => return self.served(),
                News::Failed(end) | News::Ended(end) => return Err(self.lost(&end).await),
            }
        }
    }

    /// Another instance may have taken over since the question, so that the new one waits for that. It is the one at the
    /// upgrade socket: it can hand over to nobody else, and who ends otherwise is told of by the new one.
    fn turn_to_incumbent(&mut self) {
        let asked = self.old.peer().pid();
        if self.new.incumbent() == Some(asked) {
            return;
        }
        if let Ok(inquiry) = Inquiry::open(&self.path, false, false)
            && inquiry.peer().pid() != asked
        {
            self.steps.step(&format!("pid {} took over from pid {asked} meanwhile", inquiry.peer().pid()));
            self.old = inquiry;
        }
    }

    fn served(&mut self) -> Result<(), Failure> {
        self.steps.step(&format!("pid {} is in service", self.new.pid()));
        Ok(())
    }

    /// From the moment on in which the new instance serves.
    async fn follow(mut self) -> Result<(), Failure> {
        let (old, new) = (self.old.peer().pid(), self.new.pid());
        let followed =
            self.patience.with(follow(&mut self.steps, &self.path, &self.old, &mut self.new)).await;
        match followed {
            Ok(Followed::Done(report)) => {
                let what = match &report {
                    Some(InstanceReport { guard_ms: Some(1..), .. }) => {
                        format!("pid {old} has no connection left, and stands by in case pid {new} dies")
                    }
                    Some(_) => format!("pid {old} has no connection left"),
                    None => format!("pid {old} has ended, and did not say what became of its connections"),
                };
                self.steps.step(&what);
                if let Some(InstanceReport { moved, finished, cut, .. }) = report {
                    self.steps.conclude(&format!("moved {moved}, finished {finished}, cut {cut}"));
                }
                Ok(())
            }
            Ok(Followed::NewEnded(end)) => match find::who_serves_soon(&self.path).await {
                Some(pid) if end.exit == Exit::Success && pid != old => {
                    self.steps.step(&format!("pid {new} has handed over already: pid {pid} is in service"));
                    Ok(())
                }
                _ => {
                    Err(failed(failure(end.exit), &format!("{end} after it had served"), &self.path, old)
                        .await)
                }
            },
            Err(enough) => {
                self.steps
                    .step(&format!("{enough}: pid {old} goes on to drain by itself; river status shows it"));
                Ok(())
            }
        }
    }

    /// The new instance did not take over.
    async fn lost(&mut self, end: &End) -> Failure {
        failed(failure(end.exit), &end.why, &self.path, self.old.peer().pid()).await
    }

    /// Sees to it that the new instance ends.
    async fn end_new(&mut self, enough: Enough, when: &str) -> Failure {
        let mut ended = false;
        for _ in 0..2 {
            let gone = async {
                while !matches!(self.new.news().await, News::Ended(_)) {}
                true
            };
            let late = async {
                Timer::at(Instant::now() + LAST_ORDERS).await;
                false
            };
            ended = gone.or(late).await;
            if ended {
                break;
            }
            self.new.kill();
        }
        let what = if ended { "was ended" } else { "is stuck" };
        let why = format!("{enough} {when}; pid {} {what}", self.new.pid());
        failed(Exit::TryAgain, &why, &self.path, self.old.peer().pid()).await
    }
}

/// The one that was asked did not answer before somebody had enough of waiting; nothing was done to it.
pub(super) fn unanswered(enough: Enough, pid: u32, path: &Path, done: &str) -> Failure {
    let path = path.display();
    let why = format!(
        "{enough}; pid {pid}, which has the upgrade socket {path}, did not answer; nothing was {done}"
    );
    Failure::new(Exit::TryAgain, &why)
}

/// The command that starts the new instance.
fn successor(order: &Reload, streams: Option<(std::os::fd::OwnedFd, std::os::fd::OwnedFd)>) -> Command {
    let mut command = Command::new(&order.program);
    command.arg("--upgrade");
    let config = anywhere(&order.directory, &order.config);
    let paths = [
        ("--config", "RIVER_CONFIG", Some(&config)),
        ("--upgrade-socket", "RIVER_UPGRADE_SOCKET", order.overrides.upgrade_socket.as_ref()),
        ("--pidfile", "RIVER_PIDFILE", order.overrides.pid_file.as_ref()),
    ];
    for (flag, variable, path) in paths {
        // A flag has to be UTF-8 text, a variable has not.
        match path.map(|path| (path, path.to_str())) {
            Some((_, Some(text))) => command.args([flag, text]),
            Some((path, None)) => command.env(variable, path),
            None => &mut command,
        };
    }
    if let Some(workers) = order.overrides.workers {
        command.args(["--workers", &workers.to_string()]);
    }
    if let Some((out, err)) = streams {
        command.stdout(out).stderr(err);
    }
    command
}

/// What the configuration is not good for, and that this changed nothing.
async fn unusable(order: &Reload, errors: Errors) -> Failure {
    let mut failure = Failure::from(errors);
    let path = order.overrides.upgrade_socket.clone();
    // Whatever is wrong with the rest, it may still say where the instance in service is.
    let path = path.or_else(|| config::upgrade_socket(&order.config).ok().flatten());
    let serving = match path {
        Some(path) => find::who_serves(&path).await,
        None => None,
    };
    let serving = match serving {
        Some(pid) => format!("; pid {pid} is still serving"),
        None => "; an instance that was serving still is".to_owned(),
    };
    failure.text = format!("{}\nriver: nothing was changed{serving}", failure.text.trim_end());
    failure
}

async fn failed(exit: Exit, why: &str, path: &Path, before: u32) -> Failure {
    let statement = find::statement(path, before).await;
    let why = why.strip_suffix(&format!("; {statement}")).unwrap_or(why);
    let lines: Vec<String> = why.lines().map(shown).collect();
    Failure { exit, text: format!("river: the reload failed: {}\nriver: {statement}", lines.join("\n")) }
}

/// The exit code of a reload whose new instance ended with `exit`: a failure, whatever that one calls its end.
fn failure(exit: Exit) -> Exit {
    if exit == Exit::Success { Exit::TryAgain } else { exit }
}

fn of_what_kind(answer: Option<&Answer>, pid: u32) -> String {
    let reports = answer.iter().flat_map(|answer| &answer.instances).find(|report| report.pid == pid);
    reports
        .map(|report| format!(" ({}, generation {})", shown(&report.build), report.generation))
        .unwrap_or_default()
}
