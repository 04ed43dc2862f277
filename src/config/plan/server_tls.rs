//! TLS with servers: what is written is checked, and the files are read.

use std::cell::OnceCell;

use crate::config::diagnostics::Report;
use crate::config::draft;
use crate::config::node::Spanned;
use crate::tls::{Connector, Identity, Piece, Problem, Roots, is_server_name};
use crate::upstream::Proto;

use super::tls;

/// The roots that the system trusts, read when the first server needs them; or why there are none.
#[derive(Default)]
pub(super) struct SystemRoots(OnceCell<Result<Roots, String>>);

/// How a server is spoken to over TLS; nothing where it is not, or if something is wrong (then reported).
pub(super) fn plan(
    draft: &draft::Server,
    proto: Proto,
    system: &SystemRoots,
    report: &mut Report<'_>,
) -> Option<Connector> {
    let Some(name) = &draft.tls_sni else {
        let files =
            [&draft.tls_ca, &draft.tls_cert, &draft.tls_key].into_iter().flatten().map(|file| &file.at);
        for at in files.chain(draft.tls_verify.as_ref().map(|verify| &verify.at)) {
            report
                .error(at, "the server is not spoken to over TLS without tls_sni")
                .help("add tls_sni: \"app.example\", the name that the server's certificate is for");
        }
        return None;
    };
    check_name(name, report);
    let roots = roots(draft, name, system, report);
    let identity = match (&draft.tls_cert, &draft.tls_key) {
        (Some(cert), Some(key)) => Some(identity(cert, key, report)),
        (None, None) => None,
        (Some(cert), None) => {
            report.error(&cert.at, "the certificate needs its key").help("add tls_key: \"client.key\"");
            return None;
        }
        (None, Some(key)) => {
            report.error(&key.at, "the key needs its certificate").help("add tls_cert: \"client.pem\"");
            return None;
        }
    };
    let identity = match identity {
        None => None,
        Some(identity) => Some(identity?),
    };
    // It has no other reason to fail than the name, which has been reported.
    Connector::new(name, &roots?, identity.as_ref(), proto.alpn()).ok()
}

/// Reports what no certificate can be for, with what was probably meant.
fn check_name(name: &Spanned<String>, report: &mut Report<'_>) {
    if is_server_name(name) {
        return;
    }
    let address = name.split_once("://").map_or(name.as_str(), |(_, rest)| rest);
    let address = address.split('/').next().unwrap_or_default();
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let meant = [address, host].map(|meant| meant.trim_matches(['[', ']', '.']));
    let help = match meant.into_iter().find(|meant| is_server_name(meant)) {
        Some(meant) => format!("write tls_sni: {meant:?}; the port belongs in addr"),
        None => "write the name that the server's certificate is for: tls_sni: \"app.example\"".to_owned(),
    };
    report.error(&name.at, format!("{:?} is no name of a host, and no IP address", name.value)).help(help);
}

/// Who vouches for a server.
fn roots(
    draft: &draft::Server,
    name: &Spanned<String>,
    system: &SystemRoots,
    report: &mut Report<'_>,
) -> Option<Roots> {
    let unverified = draft.tls_verify.as_ref().filter(|verify| !verify.value);
    match (&draft.tls_ca, unverified) {
        (Some(ca), Some(unverified)) => {
            report
                .error(&ca.at, "nobody is asked who vouches for the server")
                .related(&unverified.at, "its certificate is not verified");
            None
        }
        (None, Some(_)) => Some(Roots::anyone()),
        (Some(ca), None) => {
            let path = tls::path(ca, report)?;
            Roots::read(&path).map_err(|problem| blame(&problem, ca, None, report)).ok()
        }
        (None, None) => match system.0.get_or_init(|| Roots::system().map_err(|error| error.to_string())) {
            Ok(roots) => Some(roots.clone()),
            Err(message) => {
                report
                    .error(&name.at, message.clone())
                    .help("name the authority of the server's certificate with tls_ca");
                None
            }
        },
    }
}

fn identity(cert: &Spanned<String>, key: &Spanned<String>, report: &mut Report<'_>) -> Option<Identity> {
    let paths = (tls::path(cert, report), tls::path(key, report));
    let identity = Identity::read(&paths.0?, &paths.1?);
    identity
        .map_err(|fault| match fault.piece {
            Piece::Key(_) => blame(&fault.problem, key, Some(cert), report),
            _ => blame(&fault.problem, cert, None, report),
        })
        .ok()
}

fn blame(problem: &Problem, file: &Spanned<String>, cert: Option<&Spanned<String>>, report: &mut Report<'_>) {
    let said = report.error(&file.at, problem.to_string());
    tls::explain(problem, said);
    if let (Problem::Mismatch, Some(cert)) = (problem, cert) {
        said.related(&cert.at, "the certificate");
    }
}
