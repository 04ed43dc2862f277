//! A service as one worker serves it.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use super::fields::Recent;
use super::runners::Runners;
use super::scratch::Scratches;
use super::{Handler, Leaving, Service};
use crate::http::HeadLimits;
use crate::runtime::Handle;
use crate::upstream::{Group, Spare, Upstreams};

/// A service as one worker serves it: its settings and what the worker keeps for it.
#[derive(Debug)]
pub struct ServiceContext {
    pub(super) service: Arc<Service>,
    pub(super) handle: Handle,
    pub(super) head_limits: HeadLimits,
    /// None where no requests are forwarded.
    pub(super) upstreams: Option<Rc<Upstreams>>,
    /// The groups of a tcp service, in their order.
    pub(super) groups: Vec<Rc<Upstreams>>,
    pub(super) scratches: Scratches,
    pub(super) runners: Runners,
    /// For the head of a request in HTTP/2 while it is written.
    pub(super) stream_head: RefCell<Vec<u8>>,
    /// Of the responses to clients of HTTP/2.
    pub(super) recent: Recent,
    pub(super) leaving: Rc<Leaving>,
}

impl ServiceContext {
    /// `worker` is the worker's number; `leaving` says what connections are told.
    pub fn new(service: Arc<Service>, handle: Handle, worker: usize, leaving: Rc<Leaving>) -> Rc<Self> {
        let upstreams = |group: &Group| Upstreams::new(handle.clone(), group.clone(), worker);
        let (upstreams, groups) = match &service.handler {
            Handler::Proxy { group, .. } => (Some(upstreams(group)), Vec::new()),
            Handler::Respond(_) => (None, Vec::new()),
            Handler::Tcp(tcp) => (None, tcp.groups.iter().map(upstreams).collect()),
        };
        let head_limits =
            HeadLimits { max_bytes: service.limits.max_head, max_fields: service.limits.max_headers };
        Rc::new(Self {
            service,
            handle,
            head_limits,
            upstreams,
            groups,
            scratches: Scratches::default(),
            runners: Runners::default(),
            stream_head: RefCell::default(),
            recent: Recent::default(),
            leaving,
        })
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
