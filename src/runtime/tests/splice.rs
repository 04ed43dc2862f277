//! Bytes through the worker's pipe: none is lost or changed, whatever the ends do, and the pipe is empty afterwards.

use std::future::poll_fn;
use std::thread;

use super::*;
use crate::runtime::stream::Kind;
use crate::runtime::{Buffer, LARGE_BUFFER, SpliceError, Spliced};

/// More than the buffers of any loopback connection hold, and no multiple of a buffer's length.
const BIG: usize = 16 * 1024 * 1024 + 17;

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i % 251) as u8).collect()
}

async fn splice(source: &Stream, sink: &Stream, rest: &mut Buffer) -> Option<Result<Spliced, SpliceError>> {
    poll_fn(|cx| source.poll_splice(cx, sink, usize::MAX, rest)).await
}

/// Moves everything until the end of the source; returns how often the sink did not take all.
async fn forward(handle: &Handle, source: &Stream, sink: &Stream) -> usize {
    let mut rest = handle.buffers().empty();
    let mut short = 0;
    loop {
        match splice(source, sink, &mut rest).await {
            Some(Ok(Spliced { read: 0, .. })) => return short,
            Some(Ok(Spliced { read, taken })) => {
                assert_eq!(rest.len(), read - taken);
                short += usize::from(taken < read);
            }
            // The sink is full, and it is not worth an attempt before the kernel says so.
            None => {
                let mut buf = [0; 1000];
                let count = source.read(&mut buf).await.unwrap();
                sink.write_all(&buf[..count]).await.unwrap();
                if count == 0 {
                    return short;
                }
            }
            Some(Err(error)) => panic!("{error:?}"),
        }
        sink.write_all(rest.unread()).await.unwrap();
        rest.clear();
    }
}

#[test]
fn everything_arrives_at_a_reader_that_is_slow() {
    run(async |handle| {
        let ((source, mut writer), (sink, mut reader)) = (tcp(&handle), tcp(&handle));
        let writing = thread::spawn(move || writer.write_all(&pattern(BIG)).unwrap());
        let reading = thread::spawn(move || {
            let mut all = Vec::new();
            let mut buf = [0; 50_000];
            while let count @ 1.. = reader.read(&mut buf).unwrap() {
                all.extend_from_slice(&buf[..count]);
                thread::park_timeout(Duration::from_micros(50));
            }
            all
        });
        let short = forward(&handle, &source, &sink).await;
        assert!(short > 0, "the sink was never full: the test has tested less than it should");
        sink.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(reading.join().unwrap() == pattern(BIG), "what arrives differs");
        writing.join().unwrap();
    });
}

#[test]
fn no_more_is_moved_than_is_asked_for() {
    run(async |handle| {
        let ((source, mut writer), (sink, mut reader)) = (tcp(&handle), tcp(&handle));
        writer.write_all(b"first second").unwrap();
        let mut rest = handle.buffers().empty();
        let moved = poll_fn(|cx| source.poll_splice(cx, &sink, 6, &mut rest)).await;
        assert_eq!(moved.unwrap().unwrap(), Spliced { read: 6, taken: 6 });
        let mut buf = [0; 6];
        reader.read_exact(&mut buf).unwrap();
        assert_eq!(&buf, b"first ");
        let mut buf = [0; 100];
        assert_eq!(source.read(&mut buf).await.unwrap(), 6);
        assert_eq!(&buf[..6], b"second");
    });
}

#[test]
fn a_source_that_is_quiet_is_waited_for_and_its_end_is_told() {
    run(async |handle| {
        let ((source, mut writer), (sink, mut reader)) = (tcp(&handle), tcp(&handle));
        let mut rest = handle.buffers().empty();
        assert!(poll_once(|cx| source.poll_splice(cx, &sink, 10, &mut rest)).is_pending());
        writer.write_all(b"x").unwrap();
        assert_eq!(splice(&source, &sink, &mut rest).await.unwrap().unwrap(), Spliced { read: 1, taken: 1 });
        drop(writer);
        assert_eq!(splice(&source, &sink, &mut rest).await.unwrap().unwrap().read, 0);
        reader.read_exact(&mut [0]).unwrap();
    });
}

#[test]
fn what_a_sink_that_is_gone_does_not_take_is_in_nobodys_way() {
    run(async |handle| {
        let ((source, mut writer), (gone, far)) = (tcp(&handle), tcp(&handle));
        drop(far);
        writer.write_all(&pattern(3 * LARGE_BUFFER)).unwrap();
        let mut rest = handle.buffers().empty();
        // The first write may still go into the void; the peer's reset comes behind it.
        let failed = loop {
            match splice(&source, &gone, &mut rest).await {
                Some(Ok(moved)) if moved.taken == moved.read && moved.read > 0 => turn(&handle).await,
                other => break other,
            }
        };
        assert!(matches!(failed, Some(Err(SpliceError::Sink(_)))), "{failed:?}");
        assert!(!rest.is_empty(), "what was read is kept");
        // The next two connections find the pipe empty.
        let ((source, mut writer), (sink, mut reader)) = (tcp(&handle), tcp(&handle));
        writer.write_all(b"clean").unwrap();
        let mut rest = handle.buffers().empty();
        assert_eq!(splice(&source, &sink, &mut rest).await.unwrap().unwrap(), Spliced { read: 5, taken: 5 });
        let mut buf = [0; 5];
        reader.read_exact(&mut buf).unwrap();
        assert_eq!(&buf, b"clean");
    });
}

#[test]
fn a_source_that_resets_is_an_error_of_the_source() {
    run(async |handle| {
        let ((source, writer), (sink, _reader)) = (tcp(&handle), tcp(&handle));
        rustix::net::sockopt::set_socket_linger(&writer, Some(Duration::ZERO)).unwrap();
        drop(writer);
        let mut rest = handle.buffers().empty();
        let failed = splice(&source, &sink, &mut rest).await;
        assert!(matches!(failed, Some(Err(SpliceError::Source(_)))), "{failed:?}");
        assert!(source.can_splice(&sink), "the pipe is there for others");
    });
}

#[test]
fn unix_sockets_and_full_sinks_are_read_and_written() {
    run(async |handle| {
        let ((tcp_end, _far), (unix_end, _other)) = (tcp(&handle), unix(&handle));
        assert!(!tcp_end.can_splice(&unix_end) && !unix_end.can_splice(&tcp_end));
        let (sink, _unread) = tcp(&handle);
        assert!(tcp_end.can_splice(&sink));
        let block = vec![0; 1 << 20];
        while poll_once(|cx| sink.poll_write(cx, &block)).is_ready() {}
        // Its share of operations may have been used up before the socket was full.
        turn(&handle).await;
        while poll_once(|cx| sink.poll_write(cx, &block)).is_ready() {}
        assert!(!tcp_end.can_splice(&sink));
        let mut rest = handle.buffers().empty();
        assert!(matches!(poll_once(|cx| tcp_end.poll_splice(cx, &sink, 10, &mut rest)), Poll::Ready(None)));
    });
}

/// What epoll knows and splice does not, as a stream.
fn unspliceable(stream: &Stream) -> Stream {
    let fd = rustix::event::eventfd(0, rustix::event::EventfdFlags::NONBLOCK).unwrap();
    Stream::new(&stream.link.reactor, fd, Kind::Tcp)
}

#[test]
fn a_sink_that_cannot_be_spliced_to_costs_no_byte() {
    run(async |handle| {
        let ((source, mut writer), (sink, _reader)) = (tcp(&handle), tcp(&handle));
        writer.write_all(&pattern(LARGE_BUFFER)).unwrap();
        let refuses = unspliceable(&source);
        assert!(source.can_splice(&refuses));
        let mut rest = handle.buffers().empty();
        let moved = splice(&source, &refuses, &mut rest).await.unwrap().unwrap();
        assert_eq!(moved.taken, 0);
        assert!(moved.read > 0 && rest.unread() == &pattern(LARGE_BUFFER)[..moved.read], "{moved:?}");
        assert!(!source.can_splice(&sink), "the worker tries no more");
    });
}

#[test]
fn of_a_source_that_cannot_be_spliced_from_nothing_is_read() {
    run(async |handle| {
        let (sink, _reader) = tcp(&handle);
        let refuses = unspliceable(&sink);
        let mut rest = handle.buffers().empty();
        assert!(splice(&refuses, &sink, &mut rest).await.is_none());
        assert!(rest.is_empty() && !refuses.can_splice(&sink));
    });
}
