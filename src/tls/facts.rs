//! What River reads in a certificate: whom it is for, and how long.

use std::error::Error;
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, SubjectAltName};
use x509_cert::{Certificate, Version};

/// What a certificate says (RFC 5280 §4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its subject as in RFC 4514, in printable ASCII: other bytes are written as `\` and two hexadecimal digits. May be
    /// empty.
    pub subject: String,
    /// The DNS names of its subjectAltName extension, in lower case and as written otherwise.
    pub names: Vec<String>,
    /// The IP addresses of that extension. No client names one in its handshake (RFC 6066 §3), but one that connects to an
    /// address looks for it here.
    pub addresses: Vec<IpAddr>,
    /// From when on it is valid.
    pub not_before: SystemTime,
    /// Until when it is valid.
    pub not_after: SystemTime,
    /// Whether subject and issuer are one, as in a root's certificate.
    pub is_self_issued: bool,
    /// Whether it may vouch for a certificate: for others as an authority's (RFC 5280 §4.2.1.9), or for itself. What is
    /// older than X.509 version 3, or says it in a way that cannot be read, counts as one that may.
    pub vouches: bool,
}

/// Why a certificate cannot be read.
#[derive(Debug)]
pub struct FactsError(x509_cert::der::Error);

impl Facts {
    /// Reads a certificate in DER.
    ///
    /// # Errors
    ///
    /// When it is none.
    pub fn read(der: &[u8]) -> Result<Self, FactsError> {
        let certificate = Certificate::from_der(der).map_err(FactsError)?;
        let content = certificate.tbs_certificate();
        let alternatives = content.get_extension::<SubjectAltName>().map_err(FactsError)?;
        let (mut names, mut addresses) = (Vec::new(), Vec::new());
        for name in alternatives.into_iter().flat_map(|(_, names)| names.0) {
            match name {
                GeneralName::DnsName(name) => names.push(name.as_str().to_ascii_lowercase()),
                GeneralName::IpAddress(address) => addresses.extend(ip_address(address.as_bytes())),
                _ => {}
            }
        }
        let is_self_issued = content.subject() == content.issuer();
        let is_authority = match content.get_extension::<BasicConstraints>() {
            Ok(Some((_, constraints))) => constraints.ca,
            Ok(None) => content.version() != Version::V3,
            Err(_) => true,
        };
        let time = |since: Duration| UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH);
        Ok(Self {
            subject: printable(&content.subject().to_string()),
            names,
            addresses,
            not_before: time(content.validity().not_before.to_unix_duration()),
            not_after: time(content.validity().not_after.to_unix_duration()),
            is_self_issued,
            vouches: is_authority || is_self_issued,
        })
    }

    /// Whether it is expired at `now`.
    pub fn is_expired(&self, now: SystemTime) -> bool {
        self.not_after < now
    }
}

/// The address of so many bytes (RFC 5280 §4.2.1.6), if there is one.
fn ip_address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// Escapes what is no printable ASCII, as RFC 4514 §2.4 allows. What is escaped already stays.
fn printable(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b' '..=b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("\\{byte:02x}")),
        }
    }
    out
}

impl fmt::Display for FactsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it is no X.509 certificate that can be read")
    }
}

impl Error for FactsError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType, date_time_ymd};

    fn read(params: CertificateParams) -> Facts {
        let key = KeyPair::generate().unwrap();
        Facts::read(params.self_signed(&key).unwrap().der()).unwrap()
    }

    #[test]
    fn names_times_and_subject_are_read() {
        let mut params = CertificateParams::new(["A.example".to_owned(), "*.b.example".to_owned()]).unwrap();
        let addresses: [IpAddr; 2] = ["127.0.0.1".parse().unwrap(), "2001:db8::7".parse().unwrap()];
        params.subject_alt_names.extend(addresses.map(SanType::IpAddress));
        params.distinguished_name.push(DnType::OrganizationName, "Müller, \"Söhne\" + Co");
        params.distinguished_name.push(DnType::CommonName, "client 7");
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2051, 2, 3);
        let facts = read(params);
        assert_eq!(facts.names, ["a.example", "*.b.example"]);
        assert_eq!(facts.addresses, addresses);
        // 2051-02-03 as seconds since 1970.
        assert_eq!(facts.not_after.duration_since(UNIX_EPOCH).unwrap().as_secs(), 2_558_995_200);
        assert_eq!(facts.not_before.duration_since(UNIX_EPOCH).unwrap().as_secs(), 1_577_836_800);
        assert!(facts.is_self_issued && !facts.is_expired(SystemTime::now()));
        assert!(facts.is_expired(facts.not_after + Duration::from_secs(1)));
        assert!(
            facts.subject.contains(r#"O=M\c3\bcller\, \"S\c3\b6hne\" \+ Co"#),
            "the subject is {}",
            facts.subject
        );
        assert!(facts.subject.contains("CN=client 7"), "{}", facts.subject);
    }

    #[test]
    fn authorities_and_self_signed_certificates_vouch() {
        let mut params = CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "authority");
        let authority = rcgen::CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        assert!(Facts::read(authority.der()).unwrap().vouches);
        // Without the extension, and with one that denies it.
        for is_ca in [rcgen::IsCa::NoCa, rcgen::IsCa::ExplicitNoCa] {
            let mut params = CertificateParams::default();
            params.is_ca = is_ca;
            assert!(read(params.clone()).vouches);
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, "leaf");
            let leaf = params.signed_by(&KeyPair::generate().unwrap(), &authority).unwrap();
            assert!(!Facts::read(leaf.der()).unwrap().vouches);
        }
        let mut params = CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
        let intermediate = params.signed_by(&KeyPair::generate().unwrap(), &authority).unwrap();
        assert!(Facts::read(intermediate.der()).unwrap().vouches);
    }

    #[test]
    fn a_subject_cannot_break_out_of_a_field() {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "a\r\nX-Admin: yes\0\u{7f}");
        assert_eq!(read(params).subject, r"CN=a\0d\0aX-Admin: yes\00\7f");
    }

    #[test]
    fn a_certificate_may_have_no_names_and_no_subject() {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let facts = read(params);
        assert_eq!((facts.subject.as_str(), facts.names.len(), facts.addresses.len()), ("", 0, 0));
    }

    #[test]
    fn what_is_no_address_is_none() {
        for bytes in [&[][..], &[127, 0, 0], &[0; 5], &[0; 8], &[0; 17]] {
            assert_eq!(ip_address(bytes), None);
        }
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        for der in [&b""[..], b"0", &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff], &[0x30, 0x80, 0, 0]] {
            assert!(Facts::read(der).is_err());
        }
    }
}
