//! Instances that were started by others than the test: by `river reload`, and by each other.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open, pidfd_send_signal};

use super::log::entered;
use super::proc::{Process, Signal};
use super::river::{Dir, River, Running};

/// Everything that runs with the configuration of a directory, whoever started it; ended when dropped, so that no
/// instance outlives its test.
#[derive(Debug)]
pub struct Family(Arc<Dir>);

impl Family {
    /// The instances of `dir`.
    #[must_use = "it ends them when it is dropped"]
    pub fn of(dir: &Arc<Dir>) -> Self {
        Self(dir.clone())
    }

    /// Their process ids.
    pub fn pids(&self) -> Vec<u32> {
        let names =
            fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.filter_map(|name| name.parse().ok()).filter(|pid| self.has(*pid)).collect()
    }

    /// The instance in service, as the pidfile says.
    #[track_caller]
    pub fn serving(&self) -> Member {
        Member::of(self.0.pid().expect("a pid in the pidfile"))
    }

    /// What `river COMMAND --config …` is to run with, in this directory.
    pub fn command(&self, arguments: &[&str]) -> River {
        let river = River::in_dir(self.0.clone()).without_config().named(arguments[0]);
        let river = arguments.iter().fold(river, |river, argument| river.arg(argument));
        river.arg("--config").arg(self.0.config())
    }

    /// Runs `river COMMAND --config …` to its end, and gives its exit code and what it said.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> Said {
        Said::of(&self.command(arguments).start())
    }

    /// The states that the instance `pid` entered so far, in order, by the output of `first`, which all of them share.
    pub fn states(first: &Running, pid: u32) -> Vec<String> {
        let mark = format!(" pid={pid} ");
        let lines = first.log().lines();
        lines.iter().filter(|line| line.text.contains(&mark)).filter_map(|line| entered(&line.text)).collect()
    }

    fn has(&self, pid: u32) -> bool {
        let dir = self.0.path().as_os_str().as_bytes();
        fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| line.windows(dir.len()).any(|part| part == dir))
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        for pid in self.pids() {
            if let Some(member) = Member::find(pid)
                && self.has(pid)
            {
                member.try_signal(Signal::KILL);
            }
        }
    }
}

/// A process that is no child of the test.
#[derive(Debug)]
pub struct Member {
    pid: u32,
    pidfd: OwnedFd,
}

impl Member {
    /// The living process `pid`.
    #[track_caller]
    pub fn of(pid: u32) -> Self {
        Self::find(pid).unwrap_or_else(|| panic!("there is no process {pid}"))
    }

    fn find(pid: u32) -> Option<Self> {
        let raw = Pid::from_raw(i32::try_from(pid).ok()?)?;
        Some(Self { pid, pidfd: pidfd_open(raw, PidfdFlags::empty()).ok()? })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends it a signal.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        assert!(self.try_signal(signal), "{} has ended", self.pid);
    }

    /// Whether it ends within `deadline`; returns as soon as it does.
    pub fn ends_within(&self, deadline: Duration) -> bool {
        let timeout = Timespec::try_from(deadline).unwrap();
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        poll(&mut fds, Some(&timeout)).unwrap() > 0
    }

    /// Whether it runs.
    pub fn alive(&self) -> bool {
        !self.ends_within(Duration::ZERO)
    }

    fn try_signal(&self, signal: Signal) -> bool {
        pidfd_send_signal(&self.pidfd, signal).is_ok()
    }
}

/// What a command said, and how it ended.
#[derive(Debug)]
pub struct Said {
    /// Its exit code.
    pub code: Option<i32>,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

impl Said {
    /// Waits for the end of a command.
    #[track_caller]
    pub fn of(command: &Running) -> Self {
        Self::by(command, super::PATIENCE)
    }

    /// Waits for the end of a command, for so long.
    #[track_caller]
    pub fn by(command: &Process, deadline: Duration) -> Self {
        let code = command.wait_exit(deadline).code();
        let lines = command.log().lines();
        let stream = |stdout: bool| {
            lines.iter().filter(|line| line.stdout == stdout).map(|line| line.text.clone() + "\n").collect()
        };
        Self { code, out: stream(true), err: stream(false) }
    }

    /// It ended with this code and said each of these on its standard output, in this order.
    #[track_caller]
    pub fn expect(self, code: i32, said: &[&str]) -> Self {
        let text = self.out.clone();
        self.expect_in(code, &text, said)
    }

    /// It ended with this code and said each of these on its standard error, in this order.
    #[track_caller]
    pub fn expect_error(self, code: i32, said: &[&str]) -> Self {
        let text = self.err.clone();
        self.expect_in(code, &text, said)
    }

    #[track_caller]
    fn expect_in(self, code: i32, text: &str, said: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        let mut rest = text;
        for part in said {
            let at =
                rest.find(part).unwrap_or_else(|| panic!("{part:?} is not in what follows of: {self:#?}"));
            rest = &rest[at + part.len()..];
        }
        self
    }
}
