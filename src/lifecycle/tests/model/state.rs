//! The state of the model, and what one happening makes of it.

use super::outside::{End, INSTANCES, LISTENERS, Listeners, Outside, ids, number};
use super::peers::{Giver, Taker, TakerWord};
use super::place::Place;
use super::tables::Table;
use super::within::{formers_mut, givers, place, place_mut, successor, successor_mut, taker, taker_mut};
use crate::base::{Label, ListenerId};
use crate::handoff::GiverEvent;
use crate::lifecycle::machine::{Happening, Machine};
use crate::lifecycle::{Cause, Exit, Instance, Phase};
use crate::system::Signal;

/// What may still happen, so that every path of the model ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Budget {
    pub(super) starts: u8,
    pub(super) quits: u8,
    pub(super) stops: u8,
    /// Steps that are not done in time.
    pub(super) delays: u8,
    pub(super) crashes: u8,
    pub(super) breaks: u8,
    /// Actions that fail which may.
    pub(super) faults: u8,
    pub(super) clients: u8,
}

/// What an instance owes to the service, as the operator sees it: kept from what happened to it, not from its phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Duty {
    None,
    /// Its listeners are served.
    Service,
    /// It takes the service back if its successor dies.
    Guard,
}

/// The place of one instance.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Seat {
    pub(super) machine: Option<Machine<Place>>,
    pub(super) started: bool,
    pub(super) duty: Duty,
    /// It has read `Commit`, looked for a refusal behind it, and was stopped before it did anything.
    pub(super) stalled: bool,
    adoption: Adoption,
}

/// `Adoption`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Adoption {
    bound: Listeners,
    inherited: Listeners,
}

/// The conversations that an instance has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum With {
    Greeter(usize),
    Waiter,
    Successor,
    Former(usize),
    /// Or predecessor.
    Incumbent,
}

/// Everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) seats: [Seat; INSTANCES],
    pub(super) outside: Outside,
    pub(super) left: Budget,
    /// Nobody has to serve any more: the operator asked for that, or everybody who could has crashed.
    pub(super) excused: bool,
    /// An instance has ended without leaving its queues empty, by a crash or by SIGINT.
    pub(super) crashed: bool,
    /// Some instance was asked to end.
    pub(super) stopped: bool,
    pub(super) broken: bool,
    /// An instance that was told of a connection crashed, and nobody that lives had to do with it: it had been refused by
    /// one that has ended since. The connection waits until the next one comes.
    pub(super) unheard: bool,
    /// A socket with connections in its queue was closed by its last holder, while its listener had to be served.
    pub(super) dropped: bool,
}

/// What a happening is, as far as duty goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Stop(Signal),
    Adopted,
    Commit,
    Lost,
    IncumbentDied,
    StepDown,
    Owned,
    Failed,
    SuccessorDied,
    GuardOver,
    PatienceEnded,
    Other,
}

impl State {
    pub(super) fn new(wants: [Listeners; INSTANCES], table: Table, left: Budget) -> Self {
        let seat = Seat {
            machine: None,
            started: false,
            duty: Duty::None,
            stalled: false,
            adoption: Adoption::default(),
        };
        let mut state = Self {
            seats: std::array::from_fn(|_| seat.clone()),
            outside: Outside::default(),
            left,
            excused: false,
            crashed: false,
            stopped: false,
            broken: false,
            unheard: false,
            dropped: false,
        };
        state.outside.alive[0] = true;
        let place = Place::new(0, wants[0], table);
        let serving = Instance::new(place).cold_start(wants[0]).expect("nothing is in the way");
        let first = &mut state.seats[0];
        (first.started, first.duty, first.machine) = (true, Duty::Service, Some(Machine::Serving(serving)));
        let place = state.place_mut(0).expect("it was made a line above");
        let outside = std::mem::take(&mut place.outside);
        state.outside = outside;
        state.outside.alive[0] = true;
        state.settle();
        state
    }

    pub(super) fn machine(&self, who: usize) -> Option<&Machine<Place>> {
        self.seats[who].machine.as_ref()
    }

    pub(super) fn phase(&self, who: usize) -> Option<Phase> {
        self.machine(who).map(Machine::phase)
    }

    pub(super) fn place(&self, who: usize) -> Option<&Place> {
        self.machine(who).map(place)
    }

    pub(super) fn place_mut(&mut self, who: usize) -> Option<&mut Place> {
        self.seats[who].machine.as_mut().map(place_mut)
    }

    /// The operator starts an instance with `--upgrade`.
    pub(super) fn start(&mut self, who: usize, wants: Listeners, table: Table) {
        let Some(host) = self.outside.upgrade_path else { return };
        let channel = who - 1;
        let taker = Taker::new(&mut self.outside, channel, host);
        if let Some(desk) = self.place_mut(host).and_then(|place| place.desk.as_mut()) {
            desk.greeters.push(Giver::new(channel));
        }
        let booting = Instance::new(Place::new(who, wants, table));
        self.seats[who].machine = Some(Machine::Meeting(booting, taker));
        self.seats[who].started = true;
        self.outside.alive[who] = true;
    }

    /// SIGKILL.
    pub(super) fn crash(&mut self, who: usize) {
        let told = self.outside.queues.iter().any(|queue| queue.told[who]);
        let watched = (0..INSTANCES)
            .filter(|other| *other != who)
            .filter_map(|other| self.machine(other))
            .any(|machine| {
                givers(machine).any(|it| it.peer() == who) || taker(machine).is_some_and(|it| it.peer == who)
            });
        self.unheard |= told && !watched;
        self.end(who);
        self.crashed = true;
        self.settle();
        self.excused |= !self.is_in_good_hands();
    }

    fn end(&mut self, who: usize) {
        let seat = &mut self.seats[who];
        (seat.machine, seat.duty, seat.stalled) = (None, Duty::None, false);
        seat.adoption = Adoption::default();
        self.outside.alive[who] = false;
        self.outside.desks[who] = false;
    }

    /// One input of a conversation.
    pub(super) fn hear(&mut self, who: usize, with: With) {
        let Some(mut machine) = self.seats[who].machine.take() else { return };
        let outside = &mut self.outside;
        let happening = match with {
            With::Greeter(nth) => {
                place_mut(&mut machine).greet(outside, nth, u32::try_from(who).unwrap_or_default());
                None
            }
            With::Waiter => {
                place_mut(&mut machine).hear_waiter(outside, false);
                None
            }
            With::Successor => {
                successor_mut(&mut machine).and_then(|it| it.hear(outside)).and_then(successor_did)
            }
            With::Former(nth) => {
                let event = formers_mut(&mut machine).and_then(|all| all[nth].hear(outside));
                (event == Some(GiverEvent::Gone)).then_some(Happening::FormerGone(nth))
            }
            With::Incumbent => {
                let word = taker_mut(&mut machine).and_then(|it| it.hear(outside));
                word.and_then(|word| self.incumbent_did(who, &mut machine, word))
            }
        };
        self.seats[who].machine = Some(machine);
        self.follow(who, happening);
    }

    /// The time for a step of the other side's is over.
    pub(super) fn late(&mut self, who: usize, with: With) {
        let Some(mut machine) = self.seats[who].machine.take() else { return };
        let outside = &mut self.outside;
        let happening = match with {
            With::Successor => {
                successor_mut(&mut machine).and_then(|it| it.late(outside)).and_then(successor_did)
            }
            With::Incumbent => {
                let word = taker_mut(&mut machine).and_then(|it| it.late(outside));
                word.and_then(|word| self.incumbent_did(who, &mut machine, word))
            }
            With::Waiter => {
                place_mut(&mut machine).hear_waiter(outside, true);
                None
            }
            With::Greeter(_) | With::Former(_) => None,
        };
        self.seats[who].machine = Some(machine);
        self.follow(who, happening);
    }

    fn follow(&mut self, who: usize, happening: Option<Happening<Listeners>>) {
        match happening {
            Some(Happening::Commit) => self.seats[who].stalled = true,
            Some(happening) => self.turn(who, happening),
            None => {}
        }
        self.settle();
    }

    /// `Sources::hear`, and `poll_predecessor` once this instance serves.
    fn incumbent_did(
        &mut self,
        who: usize,
        machine: &mut Machine<Place>,
        word: TakerWord,
    ) -> Option<Happening<Listeners>> {
        let lost = || Some(Happening::Lost(Cause::new(Exit::TryAgain, "lost")));
        if let Machine::Serving(_) | Machine::Handing(_) | Machine::Committed(_) = machine {
            return Some(match word {
                TakerWord::StepDown(why) => Happening::StepDown(why),
                _ => Happening::PredecessorGone,
            });
        }
        match word {
            TakerWord::Welcomed(generation) => {
                if let Machine::Meeting(instance, _) = machine {
                    instance.follows(generation);
                }
                None
            }
            TakerWord::Inventory(ids) => match self.bind_all_but(who, place(machine).wants, &ids) {
                true => {
                    taker_mut(machine)?.bound(&mut self.outside);
                    Some(Happening::Welcomed)
                }
                false => lost(),
            },
            TakerWord::Offered(labels) => match self.inherit(who, place(machine).wants, &labels) {
                Some(unwanted) => {
                    let next = taker_mut(machine)?.adopted(&mut self.outside, unwanted)?;
                    self.incumbent_did(who, machine, next)
                }
                None => lost(),
            },
            TakerWord::Prepare => match self.listen(who, place(machine).wants) {
                Some(sockets) => Some(Happening::Adopted(sockets)),
                None => lost(),
            },
            TakerWord::Commit => Some(Happening::Commit),
            TakerWord::Died => Some(Happening::IncumbentDied(Cause::new(Exit::Unavailable, "died"))),
            TakerWord::Failed => lost(),
            TakerWord::StepDown(why) => Some(Happening::StepDown(why)),
            TakerWord::Drained => Some(Happening::PredecessorGone),
        }
    }

    /// `Adoption::bind_all_but`; says whether all addresses were to be had.
    fn bind_all_but(&mut self, who: usize, wants: Listeners, inherited: &[ListenerId]) -> bool {
        let fresh = ids(wants).into_iter().filter(|id| !inherited.contains(id));
        for listener in fresh.map(|id| number(&id)) {
            if self.outside.taken[listener] {
                return false;
            }
            self.seats[who].adoption.bound[listener] = true;
        }
        true
    }

    /// `Adoption::inherit`.
    fn inherit(&mut self, who: usize, wants: Listeners, batch: &[Label]) -> Option<Vec<ListenerId>> {
        let adoption = &mut self.seats[who].adoption;
        let mut unwanted = Vec::new();
        for label in batch {
            let listener = number(&label.id);
            if !wants[listener] {
                unwanted.push(label.id.clone());
            } else if adoption.bound[listener] || adoption.inherited[listener] {
                return None;
            } else {
                adoption.inherited[listener] = true;
            }
        }
        Some(unwanted)
    }

    /// `Adoption::listen`.
    fn listen(&mut self, who: usize, wants: Listeners) -> Option<Listeners> {
        let Adoption { bound, inherited } = std::mem::take(&mut self.seats[who].adoption);
        let all: Listeners = std::array::from_fn(|one| bound[one] || inherited[one]);
        (all == wants).then_some(all)
    }

    /// What was read before this instance was stopped.
    pub(super) fn proceed(&mut self, who: usize) {
        self.seats[who].stalled = false;
        self.turn(who, Happening::Commit);
        self.settle();
    }

    /// The machine's turn, as in `run`: the product's own.
    pub(super) fn turn(&mut self, who: usize, happening: Happening<Listeners>) {
        let Some(mut machine) = self.seats[who].machine.take() else { return };
        let kind = Kind::of(&happening);
        let before = machine.phase();
        let upgrade_path = self.outside.upgrade_path;
        let heirs = place(&machine).heirs;
        let succeeded = upgrade_path.is_some_and(|at| self.seats[at].duty == Duty::Service && !heirs[at]);
        place_mut(&mut machine).outside = std::mem::take(&mut self.outside);
        let mut machine = machine.turn(happening, &mut None, "");
        self.outside = std::mem::take(&mut place_mut(&mut machine).outside);
        let accepted = matches!(machine, Machine::Accepting(_));
        let committed = matches!(machine, Machine::Serving(_));
        self.seats[who].machine = Some(machine);
        let had = self.seats[who].duty;
        let ending = before == Phase::Committed { ending: true };
        self.seats[who].duty = match kind {
            Kind::Stop(_) | Kind::Lost | Kind::PatienceEnded => Duty::None,
            Kind::Adopted if accepted => Duty::Service,
            Kind::Commit | Kind::IncumbentDied if !committed => Duty::None,
            Kind::StepDown if matches!(before, Phase::Serving | Phase::Offered) => Duty::None,
            Kind::Failed if ending => Duty::None,
            Kind::Owned if ending || had == Duty::None => Duty::None,
            Kind::Owned => Duty::Guard,
            Kind::GuardOver if had == Duty::Guard => Duty::None,
            Kind::SuccessorDied if had == Duty::Guard && succeeded => Duty::None,
            Kind::SuccessorDied if had == Duty::Guard => Duty::Service,
            _ => had,
        };
        self.stopped |= matches!(kind, Kind::Stop(_));
        self.crashed |= kind == Kind::Stop(Signal::Interrupt);
        if self.phase(who) == Some(Phase::Exited) {
            self.end(who);
        }
        self.settle();
        match kind {
            // What cannot be done and is given up, when the one who would go on has ended too.
            Kind::Commit | Kind::IncumbentDied if !committed => {
                self.excused |= (self.crashed || self.stopped) && !self.is_in_good_hands()
            }
            Kind::Stop(signal) if had != Duty::None => {
                let left_open = signal == Signal::Terminate && matches!(before, Phase::Committed { .. });
                // What this instance says of its end may not have arrived where a connection is broken.
                self.excused |= left_open || self.broken || !self.is_in_good_hands();
            }
            // Whether the successor had taken over when this instance was asked to end is known now.
            Kind::Owned | Kind::PatienceEnded => self.excused &= !self.is_in_good_hands(),
            _ => {}
        }
    }

    /// Whether somebody serves, or will as soon as it finds out that it has to.
    pub(super) fn is_in_good_hands(&self) -> bool {
        (0..INSTANCES).any(|who| match (self.seats[who].duty, self.machine(who)) {
            (Duty::Service, Some(machine)) => {
                let refused = taker(machine).is_some_and(|it| it.is_refused(&self.outside));
                // It will hear that its successor served, and was asked to end.
                let released = successor(machine).is_some_and(|it| it.is_released(&self.outside));
                let cut_off = matches!(machine, Machine::Accepting(_))
                    && !self.seats[who].stalled
                    && taker(machine).is_some_and(|it| it.is_cut_off(&self.outside));
                !refused && !released && !cut_off
            }
            (Duty::Guard, Some(machine)) => {
                successor(machine).is_some_and(|it| it.will_hear_of_a_death(&self.outside))
            }
            _ => false,
        })
    }

    /// What follows at once from what was done: ends of connections, and sockets that nobody holds.
    pub(super) fn settle(&mut self) {
        let mut open = [[false; 2]; INSTANCES - 1];
        let (mut listening, mut taken) = (Listeners::default(), Listeners::default());
        for seat in &self.seats {
            let Some(machine) = &seat.machine else { continue };
            for giver in givers(machine) {
                open[giver.channel][End::Incumbent as usize] = true;
            }
            if let Some(taker) = taker(machine) {
                open[taker.channel][End::Successor as usize] = true;
            }
            for one in 0..LISTENERS {
                listening[one] |= place(machine).held[one] || seat.adoption.inherited[one];
                taken[one] |= seat.adoption.bound[one];
            }
        }
        for (channel, open) in self.outside.channels.iter_mut().zip(open) {
            let Some(channel) = channel else { continue };
            channel.open = open;
            channel.tidy();
            let carried = channel.carries();
            (0..LISTENERS).for_each(|one| listening[one] |= carried[one]);
        }
        self.outside.taken = std::array::from_fn(|one| taken[one] || listening[one]);
        self.outside.listening = listening;
        for (one, listened) in listening.into_iter().enumerate() {
            if !listened && self.outside.queues[one].waiting > 0 {
                self.dropped |= self.is_owed(one);
                self.outside.queues[one].waiting = 0;
            }
            for who in 0..INSTANCES {
                let accepts = self.place(who).is_some_and(|place| place.accepts(one));
                let queue = &mut self.outside.queues[one];
                queue.told[who] &= accepts && queue.waiting > 0;
            }
        }
    }

    /// Whether somebody owes it to clients that this listener is served.
    pub(super) fn is_owed(&self, listener: usize) -> bool {
        self.seats.iter().any(|seat| {
            let place = seat.machine.as_ref().map(place);
            seat.duty == Duty::Service
                && place.is_some_and(|place| place.wants[listener] && !place.missing[listener])
        })
    }
}

impl Kind {
    fn of<S>(happening: &Happening<S>) -> Self {
        match happening {
            Happening::Signal(signal @ (Signal::Terminate | Signal::Interrupt)) => Self::Stop(*signal),
            Happening::Adopted(_) => Self::Adopted,
            Happening::Commit => Self::Commit,
            Happening::Lost(_) => Self::Lost,
            Happening::IncumbentDied(_) => Self::IncumbentDied,
            Happening::StepDown(_) => Self::StepDown,
            Happening::Owned(_) => Self::Owned,
            Happening::Failed(_) => Self::Failed,
            Happening::SuccessorDied => Self::SuccessorDied,
            Happening::Released | Happening::GuardEnded => Self::GuardOver,
            Happening::PatienceEnded => Self::PatienceEnded,
            _ => Self::Other,
        }
    }
}

/// `poll_successor`.
fn successor_did(event: GiverEvent) -> Option<Happening<Listeners>> {
    Some(match event {
        GiverEvent::Ready => Happening::Ready,
        GiverEvent::Owned(unwanted) => Happening::Owned(unwanted),
        GiverEvent::Released => Happening::Released,
        GiverEvent::Failed(failure) => Happening::Failed(failure.to_string()),
        GiverEvent::Died => Happening::SuccessorDied,
        GiverEvent::MovesEnded => Happening::MovesEnded,
        GiverEvent::Greeted | GiverEvent::Waiting | GiverEvent::Gone | GiverEvent::Taken => return None,
    })
}
