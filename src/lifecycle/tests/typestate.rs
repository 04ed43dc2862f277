//! The typestate on a fake world: random happenings lead it where its twin goes, with the effects to match.

use proptest::prelude::*;

use super::fakes::{FakePeer, FakeWorld, SharedFile};
use crate::lifecycle::machine::{Happening, Machine};
use crate::lifecycle::{Booting, Cause, Event, Exit, Instance, Phase, step};
use crate::listen::Ending;
use crate::system::Signal;

fn happening(pick: u8) -> Happening<()> {
    let cause = || Cause::new(Exit::TryAgain, "a test");
    match pick {
        0 => Happening::Signal(Signal::Terminate),
        1 => Happening::Signal(Signal::Interrupt),
        2 | 3 => Happening::Signal(Signal::Quit),
        4 => Happening::Signal(Signal::Hangup),
        5 => Happening::Adopted(()),
        6 => Happening::Commit,
        7 => Happening::Lost(cause()),
        8 => Happening::IncumbentDied(cause()),
        9 => Happening::StepDown("a test".into()),
        10 => Happening::PredecessorGone,
        11 | 12 => Happening::Ready,
        13 | 14 => Happening::Owned(Vec::new()),
        15 => Happening::Failed("a test".into()),
        16 => Happening::FormerGone(0),
        17 => Happening::Released,
        18 => Happening::SuccessorDied,
        19 => Happening::GuardEnded,
        20 => Happening::DrainEnded(Ending::All),
        27 => Happening::DrainEnded(Ending::Requests),
        28 => Happening::DrainEnded(Ending::Tunnels),
        29 => Happening::MovesEnded,
        26 => Happening::PatienceEnded,
        30 => Happening::Displaced("a test".into()),
        21..=23 => Happening::Welcomed,
        _ => Happening::Idle,
    }
}

/// The twin's event for a happening in a phase; `None` for what the driver does not let through there.
fn event(phase: Phase, happening: &Happening<()>, waiter: bool, guard: bool) -> Option<Event> {
    let event = match happening {
        Happening::Welcomed => Event::Upgrade,
        Happening::Lost(_) | Happening::IncumbentDied(_) if phase == Phase::Booting => Event::BootFailed,
        Happening::Signal(Signal::Terminate) => Event::Terminate,
        Happening::Signal(Signal::Interrupt) => Event::Interrupt,
        Happening::Signal(Signal::Quit) => Event::Quit { waiter },
        Happening::Relieved => Event::Quit { waiter },
        Happening::Signal(Signal::Hangup | Signal::User1 | Signal::User2) => return None,
        Happening::PredecessorGone => Event::PredecessorGone,
        Happening::Adopted(()) => Event::Adopted,
        Happening::Commit => Event::Commit,
        Happening::Lost(_) => Event::Lost,
        Happening::IncumbentDied(_) => Event::IncumbentDied,
        Happening::StepDown(_) => Event::StepDown,
        Happening::Ready => Event::SuccessorReady,
        Happening::Owned(_) => Event::SuccessorOwned { guard },
        Happening::Failed(_) => Event::SuccessorFailed,
        Happening::FormerGone(_) => Event::SuccessorGone,
        Happening::Released => Event::SuccessorReleased,
        Happening::SuccessorDied => Event::SuccessorDied,
        Happening::GuardEnded => Event::GuardEnded,
        Happening::DrainEnded(what) => Event::DrainEnded(*what),
        Happening::MovesEnded => Event::MovesEnded,
        Happening::Idle => Event::Idle,
        Happening::PatienceEnded => Event::PatienceEnded,
        Happening::Displaced(_) => Event::Displaced,
    };
    step(phase, event).is_ok().then_some(event)
}

fn world(machine: &mut Machine<FakeWorld>) -> &mut FakeWorld {
    match machine {
        Machine::Meeting(instance, _) => &mut instance.core.world,
        Machine::Awaiting(instance) => &mut instance.core.world,
        Machine::Accepting(instance) => &mut instance.core.world,
        Machine::Serving(instance) => &mut instance.core.world,
        Machine::Handing(instance) => &mut instance.core.world,
        Machine::Committed(instance) => &mut instance.core.world,
        Machine::Draining(instance) => &mut instance.core.world,
        Machine::Exited(instance) => &mut instance.core.world,
    }
}

fn boot(upgrade: bool) -> Machine<FakeWorld> {
    let booting: Instance<_, Booting> = Instance::new(FakeWorld::new(1, SharedFile::default()));
    if upgrade {
        Machine::Meeting(booting, FakePeer::default())
    } else {
        Machine::Serving(booting.cold_start(()).unwrap())
    }
}

proptest! {
    #[test]
    fn the_typestate_goes_where_the_twin_goes(
        upgrade in any::<bool>(),
        guard in any::<bool>(),
        picks in proptest::collection::vec((0_u8..31, any::<bool>()), 0..60),
    ) {
        let mut machine = boot(upgrade);
        world(&mut machine).guards = guard;
        let mut cause = None;
        for (pick, waits) in picks {
            let happening = happening(pick);
            let phase = machine.phase();
            if waits {
                world(&mut machine).waiters.push_back(FakePeer::default());
            }
            let waiter = !world(&mut machine).waiters.is_empty();
            let expected = event(phase, &happening, waiter, guard).map_or(phase, |event| step(phase, event).unwrap().0);
            machine = machine.turn(happening, &mut cause, "nobody waits");
            prop_assert_eq!(machine.phase(), expected);
            let world = world(&mut machine);
            prop_assert_eq!(world.accepting, expected.accepts());
            prop_assert_eq!(world.draining, matches!(expected, Phase::Draining { .. }) || world.draining && expected == Phase::Exited);
            let named = *world.file.lock().unwrap() == Some(1);
            match expected {
                Phase::Serving | Phase::Offered | Phase::Committed { .. } => prop_assert!(named && world.holds_file),
                Phase::Exited => prop_assert!(!world.holds_file && !world.holding),
                Phase::Booting | Phase::Awaiting | Phase::Accepting => prop_assert!(!named),
                _ => {}
            }
        }
    }
}

#[test]
fn a_quit_that_finds_nobody_waiting_changes_nothing() {
    let machine = boot(false).turn(Happening::Signal(Signal::Quit), &mut None, "nobody waits");
    assert_eq!(machine.phase(), Phase::Serving);
}

#[test]
fn a_commit_without_files_is_refused_and_drained() {
    let mut cause = None;
    let machine = boot(true).turn(Happening::Welcomed, &mut cause, "");
    let mut machine = machine.turn(Happening::Adopted(()), &mut cause, "");
    world(&mut machine).fail_files = true;
    let machine = machine.turn(Happening::Commit, &mut cause, "");
    assert_eq!(machine.phase(), Phase::Draining { guard: false });
    assert_eq!(cause.unwrap().exit, Exit::CannotCreate);
}

#[test]
fn an_adoption_without_workers_leaves_the_incumbent_alone() {
    let mut cause = None;
    let mut machine = boot(true).turn(Happening::Welcomed, &mut cause, "");
    world(&mut machine).fail_start = true;
    let machine = machine.turn(Happening::Adopted(()), &mut cause, "");
    let Machine::Exited(exited) = machine else { panic!("not exited") };
    assert_eq!(exited.exit(), Exit::Unavailable);
    assert!(exited.world().file.lock().unwrap().is_none());
}

#[test]
fn a_cold_start_takes_the_files_before_it_accepts_and_leaves_none_when_it_fails() {
    let mut world = FakeWorld::new(1, SharedFile::default());
    world.fail_files = true;
    world.fail_start = true;
    let fallback = Instance::new(world).cold_start(()).unwrap_err();
    assert_eq!(fallback.cause.exit, Exit::CannotCreate, "it began to accept first");
    let mut world = FakeWorld::new(1, SharedFile::default());
    world.fail_start = true;
    let fallback = Instance::new(world).cold_start(()).unwrap_err();
    assert_eq!(fallback.cause.exit, Exit::Unavailable);
    assert_eq!(*fallback.instance.world().file.lock().unwrap(), None);
}

#[test]
fn the_generation_counts_on() {
    let Machine::Meeting(mut meeting, incumbent) = boot(true) else { panic!("not meeting") };
    meeting.follows(41);
    assert_eq!(meeting.await_handoff(incumbent).generation(), 42);
}
