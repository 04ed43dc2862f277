//! Worlds and data paths that only remember what was asked of them.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use crate::base::{ListenerId, Moved};
use crate::handoff::Message;
use crate::lifecycle::{Admitted, Cause, DataPath, DrainTally, Exit, World};
use crate::listen::{Departure, Ending, Leave, Settled};
use crate::system::Listening;

/// A data path whose state the test sees and changes.
#[derive(Clone, Debug, Default)]
pub(super) struct FakePath(Arc<Mutex<PathState>>);

#[derive(Debug, Default)]
pub(super) struct PathState {
    pub(super) listeners: Vec<Listening>,
    pub(super) unwanted: Vec<ListenerId>,
    pub(super) accepting: bool,
    pub(super) told: Leave,
    pub(super) stopped: bool,
    pub(super) connections: usize,
    pub(super) begun: u64,
    pub(super) closed: Vec<(Ending, usize)>,
    /// Why connections of others are declined; they are admitted otherwise.
    pub(super) declines: Option<String>,
    /// Those that are served here and came from another instance.
    pub(super) served: Vec<(Moved, Vec<OwnedFd>)>,
    /// Whether those that departed are gone or stay, as they were settled.
    pub(super) settled: Vec<Settled>,
    departures: VecDeque<Departure>,
    waker: Option<Waker>,
}

impl PathState {
    /// Whether connections are told to leave in some way.
    pub(super) fn draining(&self) -> bool {
        self.told != Leave::Stay
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl FakePath {
    pub(super) fn state(&self) -> MutexGuard<'_, PathState> {
        self.0.lock().unwrap()
    }

    pub(super) fn set_connections(&self, connections: usize) {
        let mut state = self.state();
        state.begun += connections.saturating_sub(state.connections) as u64;
        state.connections = connections;
        state.wake();
    }

    /// One of the connections is on its way out.
    pub(super) fn depart(&self, moved: Moved, fds: Vec<Arc<OwnedFd>>) {
        let path = self.clone();
        let departure = Departure::new(moved, fds, move |how| {
            let mut state = path.state();
            state.settled.push(how);
            state.connections -= usize::from(how == Settled::Gone);
            state.wake();
        });
        let mut state = self.state();
        state.departures.push_back(departure);
        state.wake();
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

    fn leave(&mut self, how: Leave) {
        self.state().told = how;
    }

    fn poll_departure(&mut self, cx: &mut Context<'_>) -> Poll<Departure> {
        let mut state = self.state();
        state.waker = Some(cx.waker().clone());
        state.departures.pop_front().map_or(Poll::Pending, Poll::Ready)
    }

    fn admit(&mut self, moved: Moved, fds: Vec<OwnedFd>) -> Result<Admitted, String> {
        let path = self.clone();
        match &self.state().declines {
            Some(why) => Err(why.clone()),
            None => Ok(Box::new(move || path.state().served.push((moved, fds)))),
        }
    }

    fn begun(&self) -> u64 {
        self.state().begun
    }

    fn connections(&self) -> usize {
        self.state().connections
    }

    fn tunnels(&self) -> usize {
        0
    }

    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if state.connections == 0 {
            return Poll::Ready(());
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn pulse(&self) -> bool {
        true
    }

    fn close_connections(&mut self, what: Ending) -> usize {
        let mut state = self.state();
        // Half of them are tunnels.
        let count = match what {
            Ending::All => state.connections,
            Ending::Requests | Ending::Tunnels => state.connections / 2,
        };
        state.connections -= count;
        state.closed.push((what, count));
        count
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
    pub(super) guards: bool,
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
            guards: true,
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

    fn move_out(&mut self, _: &mut FakePeer) {
        self.draining = true;
    }

    fn drain(&mut self) {
        self.draining = true;
    }

    fn undrain(&mut self) {
        self.draining = false;
    }

    fn close_connections(&mut self, _: Ending) -> usize {
        std::mem::take(&mut self.connections)
    }

    fn tally(&self) -> DrainTally {
        DrainTally::default()
    }

    fn guards(&self) -> bool {
        self.guards
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
        successor.say(Message::Offer { batch: 0, of: 1, labels: Vec::new(), tickets: vec![] });
    }

    fn commit(&mut self, successor: &mut FakePeer) {
        successor.say(Message::Commit);
    }

    fn refuse_successor(&mut self, successor: FakePeer, why: &str) {
        successor.say(Message::Refuse { why: why.to_owned() });
    }

    fn forget_heir(&mut self, _: &FakePeer) {}

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
