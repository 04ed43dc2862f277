//! One datagram with descriptors over a Unix `SOCK_SEQPACKET` socket (unix(7), `SCM_RIGHTS`).

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, Shutdown, recvmsg, sendmsg, shutdown,
};

/// How many descriptors the kernel takes in one message (`SCM_MAX_FD`).
pub const MAX_DESCRIPTORS: usize = 253;

/// A datagram whose payload came whole.
#[derive(Debug)]
pub struct Received {
    /// The number of bytes at the start of the caller's buffer; 0 means that the peer has closed.
    pub bytes: usize,
    /// The descriptors that came with it, close-on-exec; none where the kernel cut some off.
    pub fds: Vec<OwnedFd>,
    /// Why descriptors are missing: the kernel cut some off, such as when this process has as many as it may have.
    pub cut_off: Option<io::Error>,
}

/// Why a datagram was not passed whole.
#[derive(Debug)]
enum Fault {
    TooMany(usize),
    Partial,
    PayloadTruncated,
    ControlTruncated,
}

/// Sends one datagram with its descriptors, without waiting.
///
/// # Errors
/// More than [`MAX_DESCRIPTORS`] descriptors, or what sendmsg(2) reports; `WouldBlock` when the peer's queue is full.
pub fn send(socket: impl AsFd, payload: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if fds.len() > MAX_DESCRIPTORS || (!fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)))
    {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, Fault::TooMany(fds.len())));
    }
    let sent = sendmsg(socket, &[IoSlice::new(payload)], &mut control, SendFlags::NOSIGNAL)?;
    if sent != payload.len() {
        return Err(io::Error::other(Fault::Partial));
    }
    Ok(())
}

/// Stops receiving: what the peer sends from now on fails at its end (`EPIPE`); what it has sent can still be received,
/// and then the end.
///
/// # Errors
/// What shutdown(2) reports.
pub fn stop_receiving(socket: impl AsFd) -> io::Result<()> {
    Ok(shutdown(socket, Shutdown::Read)?)
}

/// Receives one datagram into `buffer`, with the descriptors that came with it, without waiting.
///
/// # Errors
/// What recvmsg(2) reports, or `InvalidData` when the payload did not fit. Descriptors that came with a truncated
/// datagram are closed.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<Received> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    receive_into(socket, buffer, &mut space)
}

fn receive_into(socket: impl AsFd, buffer: &mut [u8], space: &mut [MaybeUninit<u8>]) -> io::Result<Received> {
    let mut control = RecvAncillaryBuffer::new(space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let message = recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, flags)?;
    let mut fds = Vec::new();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = part {
            fds.extend(rights);
        }
    }
    let invalid = |fault| io::Error::new(io::ErrorKind::InvalidData, fault);
    if message.flags.contains(ReturnFlags::TRUNC) {
        return Err(invalid(Fault::PayloadTruncated));
    }
    let cut_off = message.flags.contains(ReturnFlags::CTRUNC).then(|| invalid(Fault::ControlTruncated));
    if cut_off.is_some() {
        fds.clear();
    }
    Ok(Received { bytes: message.bytes, fds, cut_off })
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany(count) => {
                write!(f, "{count} descriptors do not fit one message of at most {MAX_DESCRIPTORS}")
            }
            Self::Partial => f.write_str("the message was sent in part only"),
            Self::PayloadTruncated => f.write_str("the message is longer than any that River sends"),
            Self::ControlTruncated => f.write_str("the kernel cut off descriptors of the message"),
        }
    }
}

impl std::error::Error for Fault {}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::{FdFlags, fcntl_getfd};
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    fn pair() -> (OwnedFd, OwnedFd) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap()
    }

    #[test]
    fn descriptors_arrive_in_order_and_close_on_exec() {
        let (a, b) = pair();
        let listeners: Vec<_> = (0..3).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let borrowed: Vec<_> = listeners.iter().map(AsFd::as_fd).collect();
        send(&a, b"hello", &borrowed).unwrap();
        let mut buffer = [0; 16];
        let got = receive(&b, &mut buffer).unwrap();
        assert_eq!(&buffer[..got.bytes], b"hello");
        assert_eq!(got.fds.len(), 3);
        for (fd, listener) in got.fds.into_iter().zip(&listeners) {
            assert!(fcntl_getfd(&fd).unwrap().contains(FdFlags::CLOEXEC));
            let passed = std::net::TcpListener::from(fd);
            assert_eq!(passed.local_addr().unwrap(), listener.local_addr().unwrap());
        }
    }

    #[test]
    fn a_full_batch_fits_and_one_more_is_refused() {
        let (a, b) = pair();
        let one = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        send(&a, b"x", &vec![one.as_fd(); MAX_DESCRIPTORS]).unwrap();
        assert_eq!(receive(&b, &mut [0; 4]).unwrap().fds.len(), MAX_DESCRIPTORS);
        let refused = send(&a, b"x", &vec![one.as_fd(); MAX_DESCRIPTORS + 1]).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn with_truncated_control_data_no_descriptor_comes_and_it_is_said() {
        let (a, b) = pair();
        let one = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        send(&a, b"x", &[one.as_fd(); 20]).unwrap();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let got = receive_into(&b, &mut [0; 4], &mut space).unwrap();
        assert_eq!((got.bytes, got.fds.len()), (1, 0));
        assert_eq!(got.cut_off.unwrap().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_truncated_payload_is_an_error() {
        let (a, b) = pair();
        send(&a, b"too long", &[]).unwrap();
        assert_eq!(receive(&b, &mut [0; 4]).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn an_empty_queue_would_block_and_a_closed_peer_reads_as_end() {
        let (a, b) = pair();
        assert_eq!(receive(&b, &mut [0; 4]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(a);
        assert_eq!(receive(&b, &mut [0; 4]).unwrap().bytes, 0);
    }
}
