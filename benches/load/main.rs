//! A load generator for HTTP/1.1 that counts a request's latency from the time at which it was due.
//!
//! With `--rate` the loop is open: requests come by a Poisson process, the same in every run, and one that finds every
//! connection busy waits, which is part of its latency. So a server that stalls is charged for all that would have
//! come meanwhile (no coordinated omission). Without `--rate` each connection asks again once it is answered. With
//! `--fresh` every request has a connection of its own, whose begin and TLS handshake are part of its latency; nothing
//! is resumed.
//!
//! One thread. It prints one line of JSON; times in it are nanoseconds. `benches/compare.py` uses it.

mod arrivals;
mod connection;
mod engine;
mod response;
mod tally;
mod tls;

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use argh::FromArgs;

use crate::engine::{Engine, Plan};

pub(crate) type Outcome<T> = Result<T, Box<dyn Error>>;

/// Put an HTTP/1.1 server under load and measure latency from the time at which each request was due.
#[derive(FromArgs)]
struct Options {
    /// where the server is
    #[argh(option)]
    address: SocketAddr,
    /// what to ask for (default /)
    #[argh(option, default = "String::from(\"/\")")]
    path: String,
    /// connections at one time (default 64)
    #[argh(option, default = "64")]
    connections: usize,
    /// how long to go on (default 5)
    #[argh(option, default = "5.0")]
    seconds: f64,
    /// requests a second, however fast they are answered (default: a request when the last is answered)
    #[argh(option)]
    rate: Option<f64>,
    /// a new connection for each request
    #[argh(switch)]
    fresh: bool,
    /// speak TLS 1.3 and trust the certificate in this file
    #[argh(option)]
    trust: Option<PathBuf>,
    /// the server's name (default localhost)
    #[argh(option, default = "String::from(\"localhost\")")]
    name: String,
}

fn main() -> ExitCode {
    match run(argh::from_env()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> Outcome<()> {
    let Options { address, path, connections, seconds, rate, fresh, trust, name } = options;
    let length = Duration::try_from_secs_f64(seconds)?;
    if connections == 0 || rate.is_some_and(|rate| !rate.is_normal() || rate < 0.0) {
        return Err("a run takes one connection at least, and a rate above zero".into());
    }
    let close = if fresh { "Connection: close\r\n" } else { "" };
    let request = format!("GET {path} HTTP/1.1\r\nHost: {name}\r\n{close}\r\n").into_bytes();
    let tls = trust.map(|file| tls::client(&file, &name)).transpose()?;
    let plan = Plan { address, request, connections, length, rate, fresh, tls };
    let tally = Engine::new(&plan)?.run()?;
    println!("{}", tally.into_json());
    Ok(())
}
