//! Faults in what is said beside a hand-over: the questions of `river status` and their answers, the word of the instance
//! in service that ends one that drains, the refusal of a second successor, and the farewell to one that waits.
//!
//! One side is killed, stopped, or says something wrong. Whatever happens, no request is lost but on connections of the
//! killed process, everybody ends in time who has to, one instance serves, answers, and hands over to the next one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::HashSet;
use std::fmt;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use support::asker::instances;
use support::faults::{SPOILT, choose, play_all};
use support::peer::owner;
use support::*;

/// `handoff.ready_timeout` of the instances.
const STEP: Duration = Duration::from_secs(2);

/// How long somebody waits for an answer at most (twice `handoff::GREETING_TIMEOUT`), or is let to end before it gets a
/// signal; and what a busy machine may add.
const WAIT: Duration = Duration::from_secs(15);

/// How long a process is stopped.
const STOP: Duration = Duration::from_millis(2500);

/// What is said: by whom, to whom.
const WORDS: [(&str, Role, Role); 5] = [
    ("Ask", Role::Command, Role::Desk),
    ("Instances", Role::Desk, Role::Command),
    ("End", Role::Desk, Role::Oldest),
    ("Refuse", Role::Desk, Role::Rival),
    ("Ending", Role::Desk, Role::Waiter),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// The instance in service.
    Desk,
    /// `river status`.
    Command,
    /// The first instance, which drains.
    Oldest,
    /// One that waits to take over.
    Waiter,
    /// One that wants to wait, too.
    Rival,
}

#[derive(Clone, Debug)]
struct Schedule {
    victim: Role,
    moment: &'static str,
    what: &'static str,
    fault: &'static str,
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = if self.moment == "after-receive" { "hears" } else { "says" };
        write!(f, "{side}:{}:{}:{}", self.moment, self.what, self.fault)
    }
}

fn every() -> Vec<Schedule> {
    let mut all = Vec::new();
    for (what, says, hears) in WORDS {
        for fault in ["kill", "stop"] {
            for (victim, moment) in [(says, "before-send"), (says, "after-send"), (hears, "after-receive")] {
                all.push(Schedule { victim, moment, what, fault });
            }
        }
        let spoilt = SPOILT.iter().filter(|fault| **fault != "early");
        all.extend(spoilt.map(|fault| Schedule { victim: says, moment: "send", what, fault }));
    }
    all
}

#[test]
fn a_fault_in_what_is_said_beside_a_hand_over_harms_nobody_else() {
    if !cfg!(debug_assertions) {
        eprintln!("skipped: builds without debug assertions have no faults to order");
        return;
    }
    play_all(&choose(every(), &[], usize::MAX, 0), play);
}

fn play(schedule: &Schedule, seed: u64) -> String {
    let mut scene = Scene::open(schedule.clone(), seed);
    scene.speak();
    scene.strike();
    scene.expect_ends();
    scene.settle();
    scene.close()
}

struct Scene {
    schedule: Schedule,
    seed: u64,
    /// The instances, in the order in which they were started.
    cast: Vec<Running>,
    /// Where the instance in service stands among them.
    desk: usize,
    /// `river status`.
    command: Option<Running>,
    waiter: Option<usize>,
    rival: Option<usize>,
    loads: Vec<Load>,
    /// The connection of a request that the first instance is at.
    held: Conn,
    killed: Option<u32>,
    excused: HashSet<SocketAddr>,
    _origin: Origin,
}

impl Scene {
    /// Two instances, or three where one is to be ended; the last serves, and the one before it guards it.
    fn open(schedule: Schedule, seed: u64) -> Self {
        let origin = Origin::builder().forgetful().start();
        let handoff = format!("ready_timeout: \"{}ms\", guard: \"8s\", max_draining: 1", STEP.as_millis());
        let first = River::with_config(Config::proxy(&origin).handoff(&handoff)).named("first");
        let strikes = |role| schedule.victim == role;
        let first = Self::strike_if(strikes(Role::Oldest), first, &schedule, seed).serve();
        let mut held = Conn::open(first.web());
        held.send("POST /held HTTP/1.1\r\nhost: test.example\r\ncontent-length: 4\r\n\r\nhe");
        let mut loads =
            vec![Load::keep_alive(3, Pacing::Think(1..=20)), Load::per_request(2, Pacing::Think(1..=20))];
        let loads: Vec<Load> = loads.drain(..).map(|plan| plan.start(first.web())).collect();
        loads.iter().for_each(|load| load.wait_for(4, PATIENCE));
        let ends = schedule.what == "End";
        let second = first.successor().named("second");
        let second = Self::strike_if(strikes(Role::Desk) && !ends, second, &schedule, seed);
        let second = upgrade_to(&first, second);
        // Nobody is asked, for the questions are what has faults.
        let held_from = held.socket().local_address().unwrap();
        until("all but one connection have moved", PATIENCE, || {
            let mut clients = first.tcp_peers();
            clients.retain(|peer| *peer != origin.address());
            clients == [held_from]
        });
        let mut cast = vec![first, second];
        if ends {
            let third = cast[1].successor().named("third");
            let third = Self::strike_if(strikes(Role::Desk), third, &schedule, seed);
            cast.push(upgrade_to(&cast[1], third));
        }
        let desk = cast.len() - 1;
        Self {
            schedule,
            seed,
            cast,
            desk,
            command: None,
            waiter: None,
            rival: None,
            loads,
            held,
            killed: None,
            excused: HashSet::new(),
            _origin: origin,
        }
    }

    /// The victim gets its order. One that is to be killed is stopped first, so that it can be seen what it served.
    fn strike_if(is_victim: bool, river: River, schedule: &Schedule, seed: u64) -> River {
        if !is_victim {
            return river;
        }
        let fault = if schedule.fault == "kill" { "stop" } else { schedule.fault };
        river.env("RIVER_FAULT", &format!("{}:{}:{fault}:{seed}", schedule.moment, schedule.what))
    }

    fn order(&self, role: Role, river: River) -> River {
        Self::strike_if(self.schedule.victim == role, river, &self.schedule, self.seed)
    }

    fn is_of(&self, what: &str) -> bool {
        self.schedule.what == what
    }

    /// What leads to the message.
    fn speak(&mut self) {
        if self.is_of("Ask") || self.is_of("Instances") {
            let dir = self.cast[0].dir().clone();
            let command = River::in_dir(dir.clone()).without_config().named("status");
            let command = command.arg("status").arg("--config").arg(dir.config());
            self.command = Some(self.order(Role::Command, command).start());
        }
        if self.is_of("Refuse") || self.is_of("Ending") {
            let waiter = self.order(Role::Waiter, self.cast[self.desk].successor().named("waiter")).start();
            waiter.wait_state("AwaitingHandoff");
            self.cast[self.desk].wait_for_line("waits to take over", PATIENCE);
            self.waiter = Some(self.cast.len());
            self.cast.push(waiter);
        }
        if self.is_of("Refuse") {
            let rival = self.order(Role::Rival, self.cast[self.desk].successor().named("rival")).start();
            self.rival = Some(self.cast.len());
            self.cast.push(rival);
        }
        if self.is_of("Ending") {
            // Nobody is to serve from here on.
            self.judge_loads();
            self.cast[self.desk].signal(Signal::TERM);
        }
    }

    fn victim(&self) -> &Running {
        match self.schedule.victim {
            Role::Desk => &self.cast[self.desk],
            Role::Oldest => &self.cast[0],
            Role::Command => self.command.as_ref().unwrap(),
            Role::Waiter => &self.cast[self.waiter.unwrap()],
            Role::Rival => &self.cast[self.rival.unwrap()],
        }
    }

    fn strike(&mut self) {
        self.victim().wait_for_line("RIVER_FAULT: ", PATIENCE);
        if !["kill", "stop"].contains(&self.schedule.fault) {
            return;
        }
        until("the victim stops", PATIENCE, || self.victim().is_stopped());
        if self.schedule.fault == "kill" {
            let own: HashSet<SocketAddr> = self.victim().tcp_peers().into_iter().collect();
            let others = self.cast.iter().filter(|one| one.pid() != self.victim().pid() && one.alive());
            let shared: HashSet<SocketAddr> = others.flat_map(|one| one.tcp_peers()).collect();
            self.excused = own.difference(&shared).copied().collect();
            self.victim().signal(Signal::KILL);
            self.victim().wait_exit(PATIENCE);
            self.killed = Some(self.victim().pid());
            return;
        }
        let begin = Instant::now();
        if self.schedule.victim != Role::Desk {
            // It hinders nobody.
            self.loads.iter().for_each(|load| load.wait_for(10, PATIENCE));
            if !self.is_of("Ending") {
                assert!(!instances(&self.cast[0].dir().upgrade_socket()).is_empty());
            }
        }
        until("the stop has lasted", PATIENCE, || begin.elapsed() > STOP);
        self.victim().resume();
    }

    /// Who has to end by itself does.
    fn expect_ends(&mut self) {
        let killed = self.killed;
        let ends = |one: &Running, codes: &[i32]| {
            let status = one.wait_exit(WAIT);
            let known = Some(one.pid()) == killed || status.code().is_some_and(|code| codes.contains(&code));
            assert!(known, "{} ended with {status}", one.pid());
        };
        if let Some(command) = &self.command {
            ends(command, &[0, 69, 70, 75]);
        }
        if let Some(rival) = self.rival {
            // It may have the place where the incumbent that refused it has gone.
            if killed != Some(self.cast[self.desk].pid()) {
                ends(&self.cast[rival], &[70, 75]);
            } else {
                ends(&self.cast[rival], &[69, 70, 75]);
                ends(&self.cast[self.waiter.unwrap()], &[69]);
            }
        }
        if self.is_of("Ending") {
            ends(&self.cast[self.waiter.unwrap()], &[69, 70, 75]);
            ends(&self.cast[self.desk], &[0]);
        }
        if self.is_of("End") {
            let desk_died = killed == Some(self.cast[self.desk].pid());
            if desk_died && self.schedule.moment == "before-send" {
                // One drains, beside the one that takes back.
                self.held.send("ld");
                assert_eq!(self.held.read_response("POST").text(), "POST /held\nheld");
            } else {
                ends(&self.cast[0], &[0]);
            }
        }
    }

    /// One instance serves, and answers.
    fn settle(&mut self) {
        let dir = self.cast[0].dir().clone();
        if self.is_of("Ending") {
            // Whether the guard took back depends on how far the farewell had come.
            let taken_back = || self.cast[0].states().last().map(String::as_str) == Some("Serving");
            if dir.pid() != Some(self.cast[0].pid()) || !taken_back() {
                self.cast.iter().filter(|one| one.alive()).for_each(|one| one.signal(Signal::INT));
                for one in &self.cast {
                    one.wait_exit(PATIENCE);
                }
                self.cast.push(River::in_dir(dir).named("cold").serve());
                return;
            }
        }
        let serves = |one: &&Running| {
            one.alive()
                && dir.pid() == Some(one.pid())
                && one.states().last().map(String::as_str) == Some("Serving")
        };
        let begin = Instant::now();
        while self.cast.iter().filter(serves).count() != 1 || owner(&dir.upgrade_socket()) != dir.pid() {
            assert!(begin.elapsed() < WAIT, "pidfile {:?} and nobody in service", dir.pid());
            thread::park_timeout(Duration::from_millis(5));
        }
        let serving = self.cast.iter().position(|one| Some(one.pid()) == dir.pid()).unwrap();
        let expected =
            if self.killed == Some(self.cast[self.desk].pid()) { self.desk - 1 } else { self.desk };
        assert!(serving == expected || self.is_of("Ending"), "number {serving} serves, not {expected}");
        self.loads.iter().for_each(|load| load.wait_for(5, PATIENCE));
        let known = instances(&dir.upgrade_socket());
        assert_eq!((known[0].pid, known[0].state.as_str()), (self.cast[serving].pid(), "Serving"));
        let waiter = self.waiter.map(|waiter| &self.cast[waiter]).filter(|waiter| waiter.alive());
        match waiter {
            Some(waiter) => {
                self.cast[serving].signal(Signal::QUIT);
                waiter.wait_serving();
            }
            None => {
                let next = upgrade_to(&self.cast[serving], self.cast[serving].successor().named("last"));
                self.cast.push(next);
            }
        }
    }

    /// Stops the load, of which nothing may be lost but what was the killed process's.
    fn judge_loads(&mut self) -> u64 {
        let mut sent = 0;
        for load in self.loads.drain(..) {
            let report = load.stop();
            report.expect_none_lost_but(&self.excused);
            sent += report.sent;
        }
        sent
    }

    fn close(mut self) -> String {
        let sent = self.judge_loads();
        let dir = self.cast[0].dir().clone();
        // The held request of one that drains ends here, too.
        self.cast.iter().filter(|one| one.alive()).for_each(|one| one.signal(Signal::INT));
        for one in &self.cast {
            one.wait_exit(PATIENCE);
            assert!(!one.log().contains("panicked"), "{}", one.log().text());
        }
        assert_eq!(dir.names(), ["river.ron"]);
        format!("{sent} requests, {} excused", self.excused.len())
    }
}
