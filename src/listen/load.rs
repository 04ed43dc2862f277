//! How many connections there are: of each worker and of each service. Touched when a connection begins or ends,
//! never by a request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use smol::channel::Sender;

use super::command::Command;

/// The counts that all workers share.
#[derive(Debug)]
pub(super) struct Load {
    workers: Vec<Counts>,
    /// Connections that there have been.
    begun: AtomicU64,
    /// Connections that are tunnels.
    tunnels: AtomicUsize,
    /// Connections on their way out: those that are no tunnels, and those that are.
    away: [AtomicUsize; 2],
    services: Vec<Room>,
    /// Workers that have yet to accept what is queued on listeners they give up.
    sweeps: AtomicUsize,
    /// Told whenever the last sweep or a worker's last connection has ended.
    idle: Sender<()>,
    since: Instant,
}

/// The connections of one service.
#[derive(Debug)]
struct Room {
    connections: AtomicUsize,
    /// The most it may have.
    limit: usize,
    name: Arc<str>,
    /// When it was last said that it is full, in seconds of `Load::since`, and one more; 0 is never.
    said_full: AtomicU64,
}

/// What is counted of one worker.
#[derive(Debug)]
struct Counts {
    connections: AtomicUsize,
    /// It has ended and takes no more.
    dead: AtomicBool,
    /// It has given a sign of life since it was asked for one.
    beat: AtomicBool,
    /// For each service, that the worker's mailbox already holds the news of room. There is one such message at most.
    told: Vec<AtomicBool>,
}

/// A connection's place in the counts; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    load: Arc<Load>,
    /// The worker that serves the connection, once there is one.
    worker: Option<usize>,
    service: usize,
    mailboxes: Arc<[Sender<Command>]>,
}

/// A tunnel's place in the count of tunnels; given back when it is dropped.
#[derive(Debug)]
pub(super) struct TunnelPlace {
    load: Arc<Load>,
}

/// A connection's time on the way out; over when it is dropped.
#[derive(Debug)]
pub(super) struct Away {
    load: Arc<Load>,
    is_tunnel: bool,
}

/// A worker's duty to accept what is queued; done when it is dropped.
#[derive(Debug)]
pub(super) struct Sweep {
    load: Arc<Load>,
}

/// How many seconds pass before it is said again that a service is full.
const SAID_AGAIN: u64 = 10;

/// A worker passes a connection on if another has so many fewer. One would send every other connection across.
const SLACK: usize = 2;

impl Load {
    /// `limits` holds each service's name and the most connections that it may have.
    pub(super) fn new(
        workers: usize,
        limits: impl Iterator<Item = (Arc<str>, usize)>,
        idle: Sender<()>,
    ) -> Self {
        let room = |(name, limit)| Room {
            connections: AtomicUsize::new(0),
            limit,
            name,
            said_full: AtomicU64::new(0),
        };
        let services: Vec<_> = limits.map(room).collect();
        let worker = |_| Counts {
            connections: AtomicUsize::new(0),
            dead: AtomicBool::new(false),
            beat: AtomicBool::new(true),
            told: services.iter().map(|_| AtomicBool::new(false)).collect(),
        };
        let (sweeps, tunnels, since) = (AtomicUsize::new(0), AtomicUsize::new(0), Instant::now());
        let begun = AtomicU64::new(0);
        Self {
            workers: (0..workers).map(worker).collect(),
            begun,
            tunnels,
            away: Default::default(),
            services,
            sweeps,
            idle,
            since,
        }
    }

    /// All connections.
    pub(super) fn connections(&self) -> usize {
        self.workers.iter().map(|worker| worker.connections.load(Ordering::SeqCst)).sum()
    }

    /// The connections of each worker.
    #[cfg(test)]
    pub(super) fn per_worker(&self) -> Vec<usize> {
        self.workers.iter().map(|worker| worker.connections.load(Ordering::SeqCst)).collect()
    }

    /// How many there have been, those there are included.
    pub(super) fn begun(&self) -> u64 {
        self.begun.load(Ordering::SeqCst)
    }

    /// Those of them that are tunnels.
    pub(super) fn tunnels(&self) -> usize {
        self.tunnels.load(Ordering::SeqCst)
    }

    /// Counts a connection as a tunnel, too.
    pub(super) fn count_tunnel(self: &Arc<Self>) -> TunnelPlace {
        self.tunnels.fetch_add(1, Ordering::SeqCst);
        TunnelPlace { load: Arc::clone(self) }
    }

    /// Counts a connection as one that is on its way out.
    pub(super) fn send_away(self: &Arc<Self>, is_tunnel: bool) -> Away {
        self.count_away(is_tunnel).fetch_add(1, Ordering::SeqCst);
        Away { load: Arc::clone(self), is_tunnel }
    }

    /// How many connections are on their way out, of those that are tunnels or of the others.
    pub(super) fn away(&self, tunnels: bool) -> usize {
        self.count_away(tunnels).load(Ordering::SeqCst)
    }

    fn count_away(&self, tunnels: bool) -> &AtomicUsize {
        let [requests, tunnelled] = &self.away;
        if tunnels { tunnelled } else { requests }
    }

    /// There is no connection, and none will come out of a queue that is being given up.
    pub(super) fn is_idle(&self) -> bool {
        // In this order: what a sweep brings is counted before the sweep ends.
        self.sweeps.load(Ordering::SeqCst) == 0 && self.connections() == 0
    }

    /// Counts one worker's sweep in.
    pub(super) fn begin_sweep(self: &Arc<Self>) -> Sweep {
        self.sweeps.fetch_add(1, Ordering::SeqCst);
        Sweep { load: Arc::clone(self) }
    }

    /// The service may have another connection.
    pub(super) fn has_room(&self, service: usize) -> bool {
        self.services.get(service).is_some_and(|room| room.connections.load(Ordering::SeqCst) < room.limit)
    }

    /// The worker that is to serve a connection which `accepted_by` has accepted.
    pub(super) fn choose(&self, accepted_by: usize) -> usize {
        let count = |worker: usize| match self.workers.get(worker) {
            Some(counts) if !counts.dead.load(Ordering::Relaxed) => {
                counts.connections.load(Ordering::Relaxed)
            }
            _ => usize::MAX,
        };
        let fewest = (0..self.workers.len()).min_by_key(|&worker| count(worker)).unwrap_or(accepted_by);
        if count(accepted_by) >= count(fewest).saturating_add(SLACK) { fewest } else { accepted_by }
    }

    /// The worker that has the fewest connections.
    pub(super) fn least(&self) -> usize {
        self.choose(usize::MAX)
    }

    /// Counts a connection to a service in, if it may have another.
    pub(super) fn enter(
        self: &Arc<Self>,
        service: usize,
        mailboxes: &Arc<[Sender<Command>]>,
    ) -> Option<Place> {
        let room = self.services.get(service)?;
        let another = |count: usize| (count < room.limit).then_some(count + 1);
        if room.connections.fetch_update(Ordering::SeqCst, Ordering::SeqCst, another).is_err() {
            self.say_full(room);
            return None;
        }
        Some(self.counted(service, mailboxes))
    }

    /// The worker has ended: nothing is given to it any more.
    pub(super) fn bury(&self, worker: usize) {
        if let Some(counts) = self.workers.get(worker) {
            counts.dead.store(true, Ordering::Relaxed);
        }
    }

    /// The worker gives a sign of life.
    pub(super) fn beat(&self, worker: usize) {
        if let Some(counts) = self.workers.get(worker) {
            counts.beat.store(true, Ordering::Relaxed);
        }
    }

    /// Whether the worker has given a sign of life since this was last asked.
    pub(super) fn take_beat(&self, worker: usize) -> bool {
        self.workers.get(worker).is_some_and(|counts| counts.beat.swap(false, Ordering::Relaxed))
    }

    /// The worker has heard that the service has room. What is freed from now on is news again.
    pub(super) fn hear_freed(&self, worker: usize, service: usize) {
        if let Some(told) = self.workers.get(worker).and_then(|counts| counts.told.get(service)) {
            told.store(false, Ordering::SeqCst);
        }
    }

    /// Says that a service is full, but not over and over.
    fn say_full(&self, room: &Room) {
        let now = self.since.elapsed().as_secs() + 1;
        let said = room.said_full.load(Ordering::Relaxed);
        let due = said == 0 || now >= said + SAID_AGAIN;
        if due && room.said_full.compare_exchange(said, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            tracing::warn!(
                target: "river::listen", service = &*room.name, limit = room.limit,
                "the service has all the connections that limits.max_connections allows; more wait in its listeners' queues"
            );
        }
    }

    fn counted(self: &Arc<Self>, service: usize, mailboxes: &Arc<[Sender<Command>]>) -> Place {
        Place { load: Arc::clone(self), worker: None, service, mailboxes: Arc::clone(mailboxes) }
    }
}

impl Place {
    /// The service that the connection is to.
    pub(super) fn service(&self) -> usize {
        self.service
    }

    /// The worker that it is counted to.
    pub(super) fn worker(&self) -> Option<usize> {
        self.worker
    }

    /// Counts the connection to the worker that is to serve it.
    pub(super) fn assign(&mut self, worker: usize) {
        if self.worker == Some(worker) {
            return;
        }
        if self.worker.is_none() {
            // Places are taken before there is a connection for them.
            self.load.begun.fetch_add(1, Ordering::SeqCst);
        }
        if let Some(counts) = self.load.workers.get(worker) {
            // In this order, so that it is never not counted.
            counts.connections.fetch_add(1, Ordering::SeqCst);
            self.leave_worker();
            self.worker = Some(worker);
        }
    }

    fn leave_worker(&mut self) {
        if let Some(counts) = self.worker.take().and_then(|worker| self.load.workers.get(worker))
            && counts.connections.fetch_sub(1, Ordering::SeqCst) == 1
        {
            // A full channel already holds the same news.
            let _ = self.load.idle.try_send(());
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(room) = self.load.services.get(self.service)
            && room.connections.fetch_sub(1, Ordering::SeqCst) >= room.limit
        {
            // The service was full, so its accept loops wait to be told that it no longer is.
            for (mailbox, counts) in self.mailboxes.iter().zip(&self.load.workers) {
                let told = counts.told.get(self.service).is_none_or(|told| told.swap(true, Ordering::SeqCst));
                if !told {
                    // A worker that is gone accepts nothing.
                    let _ = mailbox.try_send(Command::Freed { service: self.service });
                }
            }
        }
        self.leave_worker();
    }
}

impl Drop for TunnelPlace {
    fn drop(&mut self) {
        self.load.tunnels.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        self.load.count_away(self.is_tunnel).fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Sweep {
    fn drop(&mut self) {
        if self.load.sweeps.fetch_sub(1, Ordering::SeqCst) == 1 {
            // A full channel already holds the same news.
            let _ = self.load.idle.try_send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_spread_over_workers_whoever_accepts() {
        let (idle, _news) = smol::channel::bounded(1);
        let load = Arc::new(Load::new(4, [("a".into(), 1000)].into_iter(), idle));
        let mailboxes: Arc<[_]> = Arc::new([]);
        let enter = || {
            let mut place = load.enter(0, &mailboxes).unwrap();
            place.assign(load.choose(0));
            place
        };
        let places: Vec<_> = (0..400).map(|_| enter()).collect();
        for counts in &load.workers {
            let count = counts.connections.load(Ordering::Relaxed);
            assert!((98..=104).contains(&count), "{load:?}");
        }
        drop(places);
        assert_eq!(load.connections(), 0);
    }

    #[test]
    fn a_worker_is_alive_while_it_answers() {
        let load = Load::new(2, std::iter::empty(), smol::channel::bounded(1).0);
        // Nobody has been asked yet.
        assert!(load.take_beat(0) && load.take_beat(1));
        load.beat(0);
        assert!(load.take_beat(0) && !load.take_beat(1) && !load.take_beat(2));
        load.beat(1);
        assert!(!load.take_beat(0) && load.take_beat(1));
    }

    #[test]
    fn a_full_service_says_so_and_tells_when_it_is_not() {
        let (idle, news) = smol::channel::bounded(1);
        let load = Arc::new(Load::new(1, [("a".into(), 2)].into_iter(), idle));
        let (mailbox, commands) = smol::channel::unbounded();
        let mailboxes: Arc<[_]> = Arc::new([mailbox]);
        let [mut first, mut second] = [(); 2].map(|()| load.enter(0, &mailboxes).unwrap());
        first.assign(0);
        second.assign(0);
        assert!(!load.has_room(0) && load.enter(0, &mailboxes).is_none());
        drop(first);
        assert!(matches!(commands.try_recv(), Ok(Command::Freed { service: 0 })));
        let again = load.enter(0, &mailboxes).unwrap();
        drop(again);
        // It is told once until it is heard.
        assert!(commands.try_recv().is_err());
        load.hear_freed(0, 0);
        drop(load.enter(0, &mailboxes).unwrap());
        assert!(matches!(commands.try_recv(), Ok(Command::Freed { service: 0 })));
        assert!(load.has_room(0) && news.try_recv().is_err());
        drop(second);
        assert!(commands.try_recv().is_err());
        assert!(news.try_recv().is_ok());
    }
}
