//! The workers of the `listen` room as the lifecycle's data path.

use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll};

use super::{Admitted, DataPath};
use crate::base::{ListenerId, Moved};
use crate::listen::{Departure, Ending, Fleet, Leave};
use crate::system::Listening;

impl DataPath for Fleet {
    fn start(&mut self, listeners: Vec<Listening>) -> io::Result<()> {
        Self::start(self, listeners)
    }

    fn stop_accepting(&mut self, unwanted: &[ListenerId]) {
        Self::stop_accepting(self, unwanted);
    }

    fn add(&mut self, listeners: Vec<Listening>) -> io::Result<()> {
        Self::add(self, listeners)
    }

    fn resume_accepting(&mut self) {
        Self::resume_accepting(self);
    }

    fn close_listeners(&mut self) {
        Self::close_listeners(self);
    }

    fn leave(&mut self, how: Leave) {
        Self::leave(self, how);
    }

    fn poll_departure(&mut self, cx: &mut Context<'_>) -> Poll<Departure> {
        Self::poll_departure(self, cx)
    }

    fn admit(&mut self, moved: Moved, fds: Vec<OwnedFd>) -> Result<Admitted, String> {
        let admission = Self::admit(self, moved, fds)?;
        Ok(Box::new(|| admission.serve()))
    }

    fn begun(&self) -> u64 {
        Self::begun(self)
    }

    fn tunnels(&self) -> usize {
        Self::tunnels(self)
    }

    fn connections(&self) -> usize {
        Self::connections(self)
    }

    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        Self::poll_idle(self, cx)
    }

    fn pulse(&self) -> bool {
        Self::pulse(self)
    }

    fn close_connections(&mut self, what: Ending) -> usize {
        Self::close_connections(self, what)
    }

    fn stop(mut self) -> Result<(), String> {
        Self::stop(&mut self)
    }
}
