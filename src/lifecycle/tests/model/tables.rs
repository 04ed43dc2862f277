//! The table of transitions that the product runs, and tables with one mistake each, which the model has to find.

use crate::lifecycle::{Action, Event, Illegal, Phase, step};

/// Which table an instance goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Table {
    /// The product's.
    Product,
    /// The incumbent stops accepting when it offers, before the successor is `Ready`.
    StopsAtOffer,
    /// The successor takes pidfile and upgrade socket when it is ready, before `Commit`.
    TakesFilesEarly,
    /// The incumbent does not take the files back from a successor that failed or died.
    RestoresNothing,
    /// The incumbent closes the listeners at `Owned`, so there is nothing to take back.
    ClosesAtOwned,
    /// A successor that accepts ends when the incumbent dies.
    EndsWithTheIncumbent,
    /// Who serves on alone does not look at connections that another was woken for.
    NeverLooksAgain,
}

impl Table {
    /// What follows from `event` in `phase`.
    ///
    /// # Errors
    /// As [`step`].
    pub(super) fn step(self, phase: Phase, event: Event) -> Result<(Phase, Vec<Action>), Illegal> {
        let (mut next, mut actions) = step(phase, event)?;
        match (self, phase, event) {
            (Self::StopsAtOffer, _, Event::Quit { waiter: true }) => actions.insert(0, Action::StopAccepting),
            (Self::TakesFilesEarly, _, Event::Adopted) => actions.insert(0, Action::TakeFiles),
            (Self::RestoresNothing, ..) => actions.retain(|action| *action != Action::RestoreFiles),
            (Self::ClosesAtOwned, Phase::Committed { .. }, Event::SuccessorOwned { .. }) => {
                next = Phase::Draining { guard: false };
                actions.push(Action::CloseListeners);
            }
            (Self::EndsWithTheIncumbent, Phase::Accepting, Event::IncumbentDied) => {
                next = Phase::Draining { guard: false };
                actions = vec![Action::StopAccepting, Action::CloseListeners, Action::Drain];
            }
            (
                Self::NeverLooksAgain,
                Phase::Serving | Phase::Offered | Phase::Accepting | Phase::Committed { .. },
                _,
            ) => {
                actions.retain(|action| *action != Action::ResumeAccepting);
            }
            _ => {}
        }
        Ok((next, actions))
    }
}
