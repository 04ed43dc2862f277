//! What others see of an instance while it is replaced a hundred times: pidfile, upgrade socket and listeners, looked at
//! every millisecond.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use support::config::respond;
use support::proc::exists;
use support::*;

const UPGRADES: usize = 100;

/// Looks at something every millisecond in a thread of its own, until it is stopped or finds a fault.
struct Watch {
    name: &'static str,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<usize, String>>,
}

impl Watch {
    fn start(name: &'static str, mut look: impl FnMut() -> Result<(), String> + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let watch = move || {
            let mut looks = 0;
            while !stopped.load(Ordering::SeqCst) {
                look().map_err(|fault| format!("look {looks} at {name}: {fault}"))?;
                looks += 1;
                thread::park_timeout(Duration::from_millis(1));
            }
            Ok(looks)
        };
        Self { name, stop, thread: thread::spawn(watch) }
    }

    /// Ends it; there was no fault, and it looked a few times an upgrade.
    #[track_caller]
    fn expect_no_fault(self) {
        self.stop.store(true, Ordering::SeqCst);
        let looks = self.thread.join().unwrap().unwrap();
        println!("{}: {looks} looks during {UPGRADES} upgrades, no fault", self.name);
        assert!(looks >= 4 * UPGRADES, "{looks} looks at {} are too few", self.name);
    }
}

/// The process that the pidfile names, which has to be a living River.
fn living(path: &Path) -> Result<u32, String> {
    let read = || fs::read_to_string(path).map_err(|error| format!("cannot read it: {error}"));
    let text = read()?;
    let pid: u32 = text.trim().parse().map_err(|_| format!("it holds {text:?}"))?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    // It may have been replaced, and the one it named have ended, since it was read.
    if (name != "river\n" || !exists(pid)) && read()? == text {
        return Err(format!("it names {pid}, which is {name:?}"));
    }
    Ok(pid)
}

/// Asks for one response over a connection that was just made.
fn ask(mut socket: impl Read + Write) -> Result<(), String> {
    let request = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let mut response = String::new();
    socket
        .write_all(request)
        .and_then(|()| socket.read_to_string(&mut response))
        .map_err(|error| format!("no response: {error}"))?;
    if response.starts_with("HTTP/1.1 200 ") { Ok(()) } else { Err(format!("the response {response:?}")) }
}

#[test]
fn row_16_the_pidfile_is_never_missing_empty_or_dead_and_nobody_is_refused_in_a_hundred_upgrades() {
    let config = Config::respond("here").service("sock", &["unix:web.sock"], &respond("here"));
    let mut current = River::with_config(config).serve();
    let dir = current.dir().clone();
    let (pidfile, upgrade_socket, sock) = (dir.pidfile(), dir.upgrade_socket(), dir.join("web.sock"));
    let web = current.web();
    let (sender, pids) = std::sync::mpsc::channel();

    let watches = [
        Watch::start("the pidfile", move || {
            // Nobody counts any more once the test is over.
            living(&pidfile).map(|pid| sender.send(pid).unwrap_or_default())
        }),
        Watch::start("the upgrade socket", move || match fs::symlink_metadata(&upgrade_socket) {
            Ok(found) if found.file_type().is_socket() => Ok(()),
            found => Err(format!("{found:?} is there")),
        }),
        Watch::start("connect() over TCP", move || match TcpStream::connect_timeout(&web, PATIENCE) {
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        }),
        Watch::start("a request over TCP", move || {
            ask(TcpStream::connect_timeout(&web, PATIENCE).map_err(|error| error.to_string())?)
        }),
        Watch::start("a request over a Unix socket", move || {
            ask(UnixStream::connect(&sock).map_err(|error| error.to_string())?)
        }),
    ];
    let mut served = BTreeSet::from([current.pid()]);
    for _ in 0..UPGRADES {
        let next = upgrade(&current);
        assert_eq!(dir.pid(), Some(next.pid()));
        served.insert(next.pid());
        let old = std::mem::replace(&mut current, next);
        assert!(old.wait_exit(PATIENCE).success());
    }
    watches.into_iter().for_each(Watch::expect_no_fault);

    let seen: BTreeSet<u32> = pids.iter().collect();
    println!("the pidfile named {} of {} instances when it was looked at", seen.len(), served.len());
    assert!(seen.is_subset(&served), "it named somebody else");
    assert!(seen.len() > UPGRADES / 2, "it was looked at too seldom");
    let names = ["river.pid", "river.ron", "upgrade.sock", "web.sock"];
    assert_eq!(dir.names(), names, "something was left behind");
    current.signal(Signal::TERM);
    assert!(current.wait_exit(PATIENCE).success());
    assert_eq!(dir.names(), ["river.ron"]);
}
