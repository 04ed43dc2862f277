//! An instance that this process started: what it says of itself, and its end.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus};
use std::task::{Context, Poll, ready};

use async_io::Async;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::{Readiness, Report};
use crate::base::Exit;

/// A child that is an instance of River, followed by its readiness socket and by its pidfd.
///
/// Dropping it leaves the child alone; it is then reaped by whoever this process leaves it to.
#[derive(Debug)]
pub struct Offspring {
    child: Child,
    pidfd: Async<OwnedFd>,
    /// Until it will say no more.
    readiness: Option<Readiness>,
    /// Who is to hand over to it, where it said so.
    incumbent: Option<u32>,
    last_words: Option<End>,
    ended: bool,
}

/// What became of a child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// It waits to be handed the service.
    Waiting,
    /// It is in service.
    Serving,
    /// It will not serve. It may have connections to finish before it ends.
    Failed(End),
    /// It has ended, and was reaped. It is the last news.
    Ended(End),
}

/// How a child ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// Its exit code, or [`Exit::Software`] where it has none of River's.
    pub exit: Exit,
    /// What it said of it, or else what its parent saw.
    pub why: String,
}

impl Offspring {
    /// Starts `command`, which is to be an instance of River, with a readiness socket as its standard input.
    ///
    /// # Errors
    /// When descriptors are not to be had, or the program cannot be started.
    pub fn start(command: Command) -> io::Result<Self> {
        let (mut child, readiness) = Readiness::spawn(command)?;
        let followed = pidfd_open(Pid::from_child(&child), PidfdFlags::NONBLOCK);
        match followed.map_err(io::Error::from).and_then(Async::new_nonblocking) {
            Ok(pidfd) => {
                let readiness = Some(readiness);
                Ok(Self { child, pidfd, readiness, incumbent: None, last_words: None, ended: false })
            }
            Err(error) => {
                // Nobody could tell what becomes of it.
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Who is to hand over to it, where it has said that it waits, and for whom.
    pub fn incumbent(&self) -> Option<u32> {
        self.incumbent
    }

    /// What became of it next; pending for ever after its end. Dropping the future loses nothing.
    pub async fn news(&mut self) -> News {
        futures_lite::future::poll_fn(|cx| self.poll_news(cx)).await
    }

    /// As [`news`](Self::news); the task is woken when there may be some.
    pub fn poll_news(&mut self, cx: &mut Context<'_>) -> Poll<News> {
        if self.ended {
            return Poll::Pending;
        }
        while let Some(readiness) = &mut self.readiness {
            match readiness.poll_next(cx) {
                Poll::Ready(Ok(Some(Report::Waiting { incumbent }))) => {
                    self.incumbent = incumbent;
                    return Poll::Ready(News::Waiting);
                }
                Poll::Ready(Ok(Some(Report::Serving { .. }))) => return Poll::Ready(News::Serving),
                Poll::Ready(Ok(Some(Report::Failed { exit, text }))) => {
                    let why = text.trim().trim_start_matches("river: ").to_owned();
                    let end = End { exit: Exit::from_code(exit).unwrap_or(Exit::Software), why };
                    self.last_words = Some(end.clone());
                    return Poll::Ready(News::Failed(end));
                }
                Poll::Ready(Ok(None)) => self.readiness = None,
                Poll::Ready(Err(error)) => {
                    let pid = self.child.id();
                    tracing::warn!(target: "river::system", pid, %error, "the new instance cannot be heard any more");
                    self.readiness = None;
                }
                Poll::Pending => break,
            }
        }
        // A pidfd that cannot be waited for is one whose process has ended, too.
        let _ = ready!(self.pidfd.poll_readable(cx));
        let status = match self.child.try_wait() {
            Ok(Some(status)) => Ok(status),
            Ok(None) => return Poll::Pending,
            Err(error) => Err(error),
        };
        self.ended = true;
        Poll::Ready(News::Ended(self.end(status)))
    }

    /// Asks it to end, as an operator does with SIGTERM.
    pub fn ask_to_end(&self) {
        self.signal(Signal::TERM);
    }

    /// Ends it at once, by SIGKILL.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    fn signal(&self, signal: Signal) {
        // One that has ended needs none.
        let _ = pidfd_send_signal(&self.pidfd, signal);
    }

    fn end(&mut self, status: io::Result<ExitStatus>) -> End {
        let (status, pid) = match (self.last_words.take(), status, self.child.id()) {
            (Some(said), ..) => return said,
            (None, Ok(status), pid) => (status, pid),
            (None, Err(error), pid) => {
                return End { exit: Exit::Software, why: format!("pid {pid} has ended ({error})") };
            }
        };
        let code = status.code().and_then(|code| u8::try_from(code).ok());
        let why = match (status.code(), status.signal()) {
            (Some(code), _) => format!("pid {pid} ended with exit status {code}"),
            (None, Some(signal)) => format!("pid {pid} was ended by signal {signal}"),
            (None, None) => format!("pid {pid} has ended"),
        };
        End { exit: code.and_then(Exit::from_code).unwrap_or(Exit::Software), why }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Offspring {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        Offspring::start(command).unwrap()
    }

    fn end(child: &mut Offspring) -> End {
        match async_io::block_on(child.news()) {
            News::Ended(end) => end,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_end_says_how() {
        let mut child = shell("exit 75");
        let why = format!("pid {} ended with exit status 75", child.pid());
        assert_eq!(end(&mut child), End { exit: Exit::TryAgain, why });
        let mut child = shell("exit 3");
        assert_eq!(end(&mut child).exit, Exit::Software);
    }

    #[test]
    fn it_can_be_ended_and_is_reaped() {
        for (kill, signal) in [(false, 15), (true, 9)] {
            // A shell without a child of its own, so that nothing is left of it.
            let mut child = shell("read x < /dev/zero");
            if kill {
                child.kill()
            } else {
                child.ask_to_end()
            }
            let why = format!("pid {} was ended by signal {signal}", child.pid());
            assert_eq!(end(&mut child), End { exit: Exit::Software, why });
            // Reaped: the pid means nothing any more.
            assert!(!std::path::Path::new(&format!("/proc/{}", child.pid())).exists());
            child.kill();
        }
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error() {
        assert!(Offspring::start(Command::new("/nonexistent/river")).is_err());
    }
}
