//! Two instances, a connection that may lose messages, and crashes: the service is never without an instance.

use std::collections::{BTreeSet, VecDeque};

use proptest::prelude::*;

use super::fakes::{FakePeer, FakeWorld, SharedFile};
use crate::base::{Address, ListenerId, Moved, MovedState};
use crate::handoff::{Incumbent, IncumbentOutput, Message, Successor, SuccessorOutput};
use crate::lifecycle::machine::{Happening, Machine};
use crate::lifecycle::{Cause, Exit, Instance, Phase};
use crate::system::Signal;

/// What may happen next.
#[derive(Clone, Copy, Debug)]
enum Move {
    DeliverToNew,
    DeliverToOld,
    LoseToNew,
    LoseToOld,
    LateAtOld,
    LateAtNew,
    CrashOld,
    CrashNew,
    Quit,
    EndGuard,
    TerminateOld,
    EndPatience,
    /// A connection of the incumbent's falls idle.
    Transfer,
    /// A successor that serves says something that has no place there.
    Stray(usize),
}

/// How many connections the incumbent has.
const CONNECTIONS: usize = 6;

/// Where a connection of the incumbent's is, as that knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// It serves it.
    Here,
    /// It was passed on under this number and is not answered.
    Away(u64),
    /// The successor has it.
    Gone,
}

/// The incumbent (`old`) and the instance that waits (`new`), past their greetings.
#[derive(Debug)]
struct Pair {
    old: Option<Machine<FakeWorld>>,
    new: Option<Machine<FakeWorld>>,
    giver: Incumbent,
    taker: Successor,
    old_end: FakePeer,
    new_end: FakePeer,
    to_old: VecDeque<Message>,
    to_new: VecDeque<Message>,
    old_saw_end: bool,
    new_saw_end: bool,
    file: SharedFile,
    cause: Option<Cause>,
    connections: [At; CONNECTIONS],
    /// Those that the successor serves.
    served: BTreeSet<usize>,
    /// The incumbent hears no more of the successor, which notices when it sends.
    hung_up: bool,
}

impl Pair {
    fn new() -> Self {
        let file = SharedFile::default();
        let (old_end, new_end) = (FakePeer::default(), FakePeer::default());
        let mut world = FakeWorld::new(0, file.clone());
        world.waiters.push_back(old_end.clone());
        let old = Machine::Serving(Instance::new(world).cold_start(()).unwrap());
        let new =
            Machine::Awaiting(Instance::new(FakeWorld::new(1, file.clone())).await_handoff(new_end.clone()));
        let (mut taker, hello) = Successor::new(2, "new");
        let mut giver = Incumbent::default();
        assert_eq!(giver.message(hello), [IncumbentOutput::Greeted]);
        for output in giver.welcome(1, "old", 1, vec![vec![]]) {
            let IncumbentOutput::Send(message) = output else { panic!("not a message") };
            taker.message(message);
        }
        assert_eq!(taker.bound(), [SuccessorOutput::Send(Message::Waiting)]);
        assert_eq!(giver.message(Message::Waiting), [IncumbentOutput::Waiting]);
        Self {
            old: Some(old),
            new: Some(new),
            giver,
            taker,
            old_end,
            new_end,
            to_old: VecDeque::new(),
            to_new: VecDeque::new(),
            old_saw_end: false,
            new_saw_end: false,
            file,
            cause: None,
            connections: [At::Here; CONNECTIONS],
            served: BTreeSet::new(),
            hung_up: false,
        }
    }

    fn make(&mut self, step: Move) {
        match step {
            Move::DeliverToNew => self.deliver_to_new(),
            Move::DeliverToOld => self.deliver_to_old(),
            Move::LoseToNew => drop(self.to_new.pop_front()),
            Move::LoseToOld => drop(self.to_old.pop_front()),
            Move::LateAtOld if self.old.is_some() && self.giver.limited().is_some() => {
                let outputs = self.giver.deadline();
                self.old_hears(outputs);
            }
            Move::LateAtNew if self.new.is_some() && self.taker.limited().is_some() => {
                let outputs = self.taker.deadline();
                self.new_hears(outputs);
            }
            Move::LateAtOld | Move::LateAtNew => {}
            Move::CrashOld => self.old = None,
            Move::CrashNew => self.new = None,
            Move::Quit => self.turn_old(Happening::Signal(Signal::Quit)),
            Move::EndGuard => self.turn_old(Happening::GuardEnded),
            Move::Stray(pick) if self.new.is_some() && self.taker.is_owner() => {
                let strays = [Message::Ready, Message::Owned, Message::Refuse { why: "a stray".into() }];
                self.to_old.extend(strays.get(pick % strays.len()).cloned());
            }
            Move::Stray(_) => {}
            Move::Transfer => self.transfer(),
            Move::EndPatience => self.turn_old(Happening::PatienceEnded),
            Move::TerminateOld => self.turn_old(Happening::Signal(Signal::Terminate)),
        }
    }

    /// Passes a connection on, as the office does while the incumbent drains and has a successor.
    fn transfer(&mut self) {
        let draining = matches!(self.phases().0, Some(Phase::Draining { .. }));
        let idle = self.connections.iter().position(|at| *at == At::Here);
        let Some(nth) = idle.filter(|_| draining && !self.old_end.is_dropped() && !self.hung_up) else {
            return;
        };
        let listener = ListenerId::fixed(&Address::Unix("/web.sock".into()));
        let moved =
            Moved { listener, peer: None, requests: nth as u64, state: MovedState::Idle, spare: None };
        for output in self.giver.transfer(moved) {
            if let IncumbentOutput::Send(Message::Transfer { number, .. }) = &output {
                self.connections[nth] = At::Away(*number);
            }
            self.old_hears(vec![output]);
        }
    }

    /// A connection arrives at the successor, which takes it if the incumbent hears so.
    fn arrive(&mut self, number: u64, nth: usize) {
        let outputs = if number % 3 == 2 {
            self.taker.declined(number, "a test".into())
        } else {
            let heard = self.old.is_some() && !self.old_end.is_dropped() && !self.hung_up;
            let outputs = self.taker.taken(number);
            if !heard {
                return;
            }
            self.served.insert(nth);
            outputs
        };
        self.new_hears(outputs);
    }

    /// The incumbent reads what the successor has said, and nothing more; what it has not taken stays.
    fn hang_up(&mut self) {
        self.hung_up = true;
        for message in std::mem::take(&mut self.to_old) {
            let outputs = self.giver.message(message);
            for output in outputs {
                if let IncumbentOutput::Taken(number) = output {
                    self.settle_one(number, At::Gone);
                }
            }
        }
        self.stay();
    }

    fn stay(&mut self) {
        for at in &mut self.connections {
            if matches!(at, At::Away(_)) {
                *at = At::Here;
            }
        }
    }

    fn settle_one(&mut self, number: u64, settled: At) {
        let one = self.connections.iter_mut().find(|at| **at == At::Away(number));
        *one.expect("it was not passed on") = settled;
    }

    /// The connections that both instances serve, and those that neither does though both are well.
    fn wrong(&self) -> Vec<usize> {
        let new = self.new.is_some();
        (0..CONNECTIONS)
            .filter(|nth| {
                let served = new && self.served.contains(nth);
                match self.connections[*nth] {
                    At::Here => served,
                    At::Away(_) => false,
                    At::Gone => new && !served,
                }
            })
            .collect()
    }

    fn deliver_to_new(&mut self) {
        if self.new.is_none() {
            return;
        }
        if let Some(message) = self.to_new.pop_front() {
            let outputs = self.taker.message(message);
            self.new_hears(outputs);
        } else if (self.old.is_none() || self.old_end.is_dropped()) && !self.new_saw_end {
            self.new_saw_end = true;
            let (over, owner) = (self.taker.is_over(), self.taker.is_owner());
            let _ = self.taker.closed();
            let cause = Cause::new(Exit::TryAgain, "closed");
            match (over, owner, self.old.is_none()) {
                (true, ..) => {}
                (_, true, _) => self.turn_new(Happening::PredecessorGone),
                (_, _, true) => self.turn_new(Happening::IncumbentDied(cause)),
                _ => self.turn_new(Happening::Lost(cause)),
            }
        }
    }

    fn deliver_to_old(&mut self) {
        if self.old.is_none() {
            return;
        }
        if let Some(message) = self.to_old.pop_front() {
            let outputs = self.giver.message(message);
            self.old_hears(outputs);
        } else if (self.new.is_none() || self.new_end.is_dropped()) && !self.old_saw_end {
            if self.giver.is_passed() {
                // Only the end of the process counts then.
                if self.new.is_none() {
                    self.old_saw_end = true;
                    self.hang_up();
                    let _ = self.giver.closed();
                    self.turn_old(Happening::SuccessorDied);
                }
                return;
            }
            self.old_saw_end = true;
            if let Some(Machine::Serving(instance)) = &mut self.old
                && instance.core.world.waiters.pop_front().is_some()
            {
                // It had not been taken from the desk yet.
                return;
            }
            let outputs = self.giver.closed();
            if outputs.is_empty() {
                self.turn_old(Happening::FormerGone(0));
            }
            self.old_hears(outputs);
        }
    }

    fn turn_old(&mut self, happening: Happening<()>) {
        let Some(machine) = self.old.take() else { return };
        self.old = Some(machine.turn(happening, &mut self.cause, "nobody waits"));
        for word in self.old_end.take() {
            let mut outputs = match word {
                Message::Offer { .. } => self.giver.offer(2),
                Message::Commit => self.giver.commit(),
                Message::Ending { why } => self.giver.dismiss(why),
                Message::Drained => self.giver.drained(),
                other => panic!("{other:?}"),
            };
            outputs.retain(|output| !matches!(output, IncumbentOutput::Failed(_)));
            self.old_hears(outputs);
        }
        // It lets go of the conversation.
        if self.giver.outstanding() > 0 && self.old_end.is_dropped() && !self.hung_up {
            self.hang_up();
        }
    }

    fn turn_new(&mut self, happening: Happening<()>) {
        let Some(machine) = self.new.take() else { return };
        self.new = Some(machine.turn(happening, &mut self.cause, "nobody waits"));
        for word in self.new_end.take() {
            let mut outputs = match word {
                Message::Ready => self.taker.ready(),
                Message::Owned => self.taker.owned(),
                Message::Refuse { why } => self.taker.refuse(why),
                Message::Released => self.taker.released(),
                other => panic!("{other:?}"),
            };
            outputs.retain(|output| !matches!(output, SuccessorOutput::Failed(_)));
            self.new_hears(outputs);
        }
    }

    fn old_hears(&mut self, outputs: Vec<IncumbentOutput>) {
        for output in outputs {
            match output {
                IncumbentOutput::Send(message) => self.to_new.push_back(message),
                IncumbentOutput::SendBatch(batch) => {
                    self.to_new.push_back(Message::Offer {
                        batch,
                        of: 2,
                        labels: Vec::new(),
                        tickets: vec![],
                    });
                }
                IncumbentOutput::Greeted | IncumbentOutput::Waiting => panic!("greeted twice"),
                IncumbentOutput::Ready => self.turn_old(Happening::Ready),
                IncumbentOutput::Owned(unwanted) => self.turn_old(Happening::Owned(unwanted)),
                IncumbentOutput::Ignored(_) => {}
                IncumbentOutput::Released => {
                    self.stay();
                    self.turn_old(Happening::Released);
                }
                IncumbentOutput::Taken(number) => self.settle_one(number, At::Gone),
                IncumbentOutput::Declined(number, _) => self.settle_one(number, At::Here),
                IncumbentOutput::Stalled => {
                    self.hang_up();
                    self.turn_old(Happening::MovesEnded);
                }
                IncumbentOutput::Failed(failure) => self.turn_old(Happening::Failed(failure.to_string())),
            }
        }
    }

    fn new_hears(&mut self, outputs: Vec<SuccessorOutput>) {
        for output in outputs {
            match output {
                SuccessorOutput::Send(_) if self.hung_up => {}
                SuccessorOutput::Send(message) => self.to_old.push_back(message),
                SuccessorOutput::Arrived { number, moved } => self.arrive(number, moved.requests as usize),
                SuccessorOutput::Welcomed { .. } | SuccessorOutput::Inventory(_) => panic!("welcomed twice"),
                SuccessorOutput::Check(_) => {
                    let outputs = self.taker.adopted(Vec::new());
                    self.new_hears(outputs);
                }
                SuccessorOutput::Prepare => self.turn_new(Happening::Adopted(())),
                SuccessorOutput::Commit => self.turn_new(Happening::Commit),
                SuccessorOutput::Drained => self.turn_new(Happening::PredecessorGone),
                SuccessorOutput::StepDown(why) => self.turn_new(Happening::StepDown(why)),
                SuccessorOutput::Failed(failure) => {
                    self.turn_new(Happening::Lost(Cause::new(Exit::TryAgain, failure.to_string())));
                }
            }
        }
    }

    /// Lets everything that is under way arrive, and every deadline pass, until nothing changes.
    fn settle(&mut self) {
        for _ in 0..20 {
            for _ in 0..8 {
                self.make(Move::DeliverToNew);
                self.make(Move::DeliverToOld);
            }
            self.make(Move::LateAtOld);
            self.make(Move::LateAtNew);
        }
    }

    fn phases(&self) -> (Option<Phase>, Option<Phase>) {
        (self.old.as_ref().map(Machine::phase), self.new.as_ref().map(Machine::phase))
    }

    /// How many instances accept connections.
    fn accepting(&self) -> usize {
        [&self.old, &self.new].into_iter().flatten().filter(|machine| world(machine).accepting).count()
    }
}

fn world(machine: &Machine<FakeWorld>) -> &FakeWorld {
    match machine {
        Machine::Meeting(instance, _) => instance.world(),
        Machine::Awaiting(instance) => instance.world(),
        Machine::Accepting(instance) => instance.world(),
        Machine::Serving(instance) => instance.world(),
        Machine::Handing(instance) => instance.world(),
        Machine::Committed(instance) => instance.world(),
        Machine::Draining(instance) => instance.world(),
        Machine::Exited(instance) => instance.world(),
    }
}

fn a_move() -> impl Strategy<Value = Move> {
    prop_oneof![
        8 => Just(Move::DeliverToNew),
        8 => Just(Move::DeliverToOld),
        1 => Just(Move::LateAtOld),
        1 => Just(Move::LateAtNew),
        2 => Just(Move::Quit),
        4 => Just(Move::Transfer),
        1 => (0_usize..3).prop_map(Move::Stray),
    ]
}

fn prelude() -> impl Strategy<Value = Vec<Move>> {
    proptest::collection::vec(a_move(), 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Delays only: at every moment somebody accepts, and in the end exactly one instance is in service.
    #[test]
    fn delays_lose_nothing(moves in prelude()) {
        let mut pair = Pair::new();
        for step in moves {
            pair.make(step);
            prop_assert!(pair.accepting() > 0, "nobody accepts after {:?}", step);
            prop_assert!(pair.wrong().is_empty(), "{:?} after {:?}", pair, step);
        }
        pair.settle();
        prop_assert!(pair.wrong().is_empty(), "{:?}", pair);
        prop_assert!(pair.connections.iter().all(|at| !matches!(at, At::Away(_))), "{:?}", pair);
        let (old, new) = pair.phases();
        let serving = [old, new].iter().filter(|phase| **phase == Some(Phase::Serving)).count();
        prop_assert_eq!(serving, 1, "{:?} {:?}", old, new);
        let named = *pair.file.lock().unwrap();
        prop_assert_eq!(named, Some(usize::from(new == Some(Phase::Serving))));
    }

    /// The successor crashes at any moment before the guard's end: the incumbent serves.
    #[test]
    fn a_crash_of_the_successor_loses_nothing(before in prelude(), after in prelude()) {
        let mut pair = Pair::new();
        before.into_iter().for_each(|step| pair.make(step));
        pair.make(Move::CrashNew);
        after.into_iter().for_each(|step| pair.make(step));
        pair.settle();
        // What it had not taken lives on.
        let lost = |nth: &usize| pair.connections[*nth] != At::Here && !pair.served.contains(nth);
        prop_assert_eq!((0..CONNECTIONS).find(lost), None, "{:?}", pair);
        prop_assert_eq!(pair.phases().0, Some(Phase::Serving));
        prop_assert_eq!(*pair.file.lock().unwrap(), Some(0));
    }

    /// The incumbent crashes: a successor that accepts by then takes over, one that waits ends.
    #[test]
    fn a_crash_of_the_incumbent_leaves_a_successor_that_accepts_in_service(before in prelude()) {
        let mut pair = Pair::new();
        before.into_iter().for_each(|step| pair.make(step));
        let phase = pair.phases().1;
        let refused = pair.to_new.iter().any(|message| {
            matches!(message, Message::Refuse { .. } | Message::Ending { .. })
        });
        pair.make(Move::CrashOld);
        (0..8).for_each(|_| pair.make(Move::DeliverToNew));
        if phase.is_some_and(Phase::accepts) && !refused {
            prop_assert_eq!(pair.phases().1, Some(Phase::Serving));
            prop_assert_eq!(*pair.file.lock().unwrap(), Some(1));
        }
    }

    /// Messages vanish, which a Unix socket never does: two may then serve, but never none.
    #[test]
    fn lost_messages_err_to_two(moves in proptest::collection::vec(prop_oneof![
        8 => a_move(), 1 => Just(Move::LoseToNew), 1 => Just(Move::LoseToOld),
    ], 0..60)) {
        let mut pair = Pair::new();
        for step in moves {
            pair.make(step);
            prop_assert!(pair.accepting() > 0, "nobody accepts after {:?}", step);
        }
        pair.settle();
        prop_assert!(pair.accepting() > 0);
    }

    /// SIGTERM to the incumbent at any moment: it ends up draining, and a file names an instance in service or
    /// nobody new.
    #[test]
    fn a_terminate_is_obeyed_at_any_moment(
        before in prelude(), meanwhile in prelude(), after in prelude(), guard in any::<bool>(),
    ) {
        let mut pair = Pair::new();
        before.into_iter().for_each(|step| pair.make(step));
        pair.make(Move::TerminateOld);
        for step in meanwhile {
            pair.make(step);
            prop_assert!(pair.wrong().is_empty(), "{:?} after {:?}", pair, step);
        }
        let (old, new) = pair.phases();
        let left = matches!(old, Some(Phase::Committed { .. })) && new == Some(Phase::Accepting);
        pair.make(Move::EndPatience);
        let drains = matches!(pair.phases().0, Some(Phase::Draining { .. }));
        prop_assert!(drains, "{:?}", pair.phases());
        if left {
            (0..8).for_each(|_| pair.make(Move::DeliverToNew));
        }
        after.into_iter().for_each(|step| pair.make(step));
        if guard {
            pair.make(Move::EndGuard);
        }
        pair.settle();
        prop_assert_eq!(pair.phases().0, Some(Phase::Draining { guard: false }));
        // What was left to the successor is taken by it.
        prop_assert!(!left || pair.phases().1 == Some(Phase::Serving), "{:?}", pair.phases());
        if pair.phases().1 == Some(Phase::Serving) {
            prop_assert_eq!(*pair.file.lock().unwrap(), Some(1));
        }
    }
}

#[test]
fn the_plain_hand_over_passes_the_service() {
    let mut pair = Pair::new();
    pair.make(Move::Quit);
    pair.settle();
    assert_eq!(pair.phases(), (Some(Phase::Draining { guard: true }), Some(Phase::Serving)));
    assert_eq!(*pair.file.lock().unwrap(), Some(1));
}
