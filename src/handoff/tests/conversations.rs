//! Conversations of a giver and a taker over a real socket.

use super::*;
use crate::tls::{TicketKeys, TicketSettings, Tickets};

#[test]
fn a_thousand_listeners_cross_a_real_socket_in_order() {
    crate::system::raise_descriptor_limit();
    let listeners: Vec<_> = (0..1000).map(listening).collect();
    let ids: Vec<_> = listeners.iter().map(|one| one.id.clone()).collect();
    let (mut giver, mut taker) = conversation();
    async_io::block_on(async {
        greet(&mut giver, &mut taker, &ids).await;
        giver.offer(&listeners, |_| None);
        let taking = async {
            let (mut adopted, mut batches) = (Vec::new(), 0);
            loop {
                match taker.next().await {
                    TakerEvent::Offered(batch, _) => {
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

/// As many keys as a listener ever has.
fn most_keys() -> TicketKeys {
    let settings = TicketSettings {
        lifetime: Duration::from_secs(12),
        rotate: Duration::from_secs(1),
        key_files: Vec::new(),
    };
    let begin = std::time::SystemTime::now();
    let tickets = Tickets::new(&settings, begin);
    (1..30).for_each(|second| assert!(tickets.turn(begin + Duration::from_secs(second))));
    tickets.keys().unwrap()
}

#[test]
fn ticket_keys_come_with_their_listeners() {
    crate::system::raise_descriptor_limit();
    let listeners: Vec<_> = (0..300).map(listening).collect();
    let ids: Vec<_> = listeners.iter().map(|one| one.id.clone()).collect();
    let keys = most_keys();
    let (mut giver, mut taker) = conversation();
    async_io::block_on(async {
        greet(&mut giver, &mut taker, &ids).await;
        // Every other listener has some.
        let has = |listener: &ListenerId| ids.iter().position(|one| one == listener).unwrap() % 2 == 0;
        giver.offer(&listeners, |listener| has(listener).then(|| keys.clone()));
        let taking = async {
            let mut all = Vec::new();
            loop {
                match taker.next().await {
                    TakerEvent::Offered(batch, tickets) => {
                        let of_batch = |id: &ListenerId| batch.iter().any(|(label, _)| label.id == *id);
                        assert!(tickets.iter().all(|(id, _)| of_batch(id)));
                        all.extend(tickets);
                        taker.adopted(Vec::new());
                    }
                    TakerEvent::Prepare => return all,
                    other => panic!("{other:?}"),
                }
            }
        };
        let all = future::or(taking, async { panic!("{:?}", giver.next().await) }).await;
        assert_eq!(all.len(), 150);
        assert!(all.iter().all(|(id, carried)| has(id) && *carried == keys));
    });
}

#[test]
fn a_successor_that_does_not_know_ticket_keys_gets_none() {
    for (version, keys) in [(1, 0), (2, 1)] {
        let (a, b) = pair();
        let peer = Peer::of(&a).unwrap();
        let mut giver = Giver::new(Channel::new(a).unwrap(), peer, Duration::from_secs(5)).unwrap();
        let mut successor = Channel::new(b).unwrap();
        let hello = Message::Hello { versions: vec![version], pid: 1, build: "other".into() };
        successor.push(&hello, vec![]).unwrap();
        async_io::block_on(async {
            assert_eq!(giver.next().await, GiverEvent::Greeted);
            giver.welcome(&Identity { build: "old".into(), generation: 1 }, &[id(0)]);
            if version > 1 {
                successor.push(&Message::Waiting, vec![]).unwrap();
            }
            assert_eq!(giver.next().await, GiverEvent::Waiting);
            giver.offer(&[listening(0)], |_| Some(most_keys()));
            loop {
                if let Message::Offer { tickets, .. } = successor.next().await.unwrap().message {
                    assert_eq!(tickets.len(), keys, "version {version}");
                    break;
                }
            }
        });
    }
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
        incumbent
            .push(&Message::Offer { batch: 0, of: 1, labels: vec![label], tickets: vec![] }, fds)
            .unwrap();
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
