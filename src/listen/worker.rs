//! One worker: its accept loops, its connections, and what it is told.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use slab::Slab;
use smol::channel::{Receiver, Sender};

use super::accept::{accept, sweep};
use super::command::{Arrival, Command, Door};
use super::load::{Load, Place};
use crate::proxy::{self, Service, ServiceContext};
use crate::runtime::{Acceptor, Handle, Task};

/// What the fleet gives a worker to begin with.
pub(super) struct Outset {
    pub(super) number: usize,
    pub(super) services: Vec<Arc<Service>>,
    pub(super) doors: Vec<Door>,
    pub(super) load: Arc<Load>,
    pub(super) commands: Receiver<Command>,
    /// Every worker's mailbox, by its number.
    pub(super) mailboxes: Arc<[Sender<Command>]>,
}

/// A worker, as its own tasks see it.
pub(super) struct Worker {
    pub(super) handle: Handle,
    pub(super) load: Arc<Load>,
    number: usize,
    mailboxes: Arc<[Sender<Command>]>,
    services: Vec<Rc<ServiceContext>>,
    draining: Rc<Cell<bool>>,
    connections: RefCell<Slab<Task<()>>>,
    /// Accept loops of services that are full wait here; the sender is replaced whenever room was made.
    freed: RefCell<HashMap<usize, Announcement>>,
}

/// Nothing is ever sent; the sender's end is the announcement.
type Announcement = (Sender<()>, Receiver<()>);

/// A listener and, while it is accepted from, its accept loop.
struct Accepting {
    door: Door,
    /// Made when it is first accepted from. A socket can be watched once only.
    acceptor: Option<Rc<Acceptor>>,
    task: Option<Task<()>>,
}

/// Runs a worker until it is told to stop. Its connections end with it.
pub(super) async fn run(handle: Handle, outset: Outset) {
    let Outset { number, services, doors, load, commands, mailboxes } = outset;
    let draining = Rc::new(Cell::new(false));
    let services = services
        .into_iter()
        .map(|service| ServiceContext::new(service, handle.clone(), number, Rc::clone(&draining)))
        .collect();
    let (connections, freed) = (RefCell::default(), RefCell::default());
    let worker = Rc::new(Worker { handle, load, number, mailboxes, services, draining, connections, freed });
    let mut doors: Vec<_> =
        doors.into_iter().map(|door| Accepting { door, acceptor: None, task: None }).collect();
    worker.open(&mut doors);
    // The fleet holds every sender, so an error means that it is gone.
    while let Ok(command) = commands.recv().await {
        match command {
            Command::Serve(Arrival { fd, peer, place }) => worker.serve(fd, peer, place),
            Command::Freed { service } => worker.announce_room(service),
            Command::StopAccepting { unwanted, sweep } => {
                worker.shut(&mut doors);
                doors.retain(|door| !unwanted.contains(&door.door.id));
                drop(sweep);
            }
            Command::ResumeAccepting => worker.open(&mut doors),
            Command::CloseListeners { sweep } => {
                worker.shut(&mut doors);
                doors.clear();
                drop(sweep);
            }
            Command::Drain(draining) => worker.drain(draining),
            Command::CloseConnections => worker.connections.borrow_mut().clear(),
            Command::Stop => break,
        }
    }
    drop(doors);
    worker.connections.borrow_mut().clear();
}

impl Worker {
    /// A place for another connection to a service, if it may have one.
    pub(super) fn take_place(&self, service: usize) -> Option<Place> {
        self.load.enter(service, &self.mailboxes)
    }

    /// A place for another connection to a service, whatever its limit.
    pub(super) fn make_place(&self, service: usize) -> Place {
        self.load.enter_anyway(service, &self.mailboxes)
    }

    /// Serves a connection here or has the worker do it that has the fewest.
    pub(super) fn place(self: &Rc<Self>, fd: OwnedFd, peer: Option<SocketAddr>, mut place: Place) {
        let chosen = self.load.choose(self.number);
        place.assign(chosen);
        if chosen != self.number
            && let Some(mailbox) = self.mailboxes.get(chosen)
        {
            // It fails only while the process ends, which ends the connection too.
            let _ = mailbox.try_send(Command::Serve(Arrival { fd, peer, place }));
            return;
        }
        self.serve(fd, peer, place);
    }

    /// Waits until the service may have room again.
    pub(super) async fn room(&self, service: usize) {
        let news = {
            let mut freed = self.freed.borrow_mut();
            freed.entry(service).or_insert_with(|| smol::channel::bounded(1)).1.clone()
        };
        // Room may have been made before this waited. After it waits, the news reaches it.
        if !self.load.has_room(service) {
            // The sender is dropped to say so; nothing is ever sent.
            let _ = news.recv().await;
        }
    }

    /// Tells connections to leave, or no longer.
    fn drain(&self, draining: bool) {
        self.draining.set(draining);
        if draining {
            self.services.iter().for_each(|service| service.close_idle_upstreams());
        }
    }

    fn announce_room(&self, service: usize) {
        self.freed.borrow_mut().remove(&service);
    }

    fn serve(self: &Rc<Self>, fd: OwnedFd, peer: Option<SocketAddr>, place: Place) {
        let Some(context) = self.services.get(place.service()) else { return };
        let stream = match self.handle.stream(fd) {
            Ok(stream) => stream,
            Err(error) => {
                tracing::error!(target: "river::listen", %error, "a connection cannot be watched and is closed");
                return;
            }
        };
        let mut connections = self.connections.borrow_mut();
        let entry = connections.vacant_entry();
        let registration = Registration { worker: Rc::clone(self), key: entry.key(), _place: place };
        let context = Rc::clone(context);
        entry.insert(self.handle.spawn(async move {
            let _registration = registration;
            proxy::serve(context, stream, peer.map(|peer| peer.ip())).await;
        }));
    }

    /// Begins to accept from what is not accepted from yet.
    fn open(self: &Rc<Self>, doors: &mut [Accepting]) {
        for accepting in doors.iter_mut().filter(|accepting| accepting.task.is_none()) {
            let door = &accepting.door;
            match self.watch(door, accepting.acceptor.take()) {
                Ok(acceptor) => {
                    let acceptor = accepting.acceptor.insert(acceptor);
                    let task = accept(Rc::clone(self), door.clone(), Rc::clone(acceptor));
                    accepting.task = Some(self.handle.spawn(task));
                }
                Err(error) => {
                    tracing::error!(target: "river::listen", listener = %door.id, %error, "cannot accept from a listener");
                }
            }
        }
    }

    fn watch(&self, door: &Door, acceptor: Option<Rc<Acceptor>>) -> io::Result<Rc<Acceptor>> {
        match acceptor {
            None => self.handle.acceptor(Arc::clone(&door.fd)).map(Rc::new),
            Some(paused) => paused.resume().map(|()| paused),
        }
    }

    /// Ends accept loops and accepts what is queued then.
    fn shut(self: &Rc<Self>, doors: &mut [Accepting]) {
        for accepting in doors {
            if let (Some(task), Some(acceptor)) = (accepting.task.take(), &accepting.acceptor) {
                drop(task);
                sweep(self, &accepting.door, acceptor);
            }
        }
    }
}

/// A connection's entry among those of its worker. Dropped with the connection's task, however that ends.
struct Registration {
    worker: Rc<Worker>,
    key: usize,
    _place: Place,
}

impl Drop for Registration {
    fn drop(&mut self) {
        // While all connections are being closed the list is borrowed, and empty afterwards.
        if let Ok(mut connections) = self.worker.connections.try_borrow_mut()
            && let Some(task) = connections.try_remove(self.key)
        {
            // The task is ending by itself; cancelling it from within would be wrong.
            task.detach();
        }
    }
}
