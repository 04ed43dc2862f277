//! Listeners, accept loops and the connections they made.
//!
//! A [`Fleet`] is all workers of the process. Every worker accepts from every listener; a connection goes to the
//! worker that has the fewest, so that an accept queue's habit of waking one worker first does not load it alone.

mod accept;
mod command;
mod entrance;
mod fleet;
mod load;
mod settings;
mod worker;

pub use fleet::Fleet;
pub use settings::ListenerSpec;
