//! An instance's own part of the world: `Office` and `Desk`, and the workers, without the operating system.
//!
//! Each method does what the method of that name in `office.rs` does, to [`Outside`] in place of the file system and
//! the kernel. The paths of Unix listeners are not in the model: they go with the upgrade socket's.

use super::outside::{INSTANCES, LISTENERS, Listeners, Outside, number};
use super::peers::{Giver, Taker};
use super::tables::Table;
use crate::base::ListenerId;
use crate::handoff::GiverEvent;
use crate::lifecycle::{Action, Cause, DrainTally, Event, Exit, Illegal, Phase, World};
use crate::listen::Ending;

/// One instance's world.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) me: usize,
    table: Table,
    /// The listeners of its configuration.
    pub(super) wants: Listeners,
    pub(super) held: Listeners,
    given_up: Listeners,
    /// What it could not bind again; the log says so.
    pub(super) missing: Listeners,
    pub(super) accepting: bool,
    pub(super) connections: u8,
    /// Whether it wrote the pidfile and counts on it; another may have replaced it since.
    pid_file: bool,
    pub(super) desk: Option<Desk>,
    pub(super) heirs: [bool; INSTANCES],
    /// The next action that may fail does.
    pub(super) fails: bool,
    /// What is outside, while this instance acts.
    pub(super) outside: Outside,
}

/// Where an instance in service receives successors.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Desk {
    inventory: Listeners,
    generation: u64,
    pub(super) greeters: Vec<Giver>,
    pub(super) waiter: Option<Giver>,
    /// Somebody has the place, or was taken to hand over to.
    candidate: bool,
}

impl Place {
    pub(super) fn new(me: usize, wants: Listeners, table: Table) -> Self {
        Self {
            me,
            table,
            wants,
            held: Listeners::default(),
            given_up: Listeners::default(),
            missing: Listeners::default(),
            accepting: false,
            connections: 0,
            pid_file: false,
            desk: None,
            heirs: [false; INSTANCES],
            fails: false,
            outside: Outside::default(),
        }
    }

    /// Whether it accepts connections of a listener.
    pub(super) fn accepts(&self, listener: usize) -> bool {
        self.accepting && self.held[listener]
    }

    fn pid_file_is_ours(&self) -> bool {
        self.pid_file && self.outside.pid_file == Some(self.me)
    }

    fn desk_is_ours(&self) -> bool {
        self.desk.is_some() && self.outside.is_at_the_path(self.me)
    }

    /// `Office::open_desk`: an upgrade socket on which another listens is replaced only if that one may be.
    fn open_desk(&mut self, generation: u64, may_replace: [bool; INSTANCES]) -> Result<(), Cause> {
        if self.desk_is_ours() {
            return Ok(());
        }
        let tenant = self.outside.upgrade_path.filter(|tenant| self.outside.desks[*tenant]);
        if tenant.is_some_and(|tenant| !may_replace[tenant]) {
            return Err(Cause::new(Exit::CannotCreate, "another instance is in service"));
        }
        (self.outside.upgrade_path, self.outside.desks[self.me]) = (Some(self.me), true);
        let inventory = self.held;
        self.desk.get_or_insert(Desk {
            inventory,
            generation,
            greeters: Vec::new(),
            waiter: None,
            candidate: false,
        });
        Ok(())
    }

    fn write_pid_file(&mut self) {
        (self.pid_file, self.outside.pid_file) = (true, Some(self.me));
    }

    fn remove_pid_file(&mut self) {
        if self.pid_file_is_ours() {
            self.outside.pid_file = None;
        }
        self.pid_file = false;
    }

    fn remove_path(&mut self) {
        if self.desk_is_ours() {
            self.outside.upgrade_path = None;
        }
    }

    fn shut_desk(&mut self) {
        self.outside.desks[self.me] = false;
        if let Some(mut waiter) = self.desk.take().and_then(|desk| desk.waiter) {
            waiter.dismiss(&mut self.outside);
        }
    }

    fn may_fail(&mut self, what: &str) -> Result<(), Cause> {
        if std::mem::take(&mut self.fails) {
            return Err(Cause::new(Exit::Unavailable, what));
        }
        Ok(())
    }

    /// The workers look at what is queued.
    fn look(&mut self) {
        for listener in 0..LISTENERS {
            let queue = &mut self.outside.queues[listener];
            queue.told[self.me] = queue.waiting > 0 && self.accepting && self.held[listener];
        }
    }

    /// `Desk::poll_greeters`.
    pub(super) fn greet(&mut self, outside: &mut Outside, nth: usize, pid: u32) {
        let Some(desk) = &mut self.desk else { return };
        let Some(event) = desk.greeters[nth].hear(outside) else { return };
        let mut greeter = desk.greeters.remove(nth);
        match event {
            GiverEvent::Greeted if desk.candidate => {
                greeter.refuse(outside);
                desk.waiter.iter_mut().for_each(|waiter| waiter.probe(outside));
            }
            GiverEvent::Greeted => {
                greeter.welcome(outside, pid, desk.generation, desk.inventory);
                (desk.waiter, desk.candidate) = (Some(greeter), true);
            }
            _ => {}
        }
    }

    /// `Desk::poll_waiter`: what the waiter says, or that it says nothing in time.
    pub(super) fn hear_waiter(&mut self, outside: &mut Outside, late: bool) {
        let Some(desk) = &mut self.desk else { return };
        let hear = |waiter: &mut Giver| if late { waiter.late(outside) } else { waiter.hear(outside) };
        let event = desk.waiter.as_mut().and_then(hear);
        if matches!(event, Some(GiverEvent::Failed(_))) {
            (desk.waiter, desk.candidate) = (None, false);
        }
    }
}

impl World for Place {
    type Sockets = Listeners;
    type Successor = Giver;
    type Incumbent = Taker;

    fn step(&self, phase: Phase, event: Event) -> Result<(Phase, Vec<Action>), Illegal> {
        self.table.step(phase, event)
    }

    fn hold_listeners(&mut self, sockets: Listeners) {
        self.held = sockets;
    }

    fn start_workers(&mut self) -> Result<(), Cause> {
        if let Err(cause) = self.may_fail("no threads") {
            self.held = Listeners::default();
            return Err(cause);
        }
        self.accepting = true;
        self.look();
        Ok(())
    }

    fn stop_accepting(&mut self, unwanted: &[ListenerId]) {
        // Those that accept empty the queues first.
        for listener in 0..LISTENERS {
            if self.accepts(listener) {
                let queue = &mut self.outside.queues[listener];
                self.connections += std::mem::take(&mut queue.waiting);
            }
        }
        self.accepting = false;
        for listener in unwanted.iter().map(number) {
            self.given_up[listener] |= std::mem::take(&mut self.held[listener]);
        }
    }

    fn resume_accepting(&mut self) {
        for listener in 0..LISTENERS {
            if std::mem::take(&mut self.given_up[listener]) {
                self.held[listener] = !self.outside.taken[listener];
                self.missing[listener] = self.outside.taken[listener];
            }
        }
        self.accepting = true;
        self.look();
    }

    fn close_listeners(&mut self) {
        (self.accepting, self.held) = (false, Listeners::default());
    }

    fn drain(&mut self) {}

    fn undrain(&mut self) {}

    fn close_connections(&mut self, _: Ending) -> usize {
        std::mem::take(&mut self.connections).into()
    }

    fn tally(&self) -> DrainTally {
        DrainTally::default()
    }

    fn guards(&self) -> bool {
        true
    }

    fn another_serves(&self) -> bool {
        let tenant = self.outside.upgrade_path.filter(|tenant| self.outside.desks[*tenant]);
        self.desk.is_none() && tenant.is_some_and(|tenant| !self.heirs[tenant])
    }

    fn move_out(&mut self, _: &mut Giver) {}

    fn connections(&self) -> usize {
        self.connections.into()
    }

    fn take_files(&mut self, generation: u64, incumbent: Option<&Taker>) -> Result<(), Cause> {
        self.may_fail("no file")?;
        let mut may_replace = [false; INSTANCES];
        incumbent.into_iter().for_each(|taker| may_replace[taker.peer] = true);
        self.open_desk(generation, may_replace)?;
        if !self.pid_file_is_ours() {
            self.write_pid_file();
        }
        Ok(())
    }

    fn restore_files(&mut self, generation: u64) {
        let opened = self.open_desk(generation, self.heirs);
        if opened.is_ok() && !self.pid_file_is_ours() {
            self.write_pid_file();
        }
    }

    fn forget_files(&mut self) {
        self.remove_pid_file();
        self.remove_path();
        // Dropped, without a word to who waits.
        self.desk = None;
        self.outside.desks[self.me] = false;
    }

    fn yield_files(&mut self) {
        self.pid_file = false;
        self.shut_desk();
    }

    fn close_desk(&mut self) {
        self.remove_path();
        self.shut_desk();
    }

    fn remove_files(&mut self) {
        self.remove_path();
        self.desk = None;
        self.outside.desks[self.me] = false;
        self.remove_pid_file();
    }

    fn take_waiter(&mut self) -> Option<Giver> {
        let mut outside = std::mem::take(&mut self.outside);
        while self.desk.as_ref().and_then(|desk| desk.waiter.as_ref()).is_some_and(|it| it.can_hear(&outside))
        {
            self.hear_waiter(&mut outside, false);
        }
        self.outside = outside;
        self.desk.as_mut()?.waiter.take_if(|waiter| waiter.is_waiting())
    }

    fn free_desk(&mut self) {
        if let Some(desk) = &mut self.desk {
            desk.candidate = false;
        }
    }

    fn offer(&mut self, successor: &mut Giver) {
        successor.offer(&mut self.outside, self.held);
    }

    fn commit(&mut self, successor: &mut Giver) {
        self.heirs[successor.peer()] = true;
        successor.commit(&mut self.outside);
    }

    fn refuse_successor(&mut self, mut successor: Giver, _: &str) {
        successor.refuse(&mut self.outside);
        self.free_desk();
    }

    fn forget_heir(&mut self, successor: &Giver) {
        self.heirs[successor.peer()] = false;
    }

    fn dismiss_successor(&mut self, successor: &mut Giver, _: &str) {
        successor.dismiss(&mut self.outside);
    }

    fn say_drained(&mut self, successor: &mut Giver) {
        successor.drained(&mut self.outside);
    }

    fn say_ready(&mut self, incumbent: &mut Taker) {
        incumbent.ready(&mut self.outside);
    }

    fn say_owned(&mut self, incumbent: &mut Taker) {
        incumbent.owned(&mut self.outside);
    }

    fn refuse_incumbent(&mut self, incumbent: &mut Taker, _: &str) {
        incumbent.refuse(&mut self.outside);
    }

    fn say_released(&mut self, predecessor: &mut Taker) {
        predecessor.released(&mut self.outside);
    }
}
