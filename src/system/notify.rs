//! What the service manager is told (sd_notify(3)): datagrams to the socket that `NOTIFY_SOCKET` names.

use std::collections::VecDeque;
use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, sendto, socket_with};
use rustix::time::{ClockId, clock_gettime};

/// How many messages may wait for a manager that takes none. The oldest is given up for the newest: each says more
/// than those before it.
const QUEUE: usize = 8;

/// The longest status, in bytes.
const MAX_STATUS: usize = 512;

/// The service manager, as far as it listens. No call waits or fails; that it cannot be told is logged once.
#[derive(Debug)]
pub struct Manager {
    socket: OwnedFd,
    address: SocketAddrUnix,
    watchdog: Option<Duration>,
    queue: VecDeque<String>,
    complained: bool,
}

/// Why `NOTIFY_SOCKET` cannot be followed.
#[derive(Debug)]
struct NoSuchSocket;

impl Manager {
    /// The manager that `NOTIFY_SOCKET` leads to, if the variable is set.
    ///
    /// `WATCHDOG_USEC` says whether it wants signs of life. `WATCHDOG_PID`, which names the process that the manager
    /// started, is not looked at: an instance that took over from that one has its duty.
    pub fn from_environment() -> Option<Self> {
        let path = env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty())?;
        let watchdog = env::var("WATCHDOG_USEC").ok().and_then(|text| text.parse().ok());
        let watchdog = watchdog.filter(|&period| period > 0).map(Duration::from_micros);
        match Self::at(&path, watchdog) {
            Ok(manager) => Some(manager),
            Err(error) => {
                tracing::warn!(
                    target: "river::system", socket = ?path, %error,
                    "NOTIFY_SOCKET cannot be used; the service manager is told nothing"
                );
                None
            }
        }
    }

    fn at(path: &OsStr, watchdog: Option<Duration>) -> io::Result<Self> {
        let address = match path.as_bytes() {
            [b'/', ..] => SocketAddrUnix::new(path)?,
            [b'@', name @ ..] => SocketAddrUnix::new_abstract_name(name)?,
            _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, NoSuchSocket)),
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
        Ok(Self { socket, address, watchdog, queue: VecDeque::new(), complained: false })
    }

    /// How often the manager wants a sign of life at least.
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// This process is the service, and serves.
    pub fn ready(&mut self, status: &str) {
        self.say(format!("READY=1\nMAINPID={}\nSTATUS={}", std::process::id(), line(status)));
    }

    /// The service is being replaced; [`ready`](Self::ready) ends that.
    pub fn reloading(&mut self, status: &str) {
        // In the manager's eyes, what came before this moment was asked of the service before it began to reload.
        let now = clock_gettime(ClockId::Monotonic);
        let microseconds = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
        self.say(format!("RELOADING=1\nMONOTONIC_USEC={microseconds}\nSTATUS={}", line(status)));
    }

    /// The service ends.
    pub fn stopping(&mut self, status: &str) {
        self.say(format!("STOPPING=1\nSTATUS={}", line(status)));
    }

    /// The service is alive. Not kept for later, when it would be no news.
    pub fn alive(&mut self) {
        if self.flush() {
            let _ = self.send("WATCHDOG=1");
        }
    }

    /// Sends what waits, and says whether nothing waits any more. To be tried again after a moment otherwise.
    pub fn flush(&mut self) -> bool {
        while let Some(message) = self.queue.front() {
            match self.send(message) {
                Err(Errno::AGAIN | Errno::NOBUFS) => return false,
                Err(error) if !self.complained => {
                    self.complained = true;
                    tracing::warn!(
                        target: "river::system", %error,
                        "the service manager cannot be told what this instance does"
                    );
                }
                Err(_) => {}
                Ok(()) => self.complained = false,
            }
            self.queue.pop_front();
        }
        true
    }

    fn say(&mut self, message: String) {
        if self.queue.len() >= QUEUE {
            self.queue.pop_front();
        }
        self.queue.push_back(message);
        self.flush();
    }

    fn send(&self, message: &str) -> rustix::io::Result<()> {
        loop {
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match sendto(&self.socket, message.as_bytes(), flags, &self.address) {
                Err(Errno::INTR) => {}
                other => return other.map(drop),
            }
        }
    }
}

/// The text as one line, for a line end would begin another assignment.
fn line(text: &str) -> String {
    let text = text.get(..text.floor_char_boundary(MAX_STATUS)).unwrap_or_default();
    text.replace(char::is_control, " ")
}

impl fmt::Display for NoSuchSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it is neither an absolute path nor an abstract name, which begins with @")
    }
}

impl std::error::Error for NoSuchSocket {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    fn heard(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 2048];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn a_path_and_an_abstract_name_are_reached() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let name = format!("river-notify-test-{}", std::process::id());
        let sockets = [
            (path.clone().into_os_string(), UnixDatagram::bind(&path).unwrap()),
            (
                format!("@{name}").into(),
                UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap(),
            ),
        ];
        for (address, socket) in sockets {
            let mut manager = Manager::at(&address, None).unwrap();
            manager.ready("serving\nMAINPID=1");
            let expected = format!("READY=1\nMAINPID={}\nSTATUS=serving MAINPID=1", std::process::id());
            assert_eq!(heard(&socket), expected);
            manager.reloading("handing over");
            let text = heard(&socket);
            let stamp = text.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")).unwrap();
            assert!(text.starts_with("RELOADING=1\n") && stamp.parse::<u64>().unwrap() > 0, "{text}");
            manager.alive();
            assert_eq!(heard(&socket), "WATCHDOG=1");
        }
    }

    #[test]
    fn other_addresses_are_refused() {
        for address in ["vsock:2:1234", "notify", "relative/path"] {
            assert!(Manager::at(OsStr::new(address), None).is_err(), "{address}");
        }
    }

    #[test]
    fn a_manager_that_is_busy_hears_the_newest_later() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let mut manager = Manager::at(path.as_os_str(), None).unwrap();
        let mut said = 0;
        // Some wait then, and some of these are given up.
        while manager.queue.len() < QUEUE {
            manager.stopping(&said.to_string());
            said += 1;
        }
        manager.ready("last");
        assert_eq!(manager.queue.len(), QUEUE);
        assert!(!manager.flush());
        socket.set_nonblocking(true).unwrap();
        let mut last = String::new();
        loop {
            let mut buffer = [0; 256];
            while let Ok(length) = socket.recv(&mut buffer) {
                last = String::from_utf8_lossy(&buffer[..length]).into_owned();
            }
            if manager.queue.is_empty() {
                break;
            }
            manager.flush();
        }
        assert!(last.starts_with("READY=1") && last.ends_with("last"), "{last}");
    }

    #[test]
    fn a_manager_that_has_gone_is_no_trouble() {
        let mut manager = Manager::at(OsStr::new("/nonexistent/notify"), None).unwrap();
        manager.ready("x");
        manager.stopping("y");
        assert!(manager.complained && manager.queue.is_empty());
    }
}
