//! What the files of a listener come to, read all at once, and the configuration for handshakes that is made of it.

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use aws_lc_rs::digest::{Context, SHA256};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig, SupportedCipherSuite};

use super::names::Names;
use super::pem::{self, Problem};
use super::provider::provider;
use super::resolver::Resolver;
use super::tickets::{TicketKey, Tickets};
use super::{Facts, ListenerTls, Offer};
use crate::system::{FileStamp, SmallFile};

/// The largest file that is read: far more than all authorities that there are.
pub(super) const MAX_FILE: usize = 4 << 20;

/// The files of one listener, read and understood.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) certificates: Vec<Chain>,
    authorities: Vec<CertificateDer<'static>>,
    pub(super) ticket_keys: Vec<TicketKey>,
    pub(super) files: Files,
}

/// A certificate with its intermediate ones and its key.
#[derive(Debug)]
pub(super) struct Chain {
    key: Arc<CertifiedKey>,
    /// What its certificates say, its own first; at least one.
    pub(super) facts: Vec<Facts>,
}

/// Which files were read.
#[derive(Debug)]
pub(super) struct Files {
    /// Each with its stamp; without one where it could not be read.
    pub(super) stamps: Vec<(PathBuf, Option<FileStamp>)>,
    /// Those with a secret that every user of the machine may read.
    pub(super) public: Vec<PathBuf>,
    /// The digest of all that was in them, or of what kept them from being read.
    pub(super) digest: [u8; 32],
    /// Whether their stamps tell of every change since.
    pub(super) is_settled: bool,
}

/// What is wrong with a file.
#[derive(Debug)]
pub struct Fault {
    /// What the file is for.
    pub piece: Piece,
    /// The file.
    pub path: PathBuf,
    /// Why it is not used.
    pub problem: Problem,
}

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// The certificate of this place in the list, from 0.
    Certificate(usize),
    /// Its key.
    Key(usize),
    /// The authorities of clients' certificates.
    ClientCa,
    /// The secret of this place for ticket keys, from 0.
    TicketKey(usize),
}

/// Reads files, and keeps what is to be known of them.
struct Reader {
    files: Files,
    digest: Context,
    faults: Vec<Fault>,
}

impl Loaded {
    /// Reads all files of a listener. It blocks the thread for as long as the file system takes.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with them, at least one fault; and which files those were, so that a change is noticed.
    pub(super) fn read(settings: &ListenerTls) -> Result<Self, (Vec<Fault>, Files)> {
        let files = Files { stamps: Vec::new(), public: Vec::new(), digest: [0; 32], is_settled: true };
        let mut reader = Reader { files, digest: Context::new(&SHA256), faults: Vec::new() };
        let mut certificates = Vec::new();
        for (nth, files) in settings.certificates.iter().enumerate() {
            let chain = reader.read(Piece::Certificate(nth), &files.cert, pem::certificates);
            let key = reader.read(Piece::Key(nth), &files.key, |text| {
                let key = pem::private_key(text)?;
                provider_of(settings).key_provider.load_private_key(key).map_err(Problem::UnknownKey)
            });
            let (Some(chain), Some(key)) = (chain, key) else { continue };
            let (chain, facts) = chain.into_iter().unzip();
            let key = CertifiedKey::new(chain, key);
            match key.keys_match() {
                Ok(()) => certificates.push(Chain { key: Arc::new(key), facts }),
                Err(_) => reader.fault(Piece::Key(nth), &files.key, Problem::Mismatch),
            }
        }
        let mut authorities = Vec::new();
        if let Some(client) = &settings.client_auth {
            authorities = reader.read(Piece::ClientCa, &client.ca, pem::authorities).unwrap_or_default();
        }
        let mut ticket_keys = Vec::new();
        for (nth, path) in settings.tickets.key_files.iter().enumerate() {
            ticket_keys.extend(reader.read(Piece::TicketKey(nth), path, |secret| {
                TicketKey::derive(secret).ok_or(Problem::TicketSecret(secret.len()))
            }));
        }
        reader.finish().map(|files| Self { certificates, authorities, ticket_keys, files })
    }

    /// The configuration for handshakes. Sessions are resumed by the tickets of `tickets`.
    pub(super) fn server_config(
        &self,
        settings: &ListenerTls,
        tickets: &Arc<Tickets>,
    ) -> Result<ServerConfig, rustls::Error> {
        let provider = Arc::new(provider_of(settings));
        // A version without suites would be spoken of and then fail.
        let has = |tls13| {
            move |suite: &SupportedCipherSuite| matches!(suite, SupportedCipherSuite::Tls13(_)) == tls13
        };
        let mut versions = Vec::with_capacity(2);
        if provider.cipher_suites.iter().any(has(true)) {
            versions.push(&rustls::version::TLS13);
        }
        if provider.cipher_suites.iter().any(has(false)) {
            versions.push(&rustls::version::TLS12);
        }
        let verifier = self.verifier(settings, &provider)?;
        let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(&versions)?;
        let builder = match verifier {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(self.resolver()));
        config.ignore_client_order = !settings.cipher_suites.is_empty();
        // Sessions are with the clients, in tickets, and not here.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = tickets.ticketer(self.scope(settings));
        if !config.ticketer.enabled() {
            config.send_tls13_tickets = 0;
        }
        config.alpn_protocols = match settings.offer {
            Offer::Nothing => Vec::new(),
            // A client whose protocols are none of these is refused (RFC 7301 §3.2), so HTTP/1.0 is among them.
            Offer::Http1 => vec![b"http/1.1".to_vec(), b"http/1.0".to_vec()],
            Offer::Http2 => vec![b"h2".to_vec(), b"http/1.1".to_vec(), b"http/1.0".to_vec()],
        };
        Ok(config)
    }

    fn verifier(
        &self,
        settings: &ListenerTls,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Option<Arc<dyn ClientCertVerifier>>, rustls::Error> {
        let Some(client) = &settings.client_auth else { return Ok(None) };
        let mut roots = RootCertStore::empty();
        for authority in &self.authorities {
            roots.add(authority.clone())?;
        }
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
        let builder = if client.required { builder } else { builder.allow_unauthenticated() };
        builder.build().map(Some).map_err(|error| rustls::Error::General(error.to_string()))
    }

    fn resolver(&self) -> Resolver {
        let mut names = Names::default();
        for (place, chain) in self.certificates.iter().enumerate() {
            for name in chain.facts.first().map_or(&[][..], |own| &own.names) {
                names.add(name, place);
            }
        }
        Resolver::new(self.certificates.iter().map(|chain| Arc::clone(&chain.key)).collect(), names)
    }

    /// What sessions have in common that may be resumed: the service, and what was asked of the client. Not the address,
    /// which other machines do not share.
    fn scope(&self, settings: &ListenerTls) -> [u8; 32] {
        let mut digest = Context::new(&SHA256);
        let mut add = |bytes: &[u8]| {
            digest.update(&u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
            digest.update(bytes);
        };
        add(settings.service.as_bytes());
        add(match &settings.client_auth {
            None => b"none",
            Some(client) if client.required => b"required",
            Some(_) => b"optional",
        });
        for authority in &self.authorities {
            add(authority);
        }
        finished(digest)
    }
}

impl Reader {
    /// Reads a file and makes something of it. What is wrong is kept.
    fn read<T>(
        &mut self,
        piece: Piece,
        path: &Path,
        understand: impl FnOnce(&[u8]) -> Result<T, Problem>,
    ) -> Option<T> {
        let file = match SmallFile::read(path, MAX_FILE) {
            Ok(file) => file,
            Err(error) => {
                self.files.stamps.push((path.to_owned(), None));
                self.digest.update(format!("{error:?}").as_bytes());
                self.fault(piece, path, Problem::Unreadable(error));
                return None;
            }
        };
        self.files.stamps.push((path.to_owned(), Some(file.stamp)));
        self.files.is_settled &= file.stamp.is_settled_at(SystemTime::now());
        if file.is_public && matches!(piece, Piece::Key(_) | Piece::TicketKey(_)) {
            self.files.public.push(path.to_owned());
        }
        self.digest.update(&u64::try_from(file.bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
        self.digest.update(&file.bytes);
        understand(&file.bytes).map_err(|problem| self.fault(piece, path, problem)).ok()
    }

    fn fault(&mut self, piece: Piece, path: &Path, problem: Problem) {
        self.faults.push(Fault { piece, path: path.to_owned(), problem });
    }

    fn finish(self) -> Result<Files, (Vec<Fault>, Files)> {
        let files = Files { digest: finished(self.digest), ..self.files };
        if self.faults.is_empty() { Ok(files) } else { Err((self.faults, files)) }
    }
}

fn provider_of(settings: &ListenerTls) -> CryptoProvider {
    CryptoProvider { cipher_suites: settings.suites(), ..(*provider()).clone() }
}

fn finished(digest: Context) -> [u8; 32] {
    let mut out = [0; 32];
    for (place, byte) in out.iter_mut().zip(digest.finish().as_ref()) {
        *place = *byte;
    }
    out
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.problem)
    }
}

impl Error for Fault {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.problem.source()
    }
}
