//! Worker threads: executor, reactor, timers, streams.
//!
//! A worker is one OS thread with everything it needs to itself: a local executor, an edge-triggered epoll
//! instance, a timer heap and a pool of buffers. Nothing of it is `Send`, so nothing of it is locked; what
//! other threads may do to a worker is wake its tasks, and that is enough for channels, the blocking pool and
//! `async-io` to be awaited from it.
//!
//! One *turn* of a worker: run the runnable tasks, wait in epoll (until the next timer, if nothing is
//! runnable), note what became ready, fire what expired. Under load that is one `epoll_wait` for a batch of
//! events, and no other system call that the application did not ask for.
//!
//! # Cancel safety
//!
//! Every future here may be dropped at any await point. A dropped [`Stream::read`] has taken no bytes; a
//! dropped [`Stream::write_all`] has sent an unknown part of them; a dropped [`Handle::connect`] closes its
//! socket; a dropped [`Acceptor::accept`] has accepted nothing.

mod accept;
mod buffers;
mod connect;
mod handle;
mod late;
mod reactor;
mod source;
mod splice;
mod stream;
mod tasks;
mod timers;
mod turn;
mod unpark;
mod worker;

#[cfg(test)]
mod tests;

pub use accept::{AcceptErrorKind, Accepted, Acceptor, accept_error_kind};
pub use async_executor::Task;
pub use buffers::{Buffer, Buffers, LARGE_BUFFER, SMALL_BUFFER};
pub use handle::Handle;
pub use splice::{SpliceError, Spliced};
pub use stream::{Stream, end};
pub use timers::{Expired, Timer, with_deadline};
pub use worker::{Panicked, Thread, block_on, spawn};
