//! What an incumbent has thought better of by the time it is read, and what it said before it died.

use std::os::unix::net::UnixStream;

use super::*;

/// A taker and the test as its incumbent, which the taker has been welcomed by and waits for.
fn waiting() -> (Channel, Taker) {
    let (a, b) = pair();
    let peer = Peer::of(&b).unwrap();
    let mut incumbent = Channel::new(a).unwrap();
    let mut taker = Taker::new(Channel::new(b).unwrap(), peer, "new", Duration::from_secs(5)).unwrap();
    say(&mut incumbent, Message::Welcome { version: 2, pid: 1, build: "old".into(), generation: 1 });
    say(&mut incumbent, Message::Inventory { ids: vec![], more: false });
    async_io::block_on(async {
        assert!(matches!(taker.next().await, TakerEvent::Welcomed { .. }));
        assert!(matches!(taker.next().await, TakerEvent::Inventory(_)));
    });
    taker.bound();
    (incumbent, taker)
}

/// As [`waiting`], with a batch offered.
fn offered() -> (Channel, Taker) {
    let (mut incumbent, taker) = waiting();
    say(&mut incumbent, Message::Offer { batch: 0, of: 1, labels: vec![], tickets: vec![] });
    (incumbent, taker)
}

/// As [`offered`], with that batch adopted.
fn adopted() -> (Channel, Taker) {
    let (incumbent, mut taker) = offered();
    assert!(matches!(next(&mut taker), TakerEvent::Offered(..)));
    taker.adopted(vec![]);
    (incumbent, taker)
}

/// As [`adopted`], with the `Commit` that follows upon `Ready`.
fn committed() -> (Channel, Taker) {
    let (mut incumbent, mut taker) = adopted();
    assert!(matches!(next(&mut taker), TakerEvent::Prepare));
    taker.ready();
    say(&mut incumbent, Message::Commit);
    (incumbent, taker)
}

/// As [`committed`], and the service is the taker's.
fn owner() -> (Channel, Taker) {
    let (incumbent, mut taker) = committed();
    assert!(matches!(next(&mut taker), TakerEvent::Commit));
    taker.owned();
    (incumbent, taker)
}

fn say(incumbent: &mut Channel, message: Message) {
    assert!(incumbent.send_now(&message).unwrap());
}

fn next(taker: &mut Taker) -> TakerEvent {
    async_io::block_on(taker.next())
}

fn refuse() -> Message {
    Message::Refuse { why: "too late".into() }
}

#[test]
fn an_invitation_that_was_withdrawn_is_not_followed() {
    for (name, begin) in [
        ("Offered", offered as fn() -> _),
        ("Prepare", adopted as fn() -> _),
        ("Commit", committed as fn() -> _),
    ] {
        let (_incumbent, mut taker) = begin();
        let event = next(&mut taker);
        assert!(format!("{event:?}").starts_with(name), "nothing was withdrawn, but {event:?} came");

        let (mut incumbent, mut taker) = begin();
        say(&mut incumbent, refuse());
        let TakerEvent::Failed(failure) = next(&mut taker) else { panic!("{name} was followed") };
        assert_eq!(failure, Failure::Refused("too late".into()), "{name}");

        let (mut incumbent, mut taker) = begin();
        say(&mut incumbent, Message::Ending { why: "enough".into() });
        let TakerEvent::Failed(failure) = next(&mut taker) else { panic!("{name} was followed") };
        assert_eq!(failure, Failure::Ending("enough".into()), "{name}");
    }
}

#[test]
fn the_end_of_the_connection_withdraws_no_invitation() {
    for begin in [offered as fn() -> _, adopted as fn() -> _, committed as fn() -> _] {
        let (incumbent, mut taker): (Channel, _) = begin();
        drop(incumbent);
        let event = next(&mut taker);
        assert!(
            matches!(event, TakerEvent::Offered(..) | TakerEvent::Prepare | TakerEvent::Commit),
            "{event:?}"
        );
    }
}

#[test]
fn an_incumbent_that_lives_makes_the_owner_step_down() {
    let (mut incumbent, mut taker) = owner();
    say(&mut incumbent, refuse());
    let TakerEvent::StepDown(why) = next(&mut taker) else { panic!("it goes on") };
    assert_eq!(why, "too late");
}

/// It serves no longer, and if the owner obeyed it nobody would.
#[test]
fn an_incumbent_that_has_died_since_makes_nobody_step_down() {
    let (mut incumbent, mut taker) = owner();
    say(&mut incumbent, refuse());
    // As the pidfd of a process that has ended, this is readable.
    let (ended, other) = UnixStream::pair().unwrap();
    ended.set_nonblocking(true).unwrap();
    drop(other);
    taker.watch_for_tests(ended.into());
    let TakerEvent::Failed(failure) = next(&mut taker) else { panic!("it obeys a dead process") };
    assert_eq!(failure, Failure::Closed);
}
