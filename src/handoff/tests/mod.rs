//! The machines against what has no place, and conversations over real sockets; here what those tests share.

mod conversations;
mod desk;
mod machines;
mod moves;
mod withdrawn;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future;
use proptest::prelude::*;

use super::channel::tests::pair;
use super::*;
use crate::base::{Address, Label, ListenerId, Moved, MovedState};
use crate::system::{Bound, Inherited, Listening, MAX_DESCRIPTORS, Peer};

fn id(nth: usize) -> ListenerId {
    ListenerId::ephemeral(&any_port(), "web", nth)
}

fn bounds() -> Bounds {
    Bounds { step_timeout: Duration::from_secs(5), max_draining: std::num::NonZeroUsize::MIN }
}

fn any_port() -> Address {
    Address::Tcp("127.0.0.1:0".parse().unwrap())
}

fn all_messages() -> Vec<Message> {
    vec![
        Message::Hello { versions: vec![2, 1], pid: 1, build: "b".into() },
        Message::Welcome { version: 2, pid: 1, build: "b".into(), generation: 1 },
        Message::Inventory { ids: vec![id(0)], more: false },
        Message::Offer { batch: 0, of: 2, labels: vec![], tickets: vec![] },
        Message::Offer { batch: 1, of: 2, labels: vec![], tickets: vec![] },
        Message::Adopted { batch: 0, unwanted: vec![id(0)] },
        Message::Adopted { batch: 1, unwanted: vec![] },
        Message::Ready,
        Message::Commit,
        Message::Owned,
        Message::Drained,
        Message::Released,
        Message::Waiting,
        Message::Probe,
        Message::Transfer { number: 0, moved: idle() },
        Message::Transfer { number: 1, moved: idle() },
        Message::Taken { number: 0 },
        Message::Taken { number: 1 },
        Message::Declined { number: 0, why: "no".into() },
        Message::Declined { number: 1, why: "no".into() },
    ]
}

/// A connection that waits for a request.
fn idle() -> Moved {
    Moved { listener: id(0), peer: None, requests: 3, state: MovedState::Idle, spare: None }
}

fn is_refusal<T: PartialEq + std::fmt::Debug>(outputs: &[T], refuse: impl Fn(&T) -> bool) -> bool {
    outputs.len() == 2 && outputs.first().is_some_and(refuse)
}

fn listening(nth: usize) -> Listening {
    Bound::bind(id(nth), &any_port(), None).unwrap().listen().unwrap()
}

fn conversation() -> (Giver, Taker) {
    let (a, b) = pair();
    let timeout = Duration::from_secs(5);
    let incumbent = Peer::of(&b).unwrap();
    let successor = Peer::of(&a).unwrap();
    let giver = Giver::new(Channel::new(a).unwrap(), successor, timeout).unwrap();
    (giver, Taker::new(Channel::new(b).unwrap(), incumbent, "new", timeout).unwrap())
}

async fn greet(giver: &mut Giver, taker: &mut Taker, inventory: &[ListenerId]) {
    assert_eq!(giver.next().await, GiverEvent::Greeted);
    giver.welcome(&Identity { build: "old".into(), generation: 3 }, inventory);
    let TakerEvent::Welcomed { build, generation } = taker.next().await else { panic!("not welcome") };
    assert_eq!((build.as_str(), generation), ("old", 3));
    let TakerEvent::Inventory(ids) = taker.next().await else { panic!("no inventory") };
    assert_eq!(ids, inventory);
    taker.bound();
    assert_eq!(giver.next().await, GiverEvent::Waiting);
}
