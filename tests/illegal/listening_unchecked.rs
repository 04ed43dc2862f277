//! Nobody gets a listening socket without binding it or checking what was inherited.

use std::sync::Arc;

use river::base::{Address, ListenerId};
use river::system::{Listening, Origin};

fn illegal(id: ListenerId, address: Address, fd: std::os::fd::OwnedFd) -> Listening {
    Listening { id, address, fd: Arc::new(fd), origin: Origin::Inherited }
}

fn main() {}
