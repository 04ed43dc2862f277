//! Connections that are passed on over a real socket.

use std::sync::mpsc::{Receiver, channel};

use super::*;
use async_io::Timer;
use std::time::Instant;

/// What became of the connections that were passed on, by their numbers of requests; `false` is one that stays.
type Outcomes = Receiver<(u64, bool)>;

/// Tells when it is called, or dropped instead.
struct Told(u64, bool, std::sync::mpsc::Sender<(u64, bool)>);

impl Told {
    fn go(mut self) {
        self.1 = true;
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        let _ = self.2.send((self.0, self.1));
    }
}

/// A giver and a taker that owns the service, in their best common version.
fn owner(step_timeout: Duration) -> (Giver, Taker) {
    let (a, b) = pair();
    let (incumbent, successor) = (Peer::of(&b).unwrap(), Peer::of(&a).unwrap());
    let mut giver = Giver::new(Channel::new(a).unwrap(), successor, step_timeout).unwrap();
    let mut taker = Taker::new(Channel::new(b).unwrap(), incumbent, "new", step_timeout).unwrap();
    async_io::block_on(async {
        greet(&mut giver, &mut taker, &[]).await;
        assert!(!giver.can_move());
        giver.offer(&[], |_| None);
        assert!(matches!(taker.next().await, TakerEvent::Offered(..)));
        taker.adopted(vec![]);
        assert!(matches!(taker.next().await, TakerEvent::Prepare));
        taker.ready();
        assert_eq!(giver.next().await, GiverEvent::Ready);
        giver.commit();
        assert!(matches!(taker.next().await, TakerEvent::Commit));
        taker.owned();
        assert_eq!(giver.next().await, GiverEvent::Owned(vec![]));
    });
    assert!(giver.can_move());
    (giver, taker)
}

/// Passes the connections of these numbers on, each with so many sockets.
fn pass_on(giver: &mut Giver, numbers: std::ops::Range<u64>, sockets: usize) -> Outcomes {
    let (sender, outcomes) = channel();
    for nth in numbers {
        let fds = (0..sockets).map(|_| listening(0).fd).collect();
        let told = Told(nth, false, sender.clone());
        giver.transfer(Moved { requests: nth, ..idle() }, fds, move || told.go());
    }
    outcomes
}

async fn arrived(taker: &mut Taker) -> (u64, u64, usize) {
    let TakerEvent::Arrived { number, moved, fds } = taker.next().await else { panic!("nothing arrived") };
    (number, moved.requests, fds.len())
}

fn all(outcomes: &Outcomes) -> Vec<(u64, bool)> {
    outcomes.try_iter().collect()
}

#[test]
fn a_connection_is_gone_when_it_is_taken_and_not_before() {
    let (mut giver, mut taker) = owner(Duration::from_secs(5));
    let outcomes = pass_on(&mut giver, 0..3, 1);
    async_io::block_on(async {
        for number in 0..3 {
            assert_eq!(arrived(&mut taker).await, (number, number, 1));
        }
        assert!(future::poll_once(giver.next()).await.is_none());
        assert_eq!(all(&outcomes), []);
        assert!(taker.taken(1));
        assert!(!taker.taken(1), "it was taken twice");
        assert_eq!(giver.next().await, GiverEvent::Taken);
        assert_eq!(all(&outcomes), [(1, true)]);
        taker.declined(0, "no room");
        taker.released();
        assert!(!taker.taken(2), "it was released");
        assert_eq!(giver.next().await, GiverEvent::Released);
        assert_eq!(all(&outcomes), [(0, false), (2, false)]);
        assert!(!giver.can_move());
        assert_eq!(all(&pass_on(&mut giver, 3..4, 1)), [(3, false)]);
    });
}

#[test]
fn a_wrong_number_of_sockets_is_declined_and_nothing_else_suffers() {
    let (mut giver, mut taker) = owner(Duration::from_secs(5));
    let wrong = pass_on(&mut giver, 0..1, 2);
    let right = pass_on(&mut giver, 1..2, 1);
    async_io::block_on(async {
        assert_eq!(arrived(&mut taker).await, (1, 1, 1));
        assert!(taker.taken(1));
        assert_eq!(giver.next().await, GiverEvent::Taken);
    });
    assert_eq!((all(&wrong), all(&right)), (vec![(0, false)], vec![(1, true)]));
}

#[test]
fn what_was_taken_is_gone_and_the_rest_stays_when_the_giver_is_dropped() {
    let (mut giver, mut taker) = owner(Duration::from_secs(5));
    let outcomes = pass_on(&mut giver, 0..4, 1);
    async_io::block_on(async {
        for _ in 0..4 {
            arrived(&mut taker).await;
        }
    });
    assert!(taker.taken(2) && taker.taken(0));
    drop(giver);
    assert!(!taker.taken(1), "nobody hears it");
    let mut outcomes = all(&outcomes);
    outcomes.sort_unstable();
    assert_eq!(outcomes, [(0, true), (1, false), (2, true), (3, false)]);
}

#[test]
fn what_was_taken_is_gone_and_the_rest_stays_when_the_incumbent_ends_with_some_outstanding() {
    let (mut giver, mut taker) = owner(Duration::from_secs(5));
    let outcomes = pass_on(&mut giver, 0..4, 1);
    async_io::block_on(async {
        for _ in 0..4 {
            arrived(&mut taker).await;
        }
    });
    assert!(taker.taken(2) && taker.taken(0));
    assert_eq!(giver.drained(), 2);
    assert!(!taker.taken(1), "two would serve it");
    drop(giver);
    let mut outcomes = all(&outcomes);
    outcomes.sort_unstable();
    assert_eq!(outcomes, [(0, true), (1, false), (2, true), (3, false)]);
    assert!(matches!(async_io::block_on(taker.next()), TakerEvent::Drained));
}

#[test]
fn a_successor_that_closes_gives_back_what_it_had_not_taken() {
    let (mut giver, mut taker) = owner(Duration::from_secs(5));
    let outcomes = pass_on(&mut giver, 0..2, 1);
    async_io::block_on(async {
        arrived(&mut taker).await;
        assert!(taker.taken(0));
        drop(taker);
        assert_eq!(giver.next().await, GiverEvent::Taken);
        assert_eq!(giver.next().await, GiverEvent::MovesEnded);
        assert_eq!(all(&outcomes), [(0, true), (1, false)]);
        // It lives, so it may serve.
        assert!(future::poll_once(giver.next()).await.is_none());
    });
}

#[test]
fn a_successor_that_does_not_answer_in_time_gets_no_more_and_cannot_answer_late() {
    let (mut giver, mut taker) = owner(Duration::from_millis(50));
    let outcomes = pass_on(&mut giver, 0..3, 1);
    async_io::block_on(async {
        for _ in 0..3 {
            arrived(&mut taker).await;
        }
        // In time, but not heard before the deadline: it counts.
        assert!(taker.taken(1));
        assert_eq!(giver.next().await, GiverEvent::Taken);
        assert_eq!(giver.next().await, GiverEvent::MovesEnded);
        let mut outcomes = all(&outcomes);
        outcomes.sort_unstable();
        assert_eq!(outcomes, [(0, false), (1, true), (2, false)]);
        assert!(!taker.taken(0), "two would serve it");
        assert!(!giver.can_move());
        giver.drained();
        assert!(matches!(taker.next().await, TakerEvent::Drained));
    });
}

#[test]
fn each_connection_has_its_own_time_however_long_those_before_it_took() {
    let time = Duration::from_millis(1500);
    let (mut giver, mut taker) = owner(time);
    let begin = Instant::now();
    let outcomes = pass_on(&mut giver, 0..3, 1);
    async_io::block_on(async {
        for _ in 0..3 {
            arrived(&mut taker).await;
        }
        let late = async {
            Timer::after(time / 2).await;
            assert!(taker.taken(0));
            future::pending().await
        };
        assert_eq!(future::or(giver.next(), late).await, GiverEvent::Taken);
        assert_eq!(giver.next().await, GiverEvent::MovesEnded);
    });
    assert!(begin.elapsed() < time * 4 / 3, "{:?}", begin.elapsed());
    assert_eq!(all(&outcomes), [(0, true), (1, false), (2, false)]);
}

#[test]
fn a_connection_does_not_wait_as_long_as_a_step_may_take() {
    let (mut giver, _taker) = owner(Duration::from_secs(60));
    let begin = Instant::now();
    let outcomes = pass_on(&mut giver, 0..1, 1);
    assert_eq!(async_io::block_on(giver.next()), GiverEvent::MovesEnded);
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    assert_eq!(all(&outcomes), [(0, false)]);
}

#[test]
fn nonsense_from_a_successor_that_serves_ends_the_moves_and_nothing_else() {
    let (mut giver, mut taker) = owner(Duration::from_secs(5));
    let outcomes = pass_on(&mut giver, 0..1, 1);
    async_io::block_on(async {
        arrived(&mut taker).await;
        for number in 100..116 {
            taker.channel_for_tests().push(&Message::Taken { number }, vec![]).unwrap();
        }
        assert!(taker.taken(0));
        // It said so before it was heard no more.
        assert_eq!(giver.next().await, GiverEvent::Taken);
        assert_eq!(giver.next().await, GiverEvent::MovesEnded);
        assert_eq!(all(&outcomes), [(0, true)]);
    });
}
