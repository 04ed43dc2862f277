//! All workers of the process, as the control thread sees them.

use std::collections::HashMap;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_lite::Stream as _;
use smol::channel::Sender;

use super::ListenerSpec;
use super::admission::{self, Admission};
use super::command::{Arrival, Command, Door};
use super::departure::{Departure, Way};
use super::load::Load;
use super::worker::{self, Outset};
use crate::base::{ListenerId, Moved, MovedState};
use crate::proxy::{Leave, Service, Terms};
use crate::runtime::{self, Thread};
use crate::system::{Listening, Origin};

/// All workers of the process. Before [`start`](Self::start) there are none.
///
/// The methods send a command to each worker and return without waiting for it, but for [`stop`](Self::stop).
/// Commands are obeyed in the order in which they were given.
#[derive(Debug)]
pub struct Fleet {
    size: NonZeroUsize,
    services: Vec<Arc<Service>>,
    /// The service of each listener, by its place in `services`, and the listener's terms.
    feeds: HashMap<ListenerId, (usize, Arc<Terms>)>,
    pub(super) load: Arc<Load>,
    idle: Pin<Box<smol::channel::Receiver<()>>>,
    exit: Arc<Way>,
    departures: Pin<Box<smol::channel::Receiver<Departure>>>,
    mailboxes: Arc<[Sender<Command>]>,
    threads: Vec<Thread>,
    /// Ends when the last worker has ended.
    reports: Option<Receiver<io::Result<()>>>,
}

/// Which connections are to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ending {
    /// All of them.
    All,
    /// Those that are no tunnels.
    Requests,
    /// The tunnels.
    Tunnels,
}

impl Ending {
    /// Whether it is the end of such a connection.
    pub(super) fn includes(self, is_tunnel: bool) -> bool {
        match self {
            Self::All => true,
            Self::Requests => !is_tunnel,
            Self::Tunnels => is_tunnel,
        }
    }
}

/// How long a worker may take to get ready, or to end. Both take milliseconds.
const PATIENCE: Duration = Duration::from_secs(1);

impl Fleet {
    /// A fleet of `size` workers that is to serve `services` on `listeners`.
    pub fn new(size: NonZeroUsize, services: Vec<Arc<Service>>, listeners: &[ListenerSpec]) -> Self {
        let place = |name: &str| services.iter().position(|service| &*service.name == name);
        let feeds = listeners
            .iter()
            .filter_map(|listener| {
                Some((listener.id.clone(), (place(&listener.service)?, Arc::clone(&listener.terms))))
            })
            .collect();
        let (news, idle) = smol::channel::bounded(1);
        let limits =
            services.iter().map(|service| (Arc::clone(&service.name), service.limits.max_connections));
        let load = Arc::new(Load::new(size.get(), limits, news));
        let idle = Box::pin(idle);
        let exit = Arc::new(Way::new());
        let departures = Box::pin(exit.receiver());
        Self {
            size,
            services,
            feeds,
            load,
            idle,
            exit,
            departures,
            mailboxes: Arc::new([]),
            threads: Vec::new(),
            reports: None,
        }
    }

    /// Starts the workers, which accept from all of `listeners` at once.
    ///
    /// Nothing is accepted before every worker has found that it can watch every listener. Waits for that, which takes
    /// milliseconds.
    ///
    /// # Errors
    ///
    /// What starting a thread or watching a socket failed with, or a listener that feeds no service. No worker runs
    /// then, and none has accepted anything.
    pub fn start(&mut self, listeners: Vec<Listening>) -> io::Result<()> {
        let doors = self.doors(listeners)?;
        let (mailboxes, commands): (Vec<_>, Vec<_>) =
            (0..self.size.get()).map(|_| smol::channel::unbounded()).unzip();
        self.mailboxes = mailboxes.into();
        let (ready, reports) = sync_channel(self.size.get());
        let started = commands
            .into_iter()
            .enumerate()
            .try_for_each(|(number, commands)| {
                let outset = Outset {
                    number,
                    services: self.services.clone(),
                    doors: doors.clone(),
                    load: Arc::clone(&self.load),
                    exit: Arc::clone(&self.exit),
                    commands,
                    mailboxes: Arc::clone(&self.mailboxes),
                    ready: ready.clone(),
                };
                let name = format!("river-worker-{number}");
                self.threads.push(runtime::spawn(&name, move |handle| worker::run(handle, outset))?);
                Ok(())
            })
            .and_then(|()| (0..self.size.get()).try_for_each(|_| report(&reports)));
        drop(ready);
        self.reports = Some(reports);
        if started.is_ok() {
            self.resume_accepting();
        } else {
            // The first error is the one to tell.
            let _ = self.stop();
        }
        started
    }

    /// Stops accepting; what is queued at that moment is accepted first. The sockets are kept, but those of `unwanted`.
    pub fn stop_accepting(&self, unwanted: &[ListenerId]) {
        for id in unwanted {
            tracing::info!(target: "river::listen", %id, "giving up a listener that the successor does not have");
        }
        let unwanted: Arc<[_]> = unwanted.into();
        self.tell(|| Command::StopAccepting {
            unwanted: Arc::clone(&unwanted),
            sweep: self.load.begin_sweep(),
        });
    }

    /// Holds these listeners too. They are accepted from at the next [`resume_accepting`](Self::resume_accepting).
    ///
    /// # Errors
    ///
    /// A listener that feeds no service. None is held then.
    pub fn add(&self, listeners: Vec<Listening>) -> io::Result<()> {
        let doors: Arc<[_]> = self.doors(listeners)?.into();
        self.tell(|| Command::Admit(Arc::clone(&doors)));
        Ok(())
    }

    /// Accepts from the listeners that are held, and looks at once at what is queued on them.
    pub fn resume_accepting(&self) {
        self.tell(|| Command::Accept);
    }

    /// Gives up all listeners that are still held: accepts what is queued, then lets go of the sockets.
    pub fn close_listeners(&self) {
        self.tell(|| Command::CloseListeners { sweep: self.load.begin_sweep() });
    }

    /// Tells connections how to leave, or to stay.
    ///
    /// With [`Leave::Move`], somebody has to ask [`poll_departure`](Self::poll_departure), for what has departed is not
    /// served until it is settled. With anything else, what has departed and was not brought yet goes back by itself.
    pub fn leave(&self, how: Leave) {
        self.exit.open(how == Leave::Move);
        self.tell(|| Command::Leave(how));
    }

    /// The next connection that leaves. [`WINDOW`](super::WINDOW) are on their way at most: the others wait, and are
    /// served meanwhile, until one is settled.
    pub fn poll_departure(&mut self, cx: &mut Context<'_>) -> Poll<Departure> {
        match self.departures.as_mut().poll_next(cx) {
            Poll::Ready(Some(departure)) => Poll::Ready(departure),
            // This fleet holds a sender, so the end is never seen.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    /// Checks a connection that another instance passes on, and counts it in. It is served once it is told so.
    ///
    /// # Errors
    ///
    /// Why it is declined: its listener is not known here, its service is full or takes no requests, or its sockets are
    /// not what they are said to be. The copies of the sockets are closed.
    pub fn admit(&self, moved: Moved, fds: Vec<OwnedFd>) -> Result<Admission, String> {
        let Some((service, terms)) = self.feeds.get(&moved.listener) else {
            return Err(format!("there is no listener {} here", moved.listener));
        };
        if self.mailboxes.is_empty() {
            return Err("this instance does not serve".to_owned());
        }
        // Nobody has seen a certificate of its client, who could go on in plain text for ever.
        if terms.tls.is_some() {
            return Err("TLS is spoken on its listener here, and not on the connection".to_owned());
        }
        // A client that has sent requests will send another.
        let takes_requests = self.services.get(*service).is_some_and(|service| service.takes_requests());
        if !takes_requests && moved.state == MovedState::Idle && moved.requests > 0 {
            return Err("the service takes no requests here".to_owned());
        }
        let listener = Arc::new(moved.listener.clone());
        let connection = admission::verify(moved, fds)?;
        let Some(place) = self.load.enter(*service, &self.mailboxes) else {
            return Err("the service has all the connections that limits.max_connections allows".to_owned());
        };
        let arrival = Arrival { listener, terms: Arc::clone(terms), connection, place };
        Ok(Admission::new(arrival, &self.load, Arc::clone(&self.mailboxes)))
    }

    /// How many connections there have been, those there are included.
    pub fn begun(&self) -> u64 {
        self.load.begun()
    }

    /// How many of the connections are tunnels.
    pub fn tunnels(&self) -> usize {
        self.load.tunnels()
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.load.connections()
    }

    /// Ready when no worker has an accept queue left to sweep and there is no connection.
    pub fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while !self.load.is_idle() {
            // News may be old, so the counts are looked at again after each.
            if self.idle.as_mut().poll_next(cx).is_pending() {
                return Poll::Pending;
            }
        }
        Poll::Ready(())
    }

    /// Asks every worker for a sign of life, and says whether each has given one since it was last asked.
    pub fn pulse(&self) -> bool {
        let mut alive = true;
        for (number, mailbox) in self.mailboxes.iter().enumerate() {
            // One that has not answered has the last question in its mailbox still.
            match self.load.take_beat(number) {
                true => drop(mailbox.try_send(Command::Beat)),
                false => alive = false,
            }
        }
        alive
    }

    /// Closes connections. How many there were of them is returned at once; the closing may take a moment longer.
    ///
    /// Those that are on their way out are not among them. They are closed if they come back, unless
    /// [`Leave::Stay`] is told before.
    pub fn close_connections(&self, what: Ending) -> usize {
        let tunnels = self.tunnels().saturating_sub(self.load.away(true));
        let requests = self.connections().saturating_sub(self.tunnels() + self.load.away(false));
        let count = match what {
            Ending::All => requests + tunnels,
            Ending::Requests => requests,
            Ending::Tunnels => tunnels,
        };
        self.tell(|| Command::CloseConnections(what));
        count
    }

    /// Ends the workers and waits for them, though not for one that does not end within a second. Connections that are
    /// left are closed.
    ///
    /// # Errors
    ///
    /// What a worker said that ended by a mistake in River.
    pub fn stop(&mut self) -> Result<(), String> {
        self.tell(|| Command::Stop);
        let reports = self.reports.take();
        let ended = reports.is_none_or(|reports| {
            loop {
                match reports.recv_timeout(PATIENCE) {
                    // Of a worker that was started just now.
                    Ok(_) => {}
                    Err(error) => break error == RecvTimeoutError::Disconnected,
                }
            }
        });
        let mut outcome = Ok(());
        for thread in self.threads.drain(..) {
            if !ended && !thread.is_finished() {
                tracing::error!(target: "river::listen", thread = thread.name(), "a worker does not end");
                continue;
            }
            if let Err(panicked) = thread.join() {
                tracing::error!(target: "river::listen", %panicked, "a worker had panicked");
                outcome = Err(panicked.to_string());
            }
        }
        outcome
    }

    fn doors(&self, listeners: Vec<Listening>) -> io::Result<Vec<Door>> {
        listeners
            .into_iter()
            .map(|listening| {
                let Listening { id, address, fd, origin, .. } = listening;
                let fed = self.feeds.get(&id).and_then(|(place, terms)| Some((*place, terms, self.services.get(*place)?)));
                let Some((place, terms, service)) = fed else {
                    return Err(io::Error::other(format!("listener {id} feeds no service")));
                };
                let origin = match origin {
                    Origin::Fresh => "fresh",
                    Origin::Inherited => "inherited",
                    Origin::Activated => "activated",
                };
                tracing::info!(target: "river::listen", service = &*service.name, %id, %address, origin, "listening");
                Ok(Door { id: Arc::new(id), fd, service: place, terms: Arc::clone(terms) })
            })
            .collect()
    }

    fn tell(&self, command: impl Fn() -> Command) {
        for mailbox in &*self.mailboxes {
            // A worker that is gone has nothing left to do.
            let _ = mailbox.try_send(command());
        }
    }
}

/// Waits for one worker to be ready.
fn report(reports: &Receiver<io::Result<()>>) -> io::Result<()> {
    match reports.recv_timeout(PATIENCE * 5) {
        Ok(report) => report,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "a worker did not get ready")),
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        // Logged already.
        let _ = self.stop();
    }
}
