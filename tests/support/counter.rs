//! Numbers both ways over a connection, so that a gap, a repeat or a change of order is seen at once.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::raw::Reader;
use super::socket::{ReadHalf, Socket};
use super::wait::{Gate, PATIENCE, until};

/// Sends the numbers from 0, eight bytes each, until it is told to stop or has sent `most`; then ends its direction.
pub fn count_up(mut socket: impl Write, stop: &AtomicBool, sent: &AtomicU64, most: u64) -> io::Result<()> {
    let mut numbers = (0..most).peekable();
    while numbers.peek().is_some() && !stop.load(Ordering::SeqCst) {
        let bytes: Vec<u8> = numbers.by_ref().take(500).flat_map(u64::to_be_bytes).collect();
        socket.write_all(&bytes)?;
        sent.fetch_add(bytes.len() as u64 / 8, Ordering::SeqCst);
    }
    Ok(())
}

/// Reads numbers from 0 until the end, with no gap and no repeat; returns how many they were.
pub fn check_numbers(mut reader: Reader<impl Read>, read: &AtomicU64) -> io::Result<u64> {
    for expected in 0.. {
        if reader.buffered().len() < 8 {
            // Somewhat slower than the other end writes, so that bytes are always on their way.
            thread::park_timeout(Duration::from_micros(100));
        }
        if reader.buffered().len() < 8 && reader.fill()? == 0 {
            assert!(reader.buffered().is_empty(), "it ends within a number");
            return Ok(expected);
        }
        while reader.buffered().len() < 8 {
            assert!(reader.fill()? > 0, "it ends within a number");
        }
        let bytes: [u8; 8] = reader.exactly(8)?.try_into().unwrap();
        assert_eq!(u64::from_be_bytes(bytes), expected);
        read.store(expected + 1, Ordering::SeqCst);
    }
    unreachable!()
}

/// An end of a tunnel that counts both ways at once.
#[derive(Debug)]
pub struct Counter {
    most: u64,
    socket: Arc<Socket>,
    stop: Arc<AtomicBool>,
    /// How many numbers were sent so far.
    pub sent: Arc<AtomicU64>,
    /// How many were read.
    pub read: Arc<AtomicU64>,
    /// Sends.
    pub writing: JoinHandle<()>,
    reading: JoinHandle<u64>,
}

impl Counter {
    /// Starts to count; reading begins when the gate opens.
    pub fn start((socket, from): (Arc<Socket>, Reader<ReadHalf>), most: u64, gate: Arc<Gate>) -> Self {
        let (stop, sent, read) = <(Arc<AtomicBool>, Arc<AtomicU64>, Arc<AtomicU64>)>::default();
        let (to, halt, count) = (socket.clone(), stop.clone(), sent.clone());
        let writing = thread::spawn(move || {
            count_up(&*to, &halt, &count, most).unwrap();
            to.shutdown(Shutdown::Write).unwrap();
        });
        let count = read.clone();
        let reading = thread::spawn(move || {
            gate.pass();
            check_numbers(from, &count).unwrap()
        });
        Self { most, socket, stop, sent, read, writing, reading }
    }

    /// Waits until so many more numbers have arrived here.
    #[track_caller]
    pub fn wait_read(&self, more: u64) {
        let goal = self.read.load(Ordering::SeqCst) + more;
        until("numbers arrive", PATIENCE, || self.read.load(Ordering::SeqCst) >= goal);
    }

    /// Waits until the other end has ended, or both directions have where there is an end to the numbers, then does as
    /// [`finish`](Self::finish).
    #[track_caller]
    pub fn finish_last(self) -> (u64, u64) {
        until("the other end has ended", Duration::from_secs(120), || {
            self.reading.is_finished() && (self.most == u64::MAX || self.writing.is_finished())
        });
        self.finish()
    }

    /// Ends this direction and returns how many numbers were sent and read, once the other end has ended too.
    pub fn finish(self) -> (u64, u64) {
        self.stop.store(true, Ordering::SeqCst);
        self.writing.join().unwrap();
        let read = self.reading.join().unwrap();
        let _ = self.socket.shutdown(Shutdown::Both);
        (self.sent.load(Ordering::SeqCst), read)
    }
}
