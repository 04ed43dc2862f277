//! One worker: its accept loops, its connections, and what it is told.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use slab::Slab;
use smol::channel::{Receiver, Sender};

use super::command::{Arrival, Command, Door};
use super::departure::Exit;
use super::entrance::Entrance;
use super::fleet::Ending;
use super::load::{Load, Place};
use crate::proxy::{self, Leave, Leaving, Resting, Service, ServiceContext};
use crate::runtime::{Handle, Task};
use crate::system;

/// What the fleet gives a worker to begin with.
pub(super) struct Outset {
    pub(super) number: usize,
    pub(super) services: Vec<Arc<Service>>,
    pub(super) doors: Vec<Door>,
    pub(super) load: Arc<Load>,
    pub(super) exit: Arc<Exit>,
    pub(super) commands: Receiver<Command>,
    /// Every worker's mailbox, by its number.
    pub(super) mailboxes: Arc<[Sender<Command>]>,
    /// Told once whether every listener can be watched; dropped when the worker ends.
    pub(super) ready: SyncSender<io::Result<()>>,
}

/// A worker, as its own tasks see it.
pub(super) struct Worker {
    pub(super) handle: Handle,
    pub(super) load: Arc<Load>,
    number: usize,
    mailboxes: Arc<[Sender<Command>]>,
    services: Vec<Rc<ServiceContext>>,
    leaving: Rc<Leaving>,
    connections: RefCell<Slab<Task<()>>>,
    /// Accept loops of services that are full wait here; the sender is replaced whenever room was made.
    freed: RefCell<HashMap<usize, Announcement>>,
}

/// Nothing is ever sent; the sender's end is the announcement.
type Announcement = (Sender<()>, Receiver<()>);

/// Runs a worker until it is told to stop. Its connections end with it.
///
/// It begins by watching every listener, says whether it can, and accepts from them when it is told to.
pub(super) async fn run(handle: Handle, outset: Outset) {
    let Outset { number, services, doors, load, exit, commands, mailboxes, ready } = outset;
    let leaving = Rc::new(Leaving::new(Arc::clone(&exit.permits)));
    let services = services
        .into_iter()
        .map(|service| ServiceContext::new(service, handle.clone(), number, Rc::clone(&leaving)))
        .collect();
    let (connections, freed) = (RefCell::default(), RefCell::default());
    let worker = Rc::new(Worker { handle, load, number, mailboxes, services, leaving, connections, freed });
    let watched: io::Result<Vec<_>> = doors.into_iter().map(|door| Entrance::watch(&worker, door)).collect();
    // A fleet that waits no longer has given up.
    match watched {
        Err(error) => {
            let _ = ready.send(Err(error));
        }
        Ok(entrances) => {
            let _ = ready.send(Ok(()));
            let unexpected = Unexpected { worker: &worker };
            worker.obey(entrances, &commands).await;
            std::mem::forget(unexpected);
        }
    }
    worker.connections.borrow_mut().clear();
}

/// An end of the worker that nobody asked for; what is to be done then is done when it is dropped.
struct Unexpected<'a> {
    worker: &'a Worker,
}

impl Drop for Unexpected<'_> {
    fn drop(&mut self) {
        self.worker.load.bury(self.worker.number);
        tracing::error!(
            target: "river::listen", worker = self.worker.number,
            "a worker ended by a mistake in River; its connections are lost, and this instance drains and ends"
        );
        if let Err(error) = system::ask_to_end() {
            tracing::error!(target: "river::listen", %error, "cannot ask the process to end");
        }
    }
}

impl Worker {
    /// Does what it is told until it is told to end.
    async fn obey(self: &Rc<Self>, mut entrances: Vec<Entrance>, commands: &Receiver<Command>) {
        // The fleet holds every sender, so an error means that it is gone.
        while let Ok(command) = commands.recv().await {
            match command {
                Command::Serve(arrival) => self.serve(arrival),
                Command::Freed { service } => self.announce_room(service),
                Command::Admit(doors) => {
                    for door in &*doors {
                        match Entrance::watch(self, door.clone()) {
                            Ok(entrance) => entrances.push(entrance),
                            Err(error) => {
                                tracing::error!(target: "river::listen", listener = %door.id, %error, "cannot watch a listener");
                            }
                        }
                    }
                }
                Command::Accept => entrances.iter_mut().for_each(|entrance| entrance.open(self)),
                Command::StopAccepting { unwanted, sweep } => {
                    let sweep = Rc::new(sweep);
                    // Those first for which there is nobody else.
                    let (given_up, kept): (Vec<_>, Vec<_>) =
                        entrances.into_iter().partition(|entrance| unwanted.contains(&*entrance.door.id));
                    entrances = kept;
                    for entrance in given_up {
                        entrance.give_up_for_good(self, &sweep).await;
                    }
                    entrances.iter_mut().for_each(|entrance| entrance.stop(self, &sweep));
                }
                Command::CloseListeners { sweep } => {
                    let sweep = Rc::new(sweep);
                    entrances.drain(..).for_each(|entrance| entrance.give_up(self, &sweep));
                }
                Command::Leave(leave) => self.leave(leave),
                Command::CloseConnections(what) => self.close(what),
                Command::Beat => self.load.beat(self.number),
                Command::Stop => break,
            }
        }
    }

    /// A place for another connection to a service, if it may have one.
    pub(super) fn take_place(&self, service: usize) -> Option<Place> {
        self.load.enter(service, &self.mailboxes)
    }

    /// Serves a connection here or has the worker do it that has the fewest.
    pub(super) fn place(
        self: &Rc<Self>,
        door: &Door,
        fd: OwnedFd,
        peer: Option<SocketAddr>,
        mut place: Place,
    ) {
        let chosen = self.load.choose(self.number);
        place.assign(chosen);
        let arrival = Arrival { listener: Arc::clone(&door.id), connection: Resting::fresh(fd, peer), place };
        if chosen != self.number
            && let Some(mailbox) = self.mailboxes.get(chosen)
        {
            match mailbox.try_send(Command::Serve(arrival)) {
                Ok(()) => {}
                // That worker has ended. Its connections are not its heirs' only if nobody takes them.
                Err(error) => {
                    if let Command::Serve(mut arrival) = error.into_inner() {
                        arrival.place.assign(self.number);
                        self.serve(arrival);
                    }
                }
            }
            return;
        }
        self.serve(arrival);
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
    fn leave(&self, leave: Leave) {
        self.leaving.tell(leave);
        if leave != Leave::Stay {
            self.services.iter().for_each(|service| service.close_idle_upstreams());
        }
    }

    /// Closes connections.
    fn close(&self, what: Ending) {
        if what == Ending::All {
            self.connections.borrow_mut().clear();
        }
    }

    fn announce_room(&self, service: usize) {
        self.load.hear_freed(self.number, service);
        self.freed.borrow_mut().remove(&service);
    }

    fn serve(self: &Rc<Self>, arrival: Arrival) {
        let Arrival { connection, place, .. } = arrival;
        let Resting { client: fd, peer, .. } = connection;
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
