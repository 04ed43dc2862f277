//! What is told outside of the instance's life: to the process that started it, and to the service manager.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Event, Exit, Phase};
use crate::system::{Manager, Reporter};

/// Tells those outside what becomes of the instance. By default there is nobody to be told.
///
/// Clones speak for the same instance. No call waits.
#[derive(Clone, Debug, Default)]
pub struct Herald(Arc<Mutex<Audience>>);

#[derive(Debug, Default)]
struct Audience {
    /// Who started the process, until the outcome was said.
    reporter: Option<Reporter>,
    /// Who is to hand over to this instance.
    incumbent: Option<u32>,
    manager: Option<Manager>,
    said: Said,
    /// Whoever started the process says why it failed.
    spoken_for: bool,
}

/// What the manager was told last of this instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Said {
    /// That another instance is the service, or nothing.
    #[default]
    Nothing,
    Ready,
    Reloading,
    Stopping,
}

/// A transition, as it is told.
#[derive(Clone, Copy, Debug)]
pub struct Tidings<'a> {
    /// What happened.
    pub event: Event,
    /// The phase before.
    pub from: Phase,
    /// The phase after.
    pub to: Phase,
    /// The reason, as it is logged.
    pub why: &'a str,
    /// The instance's generation.
    pub generation: u64,
}

impl Herald {
    /// Speaks to the process that waits for the instance's readiness, and to the service manager.
    pub fn new(reporter: Option<Reporter>, manager: Option<Manager>) -> Self {
        Self(Arc::new(Mutex::new(Audience { reporter, manager, ..Audience::default() })))
    }

    /// Leaves the terminal and its session to whoever started the process, if that waits for its readiness; false if
    /// nobody does.
    pub fn detach(&self) -> bool {
        self.audience().reporter.as_mut().map(Reporter::detach).is_some()
    }

    /// The instance will not serve: it ends with `exit` and these last words. Only the first outcome is told; this
    /// says whether somebody who was told it has the last words.
    pub fn failed(&self, exit: Exit, text: &str) -> bool {
        let mut audience = self.audience();
        if let Some(reporter) = audience.reporter.take() {
            audience.spoken_for = reporter.failed(exit, text);
        }
        audience.spoken_for
    }

    /// A replacement of the service begins, whoever asked for it. A hand-over says so by itself; what has to be done
    /// before one (to start the successor) is to be announced here, so that the manager sees one replacement.
    pub fn reloading(&self) {
        self.audience().reload("replacing this instance");
    }

    /// The replacement that was announced will not be, or not now.
    pub fn not_reloading(&self, why: &str) {
        let mut audience = self.audience();
        if audience.said == Said::Reloading {
            audience.ready(&format!("serving; the reload failed: {why}"));
        }
    }

    /// The instance waits, or is about to, for this process to hand over to it.
    pub(super) fn waits_for(&self, incumbent: u32) {
        self.audience().incumbent = Some(incumbent);
    }

    /// Tells a transition. Telling one twice is telling it once.
    pub(super) fn tell(&self, tidings: &Tidings<'_>, connections: usize) {
        let mut audience = self.audience();
        let Tidings { event, from, to, why, generation } = *tidings;
        let plural = if connections == 1 { "" } else { "s" };
        let counts = format!("generation {generation}, {connections} connection{plural}");
        match (from, to) {
            (Phase::Booting, Phase::Awaiting) => {
                if let Some(reporter) = &audience.reporter {
                    reporter.waiting(audience.incumbent);
                }
            }
            (Phase::Offered | Phase::Committed { .. }, Phase::Serving) => {
                audience.ready(&format!("serving ({counts}); the hand-over failed: {why}"));
            }
            (Phase::Draining { .. }, Phase::Serving) => {
                audience.ready(&format!("serving again ({counts}): {why}"));
            }
            (Phase::Booting | Phase::Accepting, Phase::Serving) if audience.said != Said::Ready => {
                audience.ready(&format!("serving ({counts})"));
                if let Some(reporter) = audience.reporter.take() {
                    reporter.serving();
                }
            }
            (Phase::Serving, Phase::Offered) => audience.reload(&format!("handing over ({counts})")),
            // The successor serves, or may: it speaks for the service now.
            (Phase::Committed { .. }, Phase::Draining { .. } | Phase::Exited)
                if event != Event::SuccessorFailed =>
            {
                audience.said = Said::Nothing;
            }
            // The predecessor has the service again.
            (_, Phase::Draining { .. }) if event == Event::StepDown => audience.said = Said::Nothing,
            (_, Phase::Draining { .. } | Phase::Exited) => {
                audience.stop(&format!("ending ({counts}): {why}"))
            }
            _ => {}
        }
    }

    /// How often the manager wants a sign of life at least.
    pub(super) fn watchdog(&self) -> Option<Duration> {
        self.audience().manager.as_ref().and_then(Manager::watchdog)
    }

    /// Gives the manager a sign of life.
    pub(super) fn alive(&self) {
        if let Some(manager) = &mut self.audience().manager {
            manager.alive();
        }
    }

    /// Says again what the manager did not take, and whether it has taken all now.
    pub(super) fn flush(&self) -> bool {
        self.audience().manager.as_mut().is_none_or(Manager::flush)
    }

    fn audience(&self) -> MutexGuard<'_, Audience> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Audience {
    fn ready(&mut self, status: &str) {
        self.said = Said::Ready;
        if let Some(manager) = &mut self.manager {
            manager.ready(status);
        }
    }

    fn reload(&mut self, status: &str) {
        if self.said == Said::Ready {
            self.said = Said::Reloading;
            if let Some(manager) = &mut self.manager {
                manager.reloading(status);
            }
        }
    }

    /// Only who speaks for the service may say that it ends.
    fn stop(&mut self, status: &str) {
        if matches!(self.said, Said::Ready | Said::Reloading) {
            self.said = Said::Stopping;
            if let Some(manager) = &mut self.manager {
                manager.stopping(status);
            }
        }
    }
}
