//! Tasks and workers: fairness, panics, and the end.

use std::cell::Cell;
use std::future::pending;
use std::panic::AssertUnwindSafe;

use futures_lite::FutureExt;

use super::*;
use crate::runtime::{Panicked, spawn};

#[test]
fn a_task_that_is_always_ready_leaves_room_for_others() {
    run(async |handle| {
        let (near, far) = UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        far.set_nonblocking(true).unwrap();
        let (near, far) = (handle.stream(near.into()).unwrap(), handle.stream(far.into()).unwrap());
        let firehose = handle.spawn(async move {
            let mut buf = vec![0; 1000];
            loop {
                near.write_all(&buf).await.unwrap();
                let count = far.read(&mut buf).await.unwrap();
                assert_eq!(count, 1000);
            }
        });
        let (stream, client) = tcp(&handle);
        let client = std::thread::spawn(move || {
            let mut buf = [0; 4];
            for _ in 0..100 {
                (&client).write_all(b"ping").unwrap();
                (&client).read_exact(&mut buf).unwrap();
            }
        });
        let server = handle.spawn(async move {
            let mut buf = [0; 4];
            while stream.read(&mut buf).await.unwrap() > 0 {
                stream.write_all(&buf).await.unwrap();
            }
        });
        server.await;
        client.join().unwrap();
        // Timers are served, too.
        let timer = handle.timer();
        timer.set(handle.now() + Duration::from_millis(2));
        timer.expired().await;
        assert!(!firehose.is_finished());
    });
}

#[test]
fn many_tasks_that_are_always_ready_do_not_keep_the_worker_from_epoll() {
    run(async |handle| {
        let operations = Rc::new(Cell::new(0));
        let firehoses: Vec<_> = (0..20)
            .map(|_| {
                let (stream, far) = unix(&handle);
                let operations = Rc::clone(&operations);
                handle.spawn(async move {
                    let mut buf = [0; 8];
                    loop {
                        stream.write_all(&buf).await.unwrap();
                        (&far).read_exact(&mut buf).unwrap();
                        operations.set(operations.get() + 1);
                    }
                })
            })
            .collect();
        for _ in 0..50 {
            let before = operations.get();
            turn(&handle).await;
            let count = operations.get() - before;
            assert!(count <= 64, "{count} operations in one turn");
        }
        assert!(operations.get() > 1000, "it was no stress");
        drop(firehoses);
    });
}

#[test]
fn a_panic_stays_in_its_task() {
    run(async |handle| {
        handle.spawn(async { panic!("on purpose, detached") }).detach();
        let awaited = handle.spawn(async { panic!("on purpose, awaited") });
        let other = handle.spawn(async {
            futures_lite::future::yield_now().await;
            7
        });
        assert_eq!(other.await, 7);
        let panic = AssertUnwindSafe(awaited).catch_unwind().await.unwrap_err();
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"on purpose, awaited"));
        assert_eq!(handle.spawn(async { 8 }).await, 8);
    });
}

#[test]
fn the_panic_of_a_worker_is_told_to_whoever_joins_it() {
    let thread = spawn("river-test", async |_| panic!("on {}", "purpose")).unwrap();
    let error = thread.join().unwrap_err();
    assert_eq!(error, Panicked { thread: "river-test".into(), message: "on purpose".into() });
    assert_eq!(error.to_string(), "worker river-test panicked: on purpose");
    assert_eq!(spawn("a\0b", async |_| ()).unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
}

/// Starts tasks of all kinds that never end, each with a stream; returns their far ends.
fn hold(handle: &Handle) -> Vec<TcpStream> {
    let mut far_ends = Vec::new();
    let mut hold = || {
        let (stream, far) = tcp(handle);
        far_ends.push(far);
        stream
    };
    let stream = hold();
    handle.spawn(async move { read_to_end(&stream).await }).detach();
    let stream = hold();
    std::mem::forget(handle.spawn(async move { (pending::<()>().await, stream) }));
    let (stream, timer) = (hold(), handle.timer());
    timer.set(handle.now() + LIMIT * 2);
    handle.spawn(async move { (timer.expired().await, stream) }).detach();
    let (stream, inner) = (hold(), handle.clone());
    let nested = handle.spawn(async move {
        let task = inner.spawn(async move { (pending::<()>().await, stream) });
        task.await
    });
    nested.detach();
    // One that starts another when it is dropped.
    struct Start(Handle, Option<Stream>);
    impl Drop for Start {
        fn drop(&mut self) {
            let stream = self.1.take();
            self.0.spawn(async move { (pending::<()>().await, stream) }).detach();
        }
    }
    let start = Start(handle.clone(), Some(hold()));
    handle.spawn(async move { (pending::<()>().await, start) }).detach();
    far_ends
}

fn assert_closed(far_ends: Vec<TcpStream>) {
    assert_eq!(far_ends.len(), 5);
    for (i, mut far) in far_ends.into_iter().enumerate() {
        far.set_read_timeout(Some(LIMIT)).unwrap();
        assert_eq!(far.read(&mut [0]).unwrap(), 0, "stream {i}");
    }
}

#[test]
fn whatever_tasks_own_is_closed_when_the_worker_ends() {
    let (to, from) = std::sync::mpsc::channel();
    let thread = spawn("river-test", async move |handle| {
        to.send(hold(&handle)).unwrap();
        for _ in 0..3 {
            turn(&handle).await;
        }
    });
    thread.unwrap().join().unwrap();
    assert_closed(from.recv().unwrap());
}

#[test]
fn whatever_tasks_own_is_closed_when_the_worker_panics() {
    let (to, from) = std::sync::mpsc::channel();
    let thread = spawn("river-test", async move |handle| {
        to.send(hold(&handle)).unwrap();
        turn(&handle).await;
        panic!("on purpose");
    });
    thread.unwrap().join().unwrap_err();
    assert_closed(from.recv().unwrap());
}

#[test]
fn whatever_tasks_own_is_closed_even_if_they_never_ran() {
    let far_ends = block_on(async |handle| hold(&handle));
    assert_closed(far_ends);
}

#[test]
fn a_dropped_task_is_cancelled() {
    run(async |handle| {
        let (stream, mut far) = tcp(&handle);
        let task = handle.spawn(async move { (pending::<()>().await, stream) });
        turn(&handle).await;
        drop(task);
        assert_eq!(smol::unblock(move || far.read(&mut [0])).await.unwrap(), 0);
    });
}
