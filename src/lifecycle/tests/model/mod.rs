//! The hand-over, model-checked: every order of events of two and three instances within bounds.
//!
//! What is checked is the product's: [`Machine`] with its table, [`Incumbent`](crate::handoff::Incumbent) and
//! [`Successor`](crate::handoff::Successor). What stands around them is restated without an operating system, each part
//! beside what it restates: `place` for `Office`, `Desk` and the workers, `peers` for `Giver` and `Taker`, `state` for
//! `Adoption` and `Sources::hear`, and `moves` for `Sources::poll`.
//!
//! A state holds everything, so it can be cloned and compared. Delays are orders: an instance that is stopped is one
//! whose turn does not come. Within one turn an instance is not stopped, but for the moment between reading `Commit` and
//! taking the files, where it matters most.

mod moves;
mod outside;
mod peers;
mod place;
mod properties;
mod runs;
mod state;
mod tables;
mod within;

use stateright::{Model, Property};

use self::moves::Move;
use self::outside::{INSTANCES, Listeners};
use self::state::{Budget, State};
use self::tables::Table;

/// What is explored.
#[derive(Clone, Debug)]
struct Handover {
    /// The listeners in the configuration of each instance.
    wants: [Listeners; INSTANCES],
    table: Table,
    budget: Budget,
}

impl Model for Handover {
    type State = State;
    type Action = Move;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(self.wants, self.table, self.budget)]
    }

    fn actions(&self, state: &State, moves: &mut Vec<Move>) {
        moves::all(state, moves);
    }

    fn next_state(&self, state: &State, action: Move) -> Option<State> {
        let mut next = state.clone();
        action.make(self, &mut next);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}
