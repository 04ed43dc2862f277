//! curl, a real client.

use std::fs;
use std::process::Command;

use super::origin::Origin;
use super::river::Running;

/// What curl is always told: to read no file of settings, to say why it fails, to use no proxy but River, and to end.
pub const ALWAYS: [&str; 7] = ["--disable", "--silent", "--show-error", "--noproxy", "*", "--max-time", "20"];

/// What a client prints, which has to end well.
#[track_caller]
pub fn client(program: &str, arguments: &[&str]) -> String {
    let path = std::env::var_os("PATH").unwrap();
    let mut command = Command::new(program);
    let output = command.env_clear().env("PATH", path).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What curl prints.
#[track_caller]
pub fn curl(arguments: &[&str]) -> String {
    client("curl", &[&ALWAYS, arguments].concat())
}

/// A file of 5,000,000 bytes to be uploaded, in the directory of `river`: its path, and the [sum](sum) of its bytes.
pub fn upload(river: &Running) -> (String, u64) {
    let body: Vec<u8> = (0..5_000_000).map(|at| (at % 251) as u8).collect();
    let file = river.dir().join("upload");
    fs::write(&file, &body).unwrap();
    (file.to_str().unwrap().to_owned(), sum(&body))
}

/// The sum of the bytes, which an origin that got them all agrees on.
pub fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().map(|byte| u64::from(*byte)).sum()
}

/// An origin of a large body, of which the head says so.
pub fn large() -> Origin {
    Origin::with(|_, reply| reply.respond(200, &[("x-large", "yes")], &vec![b'x'; 20_000_000]))
}

/// An origin whose page comes behind early hints (RFC 8297), with a trailer behind it.
pub fn hinting() -> Origin {
    Origin::with(|_, reply| {
        reply.interim(103, &[("link", "</style.css>")])?;
        reply.respond_chunked(200, &[("trailer", "x-sum")], &[b"page\n"], &[("x-sum", "42")])
    })
}
