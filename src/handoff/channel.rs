//! Messages over a Unix `SOCK_SEQPACKET` socket, nonblocking, in order, with a queue for what does not fit at once.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use async_io::{Async, Timer};
use futures_lite::{FutureExt, future};

use super::fault::Faults;
use super::{MAX_FRAME, Message, MessageError};
use crate::system;

/// More messages than a socket's queue holds.
const MOST_SAID: usize = 4096;

/// One end of a conversation.
///
/// Dropping a future of [`next`](Self::next) loses nothing: a message is either still in the kernel or returned.
#[derive(Debug)]
pub struct Channel {
    socket: Async<OwnedFd>,
    queue: VecDeque<(Vec<u8>, Vec<Arc<OwnedFd>>)>,
    buffer: Box<[u8]>,
    /// Why a message could not be sent, other than that the peer has gone; told when nothing is left to read.
    failure: Option<io::Error>,
    faults: Faults,
}

/// A message and the descriptors that came with it.
#[derive(Debug)]
pub struct Incoming {
    /// The message.
    pub message: Message,
    /// Its descriptors, close-on-exec; none with a `Transfer` some of whose were cut off.
    pub fds: Vec<OwnedFd>,
}

/// Why a channel gives no message.
#[derive(Debug)]
pub enum ChannelError {
    /// The other side has closed, or its process ended.
    Closed,
    /// Something came that is no message.
    Unreadable(MessageError),
    /// What came was cut off, or the socket failed.
    Io(io::Error),
    /// Nothing came in time.
    TimedOut,
}

impl Channel {
    /// A channel over a connected `SOCK_SEQPACKET` socket.
    ///
    /// # Errors
    /// When the reactor does not take the socket.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        // Room for a whole message beside one that was not read yet. It is a wish: the kernel has its own limit.
        let _ = rustix::net::sockopt::set_socket_send_buffer_size(&socket, 2 * MAX_FRAME);
        let socket = Async::new(socket)?;
        Ok(Self {
            socket,
            queue: VecDeque::new(),
            buffer: vec![0; MAX_FRAME].into(),
            failure: None,
            faults: Faults::default(),
        })
    }

    /// Sends a message with descriptors: at once if the socket takes it, otherwise while [`next`](Self::next) waits.
    ///
    /// A peer that has gone is no error here; [`next`](Self::next) tells, after what the peer had still said.
    ///
    /// # Errors
    /// When the message has no form on the wire.
    pub fn push(&mut self, message: &Message, fds: Vec<Arc<OwnedFd>>) -> Result<(), MessageError> {
        let frame = (message.encode()?, fds);
        self.queue.extend(self.faults.outgoing(message, frame));
        self.flush();
        if self.is_flushed() {
            self.faults.sent(message);
        }
        Ok(())
    }

    /// Sends a message only if the kernel takes it at once; returns whether it did. Then the peer hears it, unless it
    /// ends first, also when this process ends.
    ///
    /// # Errors
    /// When the message has no form on the wire.
    pub fn send_now(&mut self, message: &Message) -> Result<bool, MessageError> {
        let frame = message.encode()?;
        self.flush();
        // What waits already goes first.
        if !self.queue.is_empty() {
            return Ok(false);
        }
        for (frame, fds) in self.faults.outgoing(message, (frame, Vec::new())) {
            let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
            if retried(|| system::send(&self.socket, &frame, &borrowed)).is_err() {
                return Ok(false);
            }
        }
        self.faults.sent(message);
        Ok(true)
    }

    /// Hears nothing more, and returns what the peer has said so far. What it says later cannot be sent, and it knows:
    /// its [`send_now`](Self::send_now) fails. What waits here to be sent asks for answers that nobody would hear: it is
    /// not sent, and its descriptors are let go of.
    pub fn hang_up(&mut self) -> Vec<Message> {
        let mut said = Vec::new();
        self.queue.clear();
        if let Err(error) = system::stop_receiving(&self.socket) {
            tracing::debug!(target: "river::handoff", %error, "the other instance has gone already");
        }
        for _ in 0..MOST_SAID {
            match self.receive() {
                Ok(Incoming { message, .. }) => said.push(message),
                Err(ChannelError::Unreadable(_)) => {}
                // One that was cut off has been taken out of the queue.
                Err(ChannelError::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {}
                Err(_) => break,
            }
        }
        said
    }

    /// Whether everything pushed was taken by the kernel.
    pub fn is_flushed(&self) -> bool {
        self.queue.is_empty()
    }

    /// The next message.
    ///
    /// # Errors
    /// [`ChannelError`], but never `TimedOut`.
    pub async fn next(&mut self) -> Result<Incoming, ChannelError> {
        future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The next message if it comes before `deadline`.
    ///
    /// # Errors
    /// [`ChannelError`].
    pub async fn next_before(&mut self, deadline: Instant) -> Result<Incoming, ChannelError> {
        let late = async {
            Timer::at(deadline).await;
            Err(ChannelError::TimedOut)
        };
        self.next().or(late).await
    }

    /// Waits until everything pushed was taken by the kernel.
    ///
    /// # Errors
    /// `TimedOut`.
    pub async fn flush_before(&mut self, deadline: Instant) -> Result<(), ChannelError> {
        let flushed = future::poll_fn(|cx| self.poll_flush(cx).map(Ok));
        let late = async {
            Timer::at(deadline).await;
            Err(ChannelError::TimedOut)
        };
        flushed.or(late).await
    }

    /// The next message; the task is woken when there may be one, or room for what is queued.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Incoming, ChannelError>> {
        let _ = self.poll_flush(cx);
        loop {
            match self.receive() {
                Err(ChannelError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
            if let Some(error) = self.failure.take() {
                return Poll::Ready(Err(ChannelError::Io(error)));
            }
            if let Err(error) = ready!(self.socket.poll_readable(cx)) {
                return Poll::Ready(Err(ChannelError::Io(error)));
            }
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            self.flush();
            if self.queue.is_empty() {
                return Poll::Ready(());
            }
            if ready!(self.socket.poll_writable(cx)).is_err() {
                self.queue.clear();
            }
        }
    }

    fn flush(&mut self) {
        while let Some((frame, fds)) = self.queue.front() {
            let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
            match retried(|| system::send(&self.socket, frame, &borrowed)) {
                Ok(()) => {
                    self.queue.pop_front();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    // Nobody will read the rest. What the peer said before it went is still to be read.
                    tracing::debug!(target: "river::handoff", %error, "cannot send to the other instance");
                    self.queue.clear();
                    let gone = [io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset];
                    if !gone.contains(&error.kind()) {
                        self.failure = Some(error);
                    }
                }
            }
        }
    }

    fn receive(&mut self) -> Result<Incoming, ChannelError> {
        let received = match retried(|| system::receive(&self.socket, &mut self.buffer)) {
            // A peer that closed without reading all resets the connection; what it had sent comes after that.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                system::receive(&self.socket, &mut self.buffer)
            }
            other => other,
        };
        let received = received.map_err(ChannelError::Io)?;
        if received.bytes == 0 {
            return Err(ChannelError::Closed);
        }
        let frame = self.buffer.get(..received.bytes).unwrap_or_default();
        let message = Message::decode(frame).map_err(ChannelError::Unreadable)?;
        // A connection whose sockets are missing can be declined, with nothing else the matter.
        if let Some(error) = received.cut_off.filter(|_| !matches!(message, Message::Transfer { .. })) {
            return Err(ChannelError::Io(error));
        }
        self.faults.received(&message);
        Ok(Incoming { message, fds: received.fds })
    }
}

/// Does it again where a signal came between.
fn retried<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl fmt::Display for ChannelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the other instance closed the connection or ended"),
            Self::Unreadable(_) => f.write_str("the other instance sent what is no message"),
            Self::Io(_) => f.write_str("the connection to the other instance failed"),
            Self::TimedOut => f.write_str("the other instance said nothing in time"),
        }
    }
}

impl std::error::Error for ChannelError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Closed | Self::TimedOut => None,
            Self::Unreadable(cause) => Some(cause),
            Self::Io(cause) => Some(cause),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use async_io::block_on;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use std::time::Duration;

    pub(in crate::handoff) fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
    }

    fn channels() -> (Channel, Channel) {
        let (a, b) = pair();
        (Channel::new(a).unwrap(), Channel::new(b).unwrap())
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    #[test]
    fn messages_keep_their_order_and_their_descriptors() {
        let (mut a, mut b) = channels();
        let fd = Arc::new(OwnedFd::from(std::net::TcpListener::bind("127.0.0.1:0").unwrap()));
        a.push(&Message::Ready, vec![]).unwrap();
        a.push(&Message::Commit, vec![fd.clone(), fd]).unwrap();
        block_on(async {
            let first = b.next_before(soon()).await.unwrap();
            assert_eq!((first.message, first.fds.len()), (Message::Ready, 0));
            let second = b.next_before(soon()).await.unwrap();
            assert_eq!((second.message, second.fds.len()), (Message::Commit, 2));
        });
    }

    #[test]
    fn silence_ends_at_the_deadline() {
        let (_a, mut b) = channels();
        let deadline = Instant::now() + Duration::from_millis(20);
        assert!(matches!(block_on(b.next_before(deadline)), Err(ChannelError::TimedOut)));
    }

    #[test]
    fn the_last_words_of_a_peer_that_did_not_listen_are_heard() {
        let (mut a, mut b) = channels();
        b.push(&Message::Owned, vec![]).unwrap();
        a.push(&Message::Refuse { why: "no".into() }, vec![]).unwrap();
        drop(a);
        b.push(&Message::Released, vec![]).unwrap();
        block_on(async {
            let last = b.next_before(soon()).await.unwrap();
            assert_eq!(last.message, Message::Refuse { why: "no".into() });
            assert!(matches!(b.next_before(soon()).await, Err(ChannelError::Closed)));
        });
    }

    #[test]
    fn a_slow_reader_gets_everything_in_the_end() {
        let (mut a, mut b) = channels();
        let why = "x".repeat(100_000);
        for _ in 0..50 {
            a.push(&Message::Refuse { why: why.clone() }, vec![]).unwrap();
        }
        assert!(!a.is_flushed());
        let reader = std::thread::spawn(move || {
            block_on(async {
                for _ in 0..50 {
                    assert!(matches!(b.next_before(soon()).await.unwrap().message, Message::Refuse { .. }));
                }
            });
        });
        block_on(a.flush_before(soon())).unwrap();
        reader.join().unwrap();
    }

    #[test]
    fn a_reader_that_never_reads_does_not_hold_the_sender_beyond_its_deadline() {
        let (mut a, _b) = channels();
        for _ in 0..50 {
            a.push(&Message::Refuse { why: "x".repeat(100_000) }, vec![]).unwrap();
        }
        let deadline = Instant::now() + Duration::from_millis(20);
        assert!(matches!(block_on(a.flush_before(deadline)), Err(ChannelError::TimedOut)));
    }

    #[test]
    fn after_hanging_up_what_was_said_counts_and_nothing_else_can_be_said() {
        let (mut a, mut b) = channels();
        for number in 0..64 {
            assert!(b.send_now(&Message::Taken { number }).unwrap());
        }
        let said: Vec<_> = (0..64).map(|number| Message::Taken { number }).collect();
        assert_eq!(a.hang_up(), said);
        assert!(!b.send_now(&Message::Taken { number: 64 }).unwrap());
        assert!(a.hang_up().is_empty());
        // The other direction is open.
        a.push(&Message::Drained, vec![]).unwrap();
        assert_eq!(block_on(b.next_before(soon())).unwrap().message, Message::Drained);
    }

    #[test]
    fn after_hanging_up_nothing_that_waits_is_sent_and_its_descriptors_are_let_go_of() {
        let (mut a, mut b) = channels();
        let long = Message::Refuse { why: "x".repeat(100_000) };
        while a.is_flushed() {
            a.push(&long, vec![]).unwrap();
        }
        let fd = Arc::new(OwnedFd::from(std::net::TcpListener::bind("127.0.0.1:0").unwrap()));
        a.push(&Message::Commit, vec![fd.clone()]).unwrap();
        a.hang_up();
        assert_eq!(Arc::strong_count(&fd), 1);
        a.push(&Message::Drained, vec![]).unwrap();
        let said = std::iter::from_fn(|| b.receive().ok().map(|incoming| incoming.message));
        assert!(said.into_iter().all(|message| message == long));
    }

    #[test]
    fn what_does_not_fit_at_once_was_not_said() {
        let (mut a, mut b) = channels();
        let long = Message::Refuse { why: "x".repeat(100_000) };
        while a.send_now(&long).unwrap() {}
        a.push(&Message::Ready, vec![]).unwrap();
        block_on(async {
            // There is room again, but for those first that wait already.
            assert_eq!(b.next_before(soon()).await.unwrap().message, long);
            assert!(a.send_now(&Message::Commit).unwrap());
            let mut heard = Vec::new();
            while heard.last() != Some(&Message::Commit) {
                heard.push(b.next_before(soon()).await.unwrap().message);
            }
            assert_eq!(heard.iter().rev().nth(1), Some(&Message::Ready));
        });
    }

    #[test]
    fn noise_is_told_from_messages() {
        let (a, b) = pair();
        let mut b = Channel::new(b).unwrap();
        system::send(&a, b"GET / HTTP/1.1\r\n\r\n", &[]).unwrap();
        assert!(matches!(block_on(b.next_before(soon())), Err(ChannelError::Unreadable(_))));
        system::send(&a, &vec![b'x'; MAX_FRAME + 1], &[]).unwrap();
        assert!(matches!(block_on(b.next_before(soon())), Err(ChannelError::Io(_))));
    }
}
