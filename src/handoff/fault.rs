//! Faults on purpose, for `tests/reload_faults.rs`: a process that is killed, stopped, or says something wrong at one
//! step of a hand-over, which the environment variable `RIVER_FAULT` names (`docs/decisions/0020-fault-hook.md`).
//!
//! `MOMENT:MESSAGE:FAULT[:SEED]`. The moment is `before-send`, `after-send` or `after-receive` with the fault `kill` or
//! `stop`; or `send` with one of `garbage`, `short`, `empty`, `huge`, `repeat`, `hold` (after the next message), `early` (behind
//! a message whose turn comes later), `no-fds` and `stray-fds`; or `step`, with the step's name for the message. It
//! happens once in the life of a process.
//!
//! Builds without debug assertions, as those with `--release` are, have the twin at the end of this file instead,
//! which does nothing.

#[cfg(not(debug_assertions))]
pub(super) use absent::Faults;
#[cfg(not(debug_assertions))]
pub use absent::step;
#[cfg(debug_assertions)]
pub(super) use present::Faults;
#[cfg(debug_assertions)]
pub use present::step;

use std::os::fd::OwnedFd;
use std::sync::Arc;

/// A message as it goes over the wire, with its descriptors.
type Frame = (Vec<u8>, Vec<Arc<OwnedFd>>);

#[cfg(debug_assertions)]
mod present {
    use std::collections::VecDeque;
    use std::env;
    use std::fs::File;
    use std::io::Write;
    use std::os::fd::OwnedFd;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, LazyLock};

    use super::Frame;
    use crate::handoff::{MAX_FRAME, Message};
    use crate::system;

    const VARIABLE: &str = "RIVER_FAULT";

    static PLAN: LazyLock<Option<Plan>> = LazyLock::new(|| {
        let text = env::var(VARIABLE).ok()?;
        let plan = Plan::parse(&text);
        if plan.is_none() {
            say(&format!("{VARIABLE}={text} names no fault"));
        }
        plan
    });

    /// The faults of one channel.
    #[derive(Debug, Default)]
    pub(in crate::handoff) struct Faults {
        /// What goes out behind the next message.
        held: VecDeque<Frame>,
    }

    impl Faults {
        /// What is sent in place of this message.
        pub(in crate::handoff) fn outgoing(&mut self, message: &Message, frame: Frame) -> Vec<Frame> {
            strike("before-send", message.name());
            let mut frames = match due("send", message.name()) {
                None => vec![frame],
                Some(plan) if plan.fault == "hold" => {
                    self.held.push_back(frame);
                    return Vec::new();
                }
                Some(plan) => plan.spoil(message, frame),
            };
            frames.extend(self.held.drain(..));
            frames
        }

        /// The kernel has taken this message.
        pub(in crate::handoff) fn sent(&self, message: &Message) {
            strike("after-send", message.name());
        }

        /// This message was received, and nothing was done about it yet.
        pub(in crate::handoff) fn received(&self, message: &Message) {
            strike("after-receive", message.name());
        }
    }

    /// The host is at a step of its own.
    pub fn step(name: &str) {
        strike("step", name);
    }

    fn strike(moment: &str, what: &str) {
        let Some(plan) = due(moment, what) else { return };
        let struck = match plan.fault.as_str() {
            "kill" => system::kill_self(),
            "stop" => system::stop_self(),
            _ => return,
        };
        if let Err(error) = struck {
            say(&format!("{VARIABLE}: {error}"));
        }
    }

    /// The plan, if this is its moment and it comes for the first time.
    fn due(moment: &str, what: &str) -> Option<&'static Plan> {
        static DONE: AtomicBool = AtomicBool::new(false);
        let plan = PLAN.as_ref().filter(|plan| plan.moment == moment && plan.what == what)?;
        if DONE.swap(true, Ordering::SeqCst) {
            return None;
        }
        // Not through the log, whose thread is killed or stopped with this one.
        say(&format!("{VARIABLE}: {moment} {what}: {}", plan.fault));
        Some(plan)
    }

    fn say(text: &str) {
        let _ = writeln!(std::io::stderr(), "{text}");
    }

    #[derive(Debug)]
    struct Plan {
        moment: String,
        what: String,
        fault: String,
        seed: u64,
    }

    impl Plan {
        fn parse(text: &str) -> Option<Self> {
            let mut parts = text.split(':');
            let mut part = || parts.next().map(str::to_owned);
            let (moment, what, fault) = (part()?, part()?, part()?);
            let seed = part().map_or(Some(1), |seed| seed.parse().ok())?;
            let faults: &[&str] = match moment.as_str() {
                "before-send" | "after-send" | "after-receive" | "step" => &["kill", "stop"],
                "send" => {
                    &["garbage", "short", "empty", "huge", "repeat", "hold", "early", "no-fds", "stray-fds"]
                }
                _ => &[],
            };
            let known = faults.contains(&fault.as_str()) && parts.next().is_none();
            known.then_some(Self { moment, what, fault, seed })
        }

        fn spoil(&self, message: &Message, frame: Frame) -> Vec<Frame> {
            let (bytes, fds) = frame;
            let mut random = Random(self.seed);
            match self.fault.as_str() {
                "garbage" => vec![(random.noise(&bytes), fds)],
                "short" => {
                    let length = random.below(bytes.len().saturating_sub(1)).saturating_add(1);
                    vec![(bytes.into_iter().take(length).collect(), fds)]
                }
                // It looks as the end of the connection does.
                "empty" => vec![(Vec::new(), fds)],
                "huge" => {
                    let length = MAX_FRAME.saturating_add(1).saturating_add(random.below(32 << 10));
                    let padding = std::iter::repeat(b' ');
                    vec![(bytes.into_iter().chain(padding).take(length).collect(), fds)]
                }
                "repeat" => vec![(bytes.clone(), fds.clone()), (bytes, fds)],
                "early" => {
                    let early = early(message).encode().map(|early| (early, Vec::new()));
                    early.into_iter().chain([(bytes, fds)]).collect()
                }
                "no-fds" => vec![(bytes, Vec::new())],
                "stray-fds" => {
                    let stray = File::open("/dev/null").map(|file| Arc::new(OwnedFd::from(file)));
                    vec![(bytes, fds.into_iter().chain(stray).collect())]
                }
                _ => vec![(bytes, fds)],
            }
        }
    }

    /// What the same side says at a later step.
    fn early(message: &Message) -> Message {
        match message {
            Message::Hello { .. } | Message::Waiting | Message::Adopted { .. } => Message::Ready,
            Message::Ready => Message::Owned,
            Message::Owned | Message::Released => Message::Released,
            Message::Transfer { .. } | Message::Commit | Message::Drained => Message::Drained,
            Message::Draining(_) => Message::Waiting,
            Message::Taken { number } | Message::Declined { number, .. } => {
                Message::Taken { number: number.saturating_add(1) }
            }
            _ => Message::Commit,
        }
    }

    /// Xorshift: what it gives for a seed never changes.
    struct Random(u64);

    impl Random {
        fn next(&mut self) -> u64 {
            let mut state = self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            self.0 = state;
            state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
        }

        fn below(&mut self, end: usize) -> usize {
            usize::try_from(self.next()).unwrap_or(0).checked_rem(end).unwrap_or(0)
        }

        fn byte(&mut self) -> u8 {
            self.next().to_le_bytes()[0]
        }

        /// Bytes that are no message: at random, or behind a right beginning, or the message with one byte changed.
        fn noise(&mut self, frame: &[u8]) -> Vec<u8> {
            let body = frame.iter().position(|byte| *byte == b'\n').map_or(0, |at| at.saturating_add(1));
            loop {
                let mut bytes: Vec<u8> = match self.below(3) {
                    0 => Vec::new(),
                    1 => frame.iter().take(body).copied().collect(),
                    _ => {
                        let at = self.below(frame.len());
                        let byte = self.byte();
                        let change = |(nth, old): (usize, &u8)| if nth == at { byte } else { *old };
                        let changed: Vec<u8> = frame.iter().enumerate().map(change).collect();
                        if Message::decode(&changed).is_ok() {
                            continue;
                        }
                        return changed;
                    }
                };
                let length = self.below(300).saturating_add(1);
                bytes.extend((0..length).map(|_| self.byte()));
                if Message::decode(&bytes).is_err() {
                    return bytes;
                }
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        fn spoiled(fault: &str, seed: u64) -> Vec<Frame> {
            let plan = Plan::parse(&format!("send:Ready:{fault}:{seed}")).unwrap();
            plan.spoil(&Message::Ready, (Message::Ready.encode().unwrap(), Vec::new()))
        }

        #[test]
        fn what_is_spoilt_is_spoilt_and_the_same_for_a_seed() {
            for seed in 0..300 {
                for fault in ["garbage", "short", "empty", "huge"] {
                    let frames = spoiled(fault, seed);
                    assert_eq!(frames.len(), 1);
                    assert!(Message::decode(&frames[0].0).is_err(), "{fault} {seed}");
                    assert_eq!(frames[0].0, spoiled(fault, seed)[0].0);
                }
            }
            assert_eq!(spoiled("repeat", 1).len(), 2);
            let early = spoiled("early", 1);
            assert_eq!(Message::decode(&early[0].0).unwrap(), Message::Owned);
            assert_eq!(spoiled("stray-fds", 1)[0].1.len(), 1);
        }

        #[test]
        fn what_names_no_fault_is_told() {
            for text in
                ["", "send:Ready", "send:Ready:kill", "before-send:Ready:garbage", "send:Ready:huge:x"]
            {
                assert!(Plan::parse(text).is_none(), "{text}");
            }
            assert!(Plan::parse("step:files:stop").is_some());
        }
    }
}

#[cfg(not(debug_assertions))]
mod absent {
    use super::Frame;
    use crate::handoff::Message;

    #[derive(Debug, Default)]
    pub(in crate::handoff) struct Faults;

    impl Faults {
        pub(in crate::handoff) fn outgoing(&mut self, _: &Message, frame: Frame) -> [Frame; 1] {
            [frame]
        }

        pub(in crate::handoff) fn sent(&self, _: &Message) {}

        pub(in crate::handoff) fn received(&self, _: &Message) {}
    }

    /// The host is at a step of its own.
    pub fn step(_: &str) {}
}
