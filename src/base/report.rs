//! What an instance says of itself.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The state of one instance at one time, as it says itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstanceReport {
    /// Its process id.
    pub pid: u32,
    /// How many instances took over from one another, this one included.
    pub generation: u64,
    /// Its build, such as `river 0.1.0`.
    pub build: String,
    /// What it is doing.
    pub state: InstanceState,
    /// How long it has run, in milliseconds.
    pub age_ms: u64,
    /// The connections it has, tunnels included.
    pub connections: u64,
    /// The tunnels among them.
    pub tunnels: u64,
    /// Connections that have gone to its successor.
    pub moved: u64,
    /// Connections that came to an end by themselves since it began to drain.
    pub finished: u64,
    /// Connections that it closed because the time to drain was over.
    pub cut: u64,
    /// While it drains: when what is left is closed, in milliseconds from now.
    pub deadline_ms: Option<u64>,
    /// While it can take the service back: how long still, in milliseconds.
    pub guard_ms: Option<u64>,
}

impl InstanceReport {
    /// Of an instance that has just come to be, and that nothing more is known of.
    pub fn new(pid: u32, generation: u64, build: impl Into<String>, state: InstanceState) -> Self {
        Self {
            pid,
            generation,
            build: build.into(),
            state,
            age_ms: 0,
            connections: 0,
            tunnels: 0,
            moved: 0,
            finished: 0,
            cut: 0,
            deadline_ms: None,
            guard_ms: None,
        }
    }
}

/// What an instance is doing, by the names of the design.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum InstanceState {
    /// It waits for the instance in service to hand over.
    AwaitingHandoff,
    /// It is in service.
    Serving,
    /// It is in service and hands over.
    Handing,
    /// It accepts nothing and goes on with the connections it has.
    Draining,
    /// It has ended; what it says is its last word.
    Exited,
}

impl fmt::Display for InstanceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AwaitingHandoff => "AwaitingHandoff",
            Self::Serving => "Serving",
            Self::Handing => "Handing",
            Self::Draining => "Draining",
            Self::Exited => "Exited",
        })
    }
}
