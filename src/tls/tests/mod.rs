//! Tests of TLS: sessions against each other in memory, and streams against rustls's own blocking connections, each on a
//! thread of its own. None sleeps to let something happen.

mod handshakes;
mod memory;
mod sessions;
mod streams;

use std::io;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    SupportedProtocolVersion,
};

use super::provider::provider;
use super::{Accepted, Acceptor, HandshakeError, Roots, TlsStream, accept};
use crate::runtime::{Handle, Stream, block_on, with_deadline};

/// Far more than any of these tests takes.
const LIMIT: Duration = Duration::from_secs(20);

const BOTH: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12, &rustls::version::TLS13];

/// An authority, and what it has signed, in PEM.
struct Signed {
    authority: String,
    certificate: String,
    key: String,
}

/// Has a new authority sign a certificate for `name`.
fn signed(name: &str) -> Signed {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, format!("authority of {name}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let authority = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    Signed { authority: authority.pem(), certificate: certificate.pem(), key: key.serialize_pem() }
}

impl Signed {
    fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap()]
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap()
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.authority.as_bytes()).unwrap()).unwrap();
        Arc::new(roots)
    }

    /// Its authority, as River takes it.
    fn vouching(&self) -> Roots {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &self.authority).unwrap();
        Roots::read(file.path()).unwrap()
    }

    fn server(&self, versions: &[&'static SupportedProtocolVersion]) -> ServerConfig {
        let builder =
            ServerConfig::builder_with_provider(provider()).with_protocol_versions(versions).unwrap();
        builder.with_no_client_auth().with_single_cert(self.chain(), self.key()).unwrap()
    }

    fn client(&self, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
        let builder =
            ClientConfig::builder_with_provider(provider()).with_protocol_versions(versions).unwrap();
        builder.with_root_certificates(self.roots()).with_no_client_auth()
    }

    /// A blocking client over `socket`, before its handshake.
    fn blocking(&self, socket: TcpStream, version: &'static SupportedProtocolVersion) -> Client {
        let name = ServerName::try_from("river.test").unwrap();
        StreamOwned::new(ClientConnection::new(Arc::new(self.client(&[version])), name).unwrap(), socket)
    }
}

type Client = StreamOwned<ClientConnection, TcpStream>;
type Server = StreamOwned<ServerConnection, TcpStream>;

/// Runs a test that must come to its end in time.
fn run<T>(test: impl AsyncFnOnce(Handle) -> T) -> T {
    block_on(async |handle: Handle| {
        let timer = handle.timer();
        let deadline = handle.deadline(LIMIT);
        with_deadline(&timer, deadline, test(handle)).await.expect("the test takes too long")
    })
}

/// A stream and the blocking far end of its connection.
fn tcp(handle: &Handle) -> (Stream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (far, _) = listener.accept().unwrap();
    near.set_nonblocking(true).unwrap();
    far.set_read_timeout(Some(LIMIT)).unwrap();
    far.set_write_timeout(Some(LIMIT)).unwrap();
    near.set_nodelay(true).unwrap();
    far.set_nodelay(true).unwrap();
    (handle.stream(near.into()).unwrap(), far)
}

async fn accepted(
    handle: &Handle,
    stream: Stream,
    acceptor: &Acceptor,
) -> Result<Box<TlsStream>, HandshakeError> {
    match accept(stream, acceptor, handle, &handle.timer()).await? {
        Accepted::Tls(stream) => Ok(stream),
        Accepted::Plain(..) => panic!("it was no TLS"),
    }
}

/// River as the server of what `far` does on its thread.
async fn serve<T: Send + 'static>(
    handle: &Handle,
    acceptor: &Acceptor,
    far: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (Box<TlsStream>, smol::Task<T>) {
    let (stream, socket) = tcp(handle);
    let far = smol::unblock(move || far(socket));
    (accepted(handle, stream, acceptor).await.unwrap(), far)
}

async fn read(stream: &TlsStream, buf: &mut [u8]) -> io::Result<usize> {
    std::future::poll_fn(|cx| stream.poll_read(cx, buf)).await
}

/// Reads until the end or an error, `step` bytes at a time.
async fn read_to_end(stream: &TlsStream, step: usize) -> (Vec<u8>, io::Result<()>) {
    let mut all = Vec::new();
    let mut buf = vec![0; step];
    loop {
        match read(stream, &mut buf).await {
            Ok(0) => return (all, Ok(())),
            Ok(count) => all.extend_from_slice(&buf[..count]),
            Err(error) => return (all, Err(error)),
        }
    }
}

async fn write_all(stream: &TlsStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let count = std::future::poll_fn(|cx| stream.poll_write(cx, bytes)).await?;
        bytes = &bytes[count..];
    }
    Ok(())
}

/// Bytes of which no two neighbourhoods look alike.
fn noise(length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(length as u64);
    std::iter::repeat_with(|| random.u8(..)).take(length).collect()
}
