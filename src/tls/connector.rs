//! What a server of an upstream group needs to be spoken to over TLS.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_native_certs::ErrorKind;

use super::loaded::MAX_FILE;
use super::loaded::{Fault, Piece};
use super::pem::{self, Problem};
use super::provider::provider;
use crate::system::SmallFile;

/// What a server needs to be spoken to over TLS: its name, who vouches for it, River's own certificate, the protocols
/// that are offered; and the sessions with it that can be resumed, which all workers share.
///
/// Two are equal if they share all that, as clones do.
#[derive(Clone)]
pub struct Connector {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    verifies: bool,
}

/// Who vouches for a server's certificate.
#[derive(Clone, Debug)]
pub struct Roots(Trust);

#[derive(Clone, Debug)]
enum Trust {
    Anchors(Arc<RootCertStore>),
    /// Nobody is asked.
    Anyone,
}

/// River's own certificates and their key, which it shows to servers that ask for them.
#[derive(Clone, Debug)]
pub struct Identity(Arc<CertifiedKey>);

/// Why a [`Connector`] or a part of it cannot be made. It says so itself and has no source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectorError(String);

impl Connector {
    /// `name` is what the server's certificate has to be for: the name of a host, which is sent to the server too, or an
    /// IP address. `alpn` are the protocols to offer, the best first; nothing is offered where it is empty.
    ///
    /// # Errors
    ///
    /// `name` is none.
    pub fn new(
        name: &str,
        roots: &Roots,
        identity: Option<&Identity>,
        alpn: &[&[u8]],
    ) -> Result<Self, ConnectorError> {
        let name = ServerName::try_from(name.to_owned())
            .map_err(|_| ConnectorError(format!("{name:?} is no name of a host, and no IP address")))?;
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| ConnectorError(error.to_string()))?;
        let builder = match &roots.0 {
            Trust::Anchors(anchors) => builder.with_root_certificates(Arc::clone(anchors)),
            Trust::Anyone => {
                builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified(provider())))
            }
        };
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(Identity(key)) => {
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from((**key).clone())))
            }
        };
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        let verifies = matches!(roots.0, Trust::Anchors(_));
        Ok(Self { config: Arc::new(config), name, verifies })
    }

    /// Whether somebody has to vouch for the server.
    pub fn verifies(&self) -> bool {
        self.verifies
    }

    pub(super) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }

    pub(super) fn server_name(&self) -> ServerName<'static> {
        self.name.clone()
    }
}

impl PartialEq for Connector {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.config, &other.config) && self.name == other.name
    }
}

impl Eq for Connector {}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Roots {
    /// Those that the system trusts, read anew.
    ///
    /// # Errors
    ///
    /// None can be read.
    pub fn system() -> Result<Self, ConnectorError> {
        let found = rustls_native_certs::load_native_certs();
        let mut anchors = RootCertStore::empty();
        // Of the system's own, those that are of no use are left out, as everybody does.
        anchors.add_parsable_certificates(found.certs);
        if anchors.is_empty() {
            let why = found.errors.first().map_or_else(|| "there are none".to_owned(), unreadable);
            return Err(ConnectorError(format!("cannot use the system's root certificates: {why}")));
        }
        Ok(Self(Trust::Anchors(Arc::new(anchors))))
    }

    /// The certificates of a file in PEM.
    ///
    /// # Errors
    ///
    /// Why the file is not used.
    pub fn read(path: &Path) -> Result<Self, Problem> {
        let mut anchors = RootCertStore::empty();
        let text = SmallFile::read(path, MAX_FILE).map_err(Problem::Unreadable)?.bytes;
        for certificate in pem::authorities(&text)? {
            anchors.add(certificate).map_err(Problem::Unusable)?;
        }
        Ok(Self(Trust::Anchors(Arc::new(anchors))))
    }

    /// Nobody: whatever certificate a server shows is taken, so that anyone between River and the server can pose as it.
    pub fn anyone() -> Self {
        Self(Trust::Anyone)
    }
}

impl Identity {
    /// The certificates of one file, River's own first, and the key of another, both in PEM.
    ///
    /// # Errors
    ///
    /// Which of the files is not used, and why: [`Piece::Certificate`] or [`Piece::Key`].
    pub fn read(chain: &Path, key: &Path) -> Result<Self, Fault> {
        let fault = |piece, path: &Path| {
            let path = path.to_owned();
            move |problem| Fault { piece, path, problem }
        };
        let read = |path| SmallFile::read(path, MAX_FILE).map_err(Problem::Unreadable);
        let certificates = read(chain)
            .and_then(|file| pem::certificates(&file.bytes))
            .map_err(fault(Piece::Certificate(0), chain))?;
        let key = read(key)
            .and_then(|file| pem::private_key(&file.bytes))
            .and_then(|key| provider().key_provider.load_private_key(key).map_err(Problem::UnknownKey))
            .and_then(|private| {
                let chain = certificates.into_iter().map(|(certificate, _)| certificate).collect();
                let key = CertifiedKey::new(chain, private);
                key.keys_match().map(|()| key).map_err(|_| Problem::Mismatch)
            })
            .map_err(fault(Piece::Key(0), key))?;
        Ok(Self(Arc::new(key)))
    }
}

/// Whether a certificate can be for this: the name of a host, or an IP address.
pub fn is_server_name(text: &str) -> bool {
    ServerName::try_from(text).is_ok()
}

/// Why the system's roots were not read, and where.
fn unreadable(error: &rustls_native_certs::Error) -> String {
    match &error.kind {
        ErrorKind::Io { inner, path } => format!("{}: {inner}", path.display()),
        ErrorKind::Pem(_) => "a file is damaged".to_owned(),
        _ => error.to_string(),
    }
}

impl fmt::Display for ConnectorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConnectorError {}

/// Takes every certificate. Signatures are checked all the same: a server has to have the key of what it shows.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
