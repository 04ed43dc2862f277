//! What the log says of certificates: the time that they have left, and those that are for nobody.

use std::time::{Duration, SystemTime};

use super::names::is_of_hosts;
use super::{Credentials, Facts};
use crate::base::ListenerId;

/// From this time before its end on, a certificate is warned of.
const SOON: Duration = Duration::from_secs(30 * DAY);

const DAY: u64 = 86_400;

/// How much is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    /// Also what is well.
    Whole,
    /// Only what is wrong, or will be soon.
    Warnings,
}

/// How a certificate stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Good for so many whole days.
    Good(u64),
    /// Good for so many whole days, which is not long.
    EndsSoon(u64),
    /// It ended so many whole days ago.
    Expired(u64),
    /// It is yet to begin, in so many whole days.
    NotYet(u64),
}

impl Standing {
    fn of(facts: &Facts, now: SystemTime) -> Self {
        if let Ok(left) = facts.not_before.duration_since(now)
            && !left.is_zero()
        {
            return Self::NotYet(left.as_secs() / DAY);
        }
        match facts.not_after.duration_since(now) {
            Ok(left) if left < SOON => Self::EndsSoon(left.as_secs() / DAY),
            Ok(left) => Self::Good(left.as_secs() / DAY),
            Err(past) => Self::Expired(past.duration().as_secs() / DAY),
        }
    }
}

/// Logs how the certificates of a listener stand. Of those behind a listener's own, only what is wrong is said; and
/// nothing of a root, which clients have themselves.
pub(super) fn log(listener: &ListenerId, credentials: &Credentials, now: SystemTime, tone: Tone) {
    for (chain, files) in credentials.chains().iter().zip(&credentials.settings().certificates) {
        let file = files.cert.display();
        for (place, facts) in chain.iter().enumerate() {
            let is_own = place == 0;
            if !is_own && facts.is_self_issued {
                continue;
            }
            let subject = &*facts.subject;
            match Standing::of(facts, now) {
                Standing::Good(days) if is_own && tone == Tone::Whole => {
                    let names = names(facts);
                    tracing::info!(target: "river::tls", %listener, %file, names, days, "certificate is good");
                }
                Standing::Good(_) => {}
                Standing::EndsSoon(days) => {
                    tracing::warn!(target: "river::tls", %listener, %file, subject, days, "certificate expires soon");
                }
                Standing::Expired(days) => {
                    tracing::error!(target: "river::tls", %listener, %file, subject, days, "certificate has expired");
                }
                Standing::NotYet(days) => {
                    tracing::error!(target: "river::tls", %listener, %file, subject, days, "certificate is not valid yet");
                }
            }
        }
    }
}

/// Warns of certificates that no client can find by a name.
pub(super) fn warn_of_nameless(listener: &ListenerId, credentials: &Credentials) {
    for (place, (chain, files)) in
        credentials.chains().iter().zip(&credentials.settings().certificates).enumerate()
    {
        let Some(facts) = chain.first() else { continue };
        let (file, subject) = (files.cert.display(), &*facts.subject);
        match (facts.names.iter().any(|name| is_of_hosts(name)), facts.addresses.is_empty()) {
            (true, _) => {}
            (false, _) if place > 0 => tracing::warn!(
                target: "river::tls", %listener, %file, subject,
                "certificate names no host in its subjectAltName, and is not the first of its listener, so no client gets it"
            ),
            (false, true) => tracing::warn!(
                target: "river::tls", %listener, %file, subject,
                "certificate names no host and no address in its subjectAltName, so it is only for clients for whom there is no other, and most refuse it"
            ),
            // For clients that connect to the address, and so name no host.
            (false, false) => {}
        }
    }
}

/// Whom a certificate is for.
fn names(facts: &Facts) -> String {
    let addresses = facts.addresses.iter().map(ToString::to_string);
    facts.names.iter().cloned().chain(addresses).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_near_its_end_is_told_from_what_is_over() {
        let begin = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000 * DAY);
        let facts = Facts {
            vouches: false,
            subject: String::new(),
            names: vec!["a.example".to_owned()],
            addresses: vec!["192.0.2.1".parse().unwrap(), "2001:db8::7".parse().unwrap()],
            not_before: begin,
            not_after: begin + Duration::from_secs(90 * DAY),
            is_self_issued: false,
        };
        let at = |days: i64, seconds: i64| {
            let offset = days * DAY as i64 + seconds;
            let distance = Duration::from_secs(offset.unsigned_abs());
            let now = if offset < 0 { begin - distance } else { begin + distance };
            Standing::of(&facts, now)
        };
        assert_eq!(names(&facts), "a.example 192.0.2.1 2001:db8::7");
        assert_eq!(at(-2, 0), Standing::NotYet(2));
        assert_eq!(at(0, 0), Standing::Good(90));
        assert_eq!(at(60, 0), Standing::Good(30));
        assert_eq!(at(60, 1), Standing::EndsSoon(29));
        assert_eq!(at(90, 0), Standing::EndsSoon(0));
        assert_eq!(at(90, 1), Standing::Expired(0));
        assert_eq!(at(93, 0), Standing::Expired(3));
    }
}
