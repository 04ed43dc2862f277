//! The certificates of one listener, and what becomes of them when their files change.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::loaded::{Fault, Files, Loaded, Piece};
use super::pem::Problem;
use super::tickets::Tickets;
use super::{Acceptor, Facts, HandshakeLimits, ListenerTls};
use crate::system::FileStamp;

/// The certificates of one listener: the acceptor that the workers use, and what the control thread needs to renew it.
pub struct Credentials {
    settings: ListenerTls,
    acceptor: Arc<Acceptor>,
    tickets: Arc<Tickets>,
    held: Mutex<Held>,
}

/// What is in use, and what the files were when they were last read.
#[derive(Debug)]
struct Held {
    stamps: Vec<(PathBuf, Option<FileStamp>)>,
    is_settled: bool,
    /// Of what is in use.
    digest: [u8; 32],
    /// Of what was refused last, if that was what was read last.
    refused: Option<[u8; 32]>,
    public: Vec<PathBuf>,
    chains: Vec<Vec<Facts>>,
}

/// What has come of reading the files again.
#[derive(Debug)]
pub enum Renewal {
    /// Their content is what is in use already.
    Same,
    /// What was in them is used from now on.
    Renewed,
    /// They cannot be used, so what was in use still is.
    Refused {
        /// Why; at least one fault.
        faults: Vec<Fault>,
        /// Whether the same was refused the last time.
        again: bool,
    },
}

impl Credentials {
    /// Reads the files of a listener. It blocks the thread for as long as the file system takes.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with them; at least one fault.
    pub fn read(settings: ListenerTls, limits: HandshakeLimits) -> Result<Arc<Self>, Vec<Fault>> {
        let loaded = Loaded::read(&settings).map_err(|(faults, _)| faults)?;
        let tickets = Tickets::new(&settings.tickets, SystemTime::now());
        tickets.share(&loaded.ticket_keys);
        let config = loaded.server_config(&settings, &tickets).map_err(|error| unusable(&settings, error))?;
        Ok(Arc::new(Self {
            acceptor: Arc::new(Acceptor::with_limits(Arc::new(config), limits)),
            tickets,
            held: Mutex::new(Held::of(loaded)),
            settings,
        }))
    }

    /// What was configured.
    pub fn settings(&self) -> &ListenerTls {
        &self.settings
    }

    /// What the workers use.
    pub fn acceptor(&self) -> &Arc<Acceptor> {
        &self.acceptor
    }

    /// The keys of its session tickets.
    pub fn tickets(&self) -> &Arc<Tickets> {
        &self.tickets
    }

    /// Whether a file may be another than the one that was read last, or has come or gone. It blocks the thread.
    pub fn may_have_changed(&self) -> bool {
        let (stamps, is_settled) = {
            let held = self.held();
            (held.stamps.clone(), held.is_settled)
        };
        // Not under the lock, for a file system may hang.
        !is_settled || stamps.iter().any(|(path, stamp)| FileStamp::at(path).ok() != *stamp)
    }

    /// Reads the files again, and uses what is in them if it can be used. Handshakes that go on, and connections, keep
    /// what they have. It blocks the thread.
    pub fn renew(&self) -> Renewal {
        let loaded = match Loaded::read(&self.settings) {
            Ok(loaded) => loaded,
            Err((faults, files)) => return self.refuse(files, faults),
        };
        if loaded.files.digest == self.held().digest {
            let Files { stamps, public, is_settled, .. } = loaded.files;
            let mut held = self.held();
            (held.stamps, held.public, held.is_settled, held.refused) = (stamps, public, is_settled, None);
            return Renewal::Same;
        }
        match loaded.server_config(&self.settings, &self.tickets) {
            Ok(config) => {
                self.tickets.share(&loaded.ticket_keys);
                self.acceptor.replace(Arc::new(config));
                *self.held() = Held::of(loaded);
                Renewal::Renewed
            }
            Err(error) => self.refuse(loaded.files, unusable(&self.settings, error)),
        }
    }

    fn refuse(&self, files: Files, faults: Vec<Fault>) -> Renewal {
        let mut held = self.held();
        (held.stamps, held.is_settled) = (files.stamps, files.is_settled);
        let again = held.refused.replace(files.digest) == Some(files.digest);
        Renewal::Refused { faults, again }
    }

    /// What the certificates in use say, each with those of its chain behind it, in the order of the settings.
    pub fn chains(&self) -> Vec<Vec<Facts>> {
        self.held().chains.clone()
    }

    /// The files with secrets that every user of the machine may read.
    pub fn public_secrets(&self) -> Vec<PathBuf> {
        self.held().public.clone()
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn of(loaded: Loaded) -> Self {
        let Files { stamps, public, digest, is_settled } = loaded.files;
        let chains = loaded.certificates.into_iter().map(|chain| chain.facts).collect();
        Self { stamps, is_settled, digest, refused: None, public, chains }
    }
}

fn unusable(settings: &ListenerTls, error: rustls::Error) -> Vec<Fault> {
    let path = settings.certificates.first().map(|first| first.cert.clone()).unwrap_or_default();
    vec![Fault { piece: Piece::Certificate(0), path, problem: Problem::Unusable(error) }]
}

/// Two are equal if they were configured alike: what is in the files changes.
impl PartialEq for Credentials {
    fn eq(&self, other: &Self) -> bool {
        self.settings == other.settings && self.acceptor.limits() == other.acceptor.limits()
    }
}

impl Eq for Credentials {}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("settings", &self.settings).finish_non_exhaustive()
    }
}
