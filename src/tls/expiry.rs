//! What the log says of the time that certificates have left.

use std::time::{Duration, SystemTime};

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
                    let names = facts.names.join(" ");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_near_its_end_is_told_from_what_is_over() {
        let begin = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000 * DAY);
        let facts = Facts {
            vouches: false,
            subject: String::new(),
            names: Vec::new(),
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
        assert_eq!(at(-2, 0), Standing::NotYet(2));
        assert_eq!(at(0, 0), Standing::Good(90));
        assert_eq!(at(60, 0), Standing::Good(30));
        assert_eq!(at(60, 1), Standing::EndsSoon(29));
        assert_eq!(at(90, 0), Standing::EndsSoon(0));
        assert_eq!(at(90, 1), Standing::Expired(0));
        assert_eq!(at(93, 0), Standing::Expired(3));
    }
}
