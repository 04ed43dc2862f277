//! The whole transition table, and properties of the twin over random events.

use proptest::prelude::*;

use crate::lifecycle::{Action, Event, Phase, step};
use crate::listen::Ending;

const EVENTS: [Event; 28] = [
    Event::ColdStart,
    Event::Upgrade,
    Event::BootFailed,
    Event::Adopted,
    Event::Commit,
    Event::Lost,
    Event::IncumbentDied,
    Event::StepDown,
    Event::Quit { waiter: true },
    Event::Quit { waiter: false },
    Event::Terminate,
    Event::Interrupt,
    Event::SuccessorReady,
    Event::SuccessorOwned { guard: true },
    Event::SuccessorOwned { guard: false },
    Event::SuccessorFailed,
    Event::SuccessorGone,
    Event::SuccessorReleased,
    Event::SuccessorDied,
    Event::MovesEnded,
    Event::GuardEnded,
    Event::Idle,
    Event::DrainEnded(Ending::Requests),
    Event::DrainEnded(Ending::Tunnels),
    Event::DrainEnded(Ending::All),
    Event::PatienceEnded,
    Event::Displaced,
    Event::PredecessorGone,
];

/// One row for each phase, one letter for each event in the order above: where it leads, `=` for the phase itself,
/// `.` for illegal.
const TABLE: [(Phase, &str); 10] = [
    (Phase::Booting, "SWX.....==XX................"),
    (Phase::Awaiting, "...A.XX.==XX................"),
    (Phase::Accepting, "....SDS.==DX................"),
    (Phase::Serving, ".......DO=DX....=..........="),
    (Phase::Offered, ".......D==DXC..S=..........="),
    (Phase::Committed { ending: false }, ".......E==EX.GDS=..........="),
    (Phase::Committed { ending: true }, ".......====X.DDD=........D.="),
    (Phase::Draining { guard: true }, "........==DX.....DS=D====.X."),
    (Phase::Draining { guard: false }, "........===X.....===.X==X.X."),
    (Phase::Exited, "............................"),
];

fn letter(phase: Phase) -> char {
    match phase {
        Phase::Booting => 'B',
        Phase::Awaiting => 'W',
        Phase::Accepting => 'A',
        Phase::Serving => 'S',
        Phase::Offered => 'O',
        Phase::Committed { ending: false } => 'C',
        Phase::Committed { ending: true } => 'E',
        Phase::Draining { guard: true } => 'G',
        Phase::Draining { guard: false } => 'D',
        Phase::Exited => 'X',
    }
}

#[test]
fn every_event_in_every_phase_leads_where_the_table_says() {
    for (phase, row) in TABLE {
        assert_eq!(row.len(), EVENTS.len(), "{phase:?}");
        for (event, expected) in EVENTS.into_iter().zip(row.chars()) {
            let actual = match step(phase, event) {
                Ok((next, _)) if next == phase => '=',
                Ok((next, _)) => letter(next),
                Err(illegal) => {
                    assert_eq!((illegal.phase, illegal.event), (phase, event));
                    '.'
                }
            };
            assert_eq!(actual, expected, "{event:?} in {phase:?}");
        }
    }
}

/// With `EPOLLEXCLUSIVE` a connection wakes one worker of those that accept, whichever process that is in. If it ends, or
/// is stopped and then ends, somebody else has to look.
#[test]
fn whoever_accepted_beside_another_that_ends_looks_at_the_queues() {
    let committed = [false, true].map(|ending| Phase::Committed { ending });
    let beside = [Phase::Serving, Phase::Offered, committed[0], committed[1]];
    let ends = [Event::PredecessorGone, Event::SuccessorGone];
    let mut cases: Vec<_> = beside.iter().flat_map(|phase| ends.map(|end| (*phase, end))).collect();
    cases.push((Phase::Accepting, Event::IncumbentDied));
    cases.push((Phase::Offered, Event::SuccessorFailed));
    for (phase, event) in cases {
        let (next, actions) = step(phase, event).unwrap();
        assert!(next.accepts() && actions.contains(&Action::ResumeAccepting), "{event:?} in {phase:?}");
    }
}

#[test]
fn the_table_has_every_phase() {
    assert_eq!(TABLE.map(|(phase, _)| phase), Phase::ALL);
}

#[test]
fn every_phase_but_the_last_takes_every_signal() {
    for phase in Phase::ALL.into_iter().filter(|phase| *phase != Phase::Exited) {
        for signal in
            [Event::Quit { waiter: true }, Event::Quit { waiter: false }, Event::Terminate, Event::Interrupt]
        {
            assert!(step(phase, signal).is_ok(), "{signal:?} in {phase:?}");
        }
        // SIGINT ends everything at once.
        assert_eq!(step(phase, Event::Interrupt).unwrap().0, Phase::Exited);
    }
}

/// What the actions of a life have made of the world.
#[derive(Default)]
struct Effects {
    accepting: bool,
    holding: bool,
    files: bool,
    draining: bool,
}

impl Effects {
    fn apply(&mut self, action: Action) {
        match action {
            Action::HoldListeners => self.holding = true,
            Action::StartWorkers => {
                assert!(self.holding, "there is nothing to accept on");
                self.accepting = true;
            }
            Action::StopAccepting => self.accepting = false,
            Action::ResumeAccepting => {
                assert!(self.holding, "what is closed cannot be accepted on");
                self.accepting = true;
            }
            Action::CloseListeners => (self.accepting, self.holding) = (false, false),
            Action::TakeFiles | Action::RestoreFiles => self.files = true,
            Action::ForgetFiles | Action::YieldFiles | Action::RemoveFiles => self.files = false,
            Action::Drain | Action::MoveOut => self.draining = true,
            Action::Undrain => self.draining = false,
            _ => {}
        }
    }
}

#[test]
fn connections_move_only_to_a_successor_that_serves_and_stop_when_it_does_not() {
    for phase in Phase::ALL {
        for event in EVENTS {
            let Ok((next, actions)) = step(phase, event) else { continue };
            let moves = actions.contains(&Action::MoveOut);
            assert_eq!(moves, matches!(event, Event::SuccessorOwned { .. }), "{event:?} in {phase:?}");
            let draining = |phase| matches!(phase, Phase::Draining { .. });
            if draining(phase) && draining(next) {
                let ends =
                    matches!(event, Event::SuccessorReleased | Event::SuccessorDied | Event::MovesEnded);
                assert_eq!(actions.contains(&Action::Drain), ends, "{event:?} in {phase:?}");
            }
        }
    }
}

#[test]
fn without_a_guard_the_listeners_are_closed_at_once() {
    let phase = Phase::Committed { ending: false };
    let (next, actions) = step(phase, Event::SuccessorOwned { guard: false }).unwrap();
    assert_eq!(next, Phase::Draining { guard: false });
    assert!(actions.contains(&Action::CloseListeners));
}

proptest! {
    #[test]
    fn whatever_happens_the_effects_fit_the_phase(picks in proptest::collection::vec(0..EVENTS.len(), 0..60)) {
        let mut phase = Phase::Booting;
        let mut effects = Effects::default();
        for event in picks.into_iter().map(|at| EVENTS[at]) {
            let Ok((next, actions)) = step(phase, event) else { continue };
            actions.into_iter().for_each(|action| effects.apply(action));
            phase = next;
            prop_assert_eq!(effects.accepting, phase.accepts(), "{:?} after {:?}", phase, event);
            prop_assert_eq!(effects.draining, matches!(phase, Phase::Draining { .. }) || effects.draining && phase == Phase::Exited);
            match phase {
                Phase::Serving | Phase::Offered | Phase::Committed { .. } => prop_assert!(effects.files && effects.holding),
                Phase::Booting | Phase::Awaiting | Phase::Accepting => prop_assert!(!effects.files),
                Phase::Draining { guard } => prop_assert_eq!(effects.holding, guard),
                Phase::Exited => prop_assert!(!effects.files && !effects.holding),
            }
        }
    }
}
