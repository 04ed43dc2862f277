//! The choice of a certificate for a client.

use std::fmt;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::names::Names;

/// Chooses by the host that the client names (RFC 6066 §3) and the signatures that it understands.
pub(super) struct Resolver {
    /// At least one.
    certificates: Vec<Arc<CertifiedKey>>,
    names: Names,
}

impl Resolver {
    /// The first of the certificates is for everybody for whom there is no other.
    pub(super) fn new(certificates: Vec<Arc<CertifiedKey>>, names: Names) -> Self {
        Self { certificates, names }
    }

    /// Of those for the host the first that `suits`, or else the first.
    fn choose(
        &self,
        host: Option<&str>,
        suits: impl Fn(&CertifiedKey) -> bool,
    ) -> Option<&Arc<CertifiedKey>> {
        let places = match host.map(|host| self.names.find(host)) {
            None | Some([]) => &[0],
            Some(places) => places,
        };
        let mut candidates = places.iter().filter_map(|place| self.certificates.get(*place));
        let first = candidates.next()?;
        // Most hosts have one certificate, and whether it suits makes no difference then.
        if places.len() == 1 || suits(first) {
            return Some(first);
        }
        Some(candidates.find(|candidate| suits(candidate)).unwrap_or(first))
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let schemes = hello.signature_schemes();
        self.choose(hello.server_name(), |key| key.key.choose_scheme(schemes).is_some()).cloned()
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("names", &self.names).finish_non_exhaustive()
    }
}
