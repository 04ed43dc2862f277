//! Worlds and data paths that only remember what was asked of them.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use crate::base::ListenerId;
use crate::handoff::Message;
use crate::lifecycle::{Cause, DataPath, Exit, World};
use crate::system::Listening;

/// A data path whose state the test sees and changes.
#[derive(Clone, Debug, Default)]
pub(super) struct FakePath(Arc<Mutex<PathState>>);

#[derive(Debug, Default)]
pub(super) struct PathState {
    pub(super) listeners: Vec<Listening>,
    pub(super) unwanted: Vec<ListenerId>,
    pub(super) accepting: bool,
    pub(super) draining: bool,
    pub(super) stopped: bool,
    pub(super) connections: usize,
    pub(super) closed: usize,
    waker: Option<Waker>,
}

impl FakePath {
    pub(super) fn state(&self) -> MutexGuard<'_, PathState> {
        self.0.lock().unwrap()
    }

    pub(super) fn set_connections(&self, connections: usize) {
        let mut state = self.state();
        state.connections = connections;
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }
}

impl DataPath for FakePath {
    fn start(&mut self, listeners: Vec<Listening>) -> io::Result<()> {
        let mut state = self.state();
        state.listeners = listeners;
        state.accepting = true;
        Ok(())
    }

    fn stop_accepting(&mut self, unwanted: &[ListenerId]) {
        let mut state = self.state();
        state.accepting = false;
        state.unwanted = unwanted.to_vec();
        state.listeners.retain(|one| !unwanted.contains(&one.id));
    }

    fn add(&mut self, listeners: Vec<Listening>) -> io::Result<()> {
        self.state().listeners.extend(listeners);
        Ok(())
    }

    fn resume_accepting(&mut self) {
        self.state().accepting = true;
    }

    fn close_listeners(&mut self) {
        self.state().listeners.clear();
    }

    fn drain(&mut self) {
        self.state().draining = true;
    }

    fn undrain(&mut self) {
        self.state().draining = false;
    }

    fn connections(&self) -> usize {
        self.state().connections
    }

    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if state.draining && state.connections == 0 {
            return Poll::Ready(());
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn pulse(&self) -> bool {
        true
    }

    fn close_all(&mut self) -> usize {
        let mut state = self.state();
        state.closed = std::mem::take(&mut state.connections);
        state.closed
    }

    fn stop(self) -> Result<(), String> {
        let mut state = self.state();
        state.accepting = false;
        state.stopped = true;
        Ok(())
    }
}

/// What both instances of a simulation share: who is named in the pidfile.
pub(super) type SharedFile = Arc<Mutex<Option<usize>>>;

/// A world that only remembers.
#[derive(Debug)]
pub(super) struct FakeWorld {
    pub(super) me: usize,
    pub(super) file: SharedFile,
    pub(super) holds_file: bool,
    pub(super) accepting: bool,
    pub(super) holding: bool,
    pub(super) draining: bool,
    pub(super) connections: usize,
    pub(super) waiters: VecDeque<FakePeer>,
    pub(super) fail_start: bool,
    pub(super) fail_files: bool,
}

/// A conversation that only remembers what was said to it.
#[derive(Clone, Debug, Default)]
pub(super) struct FakePeer(Arc<Mutex<Vec<Message>>>);

impl FakePeer {
    fn say(&self, message: Message) {
        self.0.lock().unwrap().push(message);
    }

    /// What was said since the last call.
    pub(super) fn take(&self) -> Vec<Message> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }

    /// Whether no instance holds this conversation any more: its end of the connection is closed.
    pub(super) fn is_dropped(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

impl FakeWorld {
    pub(super) fn new(me: usize, file: SharedFile) -> Self {
        Self {
            me,
            file,
            holds_file: false,
            accepting: false,
            holding: false,
            draining: false,
            connections: 0,
            waiters: VecDeque::new(),
            fail_start: false,
            fail_files: false,
        }
    }
}

impl World for FakeWorld {
    type Sockets = ();
    type Successor = FakePeer;
    type Incumbent = FakePeer;

    fn hold_listeners(&mut self, (): ()) {
        self.holding = true;
    }

    fn start_workers(&mut self) -> Result<(), Cause> {
        assert!(self.holding);
        if self.fail_start {
            self.holding = false;
            return Err(Cause::new(Exit::Unavailable, "no threads"));
        }
        self.accepting = true;
        Ok(())
    }

    fn stop_accepting(&mut self, _: &[ListenerId]) {
        self.accepting = false;
    }

    fn resume_accepting(&mut self) {
        assert!(self.holding);
        self.accepting = true;
    }

    fn close_listeners(&mut self) {
        (self.accepting, self.holding) = (false, false);
    }

    fn drain(&mut self) {
        self.draining = true;
    }

    fn undrain(&mut self) {
        self.draining = false;
    }

    fn close_connections(&mut self) -> usize {
        std::mem::take(&mut self.connections)
    }

    fn connections(&self) -> usize {
        self.connections
    }

    fn take_files(&mut self, _: u64, _: Option<&FakePeer>) -> Result<(), Cause> {
        if self.fail_files {
            return Err(Cause::new(Exit::CannotCreate, "no file"));
        }
        *self.file.lock().unwrap() = Some(self.me);
        self.holds_file = true;
        Ok(())
    }

    fn restore_files(&mut self, _: u64) {
        *self.file.lock().unwrap() = Some(self.me);
        self.holds_file = true;
    }

    fn forget_files(&mut self) {
        self.holds_file = false;
    }

    fn yield_files(&mut self) {
        self.holds_file = false;
    }

    fn close_desk(&mut self) {
        self.waiters.clear();
    }

    fn remove_files(&mut self) {
        let mut file = self.file.lock().unwrap();
        if self.holds_file && *file == Some(self.me) {
            *file = None;
        }
        self.holds_file = false;
    }

    fn take_waiter(&mut self) -> Option<FakePeer> {
        self.waiters.pop_front()
    }

    fn free_desk(&mut self) {}

    fn offer(&mut self, successor: &mut FakePeer) {
        successor.say(Message::Offer { batch: 0, of: 1, labels: Vec::new() });
    }

    fn commit(&mut self, successor: &mut FakePeer) {
        successor.say(Message::Commit);
    }

    fn dismiss_successor(&mut self, successor: &mut FakePeer, why: &str) {
        successor.say(Message::Ending { why: why.to_owned() });
    }

    fn say_drained(&mut self, successor: &mut FakePeer) {
        successor.say(Message::Drained);
    }

    fn say_ready(&mut self, incumbent: &mut FakePeer) {
        incumbent.say(Message::Ready);
    }

    fn say_owned(&mut self, incumbent: &mut FakePeer) {
        incumbent.say(Message::Owned);
    }

    fn refuse_incumbent(&mut self, incumbent: &mut FakePeer, why: &str) {
        incumbent.say(Message::Refuse { why: why.to_owned() });
    }

    fn say_released(&mut self, predecessor: &mut FakePeer) {
        predecessor.say(Message::Released);
    }
}
