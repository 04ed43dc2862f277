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
        let places = host.into_iter().flat_map(|host| self.names.find(host));
        let mut candidates = places.filter_map(|place| self.certificates.get(place));
        let Some(first) = candidates.next() else { return self.certificates.first() };
        // Most hosts have one certificate, and whether it suits makes no difference then.
        let Some(second) = candidates.next() else { return Some(first) };
        if suits(first) {
            return Some(first);
        }
        Some(std::iter::once(second).chain(candidates).find(|candidate| suits(candidate)).unwrap_or(first))
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

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, SignatureAlgorithm};
    use rustls::SignatureScheme;
    use rustls::pki_types::PrivateKeyDer;

    use crate::tls::provider::provider;

    fn certified(algorithm: &'static SignatureAlgorithm) -> Arc<CertifiedKey> {
        let pair = KeyPair::generate_for(algorithm).unwrap();
        let certificate = CertificateParams::default().self_signed(&pair).unwrap();
        let key = PrivateKeyDer::try_from(pair.serialize_der()).unwrap();
        let key = provider().key_provider.load_private_key(key).unwrap();
        Arc::new(CertifiedKey::new(vec![certificate.der().clone()], key))
    }

    #[test]
    fn of_several_certificates_for_a_host_the_client_gets_one_that_it_can_use() {
        let certificates = vec![
            certified(&PKCS_ECDSA_P256_SHA256),
            certified(&PKCS_ED25519),
            certified(&PKCS_ECDSA_P256_SHA256),
        ];
        let mut names = Names::default();
        for (name, place) in [
            ("other.example", 0),
            ("a.example", 1),
            ("a.example", 2),
            ("b.star.example", 1),
            ("*.star.example", 2),
        ] {
            assert!(names.add(name, place));
        }
        let resolver = Resolver::new(certificates, names);
        let (edwards, ecdsa) = (SignatureScheme::ED25519, SignatureScheme::ECDSA_NISTP256_SHA256);
        for (host, schemes, place) in [
            (Some("a.example"), &[ecdsa, edwards][..], 1),
            (Some("a.example"), &[edwards], 1),
            (Some("a.example"), &[ecdsa], 2),
            // The host's own does not suit, and one with a star does.
            (Some("b.star.example"), &[ecdsa], 2),
            (Some("b.star.example"), &[ecdsa, edwards], 1),
            // Nothing suits, and the client is to say so.
            (Some("a.example"), &[], 1),
            (Some("other.example"), &[edwards], 0),
            (Some("strange.example"), &[ecdsa], 0),
            (None, &[ecdsa], 0),
        ] {
            let chosen = resolver.choose(host, |key| key.key.choose_scheme(schemes).is_some()).unwrap();
            let expected = resolver.certificates.get(place).unwrap();
            assert!(Arc::ptr_eq(chosen, expected), "{host:?} {schemes:?}");
        }
    }
}
