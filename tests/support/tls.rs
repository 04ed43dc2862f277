//! TLS for both ends of a test: an authority made for it, a client's and an origin's socket on rustls's blocking stream.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, Connection, RootCertStore, ServerConfig, ServerConnection,
    SupportedProtocolVersion,
};

use super::socket::Target;

/// The name that the certificates are for where a test says no other.
pub const NAME: &str = "river.test";

/// The versions of TLS that are tested.
pub const VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// An authority that signs certificates.
#[derive(Debug)]
pub struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, in PEM.
#[derive(Debug)]
pub struct Pair {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    /// A new one, which nobody trusts yet.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// Its own certificate, in PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A new certificate for `name`, which is its subject's common name, too.
    pub fn sign(&self, name: &str) -> Pair {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        self.sign_params(params)
    }

    /// A new certificate that says this.
    pub fn sign_params(&self, params: CertificateParams) -> Pair {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Pair { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// Who trusts this authority alone.
    pub fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        Arc::new(roots)
    }

    /// A client that trusts this authority alone and speaks these versions.
    pub fn client(&self, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
        ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(self.roots())
            .with_no_client_auth()
    }

    /// A client that trusts this authority alone, and shows this certificate to whoever asks for one.
    pub fn client_with(&self, identity: &Pair) -> ClientConfig {
        ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&VERSIONS)
            .unwrap()
            .with_root_certificates(self.roots())
            .with_client_auth_cert(identity.chain(), identity.key())
            .unwrap()
    }

    /// Whom to connect to over TLS, as a client that trusts this authority alone.
    pub fn target(&self, address: SocketAddr) -> Target {
        Target::Tls(address, Trust::new(self.client(&VERSIONS)))
    }

    /// A server that shows a new certificate for [`NAME`].
    pub fn server(&self, versions: &[&'static SupportedProtocolVersion]) -> Arc<ServerConfig> {
        let pair = self.sign(NAME);
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(pair.chain(), pair.key())
            .unwrap();
        Arc::new(config)
    }

    /// A server that wants a certificate of `clients` from whoever connects.
    pub fn strict_server(&self, clients: &Self) -> Arc<ServerConfig> {
        let pair = self.sign(NAME);
        let verifier =
            rustls::server::WebPkiClientVerifier::builder_with_provider(clients.roots(), provider());
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&VERSIONS)
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(pair.chain(), pair.key())
            .unwrap();
        Arc::new(config)
    }
}

impl Pair {
    /// The certificate, as rustls takes it.
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap()]
    }

    /// The key, as rustls takes it.
    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap()
    }

    /// Writes `NAME.pem` and `NAME.key` to a directory.
    pub fn write(&self, directory: &Path, name: &str) {
        fs::write(directory.join(format!("{name}.pem")), &self.certificate).unwrap();
        fs::write(directory.join(format!("{name}.key")), &self.key).unwrap();
    }
}

/// How a client speaks TLS, and the sessions it can resume.
#[derive(Clone, Debug)]
pub struct Trust(Arc<ClientConfig>, &'static str);

impl Trust {
    /// For a server called [`NAME`].
    pub fn new(config: ClientConfig) -> Self {
        Self(Arc::new(config), NAME)
    }

    /// The same, with the same sessions, for a server called otherwise.
    pub fn named(&self, name: &'static str) -> Self {
        Self(self.0.clone(), name)
    }
}

impl PartialEq for Trust {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) && self.1 == other.1
    }
}

impl Eq for Trust {}

/// A TLS connection over TCP. A read and a write at the same time wait for each other.
///
/// Dropped, it ends without a close_notify; `shutdown(Write)` sends one.
#[derive(Debug)]
pub struct TlsSocket {
    tcp: TcpStream,
    session: Mutex<Connection>,
}

impl TlsSocket {
    /// The client's side, before the handshake, which the first read or write makes.
    pub fn client(tcp: TcpStream, trust: &Trust) -> Self {
        let name = ServerName::try_from(trust.1).unwrap();
        let session = ClientConnection::new(trust.0.clone(), name).unwrap();
        Self { tcp, session: Mutex::new(session.into()) }
    }

    /// The server's side, before the handshake.
    pub fn server(tcp: TcpStream, config: &Arc<ServerConfig>) -> Self {
        let session = ServerConnection::new(config.clone()).unwrap();
        Self { tcp, session: Mutex::new(session.into()) }
    }

    /// The TCP connection below.
    pub fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// What rustls knows.
    pub fn session(&self) -> MutexGuard<'_, Connection> {
        self.session.lock().unwrap()
    }

    /// Makes the handshake now.
    pub fn shake(&self) -> io::Result<()> {
        let mut session = self.session();
        while session.is_handshaking() {
            session.complete_io(&mut &self.tcp)?;
        }
        Ok(())
    }

    /// Ends one direction, or both; the own one with a close_notify unless it is both.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        if how == Shutdown::Write {
            let mut session = self.session();
            session.send_close_notify();
            self.flush(&mut session)?;
        }
        self.tcp.shutdown(how)
    }

    /// Reads what is there; 0 is the peer's end in order, and an end without a close_notify an error.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut session = self.session();
        loop {
            match session.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return other,
            }
            self.flush(&mut session)?;
            session.read_tls(&mut &self.tcp)?;
            if let Err(error) = session.process_new_packets() {
                // The peer is to hear of it.
                let _ = self.flush(&mut session);
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
        }
    }

    /// Sends some of `bytes`, after the handshake if it has not been made.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.shake()?;
        let mut session = self.session();
        let count = session.writer().write(bytes)?;
        self.flush(&mut session)?;
        Ok(count)
    }

    fn flush(&self, session: &mut Connection) -> io::Result<()> {
        while session.wants_write() {
            session.write_tls(&mut &self.tcp)?;
        }
        Ok(())
    }
}

impl AsFd for TlsSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.tcp.as_fd()
    }
}
