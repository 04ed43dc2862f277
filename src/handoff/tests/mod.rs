//! The two machines against each other and against what has no place, and the conversations over real sockets.

mod moves;

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
        Message::Offer { batch: 0, of: 2, labels: vec![] },
        Message::Offer { batch: 1, of: 2, labels: vec![] },
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
    Moved { listener: id(0), peer: None, requests: 3, state: MovedState::Idle }
}

fn is_refusal<T: PartialEq + std::fmt::Debug>(outputs: &[T], refuse: impl Fn(&T) -> bool) -> bool {
    outputs.len() == 2 && outputs.first().is_some_and(refuse)
}

/// The incumbent in each of its states, with the messages that each takes.
fn incumbents() -> Vec<(Incumbent, Vec<usize>)> {
    let messages = all_messages();
    let fresh = Incumbent::default;
    let settling = || {
        let mut machine = fresh();
        machine.message(messages[0].clone());
        machine.welcome(1, "b", 1, vec![]);
        machine
    };
    let waiting = || {
        let mut machine = settling();
        assert_eq!(machine.message(Message::Waiting), [IncumbentOutput::Waiting]);
        machine
    };
    let probed = || {
        let mut machine = waiting();
        assert_eq!(machine.probe(), [IncumbentOutput::Send(Message::Probe)]);
        machine
    };
    let offering = || {
        let mut machine = waiting();
        assert_eq!(machine.offer(2), [IncumbentOutput::SendBatch(0)]);
        machine
    };
    let second = || {
        let mut machine = offering();
        assert_eq!(machine.message(messages[5].clone()), [IncumbentOutput::SendBatch(1)]);
        machine
    };
    let preparing = || {
        let mut machine = second();
        assert_eq!(machine.message(messages[6].clone()), []);
        machine
    };
    let committed = || {
        let mut machine = preparing();
        assert_eq!(machine.message(Message::Ready), [IncumbentOutput::Ready]);
        assert_eq!(machine.commit(), [IncumbentOutput::Send(Message::Commit)]);
        machine
    };
    let passed = || {
        let mut machine = committed();
        assert_eq!(machine.message(Message::Owned), [IncumbentOutput::Owned(vec![id(0)])]);
        machine
    };
    let moving = || {
        let mut machine = passed();
        assert_eq!(machine.transfer(idle()), [IncumbentOutput::Send(messages[14].clone())]);
        machine
    };
    vec![
        (fresh(), vec![0]),
        (settling(), vec![12]),
        (waiting(), vec![]),
        (probed(), vec![12]),
        (offering(), vec![5]),
        (second(), vec![6]),
        (preparing(), vec![7]),
        (committed(), vec![9]),
        (passed(), vec![11]),
        (moving(), vec![11, 16, 18]),
    ]
}

/// The successor in each of its states, with the messages that each takes.
fn successors() -> Vec<(Successor, Vec<usize>)> {
    let messages = all_messages();
    let reached = |steps: usize| {
        let mut machine = Successor::new(1, "b").0;
        let mut left = steps;
        let mut step = |act: &mut dyn FnMut(&mut Successor)| {
            if left > 0 {
                left -= 1;
                act(&mut machine);
            }
        };
        step(&mut |machine| assert_eq!(machine.message(messages[1].clone()).len(), 1));
        step(&mut |machine| {
            assert_eq!(machine.message(messages[2].clone()), [SuccessorOutput::Inventory(vec![id(0)])]);
        });
        step(&mut |machine| assert_eq!(machine.bound(), [SuccessorOutput::Send(Message::Waiting)]));
        step(&mut |machine| {
            assert_eq!(machine.message(messages[3].clone()), [SuccessorOutput::Check(vec![])])
        });
        step(&mut |machine| assert_eq!(machine.adopted(vec![]).len(), 1));
        step(&mut |machine| {
            assert_eq!(machine.message(messages[4].clone()), [SuccessorOutput::Check(vec![])])
        });
        step(&mut |machine| assert_eq!(machine.adopted(vec![]).last(), Some(&SuccessorOutput::Prepare)));
        step(&mut |machine| assert_eq!(machine.ready(), [SuccessorOutput::Send(Message::Ready)]));
        step(&mut |machine| assert_eq!(machine.message(Message::Commit), [SuccessorOutput::Commit]));
        step(&mut |machine| assert_eq!(machine.owned(), [SuccessorOutput::Send(Message::Owned)]));
        step(&mut |machine| {
            let arrived = SuccessorOutput::Arrived { number: 0, moved: idle() };
            assert_eq!(machine.message(messages[14].clone()), [arrived]);
        });
        machine
    };
    let takes: [&[usize]; 12] =
        [&[1], &[2], &[], &[3, 13], &[], &[4], &[], &[], &[8], &[], &[10, 14], &[10, 15]];
    let takes = takes.map(<[usize]>::to_vec);
    takes.into_iter().enumerate().map(|(steps, takes)| (reached(steps), takes)).collect()
}

#[test]
fn the_incumbent_refuses_every_message_out_of_order() {
    let states = incumbents().len();
    for state in 0..states {
        for (at, message) in all_messages().into_iter().enumerate() {
            let (mut machine, takes) = incumbents().swap_remove(state);
            let name = message.name();
            let passed = machine.is_passed();
            let outputs = machine.message(message);
            if passed && !takes.contains(&at) {
                assert_eq!(outputs, [IncumbentOutput::Ignored(name.to_owned())]);
                assert!(machine.is_passed());
                continue;
            }
            let refused = is_refusal(&outputs, |output| {
                matches!(output, IncumbentOutput::Send(Message::Refuse { .. }))
            });
            assert_eq!(refused, !takes.contains(&at), "{name} in state {state}: {outputs:?}");
        }
    }
}

#[test]
fn nothing_but_released_ends_a_hand_over_that_has_passed() {
    let (mut machine, _) = incumbents().swap_remove(8);
    assert!(machine.is_passed() && machine.limited().is_none());
    assert_eq!(
        machine.message(Message::Refuse { why: "no".into() }),
        [IncumbentOutput::Ignored("Refuse".into())]
    );
    assert_eq!(machine.unreadable("noise".into()), [IncumbentOutput::Ignored("noise".into())]);
    assert!(machine.refuse("no".into()).is_empty() && machine.deadline().is_empty());
    assert!(machine.is_passed());
    assert_eq!(machine.message(Message::Released), [IncumbentOutput::Released]);
}

#[test]
fn the_successor_refuses_every_message_out_of_order_until_it_owns_the_service() {
    let states = successors().len();
    for state in 0..states {
        for (at, message) in all_messages().into_iter().enumerate() {
            let (mut machine, takes) = successors().swap_remove(state);
            let (name, owner) = (message.name(), machine.is_owner());
            let outputs = machine.message(message);
            if takes.contains(&at) {
                continue;
            }
            let refused = is_refusal(&outputs, |output| {
                matches!(output, SuccessorOutput::Send(Message::Refuse { .. }))
            });
            assert_eq!(refused, !owner, "{name} in state {state}: {outputs:?}");
            assert!(matches!(outputs.last(), Some(SuccessorOutput::Failed(Failure::Unexpected { .. }))));
        }
    }
}

#[test]
fn a_transfer_is_answered_once_and_only_where_there_is_one() {
    let (mut machine, _) = incumbents().swap_remove(8);
    assert!(machine.can_move());
    for number in 0..3 {
        let moved = idle();
        assert_eq!(
            machine.transfer(moved.clone()),
            [IncumbentOutput::Send(Message::Transfer { number, moved })]
        );
    }
    assert_eq!((machine.outstanding(), machine.limited()), (3, Some(("Taken", 0))));
    // In any order.
    assert_eq!(machine.message(Message::Taken { number: 1 }), [IncumbentOutput::Taken(1)]);
    assert_eq!(machine.limited(), Some(("Taken", 0)));
    let declined = Message::Declined { number: 0, why: "full".into() };
    assert_eq!(machine.message(declined.clone()), [IncumbentOutput::Declined(0, "full".into())]);
    assert_eq!(machine.limited(), Some(("Taken", 2)));
    for again in [declined, Message::Taken { number: 1 }, Message::Taken { number: 77 }] {
        let name = again.name().to_owned();
        assert_eq!(machine.message(again), [IncumbentOutput::Ignored(name)]);
    }
    assert_eq!(machine.deadline(), [IncumbentOutput::Stalled]);
    assert!(machine.is_passed() && !machine.can_move() && machine.limited().is_none());
    assert!(machine.transfer(idle()).is_empty() && machine.deadline().is_empty());
    // What it had said by then counts.
    assert_eq!(machine.message(Message::Taken { number: 2 }), [IncumbentOutput::Taken(2)]);
    assert_eq!(machine.message(Message::Released), [IncumbentOutput::Released]);
}

#[test]
fn nothing_moves_before_the_successor_serves_nor_in_version_1() {
    for (at, (mut machine, _)) in incumbents().into_iter().enumerate() {
        assert_eq!(machine.can_move(), at >= 8);
        assert_eq!(machine.transfer(idle()).is_empty(), at < 8);
    }
    let mut old = Incumbent::default();
    old.message(Message::Hello { versions: vec![1], pid: 1, build: "b".into() });
    old.welcome(1, "b", 1, vec![]);
    old.offer(0);
    old.message(Message::Ready);
    old.commit();
    assert_eq!(old.message(Message::Owned), [IncumbentOutput::Owned(vec![])]);
    assert!(!old.can_move() && old.transfer(idle()).is_empty());
    let mut new = Successor::new(1, "b").0;
    new.message(Message::Welcome { version: 1, pid: 1, build: "b".into(), generation: 1 });
    new.message(Message::Inventory { ids: vec![], more: false });
    new.message(Message::Offer { batch: 0, of: 1, labels: vec![] });
    new.adopted(vec![]);
    new.ready();
    new.message(Message::Commit);
    new.owned();
    let outputs = new.message(Message::Transfer { number: 0, moved: idle() });
    assert!(
        matches!(outputs.as_slice(), [SuccessorOutput::Failed(Failure::Unexpected { .. })]),
        "{outputs:?}"
    );
}

#[test]
fn what_arrived_is_answered_once_and_only_to_an_incumbent_that_may_hear_it() {
    let (mut machine, _) = successors().pop().unwrap();
    assert_eq!(machine.taken(1), []);
    assert_eq!(machine.taken(0), [SuccessorOutput::Send(Message::Taken { number: 0 })]);
    assert_eq!((machine.taken(0), machine.declined(0, "no".into())), (vec![], vec![]));
    assert_eq!(machine.message(Message::Transfer { number: 1, moved: idle() }).len(), 1);
    let declined = Message::Declined { number: 1, why: "no".into() };
    assert_eq!(machine.declined(1, "no".into()), [SuccessorOutput::Send(declined)]);
    assert_eq!(machine.message(Message::Transfer { number: 2, moved: idle() }).len(), 1);
    machine.released();
    assert_eq!(machine.taken(2), []);
}

#[test]
fn a_refusal_means_step_down_only_to_the_owner() {
    for (mut machine, _) in successors() {
        let owner = machine.is_owner();
        let outputs = machine.message(Message::Refuse { why: "no".into() });
        let expected = if owner {
            SuccessorOutput::StepDown("no".into())
        } else {
            SuccessorOutput::Failed(Failure::Refused("no".into()))
        };
        assert_eq!(outputs, [expected]);
        assert!(machine.is_over() && machine.closed().is_empty());
    }
}

#[test]
fn an_incumbent_that_ends_is_not_said_to_serve() {
    for (mut machine, _) in incumbents() {
        let passed = machine.is_passed();
        let outputs = machine.dismiss("enough".into());
        assert_eq!(outputs.is_empty(), passed);
        let said = IncumbentOutput::Send(Message::Ending { why: "enough".into() });
        assert!(passed || outputs.first() == Some(&said), "{outputs:?}");
    }
    for (mut machine, _) in successors() {
        let owner = machine.is_owner();
        let outputs = machine.message(Message::Ending { why: "enough".into() });
        let ending = SuccessorOutput::Failed(Failure::Ending("enough".into()));
        assert!(if owner { outputs != [ending] } else { outputs == [ending] }, "{outputs:?}");
    }
}

#[test]
fn the_end_of_the_connection_and_a_deadline_end_every_state_once() {
    for (mut machine, _) in incumbents() {
        let passed = machine.is_passed();
        let outputs = machine.closed();
        assert_eq!(outputs.last(), Some(&IncumbentOutput::Failed(Failure::Closed)));
        // It may have been an empty message: a successor that is there still must not go on.
        let refused = matches!(&outputs[..], [IncumbentOutput::Send(Message::Refuse { .. }), _]);
        assert!(refused != passed, "{outputs:?}");
        assert!(machine.closed().is_empty() && machine.limited().is_none());
    }
    for (mut machine, _) in incumbents() {
        if machine.limited().is_some() && !machine.is_passed() {
            let outputs = machine.deadline();
            assert!(
                matches!(outputs.last(), Some(IncumbentOutput::Failed(Failure::TimedOut(_)))),
                "{outputs:?}"
            );
        }
    }
    for (mut machine, _) in successors() {
        assert_eq!(machine.closed(), [SuccessorOutput::Failed(Failure::Closed)]);
        assert!(machine.closed().is_empty() && machine.limited().is_none());
    }
}

#[test]
fn the_host_cannot_say_things_out_of_order() {
    let (mut incumbent, _) = incumbents().swap_remove(1);
    assert!(incumbent.offer(1).is_empty() && incumbent.probe().is_empty());
    assert!(incumbent.commit().is_empty() && incumbent.drained().is_empty());
    let (mut successor, _) = successors().swap_remove(2);
    assert!(successor.ready().is_empty() && successor.owned().is_empty() && successor.released().is_empty());
    assert!(successor.adopted(vec![]).is_empty());
    let (mut waiting, _) = successors().swap_remove(3);
    assert!(waiting.bound().is_empty());
}

#[test]
fn a_successor_of_version_1_waits_from_its_welcome_on_and_is_not_asked_whether_it_does() {
    let mut incumbent = Incumbent::default();
    incumbent.message(Message::Hello { versions: vec![1], pid: 1, build: "b".into() });
    assert_eq!(incumbent.welcome(1, "b", 1, vec![]).last(), Some(&IncumbentOutput::Waiting));
    assert!(incumbent.is_waiting() && incumbent.limited().is_none());
    assert!(incumbent.probe().is_empty() && incumbent.limited().is_none());
    let mut successor = Successor::new(1, "b").0;
    successor.message(Message::Welcome { version: 1, pid: 1, build: "b".into(), generation: 1 });
    successor.message(Message::Inventory { ids: vec![], more: false });
    assert!(successor.bound().is_empty());
    assert!(matches!(
        successor.message(Message::Offer { batch: 0, of: 1, labels: vec![] })[..],
        [SuccessorOutput::Check(_)]
    ));
}

#[test]
fn a_successor_that_is_to_wait_has_to_say_so_in_time_and_again_when_it_is_asked() {
    let (mut settling, _) = incumbents().swap_remove(1);
    assert_eq!((settling.limited(), settling.is_waiting()), (Some(("Waiting", 0)), false));
    assert_eq!(settling.deadline().last(), Some(&IncumbentOutput::Failed(Failure::TimedOut("Waiting"))));
    let (mut probed, _) = incumbents().swap_remove(3);
    assert_eq!((probed.limited(), probed.is_waiting()), (Some(("Waiting", 0)), true));
    assert!(probed.probe().is_empty());
    assert!(probed.message(Message::Waiting).is_empty());
    assert!(probed.limited().is_none() && probed.is_waiting());
    // The question and the offer may cross the answer.
    let (mut probed, _) = incumbents().swap_remove(3);
    assert_eq!(probed.offer(1), [IncumbentOutput::SendBatch(0)]);
    assert!(probed.message(Message::Waiting).is_empty());
    assert_eq!(probed.limited(), Some(("Ready", 0)));
    assert!(probed.message(Message::Adopted { batch: 0, unwanted: vec![] }).is_empty());
    assert_eq!(probed.message(Message::Ready), [IncumbentOutput::Ready]);
}

proptest! {
    #[test]
    fn no_sequence_of_messages_panics_or_says_two_ends(picks in proptest::collection::vec(0_usize..20, 0..20)) {
        let (mut incumbent, mut successor) = (Incumbent::default(), Successor::new(1, "b").0);
        let (mut ends, messages) = ([0, 0], all_messages());
        for pick in picks {
            let outputs = incumbent.message(messages[pick].clone());
            ends[0] += outputs.iter().filter(|one| matches!(one, IncumbentOutput::Failed(_))).count();
            let outputs = successor.message(messages[pick].clone());
            ends[1] += outputs.iter().filter(|one| matches!(one, SuccessorOutput::Failed(_))).count();
        }
        prop_assert!(ends[0] <= 1 && ends[1] <= 1);
    }
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

#[test]
fn a_thousand_listeners_cross_a_real_socket_in_order() {
    crate::system::raise_descriptor_limit();
    let listeners: Vec<_> = (0..1000).map(listening).collect();
    let ids: Vec<_> = listeners.iter().map(|one| one.id.clone()).collect();
    let (mut giver, mut taker) = conversation();
    async_io::block_on(async {
        greet(&mut giver, &mut taker, &ids).await;
        giver.offer(&listeners);
        let taking = async {
            let (mut adopted, mut batches) = (Vec::new(), 0);
            loop {
                match taker.next().await {
                    TakerEvent::Offered(batch) => {
                        assert!(batch.len() <= MAX_DESCRIPTORS);
                        batches += 1;
                        for (label, fd) in batch {
                            adopted.push(Inherited::verify(fd, &label, &any_port()).unwrap());
                        }
                        taker.adopted(vec![id(batches)]);
                    }
                    TakerEvent::Prepare => break,
                    other => panic!("{other:?}"),
                }
            }
            taker.ready();
            assert!(matches!(taker.next().await, TakerEvent::Commit));
            taker.owned();
            (adopted, batches)
        };
        let giving = async {
            assert_eq!(giver.next().await, GiverEvent::Ready);
            giver.commit();
            giver.next().await
        };
        let ((adopted, batches), owned) = future::zip(taking, giving).await;
        assert_eq!(batches, 4);
        assert_eq!(owned, GiverEvent::Owned((1..=4).map(id).collect()));
        for (one, other) in adopted.iter().zip(&listeners) {
            assert_eq!((&one.id, &one.address), (&other.id, &other.address));
        }
        giver.drained();
        assert!(matches!(taker.next().await, TakerEvent::Drained));
    });
}

#[test]
fn an_inventory_that_exceeds_a_message_comes_in_parts() {
    let address = Address::Unix(format!("/{}", "x".repeat(90)).into());
    let inventory: Vec<_> = (0..3000).map(|nth| ListenerId::ephemeral(&address, "service", nth)).collect();
    let (mut giver, mut taker) = conversation();
    async_io::block_on(async {
        assert_eq!(giver.next().await, GiverEvent::Greeted);
        giver.welcome(&Identity { build: "old".into(), generation: 1 }, &inventory);
        let giving = async { giver.next().await };
        let taking = async {
            assert!(matches!(taker.next().await, TakerEvent::Welcomed { .. }));
            let TakerEvent::Inventory(ids) = taker.next().await else { panic!("no inventory") };
            assert_eq!(ids, inventory);
            GiverEvent::Gone
        };
        future::or(taking, giving).await;
    });
}

#[test]
fn an_inventory_without_end_is_refused() {
    let mut machine = Successor::new(1, "b").0;
    machine.message(all_messages().swap_remove(1));
    let ids: Vec<_> = (0..1 << 16).map(id).collect();
    for _ in 0..16 {
        assert!(machine.message(Message::Inventory { ids: ids.clone(), more: true }).is_empty());
    }
    let outputs = machine.message(Message::Inventory { ids, more: true });
    assert!(is_refusal(&outputs, |output| matches!(output, SuccessorOutput::Send(Message::Refuse { .. }))));
    assert!(machine.is_over());
}

#[test]
fn a_deadline_is_not_put_off_by_talking() {
    let (a, b) = pair();
    let peer = Peer::of(&b).unwrap();
    let mut incumbent = Channel::new(a).unwrap();
    let mut taker = Taker::new(Channel::new(b).unwrap(), peer, "new", Duration::from_millis(50)).unwrap();
    let talking = async move {
        incumbent.next().await.unwrap();
        let welcome = Message::Welcome { version: 1, pid: 1, build: "old".into(), generation: 1 };
        incumbent.push(&welcome, vec![]).unwrap();
        loop {
            let _ = incumbent.push(&Message::Inventory { ids: vec![id(0)], more: true }, vec![]);
            let soon = std::time::Instant::now() + Duration::from_millis(1);
            let _ = incumbent.flush_before(soon).await;
            if let Some(Ok(Incoming { message: Message::Refuse { why }, .. })) =
                future::poll_once(incumbent.next()).await
            {
                return why;
            }
        }
    };
    let talker = std::thread::spawn(|| async_io::block_on(talking));
    async_io::block_on(async {
        assert!(matches!(taker.next().await, TakerEvent::Welcomed { .. }));
        let TakerEvent::Failed(failure) = taker.next().await else { panic!("not refused") };
        assert_eq!(failure, Failure::TimedOut("Inventory"));
        // The refusal waits for room in the queue.
        assert!(future::poll_once(taker.next()).await.is_none());
    });
    assert!(talker.join().unwrap().contains("Inventory"));
}

#[test]
fn a_wrong_count_of_descriptors_is_refused() {
    let (a, b) = pair();
    let peer = Peer::of(&b).unwrap();
    let mut incumbent = Channel::new(a).unwrap();
    let mut taker = Taker::new(Channel::new(b).unwrap(), peer, "new", Duration::from_secs(5)).unwrap();
    let one = listening(0);
    let label: Label = one.label();
    async_io::block_on(async {
        incumbent.next().await.unwrap();
        let welcome = Message::Welcome { version: 1, pid: 1, build: "old".into(), generation: 1 };
        incumbent.push(&welcome, vec![]).unwrap();
        incumbent.push(&Message::Inventory { ids: vec![id(0)], more: false }, vec![]).unwrap();
        let fds: Vec<Arc<OwnedFd>> = vec![one.fd.clone(), one.fd.clone()];
        incumbent.push(&Message::Offer { batch: 0, of: 1, labels: vec![label] }, fds).unwrap();
        assert!(matches!(taker.next().await, TakerEvent::Welcomed { .. }));
        assert!(matches!(taker.next().await, TakerEvent::Inventory(_)));
        let TakerEvent::Failed(Failure::Gave(why)) = taker.next().await else { panic!("not refused") };
        assert_eq!(why, "2 descriptors came for 1 listeners");
        assert!(matches!(incumbent.next().await.unwrap().message, Message::Refuse { .. }));
    });
}

#[test]
fn a_failed_successor_is_gone_only_when_it_has_closed() {
    let (mut giver, mut taker) = conversation();
    async_io::block_on(async {
        greet(&mut giver, &mut taker, &[]).await;
        giver.refuse("changed my mind");
        let TakerEvent::Failed(failure) = taker.next().await else { panic!("not refused") };
        assert_eq!(failure, Failure::Refused("changed my mind".into()));
        assert!(future::poll_once(giver.next()).await.is_none());
        drop(taker);
        assert_eq!(giver.next().await, GiverEvent::Gone);
    });
}

#[test]
fn a_failed_successor_that_goes_on_talking_holds_nobody_up() {
    let (a, b) = pair();
    let peer = Peer::of(&b).unwrap();
    let mut giver = Giver::new(Channel::new(a).unwrap(), peer, Duration::from_secs(5)).unwrap();
    let mut talker = Channel::new(b).unwrap();
    giver.refuse("no");
    let talk = |talker: &mut Channel| {
        let said = std::iter::from_fn(|| talker.send_now(&Message::Ready).unwrap().then_some(())).count();
        assert!(said < 10_000, "there is no end to it");
        said
    };
    assert!(talk(&mut talker) > 100);
    async_io::block_on(async {
        for _ in 0..3 {
            assert!(future::poll_once(giver.next()).await.is_none());
        }
    });
    // It is not read out, for nothing that it says counts.
    let said = talk(&mut talker);
    assert!(said <= 64, "{said} messages were read");
}

#[test]
fn an_incumbent_that_never_stops_talking_leaves_turns_to_others() {
    let (a, b) = pair();
    let peer = Peer::of(&b).unwrap();
    let mut incumbent = Channel::new(a).unwrap();
    let mut taker = Taker::new(Channel::new(b).unwrap(), peer, "new", Duration::from_secs(5)).unwrap();
    let welcome = Message::Welcome { version: 2, pid: 1, build: "old".into(), generation: 1 };
    assert!(incumbent.send_now(&welcome).unwrap());
    let more = Message::Inventory { ids: vec![], more: true };
    let talk = |incumbent: &mut Channel| {
        std::iter::from_fn(|| incumbent.send_now(&more).unwrap().then_some(())).count()
    };
    assert!(talk(&mut incumbent) > 100);
    async_io::block_on(async {
        assert!(matches!(taker.next().await, TakerEvent::Welcomed { .. }));
        assert!(future::poll_once(taker.next()).await.is_none());
    });
    let said = talk(&mut incumbent);
    assert!((1..=66).contains(&said), "{said} messages were read");
}

#[test]
fn a_successor_that_failed_by_closing_is_gone_too() {
    let (mut giver, mut taker) = conversation();
    async_io::block_on(async {
        greet(&mut giver, &mut taker, &[]).await;
        drop(taker);
        assert_eq!(giver.next().await, GiverEvent::Failed(Failure::Closed));
        assert_eq!(giver.next().await, GiverEvent::Gone);
        assert!(future::poll_once(giver.next()).await.is_none());
    });
}

#[test]
fn silent_and_superfluous_connections_leave_the_desk_usable() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("upgrade.sock");
    let identity = Identity { build: "old".into(), generation: 1 };
    let mut desk = Desk::open(&path, &[], identity, vec![], bounds()).unwrap();
    let mut silent: Vec<_> = (0..8).map(|_| connect(&path).unwrap()).collect();
    async_io::block_on(async {
        assert!(future::poll_once(desk.next()).await.is_none());
        let (mut ninth, _) = connect(&path).unwrap();
        let closed = async { ninth.next().await };
        let desking = async {
            desk.next().await;
            unreachable!("nobody introduced himself")
        };
        assert!(matches!(future::or(closed, desking).await, Err(ChannelError::Closed)));
        silent.pop();
        assert!(future::poll_once(desk.next()).await.is_none());
        let (channel, peer) = connect(&path).unwrap();
        let mut taker = Taker::new(channel, peer, "new", Duration::from_secs(5)).unwrap();
        let settling = async {
            assert!(matches!(taker.next().await, TakerEvent::Welcomed { .. }));
            assert!(matches!(taker.next().await, TakerEvent::Inventory(_)));
        };
        let desking = async {
            desk.next().await;
            unreachable!("nobody said that he waits")
        };
        future::or(settling, desking).await;
        assert!(desk.take_waiter().is_none());
        taker.bound();
        assert_eq!(desk.next().await, DeskEvent::Waiting(std::process::id()));
        drop(taker);
        assert_eq!(desk.next().await, DeskEvent::Left(std::process::id(), Failure::Closed));
        assert!(desk.take_waiter().is_none());
    });
}

#[test]
fn a_place_is_freed_when_who_holds_it_does_not_say_that_it_waits() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("upgrade.sock");
    let identity = Identity { build: "old".into(), generation: 1 };
    let mut desk = Desk::open(
        &path,
        &[],
        identity,
        vec![],
        Bounds { step_timeout: Duration::from_millis(50), ..bounds() },
    )
    .unwrap();
    let (pid, late) = (std::process::id(), Failure::TimedOut("Waiting"));
    let taker = || {
        let (channel, peer) = connect(&path).unwrap();
        Taker::new(channel, peer, "new", Duration::from_secs(5)).unwrap()
    };
    async_io::block_on(async {
        let _mute = taker();
        assert_eq!(desk.next().await, DeskEvent::Left(pid, late.clone()));
        // One that waits keeps its place until somebody else wants it.
        let mut waiter = taker();
        let settling = async {
            while !matches!(waiter.next().await, TakerEvent::Inventory(_)) {}
            waiter.bound();
            future::pending().await
        };
        assert_eq!(future::or(desk.next(), settling).await, DeskEvent::Waiting(pid));
        let (mut second, refusal) = (
            taker(),
            Failure::Refused(format!("pid {pid} is waiting already; end it or let it take over first")),
        );
        let desking = async {
            desk.next().await;
            unreachable!("the first was not asked yet")
        };
        let TakerEvent::Failed(why) = future::or(second.next(), desking).await else { panic!("not refused") };
        assert_eq!(why, refusal);
        // It hears the question, and says nothing.
        assert_eq!(desk.next().await, DeskEvent::Left(pid, late));
        let _third = taker();
        assert!(future::poll_once(desk.next()).await.is_none());
        assert_eq!(desk.waiter(), Some(pid));
    });
}

#[test]
fn a_message_that_was_cut_off_fails_the_hand_over_once() {
    let (a, b) = pair();
    let peer = Peer::of(&b).unwrap();
    let mut taker = Taker::new(Channel::new(b).unwrap(), peer, "new", Duration::from_secs(5)).unwrap();
    crate::system::send(&a, &vec![b'x'; MAX_FRAME + 1], &[]).unwrap();
    async_io::block_on(async {
        let TakerEvent::Failed(Failure::Unreadable(why)) = taker.next().await else { panic!("not refused") };
        assert!(why.contains("longer"), "{why}");
        assert!(future::poll_once(taker.next()).await.is_none());
    });
}
