//! A service manager, played by the test: the socket that `NOTIFY_SOCKET` names.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::river::{Dir, River};
use super::wait::PATIENCE;

/// The manager's end, which hears every instance that was told of it.
#[derive(Debug)]
pub struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
    // The socket's directory.
    _dir: Arc<Dir>,
}

/// One datagram, as its assignments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice(Vec<(String, String)>);

impl Manager {
    /// A manager that hears everybody.
    pub fn new() -> Self {
        let dir = Dir::new();
        let path = dir.join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        // Whoever it manages may have become another user.
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        Self { socket, path, _dir: dir }
    }

    /// The instance with this manager in its environment.
    pub fn manage(&self, river: River) -> River {
        river.env("NOTIFY_SOCKET", self.path.to_str().unwrap())
    }

    /// The next datagram; panics where none comes.
    #[track_caller]
    pub fn next(&self) -> Notice {
        self.next_within(PATIENCE).unwrap_or_else(|| panic!("the manager was told nothing"))
    }

    /// The next datagram that comes within `deadline`, if one does.
    pub fn next_within(&self, deadline: Duration) -> Option<Notice> {
        self.socket.set_read_timeout(Some(deadline.max(Duration::from_millis(1)))).unwrap();
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer).ok()?;
        let text = String::from_utf8(buffer[..length].to_vec()).unwrap();
        let pairs = text.lines().map(|line| {
            let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("no assignment: {text:?}"));
            (key.to_owned(), value.to_owned())
        });
        Some(Notice(pairs.collect()))
    }

    /// What has been said by now, without waiting.
    pub fn rest(&self) -> Vec<Notice> {
        std::iter::from_fn(|| self.next_within(Duration::ZERO)).collect()
    }

    /// The next that is no sign of life.
    #[track_caller]
    pub fn next_news(&self) -> Notice {
        let end = Instant::now() + PATIENCE;
        loop {
            let notice = self.next();
            if !notice.has("WATCHDOG", "1") {
                return notice;
            }
            assert!(Instant::now() < end, "nothing but signs of life");
        }
    }
}

impl Notice {
    /// The value of an assignment.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(other, _)| other == key).map(|(_, value)| value.as_str())
    }

    /// Whether it says so.
    pub fn has(&self, key: &str, value: &str) -> bool {
        self.get(key) == Some(value)
    }
}
