//! What a server of an upstream group needs to be spoken to over TLS.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::provider::provider;

/// What a server needs to be spoken to over TLS: its name, who vouches for it, River's own certificate, the protocols
/// that are offered; and the sessions with it that can be resumed, which all workers share.
///
/// Two are equal if they share all that, as clones do.
#[derive(Clone)]
pub struct Connector {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
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
#[derive(Debug)]
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

/// Why a [`Connector`] or a part of it cannot be made. It says so itself and has no source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectorError(String);

impl Connector {
    /// `name` is what the server's certificate has to be for: the name of a host, which is sent to the server too, or an
    /// IP address. `alpn` are the protocols to offer, the best first; nothing is offered where it is empty.
    ///
    /// # Errors
    ///
    /// `name` is none, or the key of `identity` does not fit its certificate.
    pub fn new(
        name: &str,
        roots: &Roots,
        identity: Option<&Identity>,
        alpn: &[&[u8]],
    ) -> Result<Self, ConnectorError> {
        let name = ServerName::try_from(name.to_owned())
            .map_err(|_| ConnectorError(format!("{name:?} is no name of a host")))?;
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
            Some(Identity { chain, key }) => builder
                .with_client_auth_cert(chain.clone(), key.clone_key())
                .map_err(|error| ConnectorError(format!("the certificate cannot be used: {error}")))?,
        };
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(Self { config: Arc::new(config), name })
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
            let why = found.errors.first().map_or_else(|| "there are none".to_owned(), ToString::to_string);
            return Err(ConnectorError(format!("cannot use the system's root certificates: {why}")));
        }
        Ok(Self(Trust::Anchors(Arc::new(anchors))))
    }

    /// The certificates in a text in PEM.
    ///
    /// # Errors
    ///
    /// It has none, or one of them cannot be used.
    pub fn from_pem(pem: &[u8]) -> Result<Self, ConnectorError> {
        let mut anchors = RootCertStore::empty();
        for certificate in certificates(pem)? {
            anchors
                .add(certificate)
                .map_err(|error| ConnectorError(format!("a certificate cannot be used: {error}")))?;
        }
        Ok(Self(Trust::Anchors(Arc::new(anchors))))
    }

    /// Nobody: whatever certificate a server shows is taken, so that anyone between River and the server can pose as it.
    pub fn anyone() -> Self {
        Self(Trust::Anyone)
    }
}

impl Identity {
    /// Certificates, River's own first, and their key, both in PEM.
    ///
    /// # Errors
    ///
    /// There is no certificate, or no key.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, ConnectorError> {
        let chain = certificates(chain)?;
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|error| ConnectorError(format!("no private key can be read: {error}")))?;
        Ok(Self { chain, key })
    }
}

impl fmt::Display for ConnectorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConnectorError {}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, ConnectorError> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| ConnectorError(format!("a certificate cannot be read: {error}")))?;
    if found.is_empty() {
        return Err(ConnectorError("there is no certificate in PEM in it".to_owned()));
    }
    Ok(found)
}

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
