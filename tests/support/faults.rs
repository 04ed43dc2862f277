//! The faults that the suite of `tests/reload_faults.rs` knows: what goes wrong, on which side, at which step, and who
//! has to serve in the end; and how that suite and `tests/reload_faults_beside.rs` play many of them.

use std::env;
use std::fmt::{self, Display};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

/// How many schedules are played at a time; they wait most of the time.
const AT_A_TIME: usize = 6;

/// The seed of a run that is given none, so that each run plays the same.
const SEED: u64 = 3;

/// A side of a hand-over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The instance that serves at first.
    Incumbent,
    /// The one that is to take over from it.
    Successor,
}

/// Who serves when all is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The first instance.
    Old,
    /// The second instance.
    New,
    /// Either: the two sides are as fast as they are.
    Either,
    /// The third instance, to which the second handed over while the first still drained.
    Third,
    /// The one that handed over to the incumbent before, and guards it still.
    Guard,
    /// Nobody: the one that held the listeners alone was killed.
    Nobody,
}

/// One fault at one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Whether the incumbent has taken over itself a moment ago, from an instance that still guards it.
    pub relay: bool,
    /// Who has it.
    pub side: Side,
    /// `before-send`, `after-send`, `after-receive`, `send` or `step`.
    pub moment: &'static str,
    /// The message, or the step's name.
    pub what: &'static str,
    /// `kill`, `stop`, `stop-past-guard`, or what becomes of the message.
    pub fault: &'static str,
}

/// The messages of a hand-over in their order, with who sends them. (`Refuse`, `Ending`, and what instances and commands
/// say beside a hand-over, have schedules in `tests/reload_faults_beside.rs`.) `Probe` is said when a third wants to wait. After
/// `Owned` come those that move connections, of which one that no listener of the successor's has is declined; the
/// incumbent's report to the successor's desk; its last word, when it has nothing left; and that of a successor that hands
/// over to a third while the first drains.
pub const MESSAGES: [(&str, Side); 16] = [
    ("Hello", Side::Successor),
    ("Welcome", Side::Incumbent),
    ("Inventory", Side::Incumbent),
    ("Waiting", Side::Successor),
    ("Probe", Side::Incumbent),
    ("Offer", Side::Incumbent),
    ("Adopted", Side::Successor),
    ("Ready", Side::Successor),
    ("Commit", Side::Incumbent),
    ("Owned", Side::Successor),
    ("Transfer", Side::Incumbent),
    ("Taken", Side::Successor),
    ("Declined", Side::Successor),
    ("Draining", Side::Incumbent),
    ("Drained", Side::Incumbent),
    ("Released", Side::Successor),
];

/// What the hosts do between two messages: the name, who does it, and the message that it comes before.
pub const STEPS: [(&str, Side, &str); 3] = [
    ("between-files", Side::Successor, "Owned"),
    ("files-taken", Side::Successor, "Owned"),
    ("stopped-accepting", Side::Incumbent, "Drained"),
];

/// What may become of a message that is sent.
pub const SPOILT: [&str; 8] = ["garbage", "short", "empty", "huge", "repeat", "hold", "early", "stray-fds"];

/// Every schedule, in the order of the protocol: of a hand-over, and of one that follows upon another; and two in which a
/// side is stopped until the time of the guard is over.
pub fn every() -> Vec<Schedule> {
    let mut all = of_a_hand_over(false);
    let ends = ["Drained", "Released"];
    all.extend(of_a_hand_over(true).into_iter().filter(|one| !ends.contains(&one.message())));
    let past_guard =
        |side, what| Schedule { relay: false, side, moment: "after-send", what, fault: "stop-past-guard" };
    all.extend([past_guard(Side::Incumbent, "Transfer"), past_guard(Side::Successor, "Owned")]);
    all
}

fn of_a_hand_over(relay: bool) -> Vec<Schedule> {
    let mut all = Vec::new();
    for (what, sender) in MESSAGES {
        let other = match sender {
            Side::Incumbent => Side::Successor,
            Side::Successor => Side::Incumbent,
        };
        for fault in ["kill", "stop"] {
            for (side, moment) in [(sender, "before-send"), (sender, "after-send"), (other, "after-receive")]
            {
                all.push(Schedule { relay, side, moment, what, fault });
            }
        }
        let without = ["Offer", "Transfer"].contains(&what).then_some("no-fds");
        for fault in SPOILT.into_iter().chain(without) {
            all.push(Schedule { relay, side: sender, moment: "send", what, fault });
        }
    }
    for (what, side, _) in STEPS {
        all.extend(["kill", "stop"].map(|fault| Schedule { relay, side, moment: "step", what, fault }));
    }
    all
}

impl Schedule {
    /// Whether the successor believes that it has said of a connection that it is taken, and the incumbent does not hear
    /// it: then both have it, and what becomes of it cannot be told.
    pub fn leaves_a_connection_to_both(&self) -> bool {
        self.what == "Taken" && self.moment == "send"
    }

    /// What the instance that has the fault is told in its environment.
    pub fn order(&self, seed: u64) -> String {
        // One that serves is stopped first, so that it can be seen what it served when it is killed.
        let is_stop = self.is_stop() || (self.fault == "kill" && self.victim_accepts());
        let fault = if is_stop { "stop" } else { self.fault };
        format!("{}:{}:{fault}:{seed}", self.moment, self.what)
    }

    /// Whether the victim is stopped, and goes on later.
    pub fn is_stop(&self) -> bool {
        self.fault.starts_with("stop")
    }

    /// Whether the victim goes on only when the guard is over.
    pub fn is_past_guard(&self) -> bool {
        self.fault == "stop-past-guard"
    }

    /// The message at which it happens, or before which.
    pub fn message(&self) -> &'static str {
        STEPS.iter().find(|(name, ..)| *name == self.what).map_or(self.what, |(.., message)| message)
    }

    /// The place of `message` in the protocol.
    pub fn place(message: &str) -> usize {
        MESSAGES.iter().position(|(name, _)| *name == message).unwrap()
    }

    /// Whether it happens before the listeners are offered, so while no hand-over is under way.
    pub fn is_early(&self) -> bool {
        Self::place(self.message()) < Self::place("Offer")
    }

    /// Whether it happens when the successor serves, or may be taken to.
    pub fn is_late(&self) -> bool {
        let place = Self::place(self.message());
        place > Self::place("Owned") || (self.message() == "Owned" && self.was_said())
    }

    /// Whether the victim can have accepted connections when it is killed or stopped.
    pub fn victim_accepts(&self) -> bool {
        self.side == Side::Incumbent || Self::place(self.message()) >= Self::place("Ready")
    }

    /// Whether the listeners have been offered.
    fn offered(&self) -> bool {
        !self.is_early() && (self.what != "Offer" || self.was_said())
    }

    /// Whether the message has reached the other side when the fault strikes.
    fn was_said(&self) -> bool {
        matches!(self.moment, "after-send" | "after-receive")
    }

    /// Who has to serve in the end.
    pub fn outcome(&self) -> Outcome {
        use Outcome::*;
        match (self.fault, self.side) {
            // What it offered is held by both others, and neither knows of the other.
            ("kill", Side::Incumbent) if self.relay && self.offered() && !self.is_late() => Either,
            ("kill", Side::Incumbent) if self.relay && !self.offered() => Guard,
            _ if self.what == "Released" => Third,
            // The third may have the place by now.
            _ if self.what == "Probe" && !(self.fault == "kill" && self.side == Side::Incumbent) => Either,
            // There is no other that could.
            ("kill", Side::Successor) if self.what == "Drained" => Nobody,
            ("kill", Side::Successor) => Old,
            // What was offered is the successor's too.
            ("kill", Side::Incumbent) if !self.offered() => Nobody,
            ("kill", Side::Incumbent) => New,
            _ if self.is_late() => New,
            ("stop", Side::Successor) => Old,
            ("stop", Side::Incumbent) => match (self.what, self.moment) {
                // Who waits may wait for as long as it takes.
                ("Inventory", "after-send") | ("Waiting", _) | ("Offer", "before-send") => New,
                ("Commit", "after-send") => New,
                _ => Old,
            },
            ("stray-fds", _) if self.what != "Offer" => New,
            ("repeat", _) if self.what == "Owned" => New,
            // The second may come when the first was taken for good.
            ("repeat", _) if self.what == "Commit" => Either,
            _ => Old,
        }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = match self.side {
            Side::Incumbent => "incumbent",
            Side::Successor => "successor",
        };
        let relay = if self.relay { "relay:" } else { "" };
        write!(f, "{relay}{side}:{}:{}:{}", self.moment, self.what, self.fault)
    }
}

/// The schedules to play of `all`, each with its seed, as `RIVER_FAULT_SEED` and `RIVER_FAULT_SCHEDULES` want it: the
/// `always`, and a sample of `count` others, or of as many as the variable says; those whose names have its text; or `all`.
/// Where no seed is given it is the same in every run, and as many as `random` are played with another one.
pub fn choose<S: Display + Clone>(
    all: Vec<S>,
    always: &[&str],
    count: usize,
    random: usize,
) -> Vec<(S, u64)> {
    let given = env::var("RIVER_FAULT_SEED").ok().map(|seed| seed.parse().unwrap());
    let seed = given.unwrap_or(SEED);
    let wanted = env::var("RIVER_FAULT_SCHEDULES").unwrap_or_else(|_| count.to_string());
    let with = |schedules: Vec<S>, seed: u64| schedules.into_iter().map(move |one| (one, seed));
    let Ok(count) = wanted.parse::<usize>() else {
        let exact = all.iter().find(|one| one.to_string() == wanted).cloned();
        let matching = all.into_iter().filter(|one| wanted == "all" || one.to_string().contains(&wanted));
        return with(exact.map_or_else(|| matching.collect(), |one| vec![one]), seed).collect();
    };
    let (fixed, mut others): (Vec<S>, Vec<S>) =
        all.into_iter().partition(|one| always.contains(&one.to_string().as_str()));
    fastrand::Rng::with_seed(seed).shuffle(&mut others);
    let mut rest = others.split_off(count.min(others.len()));
    let mut chosen: Vec<(S, u64)> = with(fixed, seed).chain(with(others, seed)).collect();
    if given.is_none() {
        fastrand::shuffle(&mut rest);
        rest.truncate(random);
        chosen.extend(with(rest, fastrand::u64(..)));
    }
    chosen
}

/// Plays the schedules, some at a time, and panics with the names of those that failed.
pub fn play_all<S: Display + Sync>(schedules: &[(S, u64)], play: impl Fn(&S, u64) -> String + Sync) {
    assert!(!schedules.is_empty(), "no schedule is called so");
    let begin = Instant::now();
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME.min(schedules.len()) {
            scope.spawn(|| {
                while let Some((schedule, seed)) = schedules.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let begin = Instant::now();
                    let name = format!("RIVER_FAULT_SEED={seed} RIVER_FAULT_SCHEDULES={schedule}");
                    println!("{name}");
                    let played = panic::catch_unwind(AssertUnwindSafe(|| play(schedule, *seed)));
                    let took = begin.elapsed();
                    match played {
                        Ok(told) => println!("{name}: {told}, {:.1} s", took.as_secs_f64()),
                        Err(_) => {
                            println!("{name}: FAILED after {:.1} s", took.as_secs_f64());
                            failed.lock().unwrap().push(name);
                        }
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    println!("{} schedules in {:.1} s", schedules.len(), begin.elapsed().as_secs_f64());
    assert!(failed.is_empty(), "{} of {} failed:\n{}", failed.len(), schedules.len(), failed.join("\n"));
}
