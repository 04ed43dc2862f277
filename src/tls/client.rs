//! What servers are told of a client's certificate.

use std::error::Error;
use std::fmt;
use std::time::SystemTime;

use http::HeaderName;

use super::facts::{Facts, FactsError};
use super::settings::ClientAuth;

/// The longest subject that is passed on, in bytes.
const MAX_SUBJECT: usize = 4096;

/// Why nothing can be told of a client's certificate, and the client is not served.
#[derive(Debug)]
pub enum ClientRefused {
    /// The certificate cannot be read.
    Unreadable(FactsError),
    /// The certificate has expired since its session began.
    Expired,
    /// The subject has more bytes than are passed on.
    SubjectTooLong(usize),
}

impl ClientAuth {
    /// The field lines that tell servers of a client's certificate, in DER, each with its CRLF; or of its absence.
    ///
    /// # Errors
    ///
    /// [`ClientRefused`]. A session that is resumed brings the certificate that was verified when it began, which may have
    /// expired meanwhile.
    pub fn fields(&self, certificate: Option<&[u8]>, now: SystemTime) -> Result<Vec<u8>, ClientRefused> {
        let mut lines = Vec::new();
        let mut line = |name: &HeaderName, value: &str| {
            lines.extend_from_slice(name.as_str().as_bytes());
            lines.extend_from_slice(b": ");
            lines.extend_from_slice(value.as_bytes());
            lines.extend_from_slice(b"\r\n");
        };
        let Some(certificate) = certificate else {
            line(&self.verified_header, "false");
            return Ok(lines);
        };
        let facts = still_good(certificate, now)?;
        if facts.subject.len() > MAX_SUBJECT {
            return Err(ClientRefused::SubjectTooLong(facts.subject.len()));
        }
        line(&self.verified_header, "true");
        line(&self.subject_header, &facts.subject);
        Ok(lines)
    }

    /// Whether a client that nobody is told of may be served: the certificate that it has shown, in DER, is good still.
    ///
    /// # Errors
    ///
    /// [`ClientRefused`], as for [`fields`](Self::fields); the subject may be of any length.
    pub fn admit(&self, certificate: Option<&[u8]>, now: SystemTime) -> Result<(), ClientRefused> {
        certificate.map_or(Ok(()), |certificate| still_good(certificate, now).map(drop))
    }

    /// Whether a field of a request is kept from servers, since they would believe it: it has the name of one of River's
    /// own, where `_` is the same as `-`, as it is to CGI (RFC 3875 §4.1.18).
    pub fn hides(&self, name: &[u8]) -> bool {
        [&self.subject_header, &self.verified_header].into_iter().any(|own| is_called(name, own.as_str()))
    }
}

fn still_good(certificate: &[u8], now: SystemTime) -> Result<Facts, ClientRefused> {
    let facts = Facts::read(certificate).map_err(ClientRefused::Unreadable)?;
    if facts.is_expired(now) { Err(ClientRefused::Expired) } else { Ok(facts) }
}

fn is_called(name: &[u8], own: &str) -> bool {
    let plain = |byte: u8| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    name.len() == own.len() && name.iter().zip(own.bytes()).all(|(a, b)| plain(*a) == plain(b))
}

impl fmt::Display for ClientRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(_) => f.write_str("the client's certificate cannot be read"),
            Self::Expired => f.write_str("the client's certificate has expired since its session began"),
            Self::SubjectTooLong(length) => {
                write!(
                    f,
                    "the subject of the client's certificate has {length} bytes; {MAX_SUBJECT} are the most"
                )
            }
        }
    }
}

impl Error for ClientRefused {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Unreadable(error) => error.source(),
            Self::Expired | Self::SubjectTooLong(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, date_time_ymd};

    fn auth() -> ClientAuth {
        ClientAuth {
            ca: "/clients.pem".into(),
            required: false,
            subject_header: HeaderName::from_static("x-client-subject"),
            verified_header: HeaderName::from_static("x-client_verified"),
        }
    }

    fn certificate(subject: &str, until: i32) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, subject);
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn servers_are_told_of_a_certificate_and_of_none() {
        let now = SystemTime::now();
        let lines = auth().fields(Some(&certificate("a, b", 2100)), now).unwrap();
        assert_eq!(lines, b"x-client_verified: true\r\nx-client-subject: CN=a\\, b\r\n");
        assert_eq!(auth().fields(None, now).unwrap(), b"x-client_verified: false\r\n");
    }

    #[test]
    fn who_cannot_be_told_of_is_refused() {
        let now = SystemTime::now();
        let expired = auth().fields(Some(&certificate("a", 2001)), now);
        assert!(matches!(expired, Err(ClientRefused::Expired)));
        let long = auth().fields(Some(&certificate(&"é".repeat(1_000), 2100)), now);
        assert!(matches!(long, Err(ClientRefused::SubjectTooLong(6_003))), "{long:?}");
        assert!(matches!(auth().fields(Some(b"no"), now), Err(ClientRefused::Unreadable(_))));
        // Where nobody is told, its length does not matter.
        assert!(auth().admit(Some(&certificate(&"é".repeat(1_000), 2100)), now).is_ok());
        assert!(auth().admit(None, now).is_ok());
        assert!(matches!(auth().admit(Some(&certificate("a", 2001)), now), Err(ClientRefused::Expired)));
    }

    #[test]
    fn what_a_server_could_take_for_river_s_own_is_hidden() {
        for name in [
            "X-Client-Subject",
            "x_client_subject",
            "X-CLIENT_SUBJECT",
            "X-Client-Verified",
            "x_client-verified",
        ] {
            assert!(auth().hides(name.as_bytes()), "{name}");
        }
        for name in ["X-Client", "X-Client-Subject-", "XXClient-Subject", "Client-Subject"] {
            assert!(!auth().hides(name.as_bytes()), "{name}");
        }
    }
}
