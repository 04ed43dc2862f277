//! Signals, taken from the first line of `main` and queued until the lifecycle asks for them.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_lite::{Stream, StreamExt};
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
    /// SIGHUP: nothing yet; it must not kill.
    Hangup,
}

/// The process's signals, in the order in which they came.
///
/// Installing replaces whatever disposition was inherited: a shell that starts a program in the background makes it
/// ignore SIGINT and SIGQUIT, and River obeys them all the same. A mask is inherited as well, over `exec` too: whoever
/// starts River from a thread that takes its signals by signalfd(2) or sigwait(3) leaves them blocked. SIGPIPE is
/// ignored by the standard library's start code before `main`; a write to a closed socket is an error, never a signal.
#[derive(Debug)]
pub struct Signals(async_signal::Signals);

impl Signals {
    /// Installs the handlers, and unblocks the signals in this thread and those that it starts. Signals that come
    /// from now on are queued; so are those that were pending.
    ///
    /// # Errors
    /// When the kernel gives no socket pair or no handler.
    pub fn install() -> io::Result<Self> {
        use async_signal::Signal as Raw;
        let signals = async_signal::Signals::new([Raw::Term, Raw::Int, Raw::Quit, Raw::Hup])?;
        // Not before the handlers are there: what is pending would kill.
        let taken = [Number::SIGTERM, Number::SIGINT, Number::SIGQUIT, Number::SIGHUP];
        taken.into_iter().collect::<SigSet>().thread_unblock()?;
        Ok(Self(signals))
    }

    /// The next signal. Dropping the future loses none.
    ///
    /// # Errors
    /// When the queue cannot be read; no signal can then be taken any more.
    pub async fn next(&mut self) -> io::Result<Signal> {
        match StreamExt::next(self).await {
            Some(signal) => signal,
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl Stream for Signals {
    type Item = io::Result<Signal>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        use async_signal::Signal as Raw;
        loop {
            let raw = match Pin::new(&mut self.0).poll_next(cx) {
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
}
