//! All workers of the process, as the control thread sees them.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;

use smol::channel::{Receiver, Sender};

use super::ListenerSpec;
use super::command::{Command, Door};
use super::load::Load;
use super::worker::{self, Outset};
use crate::base::ListenerId;
use crate::proxy::Service;
use crate::runtime::{self, Thread};
use crate::system::{Listening, Origin};

/// All workers of the process. Before [`start`](Self::start) there are none.
///
/// Every method sends a command to each worker and returns; the futures that some return end when all workers have
/// done it. Commands are obeyed in the order in which they were given.
#[derive(Debug)]
pub struct Fleet {
    size: NonZeroUsize,
    services: Vec<Arc<Service>>,
    /// The service of each listener, by its place in `services`.
    feeds: HashMap<ListenerId, usize>,
    load: Arc<Load>,
    idle: Receiver<()>,
    mailboxes: Arc<[Sender<Command>]>,
    threads: Vec<Thread>,
}

impl Fleet {
    /// A fleet of `size` workers that is to serve `services` on `listeners`.
    pub fn new(size: NonZeroUsize, services: Vec<Arc<Service>>, listeners: &[ListenerSpec]) -> Self {
        let place = |name: &str| services.iter().position(|service| &*service.name == name);
        let feeds = listeners
            .iter()
            .filter_map(|listener| Some((listener.id.clone(), place(&listener.service)?)))
            .collect();
        let (news, idle) = smol::channel::bounded(1);
        let limits = services.iter().map(|service| service.limits.max_connections);
        let load = Arc::new(Load::new(size.get(), limits, news));
        Self { size, services, feeds, load, idle, mailboxes: Arc::new([]), threads: Vec::new() }
    }

    /// Starts the workers, which accept from all of `listeners` at once.
    ///
    /// # Errors
    ///
    /// What starting a thread or watching a socket failed with, or a listener that feeds no service. Workers that
    /// were started are stopped.
    pub fn start(&mut self, listeners: Vec<Listening>) -> io::Result<()> {
        let doors = self.doors(listeners)?;
        let (mailboxes, commands): (Vec<_>, Vec<_>) =
            (0..self.size.get()).map(|_| smol::channel::unbounded()).unzip();
        self.mailboxes = mailboxes.into();
        for (number, commands) in commands.into_iter().enumerate() {
            let outset = Outset {
                number,
                services: self.services.clone(),
                doors: doors.clone(),
                load: Arc::clone(&self.load),
                commands,
                mailboxes: Arc::clone(&self.mailboxes),
            };
            match runtime::spawn(&format!("river-worker-{number}"), move |handle| worker::run(handle, outset)) {
                Ok(thread) => self.threads.push(thread),
                Err(error) => {
                    self.stop();
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Stops accepting; what is queued at that moment is accepted first. The sockets are kept.
    pub fn stop_accepting(&self) -> impl Future<Output = ()> + use<> {
        self.ask(|done| Command::StopAccepting { done })
    }

    /// Accepts again from the listeners that are kept.
    pub fn resume_accepting(&self) {
        self.tell(|| Command::ResumeAccepting);
    }

    /// Gives up `listeners`: accepts what is queued, then lets go of the sockets.
    pub fn close_listeners(&self, listeners: Vec<ListenerId>) -> impl Future<Output = ()> + use<> {
        self.ask(move |done| Command::Close { listeners: Some(listeners.clone()), done })
    }

    /// Gives up all listeners.
    pub fn close_all_listeners(&self) -> impl Future<Output = ()> + use<> {
        self.ask(|done| Command::Close { listeners: None, done })
    }

    /// Tells connections to leave with their next response, or no longer.
    pub fn drain(&self, draining: bool) {
        self.tell(|| Command::Drain(draining));
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.load.connections()
    }

    /// Ends when there is no connection.
    pub fn idle(&self) -> impl Future<Output = ()> + use<> {
        let (load, idle) = (Arc::clone(&self.load), self.idle.clone());
        async move {
            while load.connections() > 0 {
                // The load holds the sender, so this is news.
                let _ = idle.recv().await;
            }
        }
    }

    /// Closes every connection.
    pub fn close_connections(&self) -> impl Future<Output = ()> + use<> {
        self.ask(|done| Command::CloseAll { done })
    }

    /// Ends the workers and waits for them. Connections that are left are closed.
    pub fn stop(&mut self) {
        self.tell(|| Command::Stop);
        for thread in self.threads.drain(..) {
            if let Err(panicked) = thread.join() {
                tracing::error!(target: "river::listen", %panicked, "a worker had panicked");
            }
        }
    }

    fn doors(&self, listeners: Vec<Listening>) -> io::Result<Vec<Door>> {
        listeners
            .into_iter()
            .map(|listening| {
                let Listening { id, address, fd, origin, .. } = listening;
                let fed = self.feeds.get(&id).and_then(|&place| Some((place, self.services.get(place)?)));
                let Some((place, service)) = fed else {
                    return Err(io::Error::other(format!("listener {id} feeds no service")));
                };
                let origin = match origin {
                    Origin::Fresh => "fresh",
                    Origin::Inherited => "inherited",
                };
                tracing::info!(target: "river::listen", service = &*service.name, %id, %address, origin, "listening");
                Ok(Door { id, fd, service: place })
            })
            .collect()
    }

    fn tell(&self, command: impl Fn() -> Command) {
        for mailbox in &*self.mailboxes {
            // A worker that is gone has nothing left to do.
            let _ = mailbox.try_send(command());
        }
    }

    /// Sends a command whose `done` each worker drops when it has obeyed.
    fn ask<F: Fn(Sender<()>) -> Command>(&self, command: F) -> impl Future<Output = ()> + use<F> {
        let (done, all_done) = smol::channel::bounded(1);
        self.tell(|| command(done.clone()));
        drop(done);
        async move {
            // Nothing is sent; the end of the last sender is the answer.
            let _ = all_done.recv().await;
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.stop();
    }
}
