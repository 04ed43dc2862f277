//! What the lifecycle has to know of configuration and command line.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{Herald, Relaunch};
use crate::listen::ListenerSpec;
use crate::system::{Account, Activation};

/// The lifecycle's settings. Paths are absolute.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whether to wait for another instance to hand over.
    pub upgrade: bool,
    /// The listeners of all services.
    pub listeners: Vec<ListenerSpec>,
    /// Where the pid is written.
    pub pid_file: Option<PathBuf>,
    /// Where a successor finds this instance, and this instance its incumbent.
    pub upgrade_socket: Option<PathBuf>,
    /// The user to become once everything is bound that only root may bind, and before any file is made.
    pub account: Option<Account>,
    /// The sockets that the service manager passed.
    pub activation: Arc<Activation>,
    /// The hand-over's times.
    pub handoff: HandoffSettings,
    /// How long requests and idle connections may last while draining; then they are closed.
    pub drain_timeout: Duration,
    /// How long tunnels may last while draining.
    pub tunnel_drain_timeout: Duration,
    /// How often the files of certificates are looked at; zero is only at SIGUSR1.
    pub certificate_check: Duration,
    /// The command that starts this configuration cold, to be told to the operator.
    pub command: String,
    /// How this instance was started, so that it can start its successor; without it, SIGHUP does nothing.
    pub relaunch: Option<Relaunch>,
    /// The name and version of this build, to be told to the other instance.
    pub build: String,
    /// Tells those outside what becomes of the instance.
    pub herald: Herald,
}

/// How a hand-over goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandoffSettings {
    /// From `Offer` to `Ready`, and for every other step.
    pub ready_timeout: Duration,
    /// How long the incumbent can take the listeners back after its successor owns them; zero is not at all.
    pub guard: Duration,
    /// How many earlier instances may drain at a time; the oldest ends first.
    pub max_draining: NonZeroUsize,
    /// Whether connections without a request, and tunnels, go to the successor.
    pub move_connections: bool,
}

impl Default for HandoffSettings {
    fn default() -> Self {
        Self {
            ready_timeout: Duration::from_secs(30),
            guard: Duration::from_secs(10),
            max_draining: NonZeroUsize::MIN.saturating_add(7),
            move_connections: true,
        }
    }
}
