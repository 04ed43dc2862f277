//! The keys of a listener's session tickets, and how they follow each other. Pure: the time is an argument.

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand;
use serde::{Deserialize, Serialize};

use super::key::{NAME, TicketKey};
use crate::tls::MAX_FORMER_KEYS;

/// The keys of a listener in a message; the first seals.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TicketKeys(pub(super) Vec<TicketKey>);

impl TicketKeys {
    /// How many bytes they take in a message, at most.
    pub fn written(&self) -> usize {
        self.0.len().saturating_mul(TicketKey::WRITTEN).saturating_add(16)
    }
}

/// More keys than this are never kept.
const MOST: usize = MAX_FORMER_KEYS as usize + 2;

/// How long a ticket may be used, and how long a key seals; in seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) lifetime: u64,
    pub(super) rotate: u64,
}

/// Keys that are ready for use; at least one.
pub(super) struct Ring {
    current: Ready,
    former: Vec<Ready>,
}

struct Ready {
    key: TicketKey,
    aead: LessSafeKey,
}

impl Ready {
    fn new(key: TicketKey) -> Result<Self, Unspecified> {
        let aead = LessSafeKey::new(UnboundKey::new(&AES_256_GCM_SIV, key.secret())?);
        Ok(Self { key, aead })
    }
}

impl Ring {
    /// A ring of one new key.
    ///
    /// # Errors
    ///
    /// When the system gives no random bytes.
    pub(super) fn generate(now: u64) -> Result<Self, Unspecified> {
        Ok(Self { current: Ready::new(TicketKey::generate(now)?)?, former: Vec::new() })
    }

    /// A ring of these keys, of which the first seals; `None` where there is none.
    pub(super) fn of(keys: &[TicketKey]) -> Option<Self> {
        let mut ready = keys.iter().take(MOST).filter_map(|key| Ready::new(key.clone()).ok());
        Some(Self { current: ready.next()?, former: ready.collect() })
    }

    /// Its keys.
    pub(super) fn keys(&self) -> TicketKeys {
        TicketKeys(self.all().map(|ready| ready.key.clone()).collect())
    }

    /// The ring that follows at `now`, if one is due: with a new key, and without those none of whose tickets can be used
    /// any more.
    ///
    /// # Errors
    ///
    /// When the system gives no random bytes.
    pub(super) fn turn(&self, now: u64, terms: Terms) -> Result<Option<Self>, Unspecified> {
        // Where the clock was set back, the age cannot be told, and a key must not seal for ever.
        let is_due = self.current.key.since() > now || now - self.current.key.since() >= terms.rotate;
        if !is_due {
            return Ok(None);
        }
        let current = Ready::new(TicketKey::generate(now)?)?;
        // A key seals until the next one does, and its last ticket can be used for a lifetime after that.
        let mut until = now;
        let mut former = Vec::new();
        for ready in self.all() {
            let is_useful = until.saturating_add(terms.lifetime) > now;
            until = ready.key.since();
            if is_useful && former.len() < MOST.saturating_sub(1) {
                former.push(Ready::new(ready.key.clone())?);
            }
        }
        Ok(Some(Self { current, former }))
    }

    /// In how many seconds a new key is due.
    pub(super) fn due_in(&self, now: u64, terms: Terms) -> u64 {
        self.current.key.since().saturating_add(terms.rotate).saturating_sub(now).min(terms.rotate)
    }

    /// Seals a session: the key's name, a nonce, and the sealed time and session. It can be opened only under the same
    /// `scope`.
    pub(super) fn seal(&self, scope: &[u8], session: &[u8], now: u64) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).ok()?;
        let mut sealed = Vec::with_capacity(TIME + session.len() + self.current.aead.algorithm().tag_len());
        sealed.extend_from_slice(&now.to_be_bytes());
        sealed.extend_from_slice(session);
        let name = self.current.key.name();
        let scope = Aad::from([name, scope].concat());
        self.current
            .aead
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), scope, &mut sealed)
            .ok()?;
        Some([name.as_slice(), &nonce, &sealed].concat())
    }

    /// The session in a ticket, if a key of this ring has sealed it under `scope`, no longer than `lifetime` seconds ago.
    pub(super) fn open(&self, scope: &[u8], ticket: &[u8], now: u64, lifetime: u64) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_first_chunk::<NAME>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let ready = self.all().find(|ready| ready.key.name() == name)?;
        let mut opened = sealed.to_vec();
        let scope = Aad::from([name.as_slice(), scope].concat());
        let plain =
            ready.aead.open_in_place(Nonce::assume_unique_for_key(*nonce), scope, &mut opened).ok()?;
        let (time, session) = plain.split_first_chunk::<TIME>()?;
        let time = u64::from_be_bytes(*time);
        let age = now.saturating_sub(time);
        (age < lifetime && time <= now.saturating_add(SKEW)).then(|| session.to_vec())
    }

    fn all(&self) -> impl Iterator<Item = &Ready> {
        std::iter::once(&self.current).chain(&self.former)
    }
}

/// By how many seconds the clock of the machine that made a ticket may be ahead.
const SKEW: u64 = 5 * 60;

/// The length of the time in a ticket.
const TIME: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TERMS: Terms = Terms { lifetime: 100, rotate: 40 };

    #[test]
    fn what_was_sealed_is_opened_within_its_lifetime_and_scope() {
        let ring = Ring::generate(1_000).unwrap();
        let ticket = ring.seal(b"a", b"session", 1_010).unwrap();
        assert_eq!(ring.open(b"a", &ticket, 1_109, 100).unwrap(), b"session");
        assert!(ring.open(b"a", &ticket, 1_110, 100).is_none(), "too old");
        assert!(ring.open(b"b", &ticket, 1_010, 100).is_none(), "another scope");
        assert!(Ring::generate(1_000).unwrap().open(b"a", &ticket, 1_010, 100).is_none(), "another key");
        assert_ne!(ring.seal(b"a", b"session", 1_010).unwrap(), ticket);
    }

    #[test]
    fn a_ring_of_the_same_keys_opens_them_too() {
        let ring = Ring::generate(1_000).unwrap();
        let ticket = ring.seal(b"a", b"session", 1_000).unwrap();
        let text = ron::to_string(&ring.keys()).unwrap();
        let keys: TicketKeys = ron::from_str(&text).unwrap();
        assert_eq!(keys, ring.keys());
        let other = Ring::of(&keys.0).unwrap();
        assert_eq!(other.open(b"a", &ticket, 1_000, 100).unwrap(), b"session");
        assert!(Ring::of(&[]).is_none());
    }

    #[test]
    fn a_key_is_kept_until_its_last_ticket_is_too_old() {
        let mut ring = Ring::generate(0).unwrap();
        let first = ring.seal(b"", b"x", 39).unwrap();
        assert!(ring.turn(39, TERMS).unwrap().is_none());
        assert_eq!(ring.due_in(39, TERMS), 1);
        let mut opened = Vec::new();
        for now in [40, 80, 120, 160, 200] {
            ring = ring.turn(now, TERMS).unwrap().unwrap();
            assert_eq!(ring.due_in(now, TERMS), 40);
            opened.push((now, ring.open(b"", &first, 39, 100).is_some()));
        }
        // Its last ticket is from before 40, and so of no use from 140 on.
        assert_eq!(opened, [(40, true), (80, true), (120, true), (160, false), (200, false)]);
        assert_eq!(ring.keys().0.len(), 4);
    }

    #[test]
    fn a_clock_that_was_set_back_makes_a_new_key() {
        let ring = Ring::generate(1_000).unwrap();
        let ticket = ring.seal(b"", b"x", 1_000).unwrap();
        assert_eq!(ring.due_in(500, TERMS), 40);
        let next = ring.turn(500, TERMS).unwrap().unwrap();
        assert!(next.open(b"", &ticket, 700, 100).is_some(), "a little ahead");
        assert!(next.open(b"", &ticket, 699, 100).is_none(), "from the future, so its age is not known");
        assert!(next.turn(501, TERMS).unwrap().is_none());
    }

    #[test]
    fn there_are_never_more_keys_than_the_most() {
        let mut ring = Ring::generate(0).unwrap();
        let terms = Terms { lifetime: 1_000_000, rotate: 1 };
        for now in 1..100 {
            ring = ring.turn(now, terms).unwrap().unwrap();
        }
        assert_eq!(ring.keys().0.len(), MOST);
        let many: Vec<_> = (0..100).map(|now| TicketKey::generate(now).unwrap()).collect();
        assert_eq!(Ring::of(&many).unwrap().keys().0.len(), MOST);
    }

    proptest! {
        #[test]
        fn no_ticket_panics_and_none_that_was_changed_opens(
            session in proptest::collection::vec(any::<u8>(), 0..200),
            at in any::<usize>(),
            by in 1_u8..,
            noise in proptest::collection::vec(any::<u8>(), 0..100),
        ) {
            let ring = Ring::generate(5).unwrap();
            let mut ticket = ring.seal(b"s", &session, 5).unwrap();
            prop_assert_eq!(ring.open(b"s", &ticket, 5, 10), Some(session));
            prop_assert_eq!(ring.open(b"s", &noise, 5, 10), None);
            let length = ticket.len();
            prop_assert_eq!(ring.open(b"s", &ticket[..at % length], 5, 10), None);
            ticket[at % length] ^= by;
            prop_assert_eq!(ring.open(b"s", &ticket, 5, 10), None);
        }
    }
}
