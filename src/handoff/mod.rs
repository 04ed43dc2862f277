//! The hand-over: messages, the pure protocol machine of each side, the channel they talk over.
//!
//! [`Incumbent`] and [`Successor`] decide what may be said when; they do no I/O and know no clock. [`Giver`] and
//! [`Taker`] run them over a [`Channel`], and the [`Desk`] is where the instance in service receives waiters, those who
//! drain, and those who ask. The [`Reporter`] is a draining instance's side of that.

mod channel;
mod deadline;
mod desk;
mod failure;
mod fault;
mod giver;
mod incumbent;
mod inquiry;
mod message;
mod reporter;
mod successor;
mod taker;
mod upgrade_socket;

#[cfg(test)]
mod tests;

pub use channel::{Channel, ChannelError, Incoming};
pub use desk::{Bounds, Desk, DeskEvent, Identity};
pub use failure::Failure;
pub use fault::step as fault_step;
pub use giver::{Giver, GiverEvent, with_cause};
pub use incumbent::{Incumbent, Output as IncumbentOutput};
pub use inquiry::{Answer, Inquiry, InquiryError};
pub use message::{
    MAX_FRAME, MOVING_VERSION, Message, MessageError, PROTOCOL_VERSIONS, TICKETS_VERSION, WAITING_VERSION,
};
pub use reporter::Reporter;
pub use successor::{Output as SuccessorOutput, Successor};
pub use taker::{Taker, TakerEvent};
pub use upgrade_socket::{ConnectError, UpgradeSocket, connect, connect_to, is_in_service};

use std::time::Duration;

/// How long who has connected to an instance in service may take to introduce itself, and an instance that is asked for
/// its state to answer.
pub const GREETING_TIMEOUT: Duration = Duration::from_secs(5);
