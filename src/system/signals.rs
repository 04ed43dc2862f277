//! Signals, taken from the first line of `main` and queued until the lifecycle asks for them.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_lite::{FutureExt as _, Stream, future};
use nix::sys::signal::{SigSet, Signal as Number};

/// What an operator asks of the process by a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM: drain, then end.
    Terminate,
    /// SIGINT: end at once.
    Interrupt,
    /// SIGQUIT: hand over to the waiting instance.
    Quit,
    /// SIGHUP: start a successor of one's own, and hand over to it when it waits.
    Hangup,
    /// SIGUSR1: read the files of certificates again.
    User1,
    /// SIGUSR2: nothing yet.
    User2,
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT",
            Self::Quit => "SIGQUIT",
            Self::Hangup => "SIGHUP",
            Self::User1 => "SIGUSR1",
            Self::User2 => "SIGUSR2",
        })
    }
}

/// The process's signals, in the order in which they came.
///
/// Installing replaces whatever disposition was inherited: a shell that starts a program in the background makes it
/// ignore SIGINT and SIGQUIT, and River obeys them all the same. A mask is inherited as well, over `exec` too: whoever
/// starts River from a thread that takes its signals by signalfd(2) or sigwait(3) leaves them blocked. SIGPIPE is
/// ignored by the standard library's start code before `main`; a write to a closed socket is an error, never a signal.
#[derive(Debug)]
pub struct Signals {
    raw: async_signal::Signals,
    /// Taken already, for whoever asks next.
    kept: VecDeque<Signal>,
}

impl Signals {
    /// Installs the handlers, and unblocks the signals in this thread and those that it starts. Signals that come
    /// from now on are queued; so are those that were pending.
    ///
    /// # Errors
    /// When the kernel gives no socket pair or no handler.
    pub fn install() -> io::Result<Self> {
        use async_signal::Signal as Raw;
        let taken = [
            Number::SIGTERM,
            Number::SIGINT,
            Number::SIGQUIT,
            Number::SIGHUP,
            Number::SIGUSR1,
            Number::SIGUSR2,
        ];
        let taken = taken.into_iter().collect::<SigSet>();
        // A handler is there an instant before it knows what to do: a signal that came then would be lost.
        taken.thread_block()?;
        let raw =
            async_signal::Signals::new([Raw::Term, Raw::Int, Raw::Quit, Raw::Hup, Raw::Usr1, Raw::Usr2])?;
        // Not before the handlers are there: what is pending would kill.
        taken.thread_unblock()?;
        Ok(Self { raw, kept: VecDeque::new() })
    }

    /// The next signal. Dropping the future loses none.
    ///
    /// # Errors
    /// When the queue cannot be read; no signal can then be taken any more.
    pub async fn next(&mut self) -> io::Result<Signal> {
        match futures_lite::StreamExt::next(self).await {
            Some(signal) => signal,
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Does work that may block, on another thread. SIGTERM and SIGINT do not wait for it; other signals are kept for
    /// [`Signals::next`].
    ///
    /// # Errors
    /// The signal by which the process is to end. The work goes on meanwhile, and nobody hears what comes of it.
    pub async fn or_end<T: Send + 'static>(
        &mut self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Signal> {
        let mut others = VecDeque::new();
        let told = async {
            loop {
                match self.next().await {
                    Ok(end @ (Signal::Terminate | Signal::Interrupt)) => return Err(end),
                    Ok(other) => others.push_back(other),
                    // Whoever asks next meets the error again.
                    Err(_) => future::pending().await,
                }
            }
        };
        let ended = told.or(async { Ok(smol::unblock(work).await) }).await;
        self.kept.append(&mut others);
        ended
    }
}

impl Stream for Signals {
    type Item = io::Result<Signal>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        use async_signal::Signal as Raw;
        if let Some(kept) = self.kept.pop_front() {
            return Poll::Ready(Some(Ok(kept)));
        }
        loop {
            let raw = match Pin::new(&mut self.raw).poll_next(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(Some(Ok(raw))) => raw,
            };
            let signal = match raw {
                Raw::Term => Signal::Terminate,
                Raw::Int => Signal::Interrupt,
                Raw::Quit => Signal::Quit,
                Raw::Hup => Signal::Hangup,
                Raw::Usr1 => Signal::User1,
                Raw::Usr2 => Signal::User2,
                _ => continue,
            };
            return Poll::Ready(Some(Ok(signal)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Signal as Raw, getpid, kill_process};

    #[test]
    fn signals_queue_until_they_are_taken() {
        let mut signals = Signals::install().unwrap();
        kill_process(getpid(), Raw::HUP).unwrap();
        kill_process(getpid(), Raw::QUIT).unwrap();
        let taken =
            async_io::block_on(async { [signals.next().await.unwrap(), signals.next().await.unwrap()] });
        assert!(taken.contains(&Signal::Hangup) && taken.contains(&Signal::Quit), "{taken:?}");
    }

    #[test]
    fn what_does_not_end_the_work_is_kept() {
        let mut signals =
            Signals { kept: [Signal::Quit, Signal::Hangup].into(), ..Signals::install().unwrap() };
        let (go, gone) = std::sync::mpsc::channel::<()>();
        let work = async_io::block_on(async {
            let work = signals.or_end(move || gone.recv().is_err());
            future::or(work, async {
                drop(go);
                future::pending().await
            })
            .await
        });
        assert_eq!(work, Ok(true));
        let taken =
            async_io::block_on(async { [signals.next().await.unwrap(), signals.next().await.unwrap()] });
        assert_eq!(taken, [Signal::Quit, Signal::Hangup]);
        signals.kept.push_back(Signal::Terminate);
        let blocked = async_io::block_on(signals.or_end(std::thread::park));
        assert_eq!(blocked, Err(Signal::Terminate));
    }
}
