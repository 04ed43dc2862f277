//! The machine at run time: the one enum over states, and what each happening makes of each of them.

use super::handing::RolledBack;
use super::{
    Accepting, Awaiting, Booting, Cause, Committed, Draining, Exit, Exited, Handing, Instance, Phase,
    Serving, World,
};
use crate::base::ListenerId;
use crate::listen::Ending;
use crate::system::Signal;

/// Why an instance ends that inherited what another took back.
const DOUBLED: &str = "the incumbent died, and the instance that it took over from serves again";

/// An instance in whichever state it is.
#[derive(Debug)]
pub(super) enum Machine<W: World> {
    /// Booting, and talking to the incumbent, who has not welcomed it yet.
    Meeting(Instance<W, Booting>, W::Incumbent),
    Awaiting(Instance<W, Awaiting<W>>),
    Accepting(Instance<W, Accepting<W>>),
    Serving(Instance<W, Serving<W>>),
    Handing(Instance<W, Handing<W>>),
    Committed(Instance<W, Committed<W>>),
    Draining(Instance<W, Draining<W>>),
    Exited(Instance<W, Exited>),
}

/// What happened to the instance, with what came along.
#[derive(Debug)]
pub(super) enum Happening<S> {
    Signal(Signal),
    /// The successor that this instance started by SIGHUP waits.
    Relieved,
    /// The incumbent has a place for this instance.
    Welcomed,
    /// The hand-over is ready for the workers.
    Adopted(S),
    /// The incumbent commits.
    Commit,
    /// The hand-over to this instance will not be.
    Lost(Cause),
    /// The incumbent's process ended before it committed.
    IncumbentDied(Cause),
    /// The predecessor took the service back.
    StepDown(String),
    /// The predecessor has ended, or its connection has.
    PredecessorGone,
    /// The successor accepts.
    Ready,
    /// The successor serves.
    Owned(Vec<ListenerId>),
    /// The hand-over from this instance will not be.
    Failed(String),
    /// A successor that failed, the one of this number, has closed its connection.
    FormerGone(usize),
    /// The successor that serves ends on purpose.
    Released,
    /// The successor that serves died.
    SuccessorDied,
    /// The successor did not say soon that it serves, and this instance was asked to end.
    PatienceEnded,
    /// The successor that serves takes no more connections.
    MovesEnded,
    GuardEnded,
    /// The time to drain is over for these connections.
    DrainEnded(Ending),
    /// The instance in service wants this one to end.
    Displaced(String),
    Idle,
}

impl<W: World> Machine<W> {
    pub(super) fn phase(&self) -> Phase {
        match self {
            Self::Meeting(instance, _) => instance.phase(),
            Self::Awaiting(instance) => instance.phase(),
            Self::Accepting(instance) => instance.phase(),
            Self::Serving(instance) => instance.phase(),
            Self::Handing(instance) => instance.phase(),
            Self::Committed(instance) => instance.phase(),
            Self::Draining(instance) => instance.phase(),
            Self::Exited(instance) => instance.phase(),
        }
    }

    pub(super) fn world(&self) -> &W {
        match self {
            Self::Meeting(instance, _) => instance.world(),
            Self::Awaiting(instance) => instance.world(),
            Self::Accepting(instance) => instance.world(),
            Self::Serving(instance) => instance.world(),
            Self::Handing(instance) => instance.world(),
            Self::Committed(instance) => instance.world(),
            Self::Draining(instance) => instance.world(),
            Self::Exited(instance) => instance.world(),
        }
    }

    /// Applies one happening. `cause` keeps why the instance will end otherwise than asked; `advice` is what to tell
    /// an operator whose SIGQUIT finds nobody waiting. What has no place in a state leaves it as it is.
    pub(super) fn turn(
        self,
        happening: Happening<W::Sockets>,
        cause: &mut Option<Cause>,
        advice: &str,
    ) -> Self {
        match happening {
            Happening::Signal(Signal::Terminate) => self.terminate(),
            Happening::Signal(Signal::Interrupt) => self.interrupt(),
            Happening::Signal(Signal::Quit) => self.quit(advice),
            Happening::Relieved => self.relieve(),
            // The driver deals with these: what they ask for is done outside the machine, at first or altogether.
            Happening::Signal(Signal::Hangup | Signal::User1) => self,
            Happening::Signal(unused @ Signal::User2) => {
                tracing::warn!(
                    target: "river::lifecycle",
                    "{unused} has no meaning yet and is ignored; to reload, send SIGHUP to the instance in service, or run river reload"
                );
                self
            }
            Happening::PatienceEnded
            | Happening::GuardEnded
            | Happening::DrainEnded(_)
            | Happening::Displaced(_)
            | Happening::Idle => self.wind_down(&happening),
            Happening::Welcomed
            | Happening::Adopted(_)
            | Happening::Commit
            | Happening::Lost(_)
            | Happening::IncumbentDied(_)
            | Happening::StepDown(_)
            | Happening::PredecessorGone => self.hear_incumbent(happening, cause),
            Happening::Ready
            | Happening::Owned(_)
            | Happening::Failed(_)
            | Happening::FormerGone(_)
            | Happening::Released
            | Happening::MovesEnded
            | Happening::SuccessorDied => self.hear_successor(happening),
        }
    }

    fn hear_incumbent(self, happening: Happening<W::Sockets>, cause: &mut Option<Cause>) -> Self {
        match (self, happening) {
            (Self::Meeting(instance, incumbent), Happening::Welcomed) => {
                Self::Awaiting(instance.await_handoff(incumbent))
            }
            (Self::Meeting(instance, _), Happening::Lost(why) | Happening::IncumbentDied(why)) => {
                let over = instance.fail(&why);
                *cause = Some(why);
                Self::Exited(over)
            }
            (Self::Awaiting(instance), Happening::Adopted(sockets)) => match instance.adopt(sockets) {
                Ok(next) => Self::Accepting(next),
                Err(fallback) => {
                    *cause = Some(fallback.cause);
                    Self::Exited(fallback.instance)
                }
            },
            (Self::Awaiting(instance), Happening::Lost(why) | Happening::IncumbentDied(why)) => {
                let over = instance.lose(&why);
                *cause = Some(why);
                Self::Exited(over)
            }
            (Self::Accepting(instance), Happening::Commit) => match instance.commit() {
                Ok(next) => Self::Serving(next),
                Err(fallback) => {
                    *cause = Some(fallback.cause);
                    Self::Draining(fallback.instance)
                }
            },
            (Self::Accepting(instance), Happening::IncumbentDied(_)) => {
                let next = instance.inherit();
                if next.is_doubled() {
                    *cause = Some(Cause::new(Exit::TryAgain, DOUBLED.to_owned()));
                    return Self::Draining(next.give_way(Exit::TryAgain));
                }
                Self::Serving(next)
            }
            (Self::Accepting(instance), Happening::Lost(why)) => {
                let next = instance.lose(&why);
                *cause = Some(why);
                Self::Draining(next)
            }
            (Self::Serving(instance), Happening::StepDown(why)) => {
                *cause = Some(stepped_down(&why));
                Self::Draining(instance.step_down(&why))
            }
            (Self::Handing(instance), Happening::StepDown(why)) => {
                *cause = Some(stepped_down(&why));
                Self::Draining(instance.step_down(&why))
            }
            (Self::Committed(instance), Happening::StepDown(why)) => {
                Self::Committed(instance.step_down(&why))
            }
            (Self::Serving(instance), Happening::PredecessorGone) => {
                Self::Serving(instance.predecessor_gone())
            }
            (Self::Handing(instance), Happening::PredecessorGone) => {
                Self::Handing(instance.predecessor_gone())
            }
            (Self::Committed(instance), Happening::PredecessorGone) => {
                Self::Committed(instance.predecessor_gone())
            }
            (unmoved, _) => unmoved,
        }
    }

    fn hear_successor(self, happening: Happening<W::Sockets>) -> Self {
        match (self, happening) {
            (Self::Handing(instance), Happening::Ready) => Self::Committed(instance.commit()),
            (Self::Handing(instance), Happening::Failed(why)) => {
                tracing::error!(target: "river::lifecycle", why, "the hand-over failed; this instance serves on");
                Self::Serving(instance.roll_back(&why))
            }
            (Self::Handing(instance), Happening::FormerGone(nth)) => Self::Handing(instance.former_gone(nth)),
            (Self::Serving(instance), Happening::FormerGone(nth)) => Self::Serving(instance.former_gone(nth)),
            (Self::Committed(instance), Happening::FormerGone(nth)) => {
                Self::Committed(instance.former_gone(nth))
            }
            (Self::Committed(instance), Happening::Owned(unwanted)) => {
                Self::Draining(instance.pass(&unwanted))
            }
            (Self::Committed(instance), Happening::Failed(why)) => match instance.roll_back(&why) {
                RolledBack::Serving(next) => {
                    tracing::error!(target: "river::lifecycle", why, "the hand-over failed; this instance serves on");
                    Self::Serving(next)
                }
                RolledBack::Draining(next) => Self::Draining(next),
            },
            (Self::Draining(instance), Happening::Failed(why)) => {
                tracing::error!(target: "river::lifecycle", why, "the conversation with the successor, which serves, failed");
                Self::Draining(instance)
            }
            (Self::Draining(instance), Happening::MovesEnded) => Self::Draining(instance.end_moves()),
            (Self::Draining(instance), Happening::Released) => Self::Draining(instance.release()),
            (Self::Draining(instance), Happening::SuccessorDied) if instance.is_outlived() => {
                Self::Draining(instance.outlive())
            }
            (Self::Draining(instance), Happening::SuccessorDied) => {
                let successor = instance.world().heir();
                match instance.take_back() {
                    Ok(next) if next.is_doubled() => Self::Draining(next.give_way(Exit::Success)),
                    Ok(next) => {
                        tracing::error!(
                            target: "river::lifecycle", successor, "the successor died; this instance serves again"
                        );
                        Self::Serving(next)
                    }
                    Err(unmoved) => {
                        let successor = unmoved.world().heir();
                        tracing::error!(
                            target: "river::lifecycle", successor,
                            "the successor died after the guard period, or when it had handed over; this instance takes nothing back"
                        );
                        Self::Draining(unmoved)
                    }
                }
            }
            (unmoved, _) => unmoved,
        }
    }

    fn wind_down(self, happening: &Happening<W::Sockets>) -> Self {
        match (self, happening) {
            (Self::Committed(instance), Happening::PatienceEnded) if instance.is_ending() => {
                Self::Draining(instance.let_go())
            }
            (Self::Draining(instance), Happening::GuardEnded) => Self::Draining(instance.end_guard()),
            (Self::Draining(instance), Happening::DrainEnded(what)) => {
                instance.time_out(*what).map_or_else(Self::Draining, Self::Exited)
            }
            (Self::Draining(instance), Happening::Idle) => {
                instance.idle().map_or_else(Self::Draining, Self::Exited)
            }
            (Self::Draining(instance), Happening::Displaced(why)) => {
                tracing::warn!(target: "river::lifecycle", why, "the instance in service ends this one");
                Self::Exited(instance.displace(why))
            }
            (unmoved, _) => unmoved,
        }
    }

    fn quit(self, advice: &str) -> Self {
        match self {
            Self::Serving(instance) => match instance.hand_over() {
                Ok(next) => Self::Handing(next),
                Err(unmoved) => {
                    tracing::warn!(target: "river::lifecycle", "SIGQUIT: {advice}");
                    Self::Serving(unmoved)
                }
            },
            other => {
                tracing::warn!(target: "river::lifecycle", state = %other.phase(), "SIGQUIT is ignored in this state");
                other
            }
        }
    }

    fn relieve(self) -> Self {
        match self {
            Self::Serving(instance) => match instance.hand_over_for("SIGHUP") {
                Ok(next) => Self::Handing(next),
                Err(unmoved) => Self::Serving(unmoved),
            },
            other => other,
        }
    }

    fn terminate(self) -> Self {
        match self {
            Self::Meeting(instance, _) => Self::Exited(instance.terminate()),
            Self::Awaiting(instance) => Self::Exited(instance.terminate()),
            Self::Accepting(instance) => Self::Draining(instance.terminate()),
            Self::Serving(instance) => Self::Draining(instance.terminate()),
            Self::Handing(instance) => Self::Draining(instance.terminate()),
            Self::Committed(instance) => {
                tracing::warn!(target: "river::lifecycle", "SIGTERM: the hand-over under way is completed first");
                Self::Committed(instance.terminate())
            }
            Self::Draining(instance) => {
                tracing::warn!(target: "river::lifecycle", "SIGTERM: this instance drains already; SIGINT ends it at once");
                Self::Draining(instance.terminate())
            }
            Self::Exited(instance) => Self::Exited(instance),
        }
    }

    fn interrupt(self) -> Self {
        match self {
            Self::Meeting(instance, _) => Self::Exited(instance.interrupt()),
            Self::Awaiting(instance) => Self::Exited(instance.interrupt()),
            Self::Accepting(instance) => Self::Exited(instance.interrupt()),
            Self::Serving(instance) => Self::Exited(instance.interrupt()),
            Self::Handing(instance) => Self::Exited(instance.interrupt()),
            Self::Committed(instance) => Self::Exited(instance.interrupt()),
            Self::Draining(instance) => Self::Exited(instance.interrupt()),
            Self::Exited(instance) => Self::Exited(instance),
        }
    }
}

fn stepped_down(why: &str) -> Cause {
    Cause::new(Exit::TryAgain, format!("the predecessor took the service back: {why}; it is still serving"))
}
