//! A service as one worker serves it.

use std::rc::Rc;
use std::sync::Arc;

use super::scratch::Scratches;
use super::{Handler, Leaving, Service};
use crate::http::HeadLimits;
use crate::runtime::Handle;
use crate::upstream::{Spare, Upstreams};

/// A service as one worker serves it: its settings and what the worker keeps for it.
#[derive(Debug)]
pub struct ServiceContext {
    pub(super) service: Arc<Service>,
    pub(super) handle: Handle,
    pub(super) head_limits: HeadLimits,
    /// None where the service answers by itself.
    pub(super) upstreams: Option<Rc<Upstreams>>,
    pub(super) scratches: Scratches,
    pub(super) leaving: Rc<Leaving>,
}

impl ServiceContext {
    /// `worker` is the worker's number; `leaving` says what connections are told.
    pub fn new(service: Arc<Service>, handle: Handle, worker: usize, leaving: Rc<Leaving>) -> Rc<Self> {
        let upstreams = match &service.handler {
            Handler::Proxy { group, .. } => Some(Upstreams::new(handle.clone(), group.clone(), worker)),
            Handler::Respond(_) => None,
        };
        let head_limits =
            HeadLimits { max_bytes: service.limits.max_head, max_fields: service.limits.max_headers };
        Rc::new(Self { service, handle, head_limits, upstreams, scratches: Scratches::default(), leaving })
    }

    /// An idle connection to a server, to go along with a client's connection that departs.
    pub(super) fn take_spare(&self) -> Option<Spare> {
        self.upstreams.as_ref()?.take_spare()
    }

    /// Takes what came along with a client's connection.
    pub(super) fn add_spare(&self, spare: Spare) {
        if let Some(upstreams) = &self.upstreams {
            upstreams.add_spare(spare);
        }
    }

    /// Closes idle connections to servers: while the worker drains and nobody takes them along, few requests are left to
    /// want one, and a server that drains too should not have to wait for them.
    pub fn close_idle_upstreams(&self) {
        if let Some(upstreams) = &self.upstreams {
            upstreams.close_idle();
        }
    }
}
