//! Log lines on standard error, written by a thread of their own.
//!
//! Standard error may be a pipe that nobody reads. A worker that wrote to it would stop serving, and a process would
//! never end, so lines are queued, the queue is bounded, and what does not fit is counted and the count logged. The
//! end of the process waits for its last words, but not for a reader that is not there.

use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};
use std::panic::{self, PanicHookInfo};
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

/// Lines that may wait to be written.
const QUEUE: usize = 4096;

/// How long the end of the process waits, all in all, while standard error takes nothing.
const PATIENCE: Duration = Duration::from_millis(50);

/// How long it waits at most while standard error does take something, which is a matter of processor time.
const MOST: Duration = Duration::from_secs(1);

/// How often it looks which of the two it is.
const LOOK: Duration = Duration::from_millis(5);

/// Keeps the log going. What is queued when it ends, or is dropped, is still written if somebody reads it.
#[derive(Debug)]
pub struct Log {
    lines: SyncSender<Line>,
    ended: Receiver<()>,
    /// Taken when the end has been asked for.
    open: bool,
}

enum Line {
    Text(Vec<u8>),
    /// The last words, and nothing after them.
    End(Vec<u8>),
}

/// Where `tracing` writes: each event becomes one line in the queue.
#[derive(Clone, Debug)]
struct Queue {
    lines: SyncSender<Line>,
    dropped: Arc<AtomicU64>,
}

/// What a line begins with: the time, and the process that says it, since instances share a log while one drains.
struct Stamp;

impl FormatTime for Stamp {
    fn format_time(&self, w: &mut Writer<'_>) -> fmt::Result {
        SystemTime.format_time(w)?;
        // Not remembered: becoming a daemon changes it.
        write!(w, " {}", process::id())
    }
}

/// One line while it is being formatted.
struct Draft<'a> {
    queue: &'a Queue,
    text: Vec<u8>,
}

/// Starts the log: from now on, `tracing` events of level info and above go to standard error, and so do panics, each
/// as an event with its place.
///
/// # Errors
///
/// What starting the thread failed with, or that the process has a log already.
pub fn start() -> io::Result<Log> {
    let (lines, queued) = sync_channel(QUEUE);
    let (end, ended) = sync_channel(1);
    let dropped = Arc::new(AtomicU64::new(0));
    let lost = Arc::clone(&dropped);
    thread::Builder::new().name("river-log".into()).spawn(move || {
        write(&queued, &lost);
        // Nobody may be waiting.
        let _ = end.send(());
    })?;
    tracing_subscriber::fmt()
        .with_ansi(io::stderr().is_terminal())
        .with_timer(Stamp)
        .with_writer(Queue { lines: lines.clone(), dropped })
        .try_init()
        .map_err(io::Error::other)?;
    // The hook of the standard library writes to standard error itself, in the thread that panics.
    panic::set_hook(Box::new(log_panic));
    Ok(Log { lines, ended, open: true })
}

impl Log {
    /// Writes what is queued and then `last_words`, if there are any, and ends the log.
    ///
    /// It waits for standard error to take them, but 50 ms at most if that takes nothing.
    pub fn end(mut self, last_words: &str) {
        let mut text = last_words.trim_end().as_bytes().to_vec();
        if !text.is_empty() {
            text.push(b'\n');
        }
        self.close(text);
    }

    fn close(&mut self, last_words: Vec<u8>) {
        if !std::mem::take(&mut self.open) {
            return;
        }
        let mut end = Some(Line::End(last_words));
        let begin = Instant::now();
        let mut stuck = Duration::ZERO;
        while stuck < PATIENCE && begin.elapsed() < MOST {
            if let Some(line) = end.take() {
                match self.lines.try_send(line) {
                    Err(TrySendError::Full(line)) => end = Some(line),
                    Ok(()) | Err(TrySendError::Disconnected(_)) => {}
                }
            }
            let look = Instant::now();
            match self.ended.recv_timeout(LOOK) {
                Err(RecvTimeoutError::Timeout) if is_writable() => {}
                Err(RecvTimeoutError::Timeout) => stuck += look.elapsed(),
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
        // What is left cannot be written in time.
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.close(Vec::new());
    }
}

/// Whether standard error would take something now. Where that cannot be told, a write is what tells.
fn is_writable() -> bool {
    let stderr = rustix::stdio::stderr();
    let mut fds = [PollFd::new(&stderr, PollFlags::OUT)];
    poll(&mut fds, Some(&Timespec::default())) != Ok(0)
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let thread = thread::current();
    let thread = thread.name().unwrap_or_default();
    tracing::error!(thread, place, "panicked: {}", panic.payload_as_str().unwrap_or_default());
}

fn write(queued: &Receiver<Line>, dropped: &AtomicU64) {
    let mut out = io::stderr();
    while let Ok(line) = queued.recv() {
        // Where standard error is closed there is nobody to tell.
        if let Line::Text(text) = &line {
            let _ = out.write_all(text);
        }
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let _ =
                writeln!(out, "river: {lost} log lines were dropped: standard error is not read fast enough");
        }
        if let Line::End(last_words) = line {
            let _ = out.write_all(&last_words);
            return;
        }
    }
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = Draft<'a>;

    fn make_writer(&'a self) -> Draft<'a> {
        Draft { queue: self, text: Vec::with_capacity(160) }
    }
}

impl io::Write for Draft<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if self.queue.lines.try_send(Line::Text(std::mem::take(&mut self.text))).is_err() {
            self.queue.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_drops_and_counts_instead_of_waiting() {
        let (lines, queued) = sync_channel(2);
        let queue = Queue { lines, dropped: Arc::new(AtomicU64::new(0)) };
        for number in 0..5 {
            writeln!(queue.make_writer(), "line {number}").unwrap();
        }
        assert_eq!(queue.dropped.load(Ordering::Relaxed), 3);
        assert!(matches!(queued.recv(), Ok(Line::Text(text)) if text == b"line 0\n"));
    }
}
