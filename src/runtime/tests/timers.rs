//! Timers: order, moves, far deadlines, bounds.

use std::cell::RefCell;
use std::time::Instant;

use super::*;
use crate::runtime::timers::Timers;
use crate::runtime::{Expired, Timer};

const MS: Duration = Duration::from_millis(1);

fn ms(count: u32) -> Duration {
    MS * count
}

#[test]
fn timers_fire_in_the_order_of_their_deadlines() {
    run(async |handle| {
        let order = Rc::new(RefCell::new(Vec::new()));
        let start = handle.now();
        let tasks: Vec<_> = [30, 10, 20]
            .map(|after| {
                let (order, timer) = (Rc::clone(&order), handle.timer());
                timer.set(start + ms(after));
                handle.spawn(async move {
                    timer.expired().await;
                    order.borrow_mut().push(after);
                })
            })
            .into();
        for task in tasks {
            task.await;
        }
        assert_eq!(*order.borrow(), [10, 20, 30]);
        assert!(start.elapsed() >= ms(30), "fired early");
    });
}

#[test]
fn a_cleared_timer_does_not_expire() {
    run(async |handle| {
        let (cleared, other) = (handle.timer(), handle.timer());
        cleared.set(handle.now() + MS);
        assert!(poll_once(|cx| cleared.poll_expired(cx)).is_pending());
        cleared.clear();
        other.set(handle.now() + ms(5));
        other.expired().await;
        assert!(poll_once(|cx| cleared.poll_expired(cx)).is_pending());
        assert_eq!(cleared.deadline(), None);
    });
}

#[test]
fn a_past_deadline_has_expired_at_once_and_stays_so() {
    run(async |handle| {
        let timer = handle.timer();
        timer.set(handle.now());
        assert!(poll_once(|cx| timer.poll_expired(cx)).is_ready());
        timer.expired().await;
        timer.expired().await;
        timer.set(handle.now() + MS);
        assert!(poll_once(|cx| timer.poll_expired(cx)).is_pending());
        timer.expired().await;
    });
}

#[test]
fn a_deadline_moved_later_holds() {
    run(async |handle| {
        let start = Instant::now();
        let timer = handle.timer();
        timer.set(handle.now() + MS);
        let waiter = futures_lite::future::zip(timer.expired(), async {
            timer.set(start + ms(40));
        });
        waiter.await;
        assert!(start.elapsed() >= ms(40), "fired at its first deadline");
    });
}

#[test]
fn a_deadline_moved_earlier_holds() {
    run(async |handle| {
        let timer = Rc::new(handle.timer());
        timer.set(handle.now() + LIMIT * 100);
        let task = handle.spawn({
            let timer = Rc::clone(&timer);
            async move { timer.expired().await }
        });
        turn(&handle).await;
        assert!(!task.is_finished());
        timer.set(handle.now() + MS);
        task.await;
    });
}

#[test]
fn far_deadlines_neither_overflow_nor_expire() {
    run(async |handle| {
        let timers: Vec<Timer> = [Duration::from_secs(3600 * 24 * 365 * 10), Duration::MAX]
            .map(|after| {
                let timer = handle.timer();
                timer.set(handle.deadline(after));
                assert!(poll_once(|cx| timer.poll_expired(cx)).is_pending());
                timer
            })
            .into();
        // The worker blocks now, with nothing but those (and this test's limit) to wait for.
        smol::unblock(|| ()).await;
        for timer in &timers {
            assert!(poll_once(|cx| timer.poll_expired(cx)).is_pending());
        }
    });
}

#[test]
fn a_deadline_that_is_moved_later_and_later_keeps_one_entry() {
    let timers = Rc::new(Timers::new());
    let timer = timers.timer();
    let start = timers.now();
    for after in 1..10_000 {
        timer.set(start + ms(after));
    }
    assert_eq!(timers.queued(), 1);
    // It comes up at its first place, and goes to its last.
    timers.advance(start + ms(1));
    assert_eq!((timers.queued(), timers.next()), (1, Some(start + ms(9_999))));
    timers.advance(start + ms(9_999));
    assert_eq!(timers.queued(), 0);
}

#[test]
fn dropped_and_superseded_timers_leave_a_bounded_heap() {
    let timers = Rc::new(Timers::new());
    let start = timers.now();
    let kept: Vec<_> = (0..100)
        .map(|_| {
            let timer = timers.timer();
            timer.set(start + ms(30_000));
            timer
        })
        .collect();
    for _ in 0..10_000 {
        timers.timer().set(start + ms(30_000));
        assert!(timers.queued() <= 2 * kept.len() + 66, "{} entries", timers.queued());
    }
    let moved = timers.timer();
    for earlier in 0..10_000 {
        moved.set(start + ms(20_000) - ms(earlier));
        assert!(timers.queued() <= 2 * (kept.len() + 1) + 66, "{} entries", timers.queued());
    }
    drop((kept, moved));
    assert!(timers.queued() <= 65);
    timers.advance(start + ms(40_000));
    assert_eq!(timers.queued(), 0);
}

#[test]
fn a_future_has_until_its_deadline() {
    run(async |handle| {
        let timer = handle.timer();
        let now = handle.now();
        assert_eq!(with_deadline(&timer, now, async { 1 }).await, Ok(1));
        assert_eq!(with_deadline(&timer, now + MS, std::future::pending::<()>()).await, Err(Expired));
        assert_eq!(timer.deadline(), None);
    });
}
