//! What the configuration says of a listener, in valid values only.

use std::sync::Arc;

use crate::base::{Address, ListenerId};
use crate::proxy::Terms;
use crate::tls::{Credentials, Store};

/// One listener of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerSpec {
    /// Its identity, unique over the whole configuration.
    pub id: ListenerId,
    /// The name of the service it feeds.
    pub service: Arc<str>,
    /// The address to bind; port 0 asks the kernel for one.
    pub address: Address,
    /// The mode of a Unix socket's path.
    pub mode: Option<u32>,
    /// The name by which the service manager passes its socket, if it does.
    pub activation: Option<Arc<str>>,
    /// What holds for its connections.
    pub terms: Arc<Terms>,
    /// The certificates that its acceptor is made of, for the control thread to renew.
    pub tls: Option<Arc<Credentials>>,
}

/// The certificates of all these listeners.
pub fn certificates(listeners: &[ListenerSpec]) -> Store {
    Store::new(listeners.iter().filter_map(|spec| Some((spec.id.clone(), spec.tls.clone()?))))
}
