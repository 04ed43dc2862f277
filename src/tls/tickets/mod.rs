//! Session tickets that any instance with the same keys can open (RFC 5077, RFC 8446 §4.6.1).

mod key;
mod ring;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwapOption;
use rustls::server::ProducesTickets;

use self::ring::{Ring, Terms};
use super::TicketSettings;

pub use self::key::TicketKey;
pub use self::ring::TicketKeys;

/// The keys of one listener, which its workers use while the control thread turns them.
pub struct Tickets {
    terms: Terms,
    /// Whether the keys come from files, so that they are neither turned nor handed over.
    is_shared: bool,
    ring: ArcSwapOption<Ring>,
}

impl Tickets {
    /// With a key of its own, unless there are to be no tickets, or keys that come from files.
    ///
    /// Where the system has no random bytes to give, there are no tickets until it has; sessions are not resumed then.
    pub fn new(settings: &TicketSettings, now: SystemTime) -> Arc<Self> {
        let terms = Terms { lifetime: settings.lifetime.as_secs(), rotate: settings.rotate.as_secs().max(1) };
        let is_shared = !settings.key_files.is_empty();
        let own = if is_shared || terms.lifetime == 0 { None } else { Ring::generate(seconds(now)).ok() };
        Arc::new(Self { terms, is_shared, ring: ArcSwapOption::new(own.map(Arc::new)) })
    }

    /// Uses keys from files; the first seals.
    pub(super) fn share(&self, keys: &[TicketKey]) {
        if self.is_shared && self.terms.lifetime > 0 {
            self.ring.store(Ring::of(keys).map(Arc::new));
        }
    }

    /// The keys to be handed over: none where they come from files, which the successor reads itself.
    pub fn keys(&self) -> Option<TicketKeys> {
        if self.is_shared {
            return None;
        }
        self.ring.load().as_ref().map(|ring| ring.keys())
    }

    /// Goes on with the keys of the instance before this one, so that its tickets are good here.
    pub fn inherit(&self, keys: &TicketKeys) {
        if self.is_shared || self.terms.lifetime == 0 {
            return;
        }
        if let Some(ring) = Ring::of(&keys.0) {
            self.ring.store(Some(Arc::new(ring)));
        }
    }

    /// Makes a new key where one is due; says whether it did.
    pub fn turn(&self, now: SystemTime) -> bool {
        if self.is_shared || self.terms.lifetime == 0 {
            return false;
        }
        let now = seconds(now);
        let next = match self.ring.load().as_ref() {
            Some(ring) => ring.turn(now, self.terms),
            None => Ring::generate(now).map(Some),
        };
        match next {
            Ok(Some(ring)) => {
                self.ring.store(Some(Arc::new(ring)));
                true
            }
            Ok(None) => false,
            Err(_) => {
                tracing::error!(target: "river::tls", "the system gives no random bytes for a ticket key; the former one is used on");
                false
            }
        }
    }

    /// In what time a new key is due; `None` where none ever is.
    pub fn due_in(&self, now: SystemTime) -> Option<Duration> {
        let is_own = !self.is_shared && self.terms.lifetime > 0;
        let ring = self.ring.load();
        let seconds = ring.as_ref().map_or(0, |ring| ring.due_in(seconds(now), self.terms));
        is_own.then(|| Duration::from_secs(seconds))
    }

    /// What seals and opens the tickets of sessions whose client was asked for the same as `scope` says.
    pub(super) fn ticketer(self: &Arc<Self>, scope: [u8; 32]) -> Arc<dyn ProducesTickets> {
        Arc::new(Ticketer { tickets: Arc::clone(self), scope })
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets")
            .field("terms", &self.terms)
            .field("is_shared", &self.is_shared)
            .finish_non_exhaustive()
    }
}

/// The tickets of one configuration.
///
/// The scope goes into what is authenticated: a session without a client's certificate is no way into a listener that
/// asks for one, and one whose certificate came from an authority that counts no more is of no use either.
#[derive(Debug)]
struct Ticketer {
    tickets: Arc<Tickets>,
    scope: [u8; 32],
}

impl ProducesTickets for Ticketer {
    fn enabled(&self) -> bool {
        self.tickets.terms.lifetime > 0
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(self.tickets.terms.lifetime).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.tickets.ring.load().as_ref()?.seal(&self.scope, plain, seconds(SystemTime::now()))
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        let now = seconds(SystemTime::now());
        self.tickets.ring.load().as_ref()?.open(&self.scope, cipher, now, self.tickets.terms.lifetime)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(key_files: usize) -> TicketSettings {
        let key_files = vec!["/key".into(); key_files];
        TicketSettings { lifetime: Duration::from_secs(100), rotate: Duration::from_secs(40), key_files }
    }

    fn now() -> SystemTime {
        SystemTime::now()
    }

    #[test]
    fn an_heir_opens_what_the_former_instance_sealed_and_nobody_else_does() {
        let (former, heir) = (Tickets::new(&settings(0), now()), Tickets::new(&settings(0), now()));
        let ticket = former.ticketer([1; 32]).encrypt(b"session").unwrap();
        assert_eq!(heir.ticketer([1; 32]).decrypt(&ticket), None);
        heir.inherit(&former.keys().unwrap());
        assert_eq!(heir.ticketer([1; 32]).decrypt(&ticket).unwrap(), b"session");
        assert_eq!(heir.ticketer([2; 32]).decrypt(&ticket), None);
        assert!(heir.turn(now() + Duration::from_secs(40)));
        assert_eq!(heir.ticketer([1; 32]).decrypt(&ticket).unwrap(), b"session");
    }

    #[test]
    fn keys_of_files_are_not_handed_over_and_not_turned() {
        let shared = Tickets::new(&settings(1), now());
        assert!(shared.ticketer([0; 32]).encrypt(b"x").is_none());
        shared.share(&[TicketKey::derive(&[1; 32]).unwrap()]);
        let ticket = shared.ticketer([0; 32]).encrypt(b"x").unwrap();
        assert_eq!(shared.keys(), None);
        assert_eq!(shared.due_in(now()), None);
        assert!(!shared.turn(now() + Duration::from_secs(1_000)));
        shared.inherit(&Tickets::new(&settings(0), now()).keys().unwrap());
        assert_eq!(shared.ticketer([0; 32]).decrypt(&ticket).unwrap(), b"x");
        let other = Tickets::new(&settings(2), now());
        other.share(&[TicketKey::derive(&[2; 32]).unwrap(), TicketKey::derive(&[1; 32]).unwrap()]);
        assert_eq!(other.ticketer([0; 32]).decrypt(&ticket).unwrap(), b"x");
    }

    #[test]
    fn a_lifetime_of_zero_is_no_tickets() {
        let none = TicketSettings { lifetime: Duration::ZERO, ..settings(0) };
        let tickets = Tickets::new(&none, now());
        tickets.inherit(&Tickets::new(&settings(0), now()).keys().unwrap());
        let ticketer = tickets.ticketer([0; 32]);
        assert!(!ticketer.enabled() && ticketer.encrypt(b"x").is_none() && !tickets.turn(now()));
        assert_eq!((tickets.keys(), tickets.due_in(now())), (None, None));
    }
}
