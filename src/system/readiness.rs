//! The readiness socket: how the process that starts an instance hears what becomes of it.
//!
//! The parent gives the child one end of a Unix `SOCK_SEQPACKET` pair as its standard input, and says so in the
//! environment ([`VARIABLE`]). The child reports by short datagrams, and the end of the connection is the child's own
//! end: it needs no cooperation, so a child that is killed is noticed like any other.

use std::env;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::task::{Context, Poll, ready};

use async_io::Async;
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair, sockopt,
};
use rustix::process::setsid;
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout, stdin};

use crate::base::Exit;

/// The environment variable that says that the standard input is a readiness socket. It is River's own affair, and
/// is never passed on: whatever an instance starts is started without it, or with a socket of its own.
pub const VARIABLE: &str = "RIVER_READINESS";

/// Its only value.
const VALUE: &str = "stdin";

/// The longest report, in bytes. The explanation of a failure is cut to fit.
const MAX_REPORT: usize = 32 << 10;

/// What a child says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// The instance in service has welcomed it; it waits to be handed the service.
    Waiting {
        /// Who is to hand over to it, where it says so.
        incumbent: Option<u32>,
    },
    /// It is in service; pidfile and upgrade socket are there.
    Serving {
        /// Its process id.
        pid: u32,
    },
    /// It will not serve.
    Failed {
        /// The code it exits with.
        exit: u8,
        /// What it says of it, as it is to be printed.
        text: String,
    },
}

/// The parent's end.
#[derive(Debug)]
pub struct Readiness {
    socket: Async<OwnedFd>,
}

/// The child's end. Nothing that it says can fail or wait: a parent that has gone wants to know nothing.
#[derive(Debug)]
pub struct Reporter {
    socket: OwnedFd,
    daemon: bool,
}

/// Why a child's report is not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Strange(String);

impl Readiness {
    /// A new socket: the parent's end, and the one to give to the child as its standard input.
    ///
    /// # Errors
    /// When descriptors are not to be had.
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (near, far) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        Ok((Self { socket: Async::new(near)? }, far))
    }

    /// Starts `command` with a readiness socket as its standard input.
    ///
    /// The command is used up, for it holds the child's end, whose close is the child's end of life.
    ///
    /// # Errors
    /// When descriptors are not to be had, or the program cannot be started.
    pub fn spawn(mut command: Command) -> io::Result<(Child, Self)> {
        let (near, far) = Self::pair()?;
        let child = command.stdin(Stdio::from(far)).env(VARIABLE, VALUE).spawn()?;
        Ok((child, near))
    }

    /// The next report, or `None` when the child has ended or will say no more. Dropping the future loses nothing.
    ///
    /// # Errors
    /// When the socket fails, or the child says what no instance says (`InvalidData`).
    pub async fn next(&mut self) -> io::Result<Option<Report>> {
        futures_lite::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// As [`next`](Self::next); the task is woken when there may be something.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Report>>> {
        let mut buffer = vec![0; MAX_REPORT];
        loop {
            match recv(&self.socket, buffer.as_mut_slice(), RecvFlags::DONTWAIT) {
                Ok((0, _)) | Err(Errno::CONNRESET) => return Poll::Ready(Ok(None)),
                Ok((length, _)) => {
                    let report = Report::read(buffer.get(..length).unwrap_or(&buffer));
                    return Poll::Ready(report.map(Some));
                }
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
            ready!(self.socket.poll_readable(cx))?;
        }
    }
}

impl Reporter {
    /// Takes the socket that the parent gave, if it gave one, and puts `/dev/null` in its place as standard input.
    ///
    /// A standard input that is no such socket although the environment says so is left alone, with a warning.
    pub fn take() -> Option<Self> {
        let said = env::var_os(VARIABLE)?;
        let taken = match said == VALUE {
            true => Self::from_stdin(),
            false => Err(io::Error::other(Strange(said.to_string_lossy().into_owned()))),
        };
        match taken {
            Ok(reporter) => Some(reporter),
            Err(error) => {
                tracing::warn!(
                    target: "river::system", %error,
                    "{VARIABLE} is set, but the standard input is no readiness socket; nobody is told when this instance serves"
                );
                None
            }
        }
    }

    fn from_stdin() -> io::Result<Self> {
        let kind = (sockopt::socket_domain(stdin())?, sockopt::socket_type(stdin())?);
        if kind != (AddressFamily::UNIX, SocketType::SEQPACKET) {
            return Err(Errno::PROTOTYPE.into());
        }
        // Not below 3: those are standard streams, whatever is open now.
        let socket = fcntl_dupfd_cloexec(stdin(), 3)?;
        dup2_stdin(File::open("/dev/null")?)?;
        Ok(Self { socket, daemon: false })
    }

    /// Makes this process a session of its own, out of reach of its parent's terminal. Standard streams that are a
    /// terminal are let go of as soon as the process is ready, and the parent has its last words.
    pub fn detach(&mut self) {
        self.daemon = true;
        match setsid() {
            // Who started it has seen to that.
            Ok(_) | Err(Errno::PERM) => {}
            Err(error) => {
                tracing::warn!(target: "river::system", %error, "cannot begin a session of its own")
            }
        }
    }

    /// Says that this instance waits to be handed the service, by `incumbent` where that is known.
    pub fn waiting(&self, incumbent: Option<u32>) {
        self.leave_terminal();
        self.say(&Report::Waiting { incumbent });
    }

    /// Says that this instance is in service.
    pub fn serving(&self) {
        self.leave_terminal();
        self.say(&Report::Serving { pid: std::process::id() });
    }

    /// Says that this instance will not serve, and ends the conversation. True if the parent says so to whoever
    /// started it, on the same standard error stream, so that this process need not.
    pub fn failed(self, exit: Exit, text: &str) -> bool {
        self.say(&Report::Failed { exit: exit.code(), text: text.to_owned() }) && self.daemon
    }

    fn leave_terminal(&self) {
        if !self.daemon {
            return;
        }
        let Ok(nowhere) = OpenOptions::new().write(true).open("/dev/null") else { return };
        if io::stdout().is_terminal() {
            let _ = dup2_stdout(&nowhere);
        }
        if io::stderr().is_terminal() {
            let _ = dup2_stderr(&nowhere);
        }
    }

    fn say(&self, report: &Report) -> bool {
        send(self.socket.as_fd(), &report.write(), SendFlags::NOSIGNAL | SendFlags::DONTWAIT).is_ok()
    }
}

impl Report {
    fn write(&self) -> Vec<u8> {
        let mut text = Vec::new();
        // Writing to a vector cannot fail.
        let _ = match self {
            Self::Waiting { incumbent: None } => write!(text, "waiting"),
            Self::Waiting { incumbent: Some(pid) } => write!(text, "waiting {pid}"),
            Self::Serving { pid } => write!(text, "serving {pid}"),
            Self::Failed { exit, text: why } => {
                let most = why.floor_char_boundary(MAX_REPORT - 64);
                write!(text, "failed {exit} {}", why.get(..most).unwrap_or_default())
            }
        };
        text
    }

    fn read(datagram: &[u8]) -> io::Result<Self> {
        let text = String::from_utf8_lossy(datagram);
        let report = match text.split_once(' ') {
            None if text == "waiting" => Some(Self::Waiting { incumbent: None }),
            Some(("waiting", pid)) => pid.parse().ok().map(|pid| Self::Waiting { incumbent: Some(pid) }),
            Some(("serving", pid)) => pid.parse().ok().map(|pid| Self::Serving { pid }),
            Some(("failed", rest)) => rest.split_once(' ').and_then(|(exit, text)| {
                Some(Self::Failed { exit: exit.parse().ok()?, text: text.to_owned() })
            }),
            _ => None,
        };
        report.ok_or_else(|| {
            let shown = text.get(..text.floor_char_boundary(40)).unwrap_or_default();
            io::Error::new(io::ErrorKind::InvalidData, Strange(shown.to_owned()))
        })
    }
}

impl fmt::Display for Strange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is nothing that an instance says of its readiness", self.0)
    }
}

impl std::error::Error for Strange {}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Readiness, Reporter) {
        let (near, socket) = Readiness::pair().unwrap();
        (near, Reporter { socket, daemon: false })
    }

    #[test]
    fn reports_come_in_order_and_then_the_end() {
        let (mut parent, child) = pair();
        child.waiting(None);
        child.waiting(Some(7));
        child.serving();
        child.failed(Exit::TryAgain, "river: the incumbent\nrefused");
        async_io::block_on(async {
            for incumbent in [None, Some(7)] {
                assert_eq!(parent.next().await.unwrap(), Some(Report::Waiting { incumbent }));
            }
            let serving = Report::Serving { pid: std::process::id() };
            assert_eq!(parent.next().await.unwrap(), Some(serving));
            let text = "river: the incumbent\nrefused".to_owned();
            assert_eq!(parent.next().await.unwrap(), Some(Report::Failed { exit: 75, text }));
            assert_eq!(parent.next().await.unwrap(), None);
        });
    }

    #[test]
    fn a_long_explanation_is_cut_at_a_character() {
        let (mut parent, child) = pair();
        child.failed(Exit::Config, &"é".repeat(MAX_REPORT));
        let Some(Report::Failed { text, .. }) = async_io::block_on(parent.next()).unwrap() else {
            panic!("no failure")
        };
        assert!(text.len() > MAX_REPORT - 100 && text.chars().all(|c| c == 'é'));
    }

    #[test]
    fn what_no_instance_says_is_an_error() {
        for datagram in [
            "",
            "ready",
            "waiting ",
            "waiting x",
            "serving",
            "serving x",
            "failed 300 x",
            "failed 1",
            "\u{fffd}",
        ] {
            assert!(Report::read(datagram.as_bytes()).is_err(), "{datagram:?}");
        }
    }

    #[test]
    fn a_parent_that_has_gone_is_no_trouble() {
        let (parent, child) = pair();
        drop(parent);
        child.waiting(None);
        child.failed(Exit::Software, "x");
    }

    #[test]
    fn the_end_of_a_child_that_says_nothing_is_heard() {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "test -S /dev/stdin"]);
        let (mut child, mut readiness) = Readiness::spawn(command).unwrap();
        assert_eq!(async_io::block_on(readiness.next()).unwrap(), None);
        assert!(child.wait().unwrap().success());
    }
}
