//! Hand-overs in which one side is killed, stopped, or says something wrong at one step, under load.
//!
//! Whatever happens: no request is lost but on connections that the killed process was serving; nobody waits beyond a
//! deadline; one instance serves in the end, its pid is in the pidfile, the upgrade socket leads to it, it hands over to
//! the next one, and nothing is left behind. `docs/verification.md` tells how to run all of it, or one seed again.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::HashSet;
use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use support::config::respond;
use support::faults::{MESSAGES, Outcome, Schedule, Side, choose, every, play_all};
use support::log::Line;
use support::peer::owner;
use support::wait::Count;
use support::*;

/// The schedules that are played whatever the seed: the steps at which the service changes hands.
const ALWAYS: [&str; 24] = [
    "incumbent:before-send:Offer:kill",
    "incumbent:after-send:Offer:kill",
    "incumbent:send:Offer:no-fds",
    "successor:after-receive:Offer:kill",
    "successor:after-send:Ready:kill",
    "incumbent:before-send:Commit:stop",
    "incumbent:after-send:Commit:kill",
    "incumbent:after-send:Commit:stop",
    "successor:after-receive:Commit:kill",
    "successor:after-receive:Commit:stop",
    "successor:step:between-files:kill",
    "successor:step:between-files:stop",
    "successor:before-send:Owned:stop",
    "successor:send:Owned:garbage",
    "successor:send:Owned:empty",
    "successor:after-send:Owned:kill",
    "incumbent:send:Transfer:no-fds",
    "successor:after-receive:Transfer:kill",
    "successor:after-receive:Transfer:stop",
    "successor:before-send:Taken:kill",
    "relay:incumbent:after-send:Offer:kill",
    "successor:before-send:Released:kill",
    "incumbent:after-send:Transfer:stop-past-guard",
    "successor:after-send:Owned:stop-past-guard",
];

/// How many others a run plays unless `RIVER_FAULT_SCHEDULES` says otherwise.
const SAMPLE: usize = 24;

/// How many more it plays with a seed of its own, unless `RIVER_FAULT_SEED` gives one.
const RANDOM: usize = 4;

/// `handoff.ready_timeout` of the instances.
const STEP: Duration = Duration::from_secs(2);

/// `handoff.guard` where it is to end: less than a side is stopped for.
const SHORT_GUARD: Duration = Duration::from_secs(1);

/// `handoff::GREETING_TIMEOUT`.
const GREETING: Duration = Duration::from_secs(5);

/// What a step may take beyond its deadline, on a busy machine.
const SLACK: Duration = Duration::from_secs(5);

#[test]
fn a_fault_at_any_step_loses_nothing_and_leaves_one_that_serves() {
    if !cfg!(debug_assertions) {
        eprintln!("skipped: builds without debug assertions have no faults to order");
        return;
    }
    play_all(&choose(every(), &ALWAYS, SAMPLE, RANDOM), play);
}

#[test]
#[ignore = "some minutes; cargo test --test reload_faults -- --ignored --nocapture"]
fn every_fault_at_every_step_loses_nothing_and_leaves_one_that_serves() {
    let seed = fastrand::u64(..);
    play_all(&every().into_iter().map(|one| (one, seed)).collect::<Vec<_>>(), play);
}

#[test]
fn the_schedules_cover_every_message_on_both_sides() {
    let all: HashSet<String> = every().iter().map(Schedule::to_string).collect();
    assert_eq!(all.len(), every().len());
    for name in ALWAYS {
        assert!(all.contains(name), "{name}");
    }
    for (message, _) in MESSAGES {
        for side in ["incumbent", "successor"] {
            for fault in ["kill", "stop"] {
                let of = |name: &&String| {
                    name.starts_with(side) && name.contains(&format!(":{message}:")) && name.ends_with(fault)
                };
                assert!(all.iter().any(|name| of(&name)), "{side} {message} {fault}");
            }
        }
    }
}

/// `docs/decisions/0020-fault-hook.md`; `.ci/no-fault-hook` looks at what is released.
#[test]
fn the_hook_is_in_builds_with_debug_assertions_only() {
    let binary = fs::read(env!("CARGO_BIN_EXE_river")).unwrap();
    let hook = b"RIVER_FAULT";
    let present = binary.windows(hook.len()).any(|bytes| bytes == hook);
    assert_eq!(present, cfg!(debug_assertions));
}

fn play(schedule: &Schedule, seed: u64) -> String {
    // Each schedule has noise and load of its own, which its name and the seed give.
    let nth = every().iter().position(|one| one == schedule).unwrap() as u64;
    let mut scene = Scene::open(schedule.clone(), seed.wrapping_add(nth));
    scene.run_into_the_fault();
    match schedule.fault {
        "kill" => scene.kill(),
        _ if schedule.is_stop() => scene.stop_and_go_on(),
        _ if schedule.leaves_a_connection_to_both() => scene.excuse_what_both_have(),
        _ => {}
    }
    scene.settle();
    scene.upgrade_once_more();
    scene.close()
}

/// The instances, what they serve, and what is known of them.
struct Scene {
    schedule: Schedule,
    order: String,
    /// In the order in which they were started.
    cast: Vec<Running>,
    /// What the successors have.
    config: Config,
    /// A connection to a listener that they do not have, if there is one.
    extra: Option<Conn>,
    loads: Vec<Load>,
    /// A request that the first of them is at until the test lets it end.
    held: Option<Conn>,
    /// How often SIGQUIT was sent to the incumbent.
    quits: usize,
    killed: Option<u32>,
    /// The clients' ends of the connections that were the killed process's.
    excused: HashSet<SocketAddr>,
    _origin: Origin,
}

impl Scene {
    /// The first instance serves its load.
    fn open(schedule: Schedule, seed: u64) -> Self {
        let heads = Arc::new(Count::default());
        let seen = heads.clone();
        let origin = Origin::builder().forgetful().on_head(move |request, _| {
            if request.target == "/held" {
                seen.add();
            }
            Ok(Next::Read)
        });
        let origin = origin.start();
        // Long enough to see who takes back, but where the incumbent is to end by itself.
        let short = format!("{}s", SHORT_GUARD.as_secs());
        let guard = if schedule.what == "Drained" || schedule.is_past_guard() { &short } else { "6s" };
        let times = format!("handoff: (ready_timeout: \"{}ms\", guard: \"{guard}\")", STEP.as_millis());
        let config = Config::proxy(&origin).system(&times);
        let more = config.clone().service("more", &["127.0.0.1:0"], &respond("more"));
        let declines = schedule.what == "Declined";
        let incumbent = if declines { more } else { config.clone() };
        let incumbent = River::with_config(incumbent).named("incumbent");
        let order = schedule.order(seed);
        let strikes_first = schedule.side == Side::Incumbent && !schedule.relay;
        let incumbent = if strikes_first { incumbent.env("RIVER_FAULT", &order) } else { incumbent };
        let incumbent = incumbent.serve();
        let mut random = fastrand::Rng::with_seed(seed);
        let mut plans = vec![
            Load::keep_alive(2, Pacing::Think(1..=random.u64(2..40))),
            Load::per_request(2, Pacing::Think(1..=random.u64(2..20))),
            Load::keep_alive(1, Pacing::Think(0..=5)).post(random.usize(1..100_000)),
        ];
        if random.u8(..4) == 0 {
            plans.push(Load::keep_alive(1, Pacing::Hammer));
        }
        let loads: Vec<Load> = plans.into_iter().map(|plan| plan.start(incumbent.web())).collect();
        loads.iter().for_each(|load| load.wait_for(4, PATIENCE));
        let mut held = Conn::open(incumbent.web());
        held.send("POST /held HTTP/1.1\r\nhost: test.example\r\ncontent-length: 4\r\n\r\nhe");
        heads.wait("the request that is held", PATIENCE, |count| count == 1);
        let extra = declines.then(|| {
            let mut extra = Conn::open(incumbent.address("more", 0));
            assert_eq!(extra.get("/").text(), "more");
            extra
        });
        let mut cast = vec![incumbent];
        if schedule.relay {
            let next = cast[0].successor().named("relayed incumbent");
            let strikes = schedule.side == Side::Incumbent;
            let next = if strikes { next.env("RIVER_FAULT", &order) } else { next };
            cast.push(upgrade_to(&cast[0], next));
            cast[0].wait_state("Draining");
        }
        Self {
            schedule,
            order,
            cast,
            config,
            extra,
            loads,
            held: Some(held),
            quits: 0,
            killed: None,
            excused: HashSet::new(),
            _origin: origin,
        }
    }

    /// The incumbent of the hand-over in question.
    fn incumbent(&self) -> &Running {
        &self.cast[usize::from(self.schedule.relay)]
    }

    /// Its successor.
    fn successor(&self) -> &Running {
        &self.cast[usize::from(self.schedule.relay) + 1]
    }

    fn victim(&self) -> &Running {
        match self.schedule.side {
            Side::Incumbent => self.incumbent(),
            Side::Successor => self.successor(),
        }
    }

    /// Whether the fault has struck.
    fn has_struck(&self) -> bool {
        self.victim().log().contains("RIVER_FAULT: ")
    }

    /// Sends SIGQUIT to the incumbent if it says that somebody waits.
    fn nudge(&mut self) {
        let says = |line: &Line| line.text.contains("waits to take over");
        let waiting = self.incumbent().log().lines().iter().filter(|line| says(line)).count();
        if waiting > self.quits && self.incumbent().alive() {
            self.quits = waiting;
            self.incumbent().signal(Signal::QUIT);
        }
    }

    /// Starts what follows until the fault strikes.
    fn run_into_the_fault(&mut self) {
        let successor = self.incumbent().successor().config(self.config.clone());
        let successor = match self.schedule.side {
            Side::Successor => successor.env("RIVER_FAULT", &self.order),
            Side::Incumbent => successor,
        };
        self.cast.push(successor.start());
        match self.schedule.message() {
            "Drained" if self.schedule.moment != "step" => {
                self.hand_over();
                self.finish_held();
            }
            "Released" => {
                self.hand_over();
                self.cast.push(self.incumbent().successor().named("third").start());
                self.cast[2].wait_state("AwaitingHandoff");
                self.cast[1].signal(Signal::QUIT);
            }
            _ => {}
        }
        let probes = self.schedule.what == "Probe";
        if probes {
            self.incumbent().wait_for_line("waits to take over", PATIENCE);
            self.cast.push(self.incumbent().successor().named("rival").start());
        }
        until("the fault strikes", PATIENCE, || {
            if !probes {
                self.nudge();
            }
            self.has_struck()
        });
    }

    fn hand_over(&mut self) {
        until("the successor serves", PATIENCE, || {
            self.nudge();
            self.successor().states().last().map(String::as_str) == Some("Serving")
        });
        self.incumbent().wait_state("Draining");
    }

    /// The victim is killed by its own hand, or stopped so that it can be seen what it served when it was killed.
    fn kill(&mut self) {
        if self.victim_is_to_be_stopped_first() {
            let victim = self.victim();
            until("the victim stops", PATIENCE, || victim.is_stopped());
            // What another has as well is not the victim's alone: it lives on there. An answer that was given is heard first.
            let settled = Instant::now() + if self.schedule.what == "Taken" { STEP } else { Duration::ZERO };
            let excused = loop {
                let of_victim: HashSet<SocketAddr> = victim.tcp_peers().into_iter().collect();
                let others = self.cast.iter().filter(|one| one.pid() != victim.pid() && one.alive());
                let of_others: HashSet<SocketAddr> = others.flat_map(|one| one.tcp_peers()).collect();
                if of_victim.is_disjoint(&of_others) || Instant::now() > settled {
                    break of_victim.difference(&of_others).copied().collect();
                }
                thread::park_timeout(Duration::from_millis(5));
            };
            victim.signal(Signal::KILL);
            self.excused = excused;
        }
        self.victim().wait_exit(PATIENCE);
        self.killed = Some(self.victim().pid());
    }

    /// Looks until the successor has gone on, at what both have meanwhile.
    fn excuse_what_both_have(&mut self) {
        let begin = Instant::now();
        while begin.elapsed() < STEP / 4 {
            let [one, other]: [HashSet<SocketAddr>; 2] =
                [self.incumbent(), self.successor()].map(|one| one.tcp_peers().into_iter().collect());
            self.excused.extend(one.intersection(&other));
        }
    }

    fn victim_is_to_be_stopped_first(&self) -> bool {
        self.schedule.victim_accepts()
    }

    /// The victim is stopped until every deadline that the other could have for it has passed.
    fn stop_and_go_on(&mut self) {
        until("the victim stops", PATIENCE, || self.victim().is_stopped());
        let begin = Instant::now();
        let limit = if self.schedule.is_early() { GREETING } else { STEP };
        let others_serve = self.schedule.side == Side::Successor && !self.schedule.is_late();
        if others_serve {
            // It serves on all the while.
            self.loads.last().unwrap().wait_for(10, SLACK);
        }
        until("the stop has lasted", PATIENCE, || {
            self.nudge();
            begin.elapsed() > limit + limit / 5
        });
        if others_serve {
            until("the incumbent has given the successor up", SLACK, || {
                self.incumbent().states().last().map(String::as_str) == Some("Serving")
            });
            self.loads.last().unwrap().wait_for(10, SLACK);
        }
        if self.schedule.is_past_guard() {
            // Of its own accord, or as soon as it goes on.
            if self.schedule.side == Side::Successor {
                self.incumbent().wait_for_line("the guard period is over", SLACK);
            }
            assert!(begin.elapsed() > SHORT_GUARD, "the guard is not over");
        }
        self.victim().resume();
        if self.schedule.is_past_guard() {
            self.incumbent().wait_for_line("the guard period is over", SLACK);
        }
    }

    /// Waits until one instance serves, with pidfile and upgrade socket, and no other is on its way to.
    fn settle(&mut self) {
        let outcome = self.schedule.outcome();
        if outcome == Outcome::Nobody {
            return self.start_anew();
        }
        let deadline = if self.schedule.is_early() { GREETING } else { STEP };
        let begin = Instant::now();
        while !self.is_settled() {
            self.nudge();
            if begin.elapsed() > deadline + SLACK {
                panic!("{:?} after the fault nobody is in service alone: {}", begin.elapsed(), self.tell());
            }
            thread::park_timeout(Duration::from_millis(5));
        }
        let serving =
            self.cast.iter().position(|one| Some(one.pid()) == self.incumbent().dir().pid()).unwrap();
        let relay = usize::from(self.schedule.relay);
        let expected = match outcome {
            Outcome::Guard => serving == 0,
            Outcome::Old => serving == relay,
            Outcome::New => serving == relay + 1,
            Outcome::Third => serving == 2,
            Outcome::Either | Outcome::Nobody => true,
        };
        assert!(expected, "number {serving} serves instead of {outcome:?}");
        self.loads.iter().for_each(|load| load.wait_for(5, PATIENCE));
        assert!(self.is_settled(), "it did not last: {}", self.tell());
    }

    fn is_settled(&self) -> bool {
        let pid = self.incumbent().dir().pid();
        let mut serving = 0;
        for one in self.cast.iter().filter(|one| one.alive()) {
            match one.states().last().map(String::as_str) {
                Some("Serving") if Some(one.pid()) == pid => serving += 1,
                Some("Draining" | "Exited") => {}
                _ => return false,
            }
        }
        serving == 1 && owner(&self.incumbent().dir().upgrade_socket()) == pid
    }

    /// What each does.
    fn tell(&self) -> String {
        let one = |one: &Running| format!("{} {} {:?}", one.pid(), one.alive(), one.states().last());
        let cast: Vec<String> = self.cast.iter().map(one).collect();
        let dir = self.incumbent().dir();
        format!("{}; pidfile {:?}, socket {:?}", cast.join(", "), dir.pid(), owner(&dir.upgrade_socket()))
    }

    /// The only one that held the listeners was killed: who waits says so, and what is left hinders nobody.
    fn start_anew(&mut self) {
        for one in self.cast.iter().filter(|one| Some(one.pid()) != self.killed) {
            let status = one.wait_exit(GREETING + SLACK);
            // One that came second was refused by then.
            if !["Drained", "Probe"].contains(&self.schedule.what) {
                assert_eq!(status.code(), Some(69));
                one.wait_for_line("to start cold", SOON);
            }
        }
        self.loads.clear();
        self.held = None;
        let dir = self.incumbent().dir().clone();
        self.cast.push(River::in_dir(dir).named("cold").serve());
        assert!(self.is_settled(), "{}", self.tell());
    }

    /// The one that serves hands over to another.
    fn upgrade_once_more(&mut self) {
        let pid = self.incumbent().dir().pid();
        let next = self.incumbent().successor().named("last").start();
        next.wait_state("AwaitingHandoff");
        let serving = self.cast.iter().find(|one| Some(one.pid()) == pid).unwrap();
        serving.signal(Signal::QUIT);
        next.wait_serving();
        self.loads.iter().for_each(|load| load.wait_for(5, PATIENCE));
        self.cast.push(next);
        self.finish_held();
    }

    /// Lets the held request end; it gets its whole answer unless its process was killed.
    fn finish_held(&mut self) {
        let Some(mut held) = self.held.take() else { return };
        if self.killed != Some(self.cast[0].pid()) {
            held.send("ld");
            assert_eq!(held.read_response("POST").text(), "POST /held\nheld");
        }
        // A connection that nobody took is the first one's still.
        let Some(mut extra) = self.extra.take() else { return };
        if !self.excused.contains(&extra.socket().local_address().unwrap()) {
            assert_eq!(extra.get("/").text(), "more");
        }
    }

    /// Everybody ends well, nothing is left behind, and nothing was lost.
    fn close(mut self) -> String {
        let last = self.cast.pop().unwrap();
        let dir = last.dir().clone();
        assert_eq!(dir.pid(), Some(last.pid()));
        assert_eq!(owner(&dir.upgrade_socket()), Some(last.pid()));
        let (mut sent, mut excused) = (0, 0);
        for load in self.loads.drain(..) {
            let report = load.stop();
            report.expect_none_lost_but(&self.excused);
            sent += report.sent;
            excused += report.lost;
        }
        // Who does not hear from its successor any more guards it to the end, if it is not told to end, too.
        for one in self.cast.iter().filter(|one| self.schedule.is_late() && one.alive()) {
            one.signal(Signal::TERM);
        }
        // It says that it ends, so that the one before it does not guard it for longer.
        last.signal(Signal::TERM);
        assert!(last.wait_exit(PATIENCE).success());
        for one in &self.cast {
            let status = one.wait_exit(PATIENCE);
            if Some(one.pid()) != self.killed {
                let known = [Some(0), Some(69), Some(70), Some(73), Some(75)];
                assert!(known.contains(&status.code()), "{} ended with {status}", one.pid());
            }
        }
        assert_eq!(dir.names(), ["river.ron"]);
        for one in self.cast.iter().chain([&last]) {
            assert!(!one.log().contains("panicked"), "{}", one.log().text());
        }
        format!("{sent} requests, {excused} excused")
    }
}
