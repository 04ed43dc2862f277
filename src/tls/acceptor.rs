//! What a listener needs to take TLS connections.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;

use super::turnstile::{Turnstile, Wait};

/// What a listener needs to take TLS connections: the configuration that its handshakes use, which can be replaced while
/// it is in use, and how many handshakes it lets go on at a time.
///
/// Two are equal if their limits are: the configuration changes.
pub struct Acceptor {
    config: ArcSwap<ServerConfig>,
    limits: HandshakeLimits,
    turnstile: Turnstile,
}

/// How long a handshake may take, and how many may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandshakeLimits {
    /// From the begin of the connection to the end of its handshake, the wait for its turn included. Not zero.
    pub timeout: Duration,
    /// Handshakes of a listener that are worked on at one time, over all workers; at least 1. The next ones wait for their
    /// turn, in the order in which they came. One that waits for its client does not count.
    pub max_concurrent: usize,
}

impl Acceptor {
    /// An acceptor with the default [`HandshakeLimits`].
    pub fn new(config: Arc<ServerConfig>) -> Self {
        Self::with_limits(config, HandshakeLimits::default())
    }

    /// An acceptor with limits of its own.
    pub fn with_limits(config: Arc<ServerConfig>, limits: HandshakeLimits) -> Self {
        Self { config: ArcSwap::new(config), limits, turnstile: Turnstile::new(limits.max_concurrent) }
    }

    /// Uses `config` for the handshakes that begin from now on.
    pub fn replace(&self, config: Arc<ServerConfig>) {
        self.config.store(config);
    }

    /// The configuration that a handshake which begins now uses.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        self.config.load_full()
    }

    /// Waits for the turn of another handshake.
    pub(super) fn enter(&self) -> Wait<'_> {
        self.turnstile.enter()
    }

    /// How long a handshake may take, and how many may go on.
    pub fn limits(&self) -> HandshakeLimits {
        self.limits
    }
}

impl Default for HandshakeLimits {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(10), max_concurrent: 1_000 }
    }
}

impl PartialEq for Acceptor {
    fn eq(&self, other: &Self) -> bool {
        self.limits == other.limits
    }
}

impl Eq for Acceptor {}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor").field("limits", &self.limits).finish_non_exhaustive()
    }
}
