//! The client's side of TLS.

use std::path::Path;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::Outcome;

/// What a handshake takes.
pub(crate) struct Client {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

/// TLS 1.3 alone, nothing resumed, trust in the certificate in `trust`.
pub(crate) fn client(trust: &Path, name: &str) -> Outcome<Client> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(trust)?)?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(Client { config: Arc::new(config), name: ServerName::try_from(name.to_owned())? })
}

impl Client {
    /// A connection whose handshake has not begun.
    pub(crate) fn connection(&self) -> Result<ClientConnection, rustls::Error> {
        ClientConnection::new(Arc::clone(&self.config), self.name.clone())
    }
}
