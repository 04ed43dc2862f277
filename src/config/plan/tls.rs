//! TLS on listeners: what is written is checked, and the files are read, so that a reload fails before anything changes.

use std::error::Error as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use crate::base::units;
use crate::config::diagnostics::{Diagnostic, Place, Report};
use crate::config::node::Spanned;
use crate::config::{draft, nearest, paths};
use crate::tls::{
    self, CertificateFiles, CipherSuite, ClientAuth, Credentials, Fault, HandshakeLimits, ListenerTls,
    MAX_FORMER_KEYS, MAX_TICKET_LIFETIME, MinVersion, Offer, Piece, Problem, TicketSettings,
};

use super::{or, respond};

/// The most files that ticket keys are made from.
const MAX_KEY_FILES: usize = MAX_FORMER_KEYS as usize + 1;

/// The certificates of a listener of `service`; nothing if something is wrong (then reported).
pub(super) fn plan(
    draft: &draft::Tls,
    service: &Arc<str>,
    offer: Offer,
    report: &mut Report<'_>,
) -> Option<Arc<Credentials>> {
    let before = report.count();
    let min_version = match draft.min_version.as_deref().map(String::as_str) {
        Some("Tls13") => MinVersion::Tls13,
        _ => MinVersion::Tls12,
    };
    let settings = ListenerTls {
        service: Arc::clone(service),
        certificates: draft.certificates.iter().filter_map(|one| files(one, report)).collect(),
        min_version,
        cipher_suites: cipher_suites(draft, min_version, report),
        client_auth: client_auth(draft, report).map(Arc::new),
        tickets: tickets(&draft.tickets, report),
        offer,
    };
    // A certificate with a hole was not counted, and places would be off.
    let is_whole = settings.certificates.len() == draft.certificates.len() && !draft.certificates.is_empty();
    if !is_whole || report.count() > before {
        return None;
    }
    match Credentials::read(settings, limits(&draft.handshake)) {
        Ok(credentials) => Some(credentials),
        Err(faults) => {
            faults.iter().for_each(|fault| blame(fault, draft, report));
            None
        }
    }
}

fn limits(draft: &draft::Handshake) -> HandshakeLimits {
    let defaults = HandshakeLimits::default();
    let most = draft.max_concurrent.as_ref().and_then(|most| usize::try_from(most.value).ok());
    HandshakeLimits {
        timeout: or(&draft.timeout, defaults.timeout),
        max_concurrent: most.unwrap_or(defaults.max_concurrent),
    }
}

fn files(draft: &draft::Certificate, report: &mut Report<'_>) -> Option<CertificateFiles> {
    let cert = draft.cert.as_ref().and_then(|cert| path(cert, report));
    let key = draft.key.as_ref().and_then(|key| path(key, report));
    Some(CertificateFiles { cert: cert?, key: key? })
}

/// The path of a file that is named; nothing if it can be none (then reported).
pub(super) fn path(written: &Spanned<String>, report: &mut Report<'_>) -> Option<PathBuf> {
    let message = if written.is_empty() {
        "the path is empty"
    } else if written.chars().any(char::is_control) {
        "the path has control characters"
    } else {
        return Some(paths::absolute(report.source.directory(), Path::new(&written.value)));
    };
    report.error(&written.at, message);
    None
}

fn cipher_suites(draft: &draft::Tls, min_version: MinVersion, report: &mut Report<'_>) -> Vec<CipherSuite> {
    let Some(list) = &draft.cipher_suites else { return Vec::new() };
    let mut suites: Vec<CipherSuite> = Vec::new();
    for name in &list.value {
        let Some(suite) = tls::cipher_suite(name) else {
            let problem =
                report.error(&name.at, format!("{:?} is no cipher suite that is known", name.value));
            if let Some(meant) = nearest(name, tls::cipher_suite_names()) {
                problem.label(format!("did you mean {meant:?}?"));
            }
            let known: Vec<_> = tls::cipher_suite_names().collect();
            problem.note(format!("known: {}", known.join(", ")));
            continue;
        };
        if suites.contains(&suite) {
            report.error(&name.at, "is listed twice").help("leave the second out");
        }
        suites.push(suite);
    }
    if list.value.is_empty() {
        report
            .error(&list.at, "there is no cipher suite")
            .help("leave cipher_suites out for all that are known");
    } else if min_version == MinVersion::Tls13
        && suites.len() == list.value.len()
        && !suites.iter().any(|suite| tls::is_of_tls13(*suite))
    {
        let problem = report.error(&list.at, "no suite is one of TLS 1.3, and no older version is spoken");
        problem.help("add a suite whose name begins with TLS13_, or write min_version: Tls12");
        if let Some(given) = &draft.min_version {
            problem.related(&given.at, "the oldest version");
        }
    }
    suites
}

fn client_auth(draft: &draft::Tls, report: &mut Report<'_>) -> Option<ClientAuth> {
    let headers = [&draft.client_subject_header, &draft.client_verified_header];
    let Some(ca) = &draft.client_ca else {
        for given in headers.into_iter().chain([&draft.client_auth]).flatten() {
            report
                .error(&given.at, "no client is asked for a certificate without client_ca")
                .help("add client_ca: \"clients.pem\", the authorities whose certificates count");
        }
        return None;
    };
    let ca = path(ca, report);
    let [subject, verified] = headers;
    let subject = header(subject, "x-client-subject", report);
    let verified = header(verified, "x-client-verified", report);
    let (subject, verified) = (subject?, verified?);
    if subject == verified {
        // One of them is not the default, and has its place.
        let given = headers.into_iter().flatten().next_back()?;
        report
            .error(&given.at, format!("{subject} cannot be both the client's subject and whether it has one"))
            .help("give the two fields different names");
    }
    let required = draft.client_auth.as_ref().is_none_or(|auth| auth.value == "Required");
    Some(ClientAuth { ca: ca?, required, subject_header: subject, verified_header: verified })
}

/// A field of requests that River may write; `default` where none is given.
fn header(
    given: &Option<Spanned<String>>,
    default: &'static str,
    report: &mut Report<'_>,
) -> Option<HeaderName> {
    let Some(given) = given else { return Some(HeaderName::from_static(default)) };
    respond::request_field(given, report)
}

fn tickets(draft: &draft::Tickets, report: &mut Report<'_>) -> TicketSettings {
    let defaults = TicketSettings::default();
    let mut settings = TicketSettings {
        lifetime: or(&draft.lifetime, defaults.lifetime),
        rotate: or(&draft.rotate, defaults.rotate),
        key_files: Vec::new(),
    };
    let second = Duration::from_secs(1);
    for given in [&draft.lifetime, &draft.rotate].into_iter().flatten() {
        if given.value.subsec_nanos() != 0 || (given.value < second && !given.value.is_zero()) {
            let seconds = given.value.as_secs().saturating_add(1);
            report
                .error(&given.at, "the time of tickets is told in whole seconds")
                .help(format!("write {:?}", units::show_duration(Duration::from_secs(seconds))));
        }
    }
    if let Some(lifetime) = draft.lifetime.as_ref().filter(|lifetime| lifetime.value > MAX_TICKET_LIFETIME) {
        report
            .error(&lifetime.at, "a ticket can be used for seven days at most (RFC 8446)")
            .help("write \"168h\"");
    }
    if let Some(files) = &draft.key_files {
        settings.key_files = files.value.iter().filter_map(|file| path(file, report)).collect();
        if files.value.len() > MAX_KEY_FILES {
            report
                .error(&files.at, format!("at most {MAX_KEY_FILES} files are possible"))
                .help("leave out the last ones, whose tickets are the oldest");
        }
        if let Some(rotate) = draft.rotate.as_ref().filter(|_| !files.value.is_empty()) {
            report
                .error(&rotate.at, "keys that come from files are not rotated by River")
                .related(&files.at, "the files")
                .help("put a new file first in the list, or its content into the first file");
        }
    }
    let rotate = Duration::from_secs(settings.lifetime.as_secs().div_ceil(u64::from(MAX_FORMER_KEYS)));
    let most = settings.rotate.saturating_mul(MAX_FORMER_KEYS);
    let at = draft.rotate.as_ref().or(draft.lifetime.as_ref()).map(|given| &given.at);
    if let Some(at) = at.filter(|_| settings.key_files.is_empty() && settings.lifetime > most) {
        report
            .error(at, format!("a ticket would outlive {MAX_FORMER_KEYS} keys, and no more are kept"))
            .note(format!(
                "the lifetime is {}, the time of rotation {}",
                units::show_duration(settings.lifetime),
                units::show_duration(settings.rotate),
            ))
            .help(format!(
                "write rotate: {:?} or more, or lifetime: {:?} or less",
                units::show_duration(rotate),
                units::show_duration(most),
            ));
    }
    settings
}

/// Reports what is wrong with a file where it is named.
fn blame(fault: &Fault, draft: &draft::Tls, report: &mut Report<'_>) {
    let certificate = |nth: usize| draft.certificates.get(nth);
    let list = |list: &'_ Option<Spanned<Vec<Spanned<String>>>>, nth: usize| {
        list.as_ref().and_then(|list| list.value.get(nth)).map(|file| file.at.clone())
    };
    let at: Option<Place> = match fault.piece {
        Piece::Certificate(nth) => certificate(nth).and_then(|one| one.cert.as_ref()).map(|at| at.at.clone()),
        Piece::Key(nth) => certificate(nth).and_then(|one| one.key.as_ref()).map(|at| at.at.clone()),
        Piece::ClientCa => draft.client_ca.as_ref().map(|at| at.at.clone()),
        Piece::TicketKey(nth) => list(&draft.tickets.key_files, nth),
    };
    let problem = report.error(at.as_ref().unwrap_or(&draft.at), fault.problem.to_string());
    explain(&fault.problem, problem);
    if let (Problem::Mismatch, Some(cert)) = (&fault.problem, fault_certificate(fault, draft)) {
        problem.related(&cert, "the certificate");
    }
}

/// Adds what can be done about a file that is not used, or what the system says of it. What the library says of it stays
/// out: it is said in River's words.
pub(super) fn explain(problem: &Problem, said: &mut Diagnostic) {
    let help = match problem {
        Problem::Unreadable(error) => {
            if let Some(cause) = error.source() {
                said.note(cause.to_string());
            }
            return;
        }
        Problem::Unusable(error) => {
            said.note(error.to_string());
            return;
        }
        Problem::Der => "openssl x509 -inform DER -in FILE -out FILE.pem makes it readable",
        Problem::NoCertificate => "a certificate begins with the line -----BEGIN CERTIFICATE-----",
        Problem::NoKey => "a private key begins with the line -----BEGIN PRIVATE KEY-----",
        Problem::BadCertificate(..) | Problem::UselessCertificate(..) => {
            "openssl x509 -noout -text -in FILE shows what a certificate says"
        }
        Problem::NoAuthority(_) => {
            "leave it out; what counts is the certificate of the authority that has signed it"
        }
        Problem::ManyKeys(_) => "leave the one in the file that belongs to the certificate",
        Problem::Mismatch => {
            "for a pair, openssl x509 -noout -pubkey -in CERT and openssl pkey -pubout -in KEY print the same"
        }
        Problem::UnknownKey(_) => {
            "a key is RSA of 2048 to 8192 bits, ECDSA on P-256, P-384 or P-521, or Ed25519"
        }
        Problem::Encrypted => "openssl pkey -in FILE -out FILE.plain takes the passphrase off",
        Problem::TicketSecret(_) => "openssl rand -out FILE 48 makes one",
        Problem::Damaged(_) => "put it in place anew, whole",
    };
    said.help(help);
}

fn fault_certificate(fault: &Fault, draft: &draft::Tls) -> Option<Place> {
    let Piece::Key(nth) = fault.piece else { return None };
    draft.certificates.get(nth)?.cert.as_ref().map(|cert| cert.at.clone())
}
