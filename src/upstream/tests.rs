//! The idle connections of a worker, from both of their ends.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::num::NonZeroU32;
use std::time::Duration;

use super::{Group, PoolSettings, Proto, Server, SharingSettings, Spare, Tried, Upstreams};
use crate::base::Address;
use crate::runtime::{Handle, block_on, with_deadline};

const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn an_idle_connection_that_its_server_closes_is_closed_although_readers_were_woken_without_cause() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server {
        name: "one".to_owned(),
        addresses: vec![Address::Tcp(address)],
        weight: NonZeroU32::MIN,
        proto: Proto::H1Only,
        tls: None,
    };
    block_on(async |handle: Handle| {
        let group = Group {
            servers: vec![server],
            pool: PoolSettings::default(),
            sharing: SharingSettings::default(),
        };
        let upstreams = Upstreams::new(handle.clone(), group, 0);
        let timer = handle.timer();
        let until = handle.deadline(LIMIT);
        let connection = upstreams
            .acquire(&mut Tried::default(), LIMIT, until, &timer)
            .wait()
            .await
            .expect("cannot connect");
        let (mut far, _) = listener.accept().unwrap();
        // Until a read has found nothing it may be stale.
        far.write_all(b"1").unwrap();
        std::future::poll_fn(|cx| connection.stream.poll_read(cx, &mut [0; 8])).await.unwrap();
        // The sweeper has to have run once, or nothing is kept.
        futures_lite::future::yield_now().await;
        upstreams.release(connection);
        futures_lite::future::yield_now().await;
        for _ in 0..3 {
            handle.wake_readers();
            futures_lite::future::yield_now().await;
        }
        far.set_nonblocking(true).unwrap();
        assert!(far.read(&mut [0]).is_err(), "it was closed before the server closed it");
        far.set_nonblocking(false).unwrap();
        far.shutdown(std::net::Shutdown::Write).unwrap();
        let closed = smol::unblock(move || end_of(far));
        with_deadline(&timer, handle.deadline(LIMIT), closed).await.expect("it is kept").unwrap();
    });
}

#[test]
fn a_spare_is_kept_where_its_server_is_known_and_closed_elsewhere() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let group = |address| {
        let addresses = vec![Address::Tcp(address)];
        let server = Server {
            name: "one".to_owned(),
            addresses,
            weight: NonZeroU32::MIN,
            tls: None,
            proto: Proto::H1Only,
        };
        Group { servers: vec![server], pool: PoolSettings::default(), sharing: SharingSettings::default() }
    };
    block_on(async |handle: Handle| {
        let known = Upstreams::new(handle.clone(), group(address), 0);
        let other = Upstreams::new(handle.clone(), group("127.0.0.1:1".parse().unwrap()), 0);
        // The sweepers have to have run once, or nothing is kept.
        futures_lite::future::yield_now().await;
        let spare = || {
            let near = TcpStream::connect(address).unwrap();
            near.set_nonblocking(true).unwrap();
            let spare = Spare { peer: near.peer_addr().ok(), fd: near.into(), requests: 3 };
            (spare, listener.accept().unwrap().0)
        };
        let (kept, _far) = spare();
        known.add_spare(kept);
        assert_eq!(known.take_spare().map(|spare| spare.requests), Some(3));
        let (closed, far) = spare();
        other.add_spare(closed);
        assert!(other.take_spare().is_none());
        end_of(far).unwrap();
    });
}

#[test]
fn a_surplus_is_there_for_the_next_burst_and_closed_if_none_comes() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = Server {
        name: "one".to_owned(),
        addresses: vec![Address::Tcp(listener.local_addr().unwrap())],
        weight: NonZeroU32::MIN,
        proto: Proto::H1Only,
        tls: None,
    };
    block_on(async |handle: Handle| {
        let pool = PoolSettings { max_idle: 2, ..PoolSettings::default() };
        let group = Group { servers: vec![server], pool, sharing: SharingSettings::default() };
        let upstreams = Upstreams::new(handle.clone(), group, 0);
        let timer = handle.timer();
        let until = handle.deadline(LIMIT);
        let (mut near, mut far) = (Vec::new(), Vec::new());
        for _ in 0..6 {
            let connection =
                upstreams.acquire(&mut Tried::default(), LIMIT, until, &timer).wait().await.unwrap();
            let (mut accepted, _) = listener.accept().unwrap();
            // Until a read has found nothing it may be stale.
            accepted.write_all(b"1").unwrap();
            std::future::poll_fn(|cx| connection.stream.poll_read(cx, &mut [0; 8])).await.unwrap();
            near.push(connection);
            far.push(accepted);
        }
        let released = std::time::Instant::now();
        near.drain(..).for_each(|connection| upstreams.release(connection));
        // Twice as many as are kept: the other two are closed at once.
        far.drain(4..).for_each(|far| end_of(far).unwrap());
        for far in far.drain(..2) {
            let closed = smol::unblock(move || end_of(far));
            with_deadline(&timer, handle.deadline(LIMIT), closed)
                .await
                .expect("the surplus is kept")
                .unwrap();
        }
        assert!(released.elapsed() >= Duration::from_millis(500), "no burst would have found them");
        for far in &mut far {
            far.set_nonblocking(true).unwrap();
            assert!(far.read(&mut [0]).is_err(), "more were closed than the surplus");
        }
        assert!((0..2).all(|_| upstreams.take_spare().is_some()));
        assert!(upstreams.take_spare().is_none());
    });
}

fn end_of(mut far: TcpStream) -> std::io::Result<()> {
    far.set_read_timeout(Some(LIMIT / 2))?;
    far.read_to_end(&mut Vec::new()).map(drop)
}
