//! Listeners, accept loops and the connections they made.
//!
//! A [`Fleet`] is all workers of the process. Every worker accepts from every listener; a connection goes to the
//! worker that has the fewest, so that an accept queue's habit of waking one worker first does not load it alone.

mod accept;
mod admission;
mod command;
mod departure;
mod entrance;
mod fleet;
mod load;
mod settings;
mod worker;

pub use admission::Admission;
pub use departure::{Departure, Settled, WINDOW};
pub use fleet::{Ending, Fleet};
pub use settings::ListenerSpec;

pub use crate::proxy::Leave;
