//! Log lines on standard error, written by a thread of their own.
//!
//! Standard error may be a pipe that nobody reads. A worker that wrote to it would stop serving, so lines are queued,
//! the queue is bounded, and what does not fit is counted and the count logged.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait to be written.
const QUEUE: usize = 4096;

/// How long the end of the process waits for lines that are still queued.
const PATIENCE: Duration = Duration::from_secs(1);

/// Keeps the log going; what is queued when it is dropped is still written, for as long as a second.
#[derive(Debug)]
pub struct Log {
    lines: SyncSender<Line>,
    ended: Receiver<()>,
}

enum Line {
    Text(Vec<u8>),
    End,
}

/// Where `tracing` writes: each event becomes one line in the queue.
#[derive(Clone, Debug)]
struct Queue {
    lines: SyncSender<Line>,
    dropped: Arc<AtomicU64>,
}

/// One line while it is being formatted.
struct Draft<'a> {
    queue: &'a Queue,
    text: Vec<u8>,
}

/// Starts the log: from now on, `tracing` events of level info and above go to standard error.
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
        .with_writer(Queue { lines: lines.clone(), dropped })
        .try_init()
        .map_err(io::Error::other)?;
    Ok(Log { lines, ended })
}

fn write(queued: &Receiver<Line>, dropped: &AtomicU64) {
    let mut out = io::stderr();
    while let Ok(Line::Text(text)) = queued.recv() {
        // Where standard error is closed there is nobody to tell.
        let _ = out.write_all(&text);
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let _ =
                writeln!(out, "river: {lost} log lines were dropped: standard error is not read fast enough");
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if self.lines.try_send(Line::End).is_ok()
            && let Err(RecvTimeoutError::Timeout) = self.ended.recv_timeout(PATIENCE)
        {
            // What is left cannot be written in time.
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
