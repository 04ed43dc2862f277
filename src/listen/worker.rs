//! One worker: its accept loops, its connections, and what it is told.

use std::cell::{Cell, OnceCell, RefCell};
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
use super::departure::Way;
use super::entrance::Entrance;
use super::fleet::Ending;
use super::load::{Load, Place, TunnelPlace};
use crate::base::ListenerId;
use crate::proxy::{self, Keeper, Leave, Leaving, Parting, Resting, Service, ServiceContext, Terms};
use crate::runtime::{Handle, Task};
use crate::system;

/// What the fleet gives a worker to begin with.
pub(super) struct Outset {
    pub(super) number: usize,
    pub(super) services: Vec<Arc<Service>>,
    pub(super) doors: Vec<Door>,
    pub(super) load: Arc<Load>,
    pub(super) exit: Arc<Way>,
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
    exit: Arc<Way>,
    connections: RefCell<Slab<Entry>>,
    /// Whether those that are no tunnels were closed, and the tunnels. What comes back from its way out is closed then.
    ended: Cell<[bool; 2]>,
    /// Counts the connections that were ever served.
    serial: Cell<u64>,
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
    let worker = Rc::new(Worker {
        handle,
        load,
        number,
        mailboxes,
        services,
        leaving,
        exit,
        connections: RefCell::default(),
        ended: Cell::default(),
        serial: Cell::new(0),
        freed: RefCell::default(),
    });
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
    worker.close(|_| true);
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
                Command::CloseConnections(what) => self.end(what),
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
        let (listener, terms) = (Arc::clone(&door.id), Arc::clone(&door.terms));
        let arrival = Arrival { listener, terms, connection: Resting::fresh(fd, peer), place };
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
        if leave == Leave::Stay {
            self.ended.set([false; 2]);
        } else if leave == Leave::Close || self.connections.borrow().is_empty() {
            self.close_idle_upstreams();
        }
        if leave != Leave::Stay {
            // Those that wait for a request, and tunnels, are to wait for a permit too; those of HTTP/2 tell their clients.
            self.handle.wake_readers();
        }
    }

    fn close_idle_upstreams(&self) {
        self.services.iter().for_each(|service| service.close_idle_upstreams());
    }

    /// Closes connections, but those that are on their way out, which another instance may have taken by now.
    fn end(&self, what: Ending) {
        let [requests, tunnels] = self.ended.get();
        self.ended.set([requests || what != Ending::Tunnels, tunnels || what != Ending::Requests]);
        self.close(|entry| !entry.is_away && what.includes(entry.is_tunnel));
    }

    /// Whether such connections were closed.
    fn has_ended(&self, is_tunnel: bool) -> bool {
        let [requests, tunnels] = self.ended.get();
        if is_tunnel { tunnels } else { requests }
    }

    /// Closes the connections that are to end.
    fn close(&self, ends: impl Fn(&Entry) -> bool) {
        let mut connections = self.connections.borrow_mut();
        let ending: Vec<_> =
            connections.iter().filter(|(_, entry)| ends(entry)).map(|(key, _)| key).collect();
        let ending: Vec<_> = ending.into_iter().filter_map(|key| connections.try_remove(key)).collect();
        // Cancels their tasks, after the list is given back.
        drop(connections);
        drop(ending);
    }

    fn announce_room(&self, service: usize) {
        self.load.hear_freed(self.number, service);
        self.freed.borrow_mut().remove(&service);
    }

    fn serve(self: &Rc<Self>, arrival: Arrival) {
        let Arrival { listener, terms, connection, place } = arrival;
        let Some(context) = self.services.get(place.service()) else { return };
        let context = Rc::clone(context);
        let serial = self.serial.get();
        self.serial.set(serial.wrapping_add(1));
        let mut connections = self.connections.borrow_mut();
        let entry = connections.vacant_entry();
        let (worker, key) = (Rc::clone(self), entry.key());
        let is_tunnel = connection.tunnel.is_some();
        let tunnel = OnceCell::new();
        if is_tunnel {
            tunnel.get_or_init(|| self.load.count_tunnel());
        }
        let registration = Registration { worker, key, serial, tunnel, _place: place };
        let task = self.handle.spawn(attend(context, terms, listener, connection, registration));
        entry.insert(Entry { task, serial, is_tunnel, is_away: false });
    }
}

/// Serves a connection until it ends or is another instance's; what comes back from its way out is served again.
///
/// No `async fn`, which would have room for its arguments twice.
fn attend(
    context: Rc<ServiceContext>,
    terms: Arc<Terms>,
    listener: Arc<ListenerId>,
    connection: Resting,
    registration: Registration,
) -> impl Future<Output = ()> {
    // The future has room for a pointer only, since it is taken apart at once.
    let mut connection = Box::new(connection);
    async move {
        loop {
            let Some(parting) = proxy::serve(&context, &terms, connection, &registration).await else {
                return;
            };
            let departing = Box::pin(registration.depart(&listener, parting));
            let Some(back) = departing.await else { return };
            connection = back;
        }
    }
}

/// A connection among those of its worker.
struct Entry {
    task: Task<()>,
    /// No two connections of a worker have the same.
    serial: u64,
    is_tunnel: bool,
    /// It is on its way out.
    is_away: bool,
}

/// A connection's hold on its entry. Dropped with the connection's task, however that ends.
struct Registration {
    worker: Rc<Worker>,
    key: usize,
    serial: u64,
    /// Its place in the count of tunnels, once it is one.
    tunnel: OnceCell<TunnelPlace>,
    _place: Place,
}

impl Registration {
    /// Sends the connection out. It is none of the worker's until it comes back, if it does.
    async fn depart(&self, listener: &ListenerId, parting: Parting) -> Option<Box<Resting>> {
        let is_tunnel = self.tunnel.get().is_some();
        self.note(|entry| entry.is_away = true);
        let away = self.worker.load.send_away(is_tunnel);
        let back = self.worker.exit.depart(listener, parting).await;
        drop(away);
        self.note(|entry| entry.is_away = false);
        let back = back?;
        if self.worker.has_ended(is_tunnel) {
            back.end();
            return None;
        }
        Some(Box::new(back))
    }

    fn note(&self, what: impl Fn(&mut Entry)) {
        if let Some(entry) = self.worker.connections.borrow_mut().get_mut(self.key)
            && entry.serial == self.serial
        {
            what(entry);
        }
    }
}

impl Keeper for Registration {
    fn tunnels(&self) {
        self.tunnel.get_or_init(|| self.worker.load.count_tunnel());
        self.note(|entry| entry.is_tunnel = true);
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut connections = self.worker.connections.borrow_mut();
        // A connection that is being closed has lost its entry already, and another may have got its place.
        if connections.get(self.key).is_some_and(|entry| entry.serial == self.serial)
            && let Some(entry) = connections.try_remove(self.key)
        {
            // The task is ending by itself; cancelling it from within would be wrong.
            entry.task.detach();
            if connections.is_empty() && !self.worker.leaving.is_over() {
                // What no client's connection took along.
                drop(connections);
                self.worker.close_idle_upstreams();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<A, B, C, D, E, F: Future>(_: impl FnOnce(A, B, C, D, E) -> F) -> usize {
        size_of::<F>()
    }

    /// All that a connection's task holds, on the heap once.
    #[test]
    fn a_connections_future_is_small() {
        let size = size_of_future(attend);
        println!("the future of a connection's task: {size} bytes");
        assert!(size <= 640, "the future of a connection's task has {size} bytes");
    }
}
