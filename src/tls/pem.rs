//! Certificates and keys in PEM (RFC 7468).

use std::error::Error;
use std::fmt;

use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, RootCertStore};

use super::facts::{Facts, FactsError};
use crate::system::SmallFileError;

/// Why a file is not used.
#[derive(Debug)]
pub enum Problem {
    /// It cannot be read.
    Unreadable(SmallFileError),
    /// It is damaged.
    Damaged(pem::Error),
    /// It is in DER, and not in PEM.
    Der,
    /// It has no certificate.
    NoCertificate,
    /// Its certificate of this number, from 1, cannot be read.
    BadCertificate(usize, FactsError),
    /// Its certificate of this number, from 1, is of no kind that is used.
    UselessCertificate(usize, rustls::Error),
    /// Its certificate of this number, from 1, is no authority's, where authorities are named.
    NoAuthority(usize),
    /// It has no private key.
    NoKey,
    /// It has this many private keys, and nothing says which is meant.
    ManyKeys(usize),
    /// Its private key is encrypted.
    Encrypted,
    /// Its private key is of no kind that is known.
    UnknownKey(rustls::Error),
    /// Its private key is not that of the certificate.
    Mismatch,
    /// It has too few bytes, or too many, to make ticket keys from.
    TicketSecret(usize),
    /// The library makes nothing of all the files together.
    Unusable(rustls::Error),
}

/// The certificates of a PEM file, in their order, with what they say; at least one.
pub(super) fn certificates(text: &[u8]) -> Result<Vec<(CertificateDer<'static>, Facts)>, Problem> {
    let mut found = Vec::new();
    for section in CertificateDer::pem_slice_iter(text) {
        let der = section.map_err(Problem::Damaged)?;
        let nth = found.len().saturating_add(1);
        let facts = Facts::read(&der).map_err(|error| Problem::BadCertificate(nth, error))?;
        if let Err(error) = ParsedCertificate::try_from(&der) {
            return Err(Problem::UselessCertificate(nth, error));
        }
        found.push((der, facts));
    }
    match found.is_empty() {
        true if is_der(text) => Err(Problem::Der),
        true => Err(Problem::NoCertificate),
        false => Ok(found),
    }
}

/// The certificates of authorities in a PEM file; at least one.
pub(super) fn authorities(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let mut found = Vec::new();
    for section in CertificateDer::pem_slice_iter(text) {
        let der = section.map_err(Problem::Damaged)?;
        let nth = found.len().saturating_add(1);
        if let Err(error) = RootCertStore::empty().add(der.clone()) {
            return Err(Problem::UselessCertificate(nth, error));
        }
        // Nobody's certificate would be accepted for its sake. One that cannot be read is left to those who verify.
        if Facts::read(&der).is_ok_and(|facts| !facts.vouches) {
            return Err(Problem::NoAuthority(nth));
        }
        found.push(der);
    }
    match found.is_empty() {
        true if is_der(text) => Err(Problem::Der),
        true => Err(Problem::NoCertificate),
        false => Ok(found),
    }
}

/// The one private key of a PEM file: PKCS #8, PKCS #1 (RSA) or SEC 1 (elliptic curves).
pub(super) fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, Problem> {
    // The headers of the older form (RFC 1421) would be taken for a part of the key.
    if holds(text, b"-----BEGIN ENCRYPTED PRIVATE KEY-----") || holds(text, b"Proc-Type: 4,ENCRYPTED") {
        return Err(Problem::Encrypted);
    }
    let mut found = None;
    let mut count = 0_usize;
    for section in PrivateKeyDer::pem_slice_iter(text) {
        found = Some(section.map_err(Problem::Damaged)?);
        count = count.saturating_add(1);
    }
    match (found, count) {
        (Some(key), 1) => Ok(key),
        (Some(_), more) => Err(Problem::ManyKeys(more)),
        (None, _) if is_der(text) => Err(Problem::Der),
        (None, _) => Err(Problem::NoKey),
    }
}

/// Whether the bytes begin as a certificate or key in DER does: a long SEQUENCE.
fn is_der(bytes: &[u8]) -> bool {
    matches!(bytes, [0x30, 0x81..=0x84, ..])
}

fn holds(text: &[u8], what: &[u8]) -> bool {
    text.windows(what.len()).any(|window| window == what)
}

/// What the library has against a certificate, for the end of a sentence; nothing where it has no words of its own.
fn why_useless(error: &rustls::Error) -> &'static str {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::BadEncoding) => {
            ": it is damaged, or no X.509 certificate"
        }
        rustls::Error::InvalidCertificate(CertificateError::UnhandledCriticalExtension) => {
            ": it has a critical extension that is not known"
        }
        // The library tells this apart by nothing but its name.
        rustls::Error::InvalidCertificate(CertificateError::Other(other))
            if other.0.to_string() == "UnsupportedCertVersion" =>
        {
            ": it is older than X.509 version 3"
        }
        _ => "",
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(error) => write!(f, "{error}"),
            // What the library says may have a piece of the file in it, which may be a secret.
            Self::Damaged(error) => f.write_str(match error {
                pem::Error::MissingSectionEnd { .. } => {
                    "the file is damaged: a section has no line that ends it"
                }
                pem::Error::IllegalSectionStart { .. } => {
                    "the file is damaged: a section's first line is broken"
                }
                pem::Error::Base64Decode(_) => "the file is damaged: a section is no base64",
                _ => "the file is damaged",
            }),
            Self::Der => f.write_str("the file is in DER; it has to be in PEM"),
            Self::NoCertificate => f.write_str("the file has no certificate"),
            Self::BadCertificate(nth, _) => {
                write!(f, "certificate {nth} of the file is damaged, or no X.509 certificate")
            }
            Self::UselessCertificate(nth, error) => {
                write!(f, "certificate {nth} of the file cannot be used{}", why_useless(error))
            }
            Self::NoAuthority(nth) => {
                write!(f, "certificate {nth} of the file is no authority's, and so vouches for nobody")
            }
            Self::NoKey => f.write_str("the file has no private key"),
            Self::ManyKeys(count) => write!(f, "the file has {count} private keys, where one should be"),
            Self::Encrypted => {
                f.write_str("the private key is encrypted, and nobody is asked for a passphrase")
            }
            Self::UnknownKey(_) => {
                f.write_str("the private key is damaged, or of a kind or size that is not supported")
            }
            Self::Mismatch => f.write_str("the private key is not that of the certificate"),
            Self::TicketSecret(length) => {
                write!(f, "a secret for tickets has 32 to 80 bytes, and the file has {length}")
            }
            Self::Unusable(_) => f.write_str("it cannot be used together with the other files"),
        }
    }
}

impl Error for Problem {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            // It is said already.
            Self::Unreadable(error) => error.source(),
            Self::BadCertificate(_, error) => error.source(),
            Self::UselessCertificate(_, error) | Self::UnknownKey(error) | Self::Unusable(error) => {
                Some(error)
            }
            Self::Damaged(_)
            | Self::Der
            | Self::NoCertificate
            | Self::NoAuthority(_)
            | Self::NoKey
            | Self::ManyKeys(_)
            | Self::Encrypted
            | Self::Mismatch
            | Self::TicketSecret(_) => None,
        }
    }
}
