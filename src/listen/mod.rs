//! Listeners, accept loops and the connections they made.
//!
//! A [`Fleet`] is all workers of the process. Every worker accepts from every listener; a connection goes to the
//! worker that has the fewest, so that an accept queue's habit of waking one worker first does not load it alone.
//!
//! # Connections that move
//!
//! A fleet that is told [`Leave::Move`] lets connections go to another instance: each leaves its worker as a
//! [`Departure`], counted until it is settled, and is either gone then or goes on where it was. At most [`WINDOW`] are on
//! their way. The other instance's fleet admits each ([`Fleet::admit`]), which checks and counts it, and serves the
//! [`Admission`] once the first one has been told. Nobody reads the sockets in between, so what the peers send waits in
//! the kernel, and what a worker had read of a tunnel is in the [`Moved`](crate::base::Moved) that goes along.

mod accept;
mod admission;
mod command;
mod departure;
mod entrance;
mod fleet;
mod load;
mod settings;
mod worker;

#[cfg(test)]
mod tests;

pub use admission::Admission;
pub use departure::{Departure, Settled, WINDOW};
pub use fleet::{Ending, Fleet};
pub use settings::{ListenerSpec, certificates};

pub use crate::proxy::Leave;
