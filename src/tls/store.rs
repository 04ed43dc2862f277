//! The certificates of all listeners, as the control thread sees them.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::expiry::{self, Tone};
use super::{Credentials, Fault, Renewal, TicketKeys};
use crate::base::ListenerId;

/// The certificates of all listeners that have some.
#[derive(Clone, Debug, Default)]
pub struct Store {
    entries: Arc<[(ListenerId, Arc<Credentials>)]>,
}

impl Store {
    /// Those of these listeners.
    pub fn new(entries: impl IntoIterator<Item = (ListenerId, Arc<Credentials>)>) -> Self {
        Self { entries: entries.into_iter().collect() }
    }

    /// Whether no listener has any.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The ticket keys to be handed over with a listener.
    pub fn ticket_keys(&self, listener: &ListenerId) -> Option<TicketKeys> {
        self.find(listener)?.tickets().keys()
    }

    /// Goes on with the ticket keys of the instance before this one.
    pub fn inherit(&self, listener: &ListenerId, keys: &TicketKeys) {
        if let Some(credentials) = self.find(listener) {
            credentials.tickets().inherit(keys);
        }
    }

    /// Makes new ticket keys where they are due.
    pub(super) fn turn_keys(&self, now: SystemTime) {
        for (listener, credentials) in &*self.entries {
            if credentials.tickets().turn(now) {
                tracing::debug!(target: "river::tls", %listener, "session tickets are sealed with a new key");
            }
        }
    }

    /// In what time the first new key is due.
    pub(super) fn keys_due_in(&self, now: SystemTime) -> Option<Duration> {
        self.entries.iter().filter_map(|(_, credentials)| credentials.tickets().due_in(now)).min()
    }

    /// Reads files again: those that may have changed, or `all`. What comes of it is logged. It blocks the thread.
    pub fn renew(&self, all: bool) {
        for (listener, credentials) in &*self.entries {
            if !all && !credentials.may_have_changed() {
                continue;
            }
            match credentials.renew() {
                Renewal::Same if all => {
                    tracing::info!(target: "river::tls", %listener, "the files of its certificates are as they were");
                }
                Renewal::Same => {}
                Renewal::Renewed => {
                    tracing::info!(target: "river::tls", %listener, "the files of its certificates have changed, and are used from now on");
                    Self::warn(listener, credentials);
                    expiry::log(listener, credentials, SystemTime::now(), Tone::Whole);
                }
                Renewal::Refused { again: true, .. } if !all => {}
                Renewal::Refused { faults, .. } => refused(listener, &faults),
            }
        }
    }

    /// Logs how the certificates stand, which are for nobody, and which secrets everybody may read.
    pub fn log(&self) {
        self.log_standing(Tone::Whole);
        self.entries.iter().for_each(|(listener, credentials)| Self::warn(listener, credentials));
    }

    /// As [`log`](Self::log), where something is wrong.
    pub fn log_what_is_wrong(&self) {
        self.log_standing(Tone::Warnings);
        self.entries.iter().for_each(|(listener, credentials)| Self::warn(listener, credentials));
    }

    /// Logs how the certificates stand.
    pub(super) fn log_standing(&self, tone: Tone) {
        let now = SystemTime::now();
        self.entries.iter().for_each(|(listener, credentials)| expiry::log(listener, credentials, now, tone));
    }

    fn warn(listener: &ListenerId, credentials: &Credentials) {
        expiry::warn_of_nameless(listener, credentials);
        for path in credentials.public_secrets() {
            tracing::warn!(
                target: "river::tls", %listener, file = %path.display(),
                "every user of the machine may read this secret; chmod o-r takes that away"
            );
        }
    }

    fn find(&self, listener: &ListenerId) -> Option<&Arc<Credentials>> {
        self.entries.iter().find(|(id, _)| id == listener).map(|(_, credentials)| credentials)
    }
}

fn refused(listener: &ListenerId, faults: &[Fault]) {
    for fault in faults {
        let file = fault.path.display();
        let cause = std::error::Error::source(fault).map(ToString::to_string);
        tracing::error!(
            target: "river::tls", %listener, %file, why = fault.problem.to_string(), cause,
            "a file of its certificates cannot be used; what was read before is used on"
        );
    }
}
