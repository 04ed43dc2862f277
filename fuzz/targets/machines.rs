//! The pure machine of each side of a hand-over, given anything at any moment: whatever comes, each fails once at
//! most, says nothing once it is over, and keeps the promises that the other side relies on.

#![no_main]

use std::collections::BTreeSet;

use libfuzzer_sys::fuzz_target;
use river::base::{Address, ListenerId, Moved, MovedState};
use river::handoff::{Incumbent, IncumbentOutput, Message, Successor, SuccessorOutput};

fuzz_target!(|steps: &[u8]| {
    let mut incumbent = Watched::default();
    let mut successor = Watched::default();
    let mut giver = Incumbent::default();
    let (mut taker, _) = Successor::new(1, "fuzzed");
    for step in steps.chunks_exact(2) {
        let &[what, which] = step else { return };
        incumbent.saw_incumbent(&drive_incumbent(&mut giver, what, which));
        assert!(!incumbent.over || giver.limited().is_none(), "a machine that is over waits for something");
        successor.saw_successor(&drive_successor(&mut taker, what, which));
        assert!(!successor.over || taker.limited().is_none(), "a machine that is over waits for something");
        assert!(!successor.over || taker.is_over());
    }
});

fn drive_incumbent(machine: &mut Incumbent, what: u8, which: u8) -> Vec<IncumbentOutput> {
    match what {
        0 => machine.welcome(1, "fuzzed", 1, vec![vec![id(which)], vec![]]),
        1 => machine.offer(u32::from(which % 4)),
        2 => machine.commit(),
        3 => machine.drained(),
        4 => machine.probe(),
        5 => machine.refuse("no".into()),
        6 => machine.dismiss("the end".into()),
        7 => machine.closed(),
        8 => machine.unreadable("noise".into()),
        9 if machine.limited().is_some() => machine.deadline(),
        32 => machine.transfer(moved(which)),
        _ => machine.message(message(what, which)),
    }
}

fn drive_successor(machine: &mut Successor, what: u8, which: u8) -> Vec<SuccessorOutput> {
    match what {
        0 => machine.bound(),
        1 => machine.adopted(vec![id(which)]),
        2 => machine.ready(),
        3 => machine.owned(),
        4 => machine.released(),
        5 => machine.refuse("no".into()),
        7 => machine.closed(),
        8 => machine.unreadable("noise".into()),
        9 if machine.limited().is_some() => machine.deadline(),
        32 => machine.taken(which.into()),
        33 => machine.declined(which.into(), "full".into()),
        _ => machine.message(message(what, which)),
    }
}

fn message(what: u8, which: u8) -> Message {
    let why = || "why".to_owned();
    let [batch, of] = [which & 3, which >> 2 & 3].map(u32::from);
    let number = u64::from(which);
    match what {
        40 => return Message::Transfer { number, moved: moved(which) },
        41 => return Message::Taken { number },
        42 => return Message::Declined { number, why: why() },
        _ => {}
    }
    match what % 16 {
        0 => Message::Hello { versions: vec![u32::from(which), 1], pid: 1, build: why() },
        1 => Message::Hello { versions: vec![2, 1], pid: 1, build: why() },
        2 => Message::Welcome { version: u32::from(which & 3), pid: 1, build: why(), generation: u64::MAX },
        3 => Message::Inventory { ids: vec![id(which); usize::from(which & 3)], more: which & 1 == 1 },
        4 => Message::Waiting,
        5 => Message::Probe,
        6 => Message::Offer { batch, of, labels: Vec::new(), tickets: Vec::new() },
        7 => Message::Offer { batch: u32::MAX, of: u32::MAX, labels: Vec::new(), tickets: Vec::new() },
        8 => Message::Adopted { batch, unwanted: vec![id(which)] },
        9 => Message::Ready,
        10 => Message::Commit,
        11 => Message::Owned,
        12 => Message::Drained,
        13 => Message::Released,
        14 => Message::Ending { why: why() },
        _ => Message::Refuse { why: why() },
    }
}

fn id(nth: u8) -> ListenerId {
    ListenerId::ephemeral(&Address::Tcp(([127, 0, 0, 1], 0).into()), "web", nth.into())
}

fn moved(nth: u8) -> Moved {
    Moved { listener: id(nth), peer: None, requests: nth.into(), state: MovedState::Idle, spare: None }
}

/// What one side has said and done so far.
#[derive(Default)]
struct Watched {
    /// It was told that the other side is ready (incumbent), or that it may take over (successor).
    allowed: bool,
    /// The service has changed hands, as far as this side knows.
    passed: bool,
    over: bool,
    /// How many connections were passed on (incumbent) or have arrived (successor), and which have no answer yet.
    moves: u64,
    unanswered: BTreeSet<u64>,
}

impl Watched {
    /// A connection is passed on, or has arrived.
    fn moves(&mut self, number: u64) {
        assert!(self.passed, "a connection moves before the service has");
        assert_eq!(number, self.moves);
        self.moves += 1;
        self.unanswered.insert(number);
    }

    /// It is said of one where it is to be.
    fn answers(&mut self, number: u64) {
        assert!(self.unanswered.remove(&number), "an answer for {number}, which has none to get");
    }

    fn saw_incumbent(&mut self, outputs: &[IncumbentOutput]) {
        for output in outputs {
            assert!(!self.over, "{output:?} after the end");
            match output {
                IncumbentOutput::Ready => self.allowed = true,
                IncumbentOutput::Send(Message::Commit) => {
                    assert!(self.allowed, "a commit before it was ready")
                }
                IncumbentOutput::Send(message @ (Message::Refuse { .. } | Message::Ending { .. })) => {
                    assert!(!self.passed, "{} to an instance that serves", message.name());
                }
                IncumbentOutput::Send(Message::Transfer { number, .. }) => self.moves(*number),
                IncumbentOutput::Taken(number) | IncumbentOutput::Declined(number, _) => {
                    self.answers(*number)
                }
                IncumbentOutput::Stalled => assert!(!self.unanswered.is_empty()),
                IncumbentOutput::Owned(_) => {
                    assert!(self.allowed && !self.passed);
                    self.passed = true;
                }
                IncumbentOutput::Failed(_) | IncumbentOutput::Send(Message::Drained) => self.over = true,
                IncumbentOutput::Released => {
                    assert!(self.passed);
                    self.over = true;
                }
                _ => {}
            }
        }
    }

    fn saw_successor(&mut self, outputs: &[SuccessorOutput]) {
        for output in outputs {
            assert!(!self.over, "{output:?} after the end");
            match output {
                SuccessorOutput::Commit => self.allowed = true,
                SuccessorOutput::Send(Message::Owned) => {
                    assert!(self.allowed && !self.passed, "it took the service and was not let to");
                    self.passed = true;
                }
                SuccessorOutput::Arrived { number, .. } => self.moves(*number),
                SuccessorOutput::Send(Message::Taken { number } | Message::Declined { number, .. }) => {
                    self.answers(*number);
                }
                SuccessorOutput::Send(Message::Refuse { .. }) => {
                    assert!(!self.passed, "it refuses what it has")
                }
                SuccessorOutput::StepDown(_) => {
                    assert!(self.passed, "it stepped down from what it does not have");
                    self.over = true;
                }
                SuccessorOutput::Failed(_) | SuccessorOutput::Send(Message::Released) => self.over = true,
                SuccessorOutput::Drained => {
                    assert!(self.passed);
                    self.over = true;
                }
                _ => {}
            }
        }
    }
}
