//! nginx and HAProxy, reloaded the way their manuals say.

use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::Outcome;

const PATIENCE: Duration = Duration::from_secs(30);
/// How often the process table is looked at.
const GLANCE: Duration = Duration::from_millis(1);

/// Which peer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Nginx,
    Haproxy,
}

/// A running peer: its main process and the workers below it. Dropped, it is killed.
pub(crate) struct Peer {
    kind: Kind,
    main: Child,
    workers: BTreeSet<u32>,
}

impl Peer {
    /// Where the peer's program is, if it is installed.
    pub(crate) fn find(kind: Kind) -> Option<PathBuf> {
        let name = match kind {
            Kind::Nginx => "nginx",
            Kind::Haproxy => "haproxy",
        };
        let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
        path.split(':').map(|directory| Path::new(directory).join(name)).find(|path| path.is_file())
    }

    pub(crate) fn start(
        kind: Kind,
        program: &Path,
        directory: &Path,
        address: SocketAddr,
        origin: SocketAddr,
    ) -> Outcome<Self> {
        let workers = thread::available_parallelism()?.get();
        let (file, text) = match kind {
            Kind::Nginx => ("nginx.conf", nginx(directory, address, origin, workers)),
            Kind::Haproxy => ("haproxy.cfg", haproxy(address, origin, workers)),
        };
        let config = directory.join(file);
        fs::write(&config, text)?;
        // The kernel ends the peer with this program, however that ends.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM"]).arg(program);
        match kind {
            Kind::Nginx => command.arg("-e").arg(directory.join("nginx.log")).arg("-c").arg(&config),
            Kind::Haproxy => command.arg("-W").arg("-db").arg("-f").arg(&config),
        };
        let main = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let mut peer = Self { kind, main, workers: BTreeSet::new() };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(address).is_err() {
            if Instant::now() > deadline || peer.main.try_wait()?.is_some() {
                return Err(format!("{} does not start", program.display()).into());
            }
            thread::sleep(GLANCE);
        }
        peer.workers = peer.children()?;
        Ok(peer)
    }

    /// Reloads. Returns when the signal was sent and when new workers were there.
    pub(crate) fn reload(&mut self) -> Outcome<(Instant, Instant)> {
        let signal = match self.kind {
            Kind::Nginx => Signal::HUP,
            Kind::Haproxy => Signal::USR2,
        };
        let begin = Instant::now();
        kill_process(Pid::from_child(&self.main), signal)?;
        let deadline = begin + PATIENCE;
        let wanted = match self.kind {
            Kind::Nginx => thread::available_parallelism()?.get(),
            Kind::Haproxy => 1,
        };
        loop {
            let now = self.children()?;
            if now.difference(&self.workers).count() >= wanted {
                self.workers = now;
                return Ok((begin, Instant::now()));
            }
            if Instant::now() > deadline {
                return Err("no new workers".into());
            }
            thread::sleep(GLANCE);
        }
    }

    /// How many workers there are, the leaving ones included.
    pub(crate) fn workers(&self) -> usize {
        self.children().map_or(0, |children| children.len())
    }

    fn children(&self) -> Outcome<BTreeSet<u32>> {
        let pid = self.main.id();
        let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        Ok(text.split_whitespace().filter_map(|child| child.parse().ok()).collect())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        for child in self.children().unwrap_or_default() {
            if let Some(pid) = i32::try_from(child).ok().and_then(Pid::from_raw) {
                // It may be gone already.
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        let _ = self.main.kill();
        let _ = self.main.wait();
    }
}

fn nginx(directory: &Path, address: SocketAddr, origin: SocketAddr, workers: usize) -> String {
    let directory = directory.display();
    let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
    format!(
        "daemon off;
worker_processes {workers};
{user}
pid {directory}/nginx.pid;
error_log {directory}/nginx.log error;
worker_rlimit_nofile 8192;
worker_shutdown_timeout 10s;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 60s;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    upstream origin {{ server {origin}; keepalive 128; keepalive_requests 1000000000; }}
    server {{
        listen {address} backlog=1024;
        location / {{
            proxy_pass http://origin;
            proxy_http_version 1.1;
            proxy_set_header Host $host;
            proxy_set_header Connection \"\";
        }}
    }}
}}
"
    )
}

fn haproxy(address: SocketAddr, origin: SocketAddr, workers: usize) -> String {
    format!(
        "global
    nbthread {workers}
    maxconn 4096
    hard-stop-after 10s
defaults
    mode http
    timeout client 60s
    timeout server 60s
    timeout connect 3s
    timeout http-request 10s
    timeout http-keep-alive 60s
frontend front
    bind {address} backlog 1024
    default_backend back
backend back
    server origin {origin} pool-max-conn 128
"
    )
}
