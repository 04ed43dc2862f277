//! Which certificate is for which host (RFC 6125, RFC 9525).

use std::collections::HashMap;

use smallvec::SmallVec;

/// The hosts that certificates are for.
///
/// A name is that of a host, or has `*` for its whole first label (RFC 9525 §6.3). A `*` stands for exactly one label. The
/// host's own name goes before one with `*`.
#[derive(Debug, Default)]
pub(super) struct Names {
    exact: HashMap<Box<str>, Places>,
    /// By what follows `*.`.
    wildcard: HashMap<Box<str>, Places>,
}

/// Places in the list of certificates, in its order.
type Places = SmallVec<[usize; 2]>;

impl Names {
    /// Adds the certificate at `place` under a name of its own; says whether a host can have that name.
    pub(super) fn add(&mut self, name: &str, place: usize) -> bool {
        if !is_of_hosts(name) {
            return false;
        }
        let name = name.to_ascii_lowercase();
        let (map, host) = match name.strip_prefix("*.") {
            Some(parent) => (&mut self.wildcard, parent),
            None => (&mut self.exact, name.as_str()),
        };
        let places = map.entry(host.into()).or_default();
        if !places.contains(&place) {
            places.push(place);
        }
        true
    }

    /// The places of the certificates for a host, those that have its own name first; none if nothing is for it.
    pub(super) fn find(&self, host: &str) -> impl Iterator<Item = usize> + Clone {
        let lower;
        let host = if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
            lower = host.to_ascii_lowercase();
            &lower
        } else {
            host
        };
        let parent = match host.split_once('.') {
            Some((label, parent)) if !label.is_empty() => self.wildcard.get(parent),
            _ => None,
        };
        let exact = self.exact.get(host);
        exact.into_iter().chain(parent).flatten().copied()
    }
}

/// Whether a certificate with this name is for any host.
pub(super) fn is_of_hosts(name: &str) -> bool {
    is_host(name.strip_prefix("*.").unwrap_or(name))
}

/// Whether labels of letters, digits, hyphens and underscores make up the name.
fn is_host(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(all: &[&[&str]]) -> Names {
        let mut names = Names::default();
        for (place, of_one) in all.iter().enumerate() {
            for name in *of_one {
                assert!(names.add(name, place), "{name}");
            }
        }
        names
    }

    #[test]
    fn a_star_is_one_label() {
        let names = names(&[&["*.example.com"], &["example.com", "WWW.example.com"], &["*.b.example.com"]]);
        let cases: [(&str, &[usize]); 9] = [
            ("example.com", &[1]),
            ("www.example.com", &[1, 0]),
            ("wWw.eXample.com", &[1, 0]),
            ("a.example.com", &[0]),
            ("b.example.com", &[0]),
            ("a.b.example.com", &[2]),
            ("a.c.example.com", &[]),
            (".example.com", &[]),
            ("com", &[]),
        ];
        for (host, places) in cases {
            assert!(names.find(host).eq(places.iter().copied()), "{host}");
        }
    }

    #[test]
    fn two_certificates_may_be_for_one_host() {
        let names = names(&[&["a.example"], &["*.example", "a.example", "a.example"], &["*.example"]]);
        assert!(names.find("a.example").eq([0, 1, 1, 2]));
        assert!(names.find("b.example").eq([1, 2]));
    }

    #[test]
    fn other_stars_and_what_no_host_is_called_match_nothing() {
        let mut names = Names::default();
        for name in [
            "*",
            "*.",
            "f*.example",
            "*a.example",
            "a.*.example",
            "*.*.example",
            "",
            "a..b",
            "a b",
            "é.example",
        ] {
            assert!(!names.add(name, 0), "{name}");
        }
        assert!(!names.add(&format!("{}.example", "a".repeat(64)), 0));
        for host in ["a.example", "*", ""] {
            assert_eq!(names.find(host).next(), None, "{host}");
        }
    }
}
