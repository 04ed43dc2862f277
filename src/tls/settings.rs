//! What the configuration says of TLS on a listener, in valid values only.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use rustls::{CipherSuite, SupportedCipherSuite};

/// TLS on one listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerTls {
    /// The service that the listener feeds.
    pub service: Arc<str>,
    /// The certificates; at least one. The first is for clients that name no host, or one that no certificate has.
    pub certificates: Vec<CertificateFiles>,
    /// The oldest version that clients may speak.
    pub min_version: MinVersion,
    /// The cipher suites that may be used, the preferred one first; empty for those of the library.
    pub cipher_suites: Vec<CipherSuite>,
    /// What is asked of clients.
    pub client_auth: Option<Arc<ClientAuth>>,
    /// How sessions are resumed.
    pub tickets: TicketSettings,
    /// The protocols that are offered in it (ALPN, RFC 7301).
    pub offer: Offer,
}

/// The protocols that clients may choose from in their handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// None; what clients propose is passed over. What they carry is not for River to know.
    Nothing,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, and HTTP/1.1 for those that do not know it.
    Http2,
}

/// Where a certificate and its key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate in PEM, with the intermediate ones behind it; absolute.
    pub cert: PathBuf,
    /// Its private key in PEM, not encrypted; absolute.
    pub key: PathBuf,
}

/// The oldest version of TLS that is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MinVersion {
    /// TLS 1.2 (RFC 5246) and 1.3.
    Tls12,
    /// TLS 1.3 (RFC 8446) alone.
    Tls13,
}

/// What is asked of clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAuth {
    /// The authorities whose certificates count, in PEM; absolute.
    pub ca: PathBuf,
    /// Whether a client without a certificate is refused. One with a certificate that does not verify always is.
    pub required: bool,
    /// The field that tells servers the subject of the client's certificate.
    pub subject_header: HeaderName,
    /// The field that tells servers whether the client has shown a certificate.
    pub verified_header: HeaderName,
}

/// How sessions are resumed by tickets (RFC 8446 §4.6.1, RFC 5077).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TicketSettings {
    /// How long a ticket can be used; whole seconds, at most [`MAX_TICKET_LIFETIME`]; zero is no tickets.
    pub lifetime: Duration,
    /// How long a key seals new tickets; at least a second, and so long that [`MAX_FORMER_KEYS`] is kept.
    pub rotate: Duration,
    /// Files that the keys are made from, so that several machines share them; the first seals. Absolute. Where there
    /// are some, nothing is rotated.
    pub key_files: Vec<PathBuf>,
}

/// The longest that a ticket may be used (RFC 8446 §4.6.1).
pub const MAX_TICKET_LIFETIME: Duration = Duration::from_secs(7 * 86_400);

/// How many keys that no longer seal may still open tickets at one time: the lifetime is at most that many times the time
/// of rotation.
pub const MAX_FORMER_KEYS: u32 = 12;

impl Default for TicketSettings {
    fn default() -> Self {
        Self {
            lifetime: Duration::from_secs(86_400),
            rotate: Duration::from_secs(12 * 3_600),
            key_files: Vec::new(),
        }
    }
}

impl ListenerTls {
    /// The suites that will be used, the preferred one first: those of its versions.
    pub(super) fn suites(&self) -> Vec<SupportedCipherSuite> {
        let known = known_suites();
        let chosen: Vec<_> = match self.cipher_suites.as_slice() {
            [] => known.to_vec(),
            names => names.iter().filter_map(|name| suite(*name)).collect(),
        };
        let allowed = |suite: &SupportedCipherSuite| {
            matches!((self.min_version, suite), (MinVersion::Tls12, _) | (_, SupportedCipherSuite::Tls13(_)))
        };
        chosen.into_iter().filter(allowed).collect()
    }
}

/// The suite of this name, if the library has it: `TLS13_AES_128_GCM_SHA256`.
pub fn cipher_suite(name: &str) -> Option<CipherSuite> {
    known_suites().iter().map(SupportedCipherSuite::suite).find(|suite| suite.as_str() == Some(name))
}

/// The names of all suites, the library's preferred one first.
pub fn cipher_suite_names() -> impl Iterator<Item = &'static str> {
    known_suites().iter().filter_map(|suite| suite.suite().as_str())
}

/// Whether a suite is one of TLS 1.3.
pub fn is_of_tls13(name: CipherSuite) -> bool {
    matches!(suite(name), Some(SupportedCipherSuite::Tls13(_)))
}

fn suite(name: CipherSuite) -> Option<SupportedCipherSuite> {
    known_suites().iter().find(|suite| suite.suite() == name).copied()
}

fn known_suites() -> &'static [SupportedCipherSuite] {
    rustls::crypto::aws_lc_rs::ALL_CIPHER_SUITES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_are_known_by_their_names() {
        assert_eq!(cipher_suite("TLS13_AES_128_GCM_SHA256"), Some(CipherSuite::TLS13_AES_128_GCM_SHA256));
        assert_eq!(cipher_suite("TLS_RSA_WITH_RC4_128_MD5"), None);
        assert!(cipher_suite_names().all(|name| cipher_suite(name).is_some()));
        assert!(is_of_tls13(CipherSuite::TLS13_AES_128_GCM_SHA256));
        assert!(!is_of_tls13(CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256));
    }
}
