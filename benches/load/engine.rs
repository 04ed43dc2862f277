//! The loop that drives the connections.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use crate::Outcome;
use crate::arrivals::Arrivals;
use crate::connection::Connection;
use crate::tally::Tally;
use crate::tls::Client;

/// How long the last answers may take after the end.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest wait for events.
const TURN: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

const EVENTS: usize = 256;
const SCRATCH: usize = 256 << 10;

/// The token of the timer; no connection has that number.
const TIMER: u64 = u64::MAX;

/// What is to be done.
pub(crate) struct Plan {
    pub(crate) address: SocketAddr,
    pub(crate) request: Vec<u8>,
    pub(crate) connections: usize,
    pub(crate) length: Duration,
    /// Requests a second of an open loop.
    pub(crate) rate: Option<f64>,
    /// A connection for each request.
    pub(crate) fresh: bool,
    pub(crate) tls: Option<Client>,
}

/// A run.
pub(crate) struct Engine<'a> {
    plan: &'a Plan,
    epoll: OwnedFd,
    /// Wakes the loop when the next request is due: the kernel's own waits are too coarse for that.
    timer: OwnedFd,
    arrivals: Option<Arrivals>,
    slots: Vec<Slot>,
    /// Slots without a request.
    idle: Vec<usize>,
    /// When the requests were due that have found no idle connection.
    waiting: VecDeque<Instant>,
    tally: Tally,
    end: Instant,
}

/// A connection's place.
#[derive(Default)]
struct Slot {
    connection: Option<Connection>,
    /// When its request was due, while it is not answered.
    due: Option<Instant>,
}

impl<'a> Engine<'a> {
    pub(crate) fn new(plan: &'a Plan) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let timer =
            timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        // Each expiry is an edge of its own, so that it need not be read.
        epoll::add(&epoll, &timer, EventData::new_u64(TIMER), EventFlags::IN | EventFlags::ET)?;
        let begin = Instant::now();
        Ok(Self {
            plan,
            epoll,
            timer,
            arrivals: plan.rate.map(|rate| Arrivals::new(begin, rate)),
            slots: (0..plan.connections).map(|_| Slot::default()).collect(),
            idle: (0..plan.connections).rev().collect(),
            waiting: VecDeque::new(),
            tally: Tally::new(begin),
            end: begin + plan.length,
        })
    }

    /// Goes on until the time is up and what was asked is answered.
    pub(crate) fn run(mut self) -> Outcome<Tally> {
        let mut events = Vec::with_capacity(EVENTS);
        let mut scratch = vec![0; SCRATCH];
        loop {
            let now = Instant::now();
            self.assign(now);
            let busy = self.slots.iter().any(|slot| slot.due.is_some());
            if now >= self.end && !busy && self.waiting.is_empty() {
                return Ok(self.tally);
            }
            if now >= self.end + PATIENCE {
                let left = self.waiting.len() + self.slots.iter().filter(|slot| slot.due.is_some()).count();
                for _ in 0..left {
                    self.tally.failed(format!("no answer within {PATIENCE:?} after the end"));
                }
                return Ok(self.tally);
            }
            self.set_timer(now)?;
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&TURN)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                let token = { event.data }.u64();
                if let Ok(number) = usize::try_from(token)
                    && token != TIMER
                {
                    self.drive(number, &mut scratch);
                }
            }
        }
    }

    /// Gives the requests that are due to idle connections.
    fn assign(&mut self, now: Instant) {
        if let Some(arrivals) = &mut self.arrivals {
            while arrivals.next() < self.end
                && let Some(due) = arrivals.take(now)
            {
                self.tally.noticed(due, now);
                self.waiting.push_back(due);
            }
        } else if now < self.end {
            self.waiting.extend(self.idle.iter().map(|_| now));
        }
        while let Some(&number) = self.idle.last()
            && let Some(due) = self.waiting.pop_front()
        {
            self.idle.pop();
            if let Err(error) = self.ask(number, due) {
                self.lose(number, &error);
            }
        }
    }

    fn ask(&mut self, number: usize, due: Instant) -> io::Result<()> {
        let Some(slot) = self.slots.get_mut(number) else { return Ok(()) };
        slot.due = Some(due);
        let connection = match &mut slot.connection {
            Some(connection) => connection,
            none => {
                let tls = self.plan.tls.as_ref().map(Client::connection).transpose();
                let tls = tls.map_err(io::Error::other)?;
                none.insert(Connection::open(&self.plan.address, tls, &self.epoll, number as u64)?)
            }
        };
        connection.ask(&self.plan.request)
    }

    fn drive(&mut self, number: usize, scratch: &mut [u8]) {
        let Some(slot) = self.slots.get_mut(number) else { return };
        // Reported for one that was there before.
        let Some(connection) = &mut slot.connection else { return };
        let progress = match connection.drive(&self.plan.request, scratch) {
            Ok(progress) => progress,
            Err(error) => return self.lose(number, &error),
        };
        if progress.answered
            && let Some(due) = slot.due.take()
        {
            self.tally.answered(due);
            if !self.plan.fresh && !progress.closed {
                self.idle.push(number);
            }
        }
        if progress.closed {
            if slot.due.is_some() {
                return self.lose(number, &io::Error::other("closed before the answer"));
            }
            // The server closes first where a connection is for one request.
            slot.connection = None;
            if self.plan.fresh || progress.answered {
                self.idle.push(number);
            }
        }
    }

    /// Counts the request as failed and begins with a new connection.
    fn lose(&mut self, number: usize, error: &io::Error) {
        let Some(slot) = self.slots.get_mut(number) else { return };
        slot.connection = None;
        if slot.due.take().is_some() {
            self.tally.failed(error.to_string());
            self.idle.push(number);
        } else if self.plan.fresh {
            // It was answered, and then reset instead of closed.
            self.idle.push(number);
        }
    }

    fn set_timer(&self, now: Instant) -> io::Result<()> {
        let Some(arrivals) = &self.arrivals else { return Ok(()) };
        // Zero would switch it off.
        let after = arrivals.next().min(self.end).saturating_duration_since(now).max(Duration::from_nanos(1));
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let once = Timespec { tv_sec: after.as_secs() as i64, tv_nsec: after.subsec_nanos().into() };
        let setting = Itimerspec { it_interval: zero, it_value: once };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &setting)?;
        Ok(())
    }
}
