//! The whole transition table, and properties of the twin over random events.

use proptest::prelude::*;

use crate::lifecycle::{Action, Event, Phase, step};

const EVENTS: [Event; 23] = [
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
    Event::SuccessorOwned,
    Event::SuccessorFailed,
    Event::SuccessorGone,
    Event::SuccessorReleased,
    Event::SuccessorDied,
    Event::GuardEnded,
    Event::Idle,
    Event::DrainEnded,
    Event::PatienceEnded,
    Event::Displaced,
];

/// One row for each phase, one letter for each event in the order above: where it leads, `=` for the phase itself,
/// `.` for illegal.
const TABLE: [(Phase, &str); 10] = [
    (Phase::Booting, "SWX.....==XX..........."),
    (Phase::Awaiting, "...A.XX.==XX..........."),
    (Phase::Accepting, "....SDS.==DX..........."),
    (Phase::Serving, ".......DO=DX...=......."),
    (Phase::Offered, ".......D==DXC.S=......."),
    (Phase::Committed { ending: false }, ".......E==EX.GS........"),
    (Phase::Committed { ending: true }, ".......====X.DD......D."),
    (Phase::Draining { guard: true }, "........==DX....DSDXX.X"),
    (Phase::Draining { guard: false }, "........===X....==.XX.X"),
    (Phase::Exited, "......................."),
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
            Action::Drain => self.draining = true,
            Action::Undrain => self.draining = false,
            _ => {}
        }
    }
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
