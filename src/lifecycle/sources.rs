//! What the driver waits for: signals, the other instances, the clock and the workers, in one place.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_lite::{Stream, future};

use super::adoption::Adoption;
use super::clocks::Clocks;
use super::instance::Core;
use super::machine::{Happening, Machine};
use super::office::Office;
use super::reload::Reloads;
use super::reports::{Reports, report};
use super::watchdog::Watchdog;
use super::{Cause, DataPath, Exit, Exited, Herald, Instance, Phase, Settings, World};
use crate::handoff::{DeskEvent, Failure, Giver, GiverEvent, Taker, TakerEvent};
use crate::listen::certificates;
use crate::system::{Listening, Signal};
use crate::tls::{Store, Watch};

/// How many connections of the predecessor's are dealt with before something else gets its turn.
const ARRIVALS: usize = 64;

/// Everything that can wake the driver, but for what the states own.
#[derive(Debug)]
pub(super) struct Sources<S> {
    signals: Option<S>,
    adoption: Adoption,
    command: String,
    herald: Herald,
    clocks: Clocks,
    reports: Reports,
    watchdog: Watchdog,
    reloads: Reloads,
    certificates: Store,
    watch: Watch,
}

/// How much happens at the desk before other things have their turn.
const DESK_BURST: usize = 16;

type Next = Happening<Vec<Listening>>;

impl<S: Stream<Item = io::Result<Signal>> + Unpin> Sources<S> {
    pub(super) fn new(settings: &Settings, signals: S, adoption: Adoption) -> Self {
        let certificates = certificates(&settings.listeners);
        certificates.log();
        Self {
            watch: Watch::new(certificates.clone(), settings.certificate_check),
            certificates,
            signals: Some(signals),
            adoption,
            command: settings.command.clone(),
            herald: settings.herald.clone(),
            clocks: Clocks::new(settings),
            reports: Reports::new(settings),
            watchdog: Watchdog::new(settings.herald.clone()),
            reloads: Reloads::new(settings),
        }
    }

    /// The next happening. Signals come first, so that no flood of other things delays them.
    pub(super) async fn next<D: DataPath>(&mut self, machine: &mut Machine<Office<D>>) -> Next {
        self.clocks.arm(machine.phase());
        self.reports.arm(machine.phase());
        future::poll_fn(|cx| {
            self.watchdog.poll(machine.phase(), || machine.world().pulse(), cx);
            while let Poll::Ready(signal) = self.poll_signal(cx) {
                match signal {
                    Happening::Signal(Signal::Hangup) => {
                        self.reloads.ask(machine.phase(), machine.world().waiter(), successor(machine));
                    }
                    Happening::Signal(Signal::User1) => self.read_again(),
                    _ => return Poll::Ready(signal),
                }
            }
            let phase = machine.phase();
            // The keys that were offered are those that the successor has.
            self.watch.poll(phase == Phase::Serving, cx);
            self.reloads.poll(phase, successor(machine), cx);
            let happening = self.poll(machine, cx);
            // Behind the desk's turn, which may have found out just now who waits.
            if happening.is_pending() && self.reloads.is_ready(phase, machine.world().waiter()) {
                return Poll::Ready(Happening::Relieved);
            }
            happening
        })
        .await
    }

    /// Says a last word to the instance in service, if this one drained.
    pub(super) fn last_word<D: DataPath>(&mut self, exited: &Instance<Office<D>, Exited>) {
        self.reports.last_word(&exited.core);
    }

    fn read_again(&mut self) {
        match self.watch.ask() {
            true => {
                tracing::info!(target: "river::lifecycle", "SIGUSR1: the files of all certificates are read again")
            }
            false => tracing::warn!(
                target: "river::lifecycle",
                "SIGUSR1 is ignored: no listener has certificates, and standard error is the only log and needs no reopening"
            ),
        }
    }

    fn poll_signal(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        let Some(signals) = &mut self.signals else { return Poll::Pending };
        match Pin::new(signals).poll_next(cx) {
            Poll::Ready(Some(Ok(signal))) => Poll::Ready(Happening::Signal(signal)),
            Poll::Ready(other) => {
                // The service goes on; it can be ended by SIGKILL only.
                tracing::error!(target: "river::lifecycle", ?other, "signals can no longer be taken");
                self.signals = None;
                Poll::Pending
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn poll<D: DataPath>(&mut self, machine: &mut Machine<Office<D>>, cx: &mut Context<'_>) -> Poll<Next> {
        match machine {
            Machine::Meeting(instance, incumbent) => {
                self.poll_incumbent(incumbent, |generation| instance.follows(generation), cx)
            }
            Machine::Awaiting(instance) => self.poll_incumbent(&mut instance.state.incumbent, |_| {}, cx),
            Machine::Accepting(instance) => self.poll_incumbent(&mut instance.state.incumbent, |_| {}, cx),
            Machine::Serving(instance) => {
                poll_desk(&mut instance.core, cx);
                let (state, office) = (&mut instance.state, &mut instance.core.world);
                poll_formers(&mut state.formers, cx)
                    .or_else(|| poll_predecessor(&mut state.predecessor, office, cx))
                    .map_or(Poll::Pending, Poll::Ready)
            }
            Machine::Handing(instance) => {
                poll_desk(&mut instance.core, cx);
                let (state, office) = (&mut instance.state, &mut instance.core.world);
                poll_successor(&mut state.successor, office, cx)
                    .or_else(|| poll_formers(&mut state.formers, cx))
                    .or_else(|| poll_predecessor(&mut state.predecessor, office, cx))
                    .map_or(Poll::Pending, Poll::Ready)
            }
            Machine::Committed(instance) => {
                poll_desk(&mut instance.core, cx);
                let (state, office) = (&mut instance.state, &mut instance.core.world);
                poll_successor(&mut state.successor, office, cx)
                    .or_else(|| self.clocks.is_patience_over(cx).then_some(Happening::PatienceEnded))
                    .or_else(|| poll_formers(&mut state.formers, cx))
                    .or_else(|| poll_predecessor(&mut state.predecessor, office, cx))
                    .map_or(Poll::Pending, Poll::Ready)
            }
            Machine::Draining(instance) => {
                let guarding = instance.is_guarding();
                let office = &mut instance.core.world;
                // First what saves the service, then what ends the process.
                if let Some(successor) = &mut instance.state.successor {
                    // Before it is listened to, so that its answers are waited for.
                    office.pass_on(successor, cx);
                    if let Some(happening) = poll_successor(successor, office, cx) {
                        return Poll::Ready(happening);
                    }
                }
                if guarding {
                    // That nothing is left makes no difference while it guards, but it is to be reported.
                    let _ = office.poll_idle(cx);
                }
                if let Poll::Ready(why) = self.reports.poll(&instance.core, cx) {
                    return Poll::Ready(Happening::Displaced(why));
                }
                let office = &mut instance.core.world;
                // Once it does not guard any more it is asked again.
                while !guarding && office.poll_idle(cx).is_ready() {
                    if office.connections() == 0 {
                        return Poll::Ready(Happening::Idle);
                    }
                }
                if self.clocks.is_guard_over(cx) {
                    return Poll::Ready(Happening::GuardEnded);
                }
                self.clocks
                    .poll_drain(cx)
                    .map_or(Poll::Pending, |ending| Poll::Ready(Happening::DrainEnded(ending)))
            }
            Machine::Exited(_) => Poll::Pending,
        }
    }

    /// Hears the incumbent until its words come to something. `follow` learns its generation.
    fn poll_incumbent(
        &mut self,
        incumbent: &mut Taker,
        mut follow: impl FnMut(u64),
        cx: &mut Context<'_>,
    ) -> Poll<Next> {
        loop {
            let event = ready!(incumbent.poll_next(cx));
            if let TakerEvent::Welcomed { build, generation } = &event {
                tracing::info!(target: "river::lifecycle", build, generation, "the instance in service answered");
                follow(*generation);
            }
            if let Some(happening) = self.hear(incumbent, event) {
                return Poll::Ready(happening);
            }
        }
    }

    /// What the incumbent's words come to; `None` when the conversation goes on.
    fn hear(&mut self, taker: &mut Taker, event: TakerEvent) -> Option<Next> {
        let pid = taker.pid();
        match event {
            TakerEvent::Welcomed { .. } => None,
            TakerEvent::Inventory(ids) => match self.adoption.bind_all_but(&ids) {
                Ok(()) => {
                    // Said before anybody can read that it waits, and act on it.
                    taker.bound();
                    self.herald.waits_for(pid);
                    tracing::info!(
                        target: "river::lifecycle",
                        "waiting for pid {pid} to hand over; to start it: kill -QUIT {pid}"
                    );
                    Some(Happening::Welcomed)
                }
                Err(cause) => Some(Happening::Lost(still_serving(cause, pid))),
            },
            TakerEvent::Offered(batch, tickets) => match self.adoption.inherit(batch) {
                Ok(unwanted) => {
                    tickets.iter().for_each(|(listener, keys)| self.certificates.inherit(listener, keys));
                    taker.adopted(unwanted);
                    None
                }
                Err(cause) => Some(Happening::Lost(still_serving(cause, pid))),
            },
            TakerEvent::Prepare => match self.adoption.listen() {
                Ok(sockets) => Some(Happening::Adopted(sockets)),
                Err(cause) => Some(Happening::Lost(still_serving(cause, pid))),
            },
            TakerEvent::Commit => Some(Happening::Commit),
            TakerEvent::Died => Some(Happening::IncumbentDied(Cause::new(
                Exit::Unavailable,
                format!(
                    "pid {pid} ended before it handed over; unless the instance before it takes the service back, \
                     nobody serves now; to start cold: {}",
                    self.command
                ),
            ))),
            TakerEvent::Failed(failure) => {
                let failed = format!("the hand-over failed: {failure}");
                Some(Happening::Lost(match failure {
                    Failure::Refused(_) => still_serving(Cause::new(Exit::TryAgain, failed), pid),
                    Failure::Ending(_) => Cause::new(
                        Exit::Unavailable,
                        format!("{failed}; pid {pid} serves no longer; to start cold: {}", self.command),
                    ),
                    // It was there, and does not say whether it is still.
                    Failure::TimedOut(_) | Failure::Closed => {
                        Cause::new(Exit::TryAgain, format!("{failed}; pid {pid} was serving"))
                    }
                    Failure::Gave(_) | Failure::Unexpected { .. } | Failure::Unreadable(_) => {
                        still_serving(Cause::new(Exit::Software, failed), pid)
                    }
                }))
            }
            TakerEvent::StepDown(why) => Some(Happening::StepDown(why)),
            TakerEvent::Drained => Some(Happening::PredecessorGone),
            // The protocol lets nothing arrive before this instance owns the service.
            TakerEvent::Arrived { number, .. } => {
                taker.declined(number, "this instance does not serve yet");
                None
            }
        }
    }
}

/// Who has the service after this instance has handed over.
fn successor<D: DataPath>(machine: &Machine<Office<D>>) -> Option<u32> {
    match machine {
        Machine::Draining(instance) => instance.state.successor.as_ref().map(Giver::pid),
        _ => None,
    }
}

fn still_serving(cause: Cause, pid: u32) -> Cause {
    Cause::new(cause.exit, format!("{}; pid {pid} is still serving", cause.why))
}

fn poll_desk<D: DataPath>(core: &mut Core<Office<D>>, cx: &mut Context<'_>) {
    for _ in 0..DESK_BURST {
        let Poll::Ready(event) = core.world.poll_desk(core.phase.state(), cx) else { return };
        match event {
            DeskEvent::Waiting(pid) => tracing::info!(
                target: "river::lifecycle",
                successor = pid,
                "pid {pid} waits to take over; to start it: kill -QUIT {}",
                std::process::id()
            ),
            DeskEvent::Left(pid, failure) => tracing::warn!(
                target: "river::lifecycle",
                successor = pid,
                why = failure.to_string(),
                "pid {pid} does not wait to take over any more; this instance serves on"
            ),
            DeskEvent::Asked => {
                let own = report(core);
                core.world.answer(own);
            }
        }
    }
    // Whoever keeps the desk busy does not keep this instance from its signals.
    cx.waker().wake_by_ref();
}

fn poll_successor<D: DataPath>(
    successor: &mut Giver,
    office: &mut Office<D>,
    cx: &mut Context<'_>,
) -> Option<Next> {
    loop {
        let Poll::Ready(event) = successor.poll_next(cx) else { return None };
        return Some(match event {
            GiverEvent::Ready => Happening::Ready,
            GiverEvent::Owned(unwanted) => Happening::Owned(unwanted),
            GiverEvent::Released => Happening::Released,
            GiverEvent::Failed(failure) => Happening::Failed(failure.to_string()),
            GiverEvent::Died => Happening::SuccessorDied,
            GiverEvent::MovesEnded => Happening::MovesEnded,
            GiverEvent::Taken => {
                office.count_moved();
                continue;
            }
            GiverEvent::Greeted | GiverEvent::Waiting | GiverEvent::Gone => continue,
        });
    }
}

fn poll_formers(formers: &mut [Giver], cx: &mut Context<'_>) -> Option<Next> {
    formers.iter_mut().position(|former| is_gone(former, cx)).map(Happening::FormerGone)
}

fn is_gone(former: &mut Giver, cx: &mut Context<'_>) -> bool {
    loop {
        match former.poll_next(cx) {
            Poll::Ready(GiverEvent::Gone) => return true,
            Poll::Ready(_) => {}
            Poll::Pending => return false,
        }
    }
}

/// Takes what the predecessor passes on, and tells what else it does.
fn poll_predecessor<D: DataPath>(
    predecessor: &mut Option<Taker>,
    office: &mut Office<D>,
    cx: &mut Context<'_>,
) -> Option<Next> {
    let predecessor = predecessor.as_mut()?;
    for _ in 0..ARRIVALS {
        match predecessor.poll_next(cx) {
            Poll::Ready(TakerEvent::Arrived { number, moved, fds }) => {
                office.receive(predecessor, number, moved, fds);
            }
            Poll::Ready(TakerEvent::StepDown(why)) => return Some(Happening::StepDown(why)),
            Poll::Ready(_) => return Some(Happening::PredecessorGone),
            Poll::Pending => return None,
        }
    }
    // There may be more, but signals come first.
    cx.waker().wake_by_ref();
    None
}
