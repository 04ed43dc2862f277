//! Wake-ups: from other threads, from the worker's own events, and none without cause.

use super::*;
use crate::base::Address;

#[test]
fn other_threads_wake_a_worker_as_often_as_it_takes() {
    run(async |handle| {
        let (to, from) = smol::channel::bounded(1);
        let sender = std::thread::spawn(move || {
            for i in 0..1000 {
                to.send_blocking(i).unwrap();
            }
        });
        for i in 0..1000 {
            assert_eq!(from.recv().await, Ok(i));
        }
        assert!(from.recv().await.is_err());
        sender.join().unwrap();
        // In a task as well as in the main future.
        let sum = handle.spawn(async {
            let mut sum = 0;
            for i in 0..200 {
                sum += smol::unblock(move || i).await;
            }
            sum
        });
        assert_eq!(sum.await, 199 * 200 / 2);
    });
}

#[test]
fn a_timer_of_async_io_wakes_a_worker() {
    run(async |handle| {
        let timer = handle.spawn(async {
            async_io::Timer::after(Duration::from_millis(3)).await;
        });
        timer.await;
        async_io::Timer::after(Duration::from_millis(3)).await;
    });
}

#[test]
fn a_worker_needs_no_call_to_wake_up_for_its_own_events() {
    run(async |handle| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap());
        let near = handle.connect(&address).await.unwrap();
        let (far, _) = listener.accept().unwrap();
        far.set_nonblocking(true).unwrap();
        let far = handle.stream(far.into()).unwrap();
        let server = handle.spawn(async move {
            let mut buf = [0; 64];
            loop {
                match far.read(&mut buf).await.unwrap() {
                    0 => break,
                    count => far.write_all(&buf[..count]).await.unwrap(),
                }
            }
        });
        let mut buf = [0; 64];
        for _ in 0..500 {
            near.write_all(b"ping").await.unwrap();
            assert_eq!(near.read(&mut buf).await.unwrap(), 4);
        }
        drop(near);
        server.await;
        assert_eq!(handle.unparks(), 0);
        // Each exchange is two events, at most one wait each; the rest is for the start and the end.
        assert!(handle.waits() <= 1010, "{} waits", handle.waits());
    });
}

#[test]
fn an_idle_worker_does_not_spin() {
    run(async |handle| {
        let (stream, far) = tcp(&handle);
        let reader = handle.spawn(async move { stream.read(&mut [0; 8]).await.unwrap() });
        turn(&handle).await;
        let before = handle.waits();
        let timer = handle.timer();
        timer.set(handle.now() + Duration::from_millis(50));
        timer.expired().await;
        // One for the event of the registration, one until the timer, and one to spare.
        assert!(handle.waits() - before <= 3, "{} waits", handle.waits() - before);
        (&far).write_all(b"x").unwrap();
        assert_eq!(reader.await, 1);
    });
}

#[test]
fn readers_that_are_woken_without_cause_look_again_and_wait_on() {
    run(async |handle| {
        let (near, mut far) = tcp(&handle);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = handle.acceptor(std::sync::Arc::new(listener.into())).unwrap();
        let looked = Rc::new(std::cell::Cell::new(0));
        let reader = handle.spawn({
            let looked = Rc::clone(&looked);
            async move {
                let mut buf = [0; 8];
                std::future::poll_fn(|cx| {
                    looked.set(looked.get() + 1);
                    near.poll_read(cx, &mut buf)
                })
                .await
                .unwrap()
            }
        });
        let accepting = handle.spawn(async move { acceptor.accept().await.unwrap().1 });
        for count in 1..=3 {
            while looked.get() < count {
                futures_lite::future::yield_now().await;
            }
            handle.wake_readers();
        }
        assert!(!reader.is_finished() && !accepting.is_finished());
        far.write_all(b"hello").unwrap();
        assert_eq!(reader.await, 5);
        let client = TcpStream::connect(address).unwrap();
        assert_eq!(accepting.await, client.local_addr().ok());
    });
}
