//! The machine of each side in each of its states, against every message and the host.

use super::*;

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
    new.message(Message::Offer { batch: 0, of: 1, labels: vec![], tickets: vec![] });
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
        successor.message(Message::Offer { batch: 0, of: 1, labels: vec![], tickets: vec![] })[..],
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
