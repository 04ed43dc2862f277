//! The three proxies with settings that are as equal as they can be: each request has a Unix socket of its own in front
//! and one behind, so that what comes out is known to be what went in there.

use std::fmt::Write;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use crate::support::{Config, Dir, PATIENCE, Process, River, Running, Target, config, until};

/// A proxy that runs.
#[derive(Debug)]
pub(crate) struct Proxy {
    /// Its name and version.
    pub(crate) version: String,
    dir: Arc<Dir>,
    name: &'static str,
    _process: Either,
}

/// Held for the sake of the process.
#[derive(Debug)]
#[allow(dead_code, reason = "dropped at the end, which ends the process")]
enum Either {
    River(Running),
    Peer(Process),
}

impl Proxy {
    /// Where it takes the `nth` request.
    pub(crate) fn front(&self, nth: usize) -> PathBuf {
        front(&self.dir, self.name, nth)
    }

    /// Where it passes the `nth` request on to.
    pub(crate) fn origin(&self, nth: usize) -> PathBuf {
        origin(&self.dir, self.name, nth)
    }

    fn wait_ready(self, count: usize) -> Self {
        for nth in 0..count {
            let front = self.front(nth);
            until("the proxy takes connections", PATIENCE, || UnixStream::connect(&front).is_ok());
        }
        self
    }
}

fn front(dir: &Dir, name: &str, nth: usize) -> PathBuf {
    dir.join(&format!("{name}-{nth}"))
}

fn origin(dir: &Dir, name: &str, nth: usize) -> PathBuf {
    dir.join(&format!("{name}-{nth}-origin"))
}

/// Half a second for whatever a client leaves undone: it is what ends an exchange that does not end by itself.
const RIVER_TIMEOUTS: &str = "timeouts: (head: \"500ms\", idle: \"500ms\", body: \"500ms\")";

pub(crate) fn river(dir: &Arc<Dir>, count: usize) -> Proxy {
    let mut config = Config::new().system("workers: 1");
    for nth in 0..count {
        let (front, origin) = (front(dir, "river", nth), origin(dir, "river", nth));
        let bind = format!("unix:{}", front.display());
        let server = config::connectors(&[Target::from(origin.as_path())]);
        config = config.service(&format!("s{nth}"), &[&bind], &format!("{server}, {RIVER_TIMEOUTS}"));
    }
    let running = River::in_dir(dir.clone()).config(config).serve();
    let process = Either::River(running);
    Proxy { version: "River".into(), dir: dir.clone(), name: "river", _process: process }.wait_ready(count)
}

pub(crate) fn nginx(dir: &Arc<Dir>, count: usize) -> Proxy {
    let path = dir.path().display();
    let mut text = format!(
        "daemon off; master_process off; pid {path}/nginx.pid; error_log stderr crit;
         events {{ worker_connections 1024; }}
         http {{
         access_log off;
         client_body_temp_path {path}/nginx-body; proxy_temp_path {path}/nginx-proxy;
         fastcgi_temp_path {path}/nginx-fcgi; uwsgi_temp_path {path}/nginx-uwsgi; scgi_temp_path {path}/nginx-scgi;
         client_header_timeout 500ms; client_body_timeout 500ms; keepalive_timeout 500ms;
         lingering_time 500ms; lingering_timeout 500ms;
         proxy_http_version 1.1; proxy_set_header Host $http_host; proxy_set_header Connection \"\";
         proxy_request_buffering off;\n"
    );
    for nth in 0..count {
        let (front, origin) = (front(dir, "nginx", nth), origin(dir, "nginx", nth));
        let _ = writeln!(
            text,
            "upstream u{nth} {{ server unix:{}; keepalive 1; }}
             server {{ listen unix:{}; location / {{ proxy_pass http://u{nth}; }} }}",
            origin.display(),
            front.display()
        );
    }
    let file = dir.join("nginx.conf");
    fs::write(&file, text + "}\n").unwrap();
    let mut command = Command::new("nginx");
    command.arg("-p").arg(dir.path()).args(["-e", "stderr", "-c"]).arg(&file);
    peer(dir, "nginx", &mut command, version("nginx", "nginx/"), count)
}

pub(crate) fn haproxy(dir: &Arc<Dir>, count: usize) -> Proxy {
    let mut text = "global
         nbthread 1
         maxconn 500
        defaults
         mode http
         timeout connect 5s
         timeout server 2s
         timeout client 500ms
         timeout http-request 500ms
         timeout http-keep-alive 500ms\n"
        .to_owned();
    for nth in 0..count {
        let (front, origin) = (front(dir, "haproxy", nth), origin(dir, "haproxy", nth));
        let _ = writeln!(
            text,
            "listen l{nth}\n bind unix@{}\n server s unix@{}",
            front.display(),
            origin.display()
        );
    }
    let file = dir.join("haproxy.cfg");
    fs::write(&file, text).unwrap();
    let mut command = Command::new("haproxy");
    command.args(["-db", "-f"]).arg(&file);
    peer(dir, "haproxy", &mut command, version("haproxy", "version "), count)
}

fn peer(dir: &Arc<Dir>, name: &'static str, command: &mut Command, version: String, count: usize) -> Proxy {
    let process = Either::Peer(Process::start(name, command));
    Proxy { version, dir: dir.clone(), name, _process: process }.wait_ready(count)
}

/// What a peer calls itself: the word behind `marker` in what `-v` prints, without Debian's part.
fn version(name: &str, marker: &str) -> String {
    let output = Command::new(Path::new(name)).arg("-v").output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    let (_, rest) = said.split_once(marker).unwrap_or_else(|| panic!("{name} -v said {said}"));
    let number = rest.split(|byte: char| !byte.is_ascii_digit() && byte != '.').next().unwrap();
    let name = if name == "haproxy" { "HAProxy" } else { name };
    format!("{name} {number}")
}
