//! The desk, and who comes to it.

use super::*;

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
