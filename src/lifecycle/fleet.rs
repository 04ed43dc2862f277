//! The workers of the `listen` room as the lifecycle's data path.

use std::io;
use std::task::{Context, Poll};

use super::DataPath;
use crate::base::ListenerId;
use crate::listen::{Ending, Fleet, Leave};
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

    fn drain(&mut self) {
        self.leave(Leave::Close);
    }

    fn undrain(&mut self) {
        self.leave(Leave::Stay);
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

    fn close_all(&mut self) -> usize {
        self.close_connections(Ending::All)
    }

    fn stop(mut self) -> Result<(), String> {
        Self::stop(&mut self)
    }
}
