//! One key of session tickets.

use std::fmt;
use std::hash::{Hash, Hasher};

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use aws_lc_rs::rand;
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroize as _;

/// The length of a key's public name, with which each of its tickets begins.
pub(super) const NAME: usize = 16;

/// The length of the secret, as AES-256 takes it.
pub(super) const SECRET: usize = 32;

/// The fewest and the most bytes that a key can be made from.
const MATERIAL: std::ops::RangeInclusive<usize> = 32..=80;

/// A key that seals and opens session tickets.
///
/// In messages it is a line of hexadecimal digits. In logs it is nothing but its name, and its secret is overwritten when
/// it is dropped.
#[derive(Clone)]
pub struct TicketKey {
    name: [u8; NAME],
    secret: [u8; SECRET],
    /// When it began to seal, in seconds since 1970.
    since: u64,
}

impl TicketKey {
    /// How many bytes a key takes in a message, with what stands around it.
    pub(super) const WRITTEN: usize = 2 * (NAME + SECRET + 8) + 4;

    /// A new key, which seals from `now` on, in seconds since 1970.
    ///
    /// # Errors
    ///
    /// When the system gives no random bytes.
    pub(super) fn generate(now: u64) -> Result<Self, Unspecified> {
        let mut key = Self { name: [0; NAME], secret: [0; SECRET], since: now };
        rand::fill(&mut key.name)?;
        rand::fill(&mut key.secret)?;
        Ok(key)
    }

    /// The key that everybody makes who has the same bytes (HKDF with SHA-256, RFC 5869); `None` where they are too few or
    /// too many.
    pub(in crate::tls) fn derive(material: &[u8]) -> Option<Self> {
        if !MATERIAL.contains(&material.len()) {
            return None;
        }
        let mut key = Self { name: [0; NAME], secret: [0; SECRET], since: 0 };
        let pseudorandom = Salt::new(HKDF_SHA256, b"river session tickets 1").extract(material);
        pseudorandom.expand(&[b"name"], Length(NAME)).ok()?.fill(&mut key.name).ok()?;
        pseudorandom.expand(&[b"secret"], Length(SECRET)).ok()?.fill(&mut key.secret).ok()?;
        Some(key)
    }

    pub(super) fn name(&self) -> &[u8; NAME] {
        &self.name
    }

    pub(super) fn secret(&self) -> &[u8; SECRET] {
        &self.secret
    }

    /// When it began to seal, in seconds since 1970.
    pub(super) fn since(&self) -> u64 {
        self.since
    }
}

/// How many bytes are derived.
struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

impl Drop for TicketKey {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

impl PartialEq for TicketKey {
    fn eq(&self, other: &Self) -> bool {
        // The name is as long as a secret would have to be, and comparing it tells nobody anything.
        self.name == other.name && self.since == other.since
    }
}

impl Eq for TicketKey {}

impl Hash for TicketKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
        self.since.hash(state);
    }
}

impl fmt::Debug for TicketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketKey").field("since", &self.since).finish_non_exhaustive()
    }
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

impl Serialize for TicketKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let since = self.since.to_be_bytes();
        let mut text = String::with_capacity(2 * (NAME + SECRET + since.len()));
        for byte in self.name.iter().chain(&self.secret).chain(&since) {
            for nibble in [byte >> 4, byte & 0xf] {
                text.push(DIGITS.get(usize::from(nibble)).copied().map_or('0', char::from));
            }
        }
        let done = serializer.serialize_str(&text);
        text.zeroize();
        done
    }
}

impl<'de> Deserialize<'de> for TicketKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Digits)
    }
}

/// Reads a key. What is wrong with it is said without what it says.
struct Digits;

impl Visitor<'_> for Digits {
    type Value = TicketKey;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a ticket key in hexadecimal digits")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<TicketKey, E> {
        let mut key = TicketKey { name: [0; NAME], secret: [0; SECRET], since: 0 };
        let mut since = [0; 8];
        let wrong = || E::custom("expected a ticket key in hexadecimal digits");
        let mut pairs = text.as_bytes().chunks(2);
        let places = key.name.iter_mut().chain(&mut key.secret).chain(&mut since);
        for place in places {
            *place = pairs.next().and_then(byte).ok_or_else(wrong)?;
        }
        if pairs.next().is_some() {
            return Err(wrong());
        }
        key.since = u64::from_be_bytes(since);
        Ok(key)
    }
}

fn byte(pair: &[u8]) -> Option<u8> {
    let nibble = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    match *pair {
        [high, low] => Some(nibble(high)? << 4 | nibble(low)?),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_survives_a_message_and_tells_a_log_nothing() {
        let key = TicketKey::generate(1_700_000_000).unwrap();
        let text = ron::to_string(&key).unwrap();
        let read: TicketKey = ron::from_str(&text).unwrap();
        assert_eq!((read.name, read.secret, read.since), (key.name, key.secret, key.since));
        let said = format!("{key:?}");
        assert_eq!(said, "TicketKey { since: 1700000000, .. }");
    }

    #[test]
    fn what_is_no_key_is_refused_without_being_repeated() {
        let text = ron::to_string(&TicketKey::generate(7).unwrap()).unwrap();
        let digits = text.trim_matches('"');
        let cut = digits.get(..100).unwrap();
        for wrong in [
            cut.to_owned(),
            format!("{digits}00"),
            format!("g{}", digits.get(1..).unwrap()),
            format!("{digits}0"),
        ] {
            let error = ron::from_str::<TicketKey>(&format!("{wrong:?}")).unwrap_err().to_string();
            assert!(!error.contains(digits.get(40..60).unwrap()), "{error}");
        }
        assert!(ron::from_str::<TicketKey>("7").is_err());
    }

    #[test]
    fn the_same_bytes_make_the_same_key_and_others_another() {
        let one = TicketKey::derive(&[7; 48]).unwrap();
        let same = TicketKey::derive(&[7; 48]).unwrap();
        let other = TicketKey::derive(&[8; 48]).unwrap();
        assert_eq!((one.name, one.secret), (same.name, same.secret));
        assert_ne!(one.name, other.name);
        assert_ne!(one.secret, other.secret);
        assert_ne!(one.secret.get(..NAME).unwrap(), one.name);
        for (length, good) in [(0, false), (31, false), (32, true), (80, true), (81, false)] {
            assert_eq!(TicketKey::derive(&vec![1; length]).is_some(), good, "{length}");
        }
    }
}
