//! The reactor: what edges mean, and whom they reach.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::net::Shutdown;

use rustix::net::{SendFlags, send};

use super::*;

#[test]
fn a_short_read_waits_for_more_without_another_attempt() {
    run(async |handle| {
        let (stream, mut far) = tcp(&handle);
        let mut buf = [0; 16];
        for round in 0..100_u8 {
            far.write_all(&[round; 3]).unwrap();
            assert_eq!(stream.read(&mut buf).await.unwrap(), 3);
            assert_eq!(buf[..3], [round; 3]);
            assert!(poll_once(|cx| stream.poll_readable(cx)).is_pending());
        }
    });
}

#[test]
fn a_full_read_goes_on_at_once() {
    run(async |handle| {
        let (stream, mut far) = tcp(&handle);
        far.write_all(b"abcdef").unwrap();
        stream.readable().await;
        turn(&handle).await;
        let mut buf = [0; 2];
        for part in [b"ab", b"cd", b"ef"] {
            assert!(matches!(poll_once(|cx| stream.poll_read(cx, &mut buf)), Poll::Ready(Ok(2))));
            assert_eq!(&buf, part);
        }
        assert!(poll_once(|cx| stream.poll_read(cx, &mut buf)).is_pending());
    });
}

#[test]
fn what_came_before_the_close_is_read_to_its_end() {
    run(async |handle| {
        for turns in 0..3 {
            let (stream, mut far) = tcp(&handle);
            let mut buf = [0; 16];
            far.write_all(&[7; 10_000]).unwrap();
            drop(far);
            for _ in 0..turns {
                turn(&handle).await;
            }
            assert_eq!(read_to_end(&stream).await.unwrap(), [7; 10_000]);
            assert_eq!(stream.read(&mut buf).await.unwrap(), 0, "the end stays");
        }
    });
}

#[test]
fn a_half_closed_connection_can_be_written() {
    run(async |handle| {
        let (stream, mut far) = tcp(&handle);
        far.write_all(b"request").unwrap();
        far.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_to_end(&stream).await.unwrap(), b"request");
        assert!(stream.is_closed());
        let reader = smol::unblock(move || {
            let mut all = Vec::new();
            far.read_to_end(&mut all).map(|_| all)
        });
        // Twice as much as the socket's buffers take: it waits for room, although the peer has closed.
        stream.write_all(&vec![3; 16_000_000]).await.unwrap();
        drop(stream);
        assert_eq!(reader.await.unwrap().len(), 16_000_000);
    });
}

#[test]
fn a_reset_reaches_whoever_waits() {
    run(async |handle| {
        let (stream, far) = tcp(&handle);
        let stream = Rc::new(stream);
        let reader = handle.spawn({
            let stream = Rc::clone(&stream);
            async move { stream.read(&mut [0; 8]).await }
        });
        turn(&handle).await;
        rustix::net::sockopt::set_socket_linger(&far, Some(Duration::ZERO)).unwrap();
        drop(far);
        assert_eq!(reader.await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert!(stream.is_closed());
        assert!(stream.is_stale());
        assert_eq!(stream.write_all(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    });
}

#[test]
fn urgent_data_does_not_hide_what_follows_it() {
    run(async |handle| {
        let (stream, far) = tcp(&handle);
        assert!(poll_once(|cx| stream.poll_read(cx, &mut [0; 64])).is_pending());
        send(&far, b"ab", SendFlags::empty()).unwrap();
        send(&far, b"!", SendFlags::OOB).unwrap();
        send(&far, b"cd", SendFlags::empty()).unwrap();
        let mut all = Vec::new();
        let mut buf = [0; 64];
        while all.len() < 4 {
            let count = stream.read(&mut buf).await.unwrap();
            all.extend_from_slice(&buf[..count]);
        }
        assert_eq!(all, b"abcd");
    });
}

#[test]
fn a_stream_may_be_dropped_while_it_is_ready() {
    run(async |handle| {
        let streams = Rc::new(RefCell::new(Vec::new()));
        let mut far_ends = Vec::new();
        for _ in 0..10 {
            let (stream, far) = tcp(&handle);
            assert!(poll_once(|cx| stream.poll_read(cx, &mut [0; 8])).is_pending());
            streams.borrow_mut().push(stream);
            far_ends.push(far);
        }
        turn(&handle).await;
        for far in &mut far_ends {
            far.write_all(b"x").unwrap();
        }
        // The first task to run drops all of them, although each has an event of the same wait.
        let dropper = handle.spawn({
            let streams = Rc::clone(&streams);
            async move {
                let stream = streams.borrow_mut().pop().unwrap();
                stream.readable().await;
                streams.borrow_mut().clear();
            }
        });
        dropper.await;
        turn(&handle).await;
        for far in &mut far_ends {
            // Reset, for the byte was not read; or ended, for it was the dropper's.
            assert!(far.read(&mut [0]).map_or(true, |count| count == 0));
        }
    });
}

#[test]
fn an_event_of_a_past_stream_does_not_reach_the_one_in_its_place() {
    run(async |handle| {
        let (near, mut past_far) = tcp_pair("127.0.0.1:0");
        near.set_nonblocking(true).unwrap();
        // A second descriptor keeps the socket, and so its registration, alive.
        let kept = near.try_clone().unwrap();
        let past = handle.stream(near.into()).unwrap();
        turn(&handle).await;
        drop(past);
        let (stream, mut far) = tcp(&handle);
        assert!(poll_once(|cx| stream.poll_read(cx, &mut [0; 8])).is_pending());
        turn(&handle).await;
        past_far.write_all(b"for the past one").unwrap();
        turn(&handle).await;
        turn(&handle).await;
        assert!(poll_once(|cx| stream.poll_readable(cx)).is_pending());
        assert!(stream.is_quiet());
        far.write_all(b"x").unwrap();
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 1);
        drop(kept);
    });
}
