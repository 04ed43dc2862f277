//! A process under test: its output, its signals, its end, and what `/proc` says of it.

use std::fs;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::net::getpeername;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open, pidfd_send_signal};

pub use rustix::process::Signal;

use super::log::Log;
use super::wait::until;

/// A child process. Dropped, it is killed and waited for, so that none outlives its test, a failing one included;
/// where the test fails its output is printed.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    /// Names this very process even after its pid was given to another.
    pidfd: OwnedFd,
    child: Mutex<Child>,
    log: Arc<Log>,
}

impl Process {
    /// Starts `command` with its output collected under `name`.
    pub fn start(name: &str, command: &mut Command) -> Self {
        Self::start_unheard(name, command, Stdio::piped())
    }

    /// Starts `command` with this for its standard error, which is collected only if it is piped.
    pub fn start_unheard(name: &str, command: &mut Command, stderr: Stdio) -> Self {
        Self::start_with(name, command, [Stdio::null(), Stdio::piped(), stderr])
    }

    /// Starts `command` with these for its standard streams; its output is collected where it is piped.
    pub fn start_with(name: &str, command: &mut Command, [stdin, stdout, stderr]: [Stdio; 3]) -> Self {
        let mut child = command
            .stdin(stdin)
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let pid = child.id();
        let name = format!("{name} (pid {pid})");
        let stderr: Box<dyn Read + Send> = match child.stderr.take() {
            Some(stderr) => Box::new(stderr),
            None => Box::new(io::empty()),
        };
        let stdout: Box<dyn Read + Send> = match child.stdout.take() {
            Some(stdout) => Box::new(stdout),
            None => Box::new(io::empty()),
        };
        let log = Log::collect(&name, stdout, stderr);
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
        Self { pid, pidfd, child: Mutex::new(child), log }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its output.
    pub fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// Sends it a signal, and panics where it has ended and been waited for.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        if let Err(error) = pidfd_send_signal(&self.pidfd, signal) {
            self.log.print();
            panic!("cannot send {signal:?} to {}: {error}", self.pid);
        }
    }

    /// Waits for its end and the end of its output, and panics when `deadline` passes first.
    #[track_caller]
    pub fn wait_exit(&self, deadline: Duration) -> ExitStatus {
        if !self.ends_within(deadline) {
            self.log.print();
            panic!("{} still runs after {deadline:?}", self.pid);
        }
        let status = self.child.lock().unwrap().wait().unwrap();
        // A process that it started may hold its output open.
        self.log.wait_end(Duration::from_secs(2));
        status
    }

    /// Whether it ends within `deadline`; returns as soon as it does.
    pub fn ends_within(&self, deadline: Duration) -> bool {
        let timeout = Timespec::try_from(deadline).unwrap();
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        loop {
            match poll(&mut fds, Some(&timeout)) {
                Ok(ready) => return ready > 0,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => panic!("cannot wait for {}: {error}", self.pid),
            }
        }
    }

    /// Whether it runs.
    pub fn alive(&self) -> bool {
        !self.ends_within(Duration::ZERO)
    }

    /// What its open descriptors are, sorted (`socket:[…]`, `/path`, `anon_inode:[eventpoll]`).
    pub fn fds(&self) -> Vec<String> {
        fds(self.pid)
    }

    /// Waits until it has its own handlers for `signals`, whatever it inherited.
    #[track_caller]
    pub fn wait_catches(&self, signals: &[Signal], deadline: Duration) {
        let wanted = signals.iter().fold(0, |set, signal| set | 1 << (signal.as_raw() - 1));
        until("the signals are caught", deadline, || caught(self.pid) & wanted == wanted);
    }

    /// Whether it is stopped.
    pub fn is_stopped(&self) -> bool {
        state(self.pid) == Some('T')
    }

    /// The far ends of its TCP connections, those it serves and its own to servers. It should be stopped, so that they
    /// stay what they are.
    pub fn tcp_peers(&self) -> Vec<SocketAddr> {
        let peer = |number: &i32| {
            let fd = match pidfd_getfd(&self.pidfd, *number, PidfdGetfdFlags::empty()) {
                // It was closed meanwhile.
                Err(Errno::BADF | Errno::SRCH) => return None,
                other => other.unwrap(),
            };
            getpeername(fd).ok()??.try_into().ok()
        };
        sockets(self.pid).iter().filter_map(peer).collect()
    }

    /// Stops it and waits until it is stopped.
    #[track_caller]
    pub fn pause(&self) {
        self.signal(Signal::STOP);
        until("the process is stopped", Duration::from_secs(5), || state(self.pid) == Some('T'));
    }

    /// Lets it go on after [`Process::pause`].
    #[track_caller]
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
        if let Ok(mut child) = self.child.lock() {
            let _ = child.wait();
        }
        if thread::panicking() {
            self.log.wait_end(Duration::from_secs(1));
            self.log.print();
        }
    }
}

/// A pipe that takes no more: a write to it blocks until the reader reads.
pub fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = io::pipe().unwrap();
    let flags = fcntl_getfl(&writer).unwrap();
    fcntl_setfl(&writer, flags | OFlags::NONBLOCK).unwrap();
    while writer.write(&[b'.'; 4096]).is_ok() {}
    fcntl_setfl(&writer, flags).unwrap();
    (reader, writer)
}

/// What the open descriptors of process `pid` are, sorted.
pub fn fds(pid: u32) -> Vec<String> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    let links = entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let mut links: Vec<String> = links.map(|link| link.to_string_lossy().into_owned()).collect();
    links.sort();
    links
}

/// The numbers of the open sockets of process `pid`.
fn sockets(pid: u32) -> Vec<i32> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    let number = |entry: io::Result<fs::DirEntry>| {
        let entry = entry.ok()?;
        let is_socket = fs::read_link(entry.path()).ok()?.to_str()?.starts_with("socket:");
        entry.file_name().to_str()?.parse().ok().filter(|_| is_socket)
    };
    entries.filter_map(number).collect()
}

/// The set of signals that process `pid` catches, bit 0 for signal 1 (`SigCgt`); empty where there is none such.
pub fn caught(pid: u32) -> u64 {
    let set = status_line(pid, "SigCgt:");
    set.and_then(|set| u64::from_str_radix(&set, 16).ok()).unwrap_or(0)
}

/// How much memory process `pid` has in use, in KiB (`VmRSS`); nothing where there is none such.
pub fn resident(pid: u32) -> usize {
    let line = status_line(pid, "VmRSS:");
    line.and_then(|line| line.split(' ').next()?.parse().ok()).unwrap_or(0)
}

/// How much memory of its own process `pid` has in use, in KiB (`RssAnon`): without the pages of its program and of
/// files; nothing where there is none such.
pub fn anonymous(pid: u32) -> usize {
    let line = status_line(pid, "RssAnon:");
    line.and_then(|line| line.split(' ').next()?.parse().ok()).unwrap_or(0)
}

/// Whether a process `pid` exists that is not a zombie.
pub fn exists(pid: u32) -> bool {
    state(pid).is_some_and(|state| state != 'Z' && state != 'X')
}

/// How many sockets listen on TCP port `port`, in the whole network namespace.
pub fn listening_sockets(port: u16) -> usize {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    let wanted = format!(":{port:04X}");
    let listens = |line: &&str| {
        let mut columns = line.split_whitespace().skip(1);
        columns.next().is_some_and(|local| local.ends_with(&wanted)) && columns.nth(1) == Some("0A")
    };
    tables.iter().flat_map(|table| table.lines()).filter(listens).count()
}

fn state(pid: u32) -> Option<char> {
    status_line(pid, "State:")?.chars().next()
}

fn status_line(pid: u32, key: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix(key)).map(|value| value.trim().to_owned())
}
