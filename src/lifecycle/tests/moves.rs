//! Whole instances over real sockets, with fake workers: connections that move, the guard, and the times to drain.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use async_io::Timer;
use futures_lite::future;
use smol::LocalExecutor;

use super::driver::{Running, in_directory, listener, settings, start};
use super::fakes::FakePath;
use crate::base::{Moved, MovedState};
use crate::handoff::{Giver, UpgradeSocket, connect};
use crate::lifecycle::Settings;
use crate::lifecycle::office::Office;
use crate::listen::{Ending, Leave, Settled, WINDOW};
use crate::system::Signal;

fn connection(nth: u64) -> (Moved, Vec<Arc<OwnedFd>>) {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let id = listener("127.0.0.1:0", 0).id;
    let moved = Moved { listener: id, peer: None, requests: nth, state: MovedState::Idle, spare: None };
    (moved, vec![Arc::new(OwnedFd::from(socket))])
}

/// Two instances, the first of which has handed over to the second.
async fn handed_over(
    executor: &LocalExecutor<'static>,
    directory: &Path,
    change: impl Fn(&mut Settings),
) -> [Running; 2] {
    let with = |upgrade| {
        let mut settings = settings(directory, upgrade, vec![listener("127.0.0.1:0", 0)]);
        change(&mut settings);
        settings
    };
    let old = start(executor, with(false));
    old.until("accepting", |state| state.accepting).await;
    old.path.set_connections(3);
    let new = start(executor, with(true));
    let deadline = Instant::now() + Duration::from_secs(5);
    while !new.path.state().accepting {
        assert!(Instant::now() < deadline);
        old.signal(Signal::Quit);
        Timer::after(Duration::from_millis(5)).await;
    }
    old.until("draining", |state| state.draining()).await;
    [old, new]
}

#[test]
fn connections_that_depart_arrive_and_count_until_they_are_taken() {
    in_directory(|directory, executor| async move {
        let [old, new] = handed_over(&executor, &directory, |_| {}).await;
        assert_eq!(old.path.state().told, Leave::Move);
        for nth in 0..2 {
            let (moved, fds) = connection(nth);
            old.path.depart(moved, fds);
        }
        new.until("served", |state| state.served.len() == 2).await;
        assert_eq!(
            new.path.state().served.iter().map(|(moved, _)| moved.requests).collect::<Vec<_>>(),
            [0, 1]
        );
        old.until("gone", |state| state.settled == [Settled::Gone; 2]).await;
        new.path.state().declines = Some("a test".into());
        let (moved, fds) = connection(2);
        old.path.depart(moved, fds);
        old.until("back", |state| state.settled.last() == Some(&Settled::Stay)).await;
        assert_eq!(old.path.state().connections, 1);
        old.path.set_connections(0);
        old.end().await.unwrap();
    });
}

#[test]
fn what_cannot_be_passed_on_stays_and_others_have_their_turn_meanwhile() {
    in_directory(|directory, _| async move {
        let socket = UpgradeSocket::take(&directory.join("upgrade.sock"), &[]).unwrap();
        let _near = connect(&directory.join("upgrade.sock")).unwrap();
        let (far, peer) = future::poll_fn(|cx| socket.poll_accept(cx)).await.unwrap().unwrap();
        let mut giver = Giver::new(far, peer, Duration::from_secs(5)).unwrap();
        let path = FakePath::default();
        let settings = settings(&directory, false, vec![]);
        let mut office = Office::new(Arc::new(settings), path.clone());
        for nth in 0..100 {
            let (moved, fds) = connection(nth);
            path.depart(moved, fds);
        }
        let mut turn = || {
            office.pass_on(&mut giver, &mut Context::from_waker(Waker::noop()));
            path.state().settled.len()
        };
        assert_eq!((turn(), turn()), (WINDOW, 100));
        assert_eq!(path.state().told, Leave::Close);
        assert!(path.state().settled.iter().all(|how| *how == Settled::Stay));
    });
}

#[test]
fn connections_do_not_move_where_that_is_not_wanted() {
    in_directory(|directory, executor| async move {
        let stay = |settings: &mut Settings| settings.handoff.move_connections = false;
        let [old, _new] = handed_over(&executor, &directory, stay).await;
        assert_eq!(old.path.state().told, Leave::Close);
    });
}

#[test]
fn nothing_moves_any_more_to_a_successor_that_ends() {
    in_directory(|directory, executor| async move {
        let [old, new] = handed_over(&executor, &directory, |_| {}).await;
        new.path.set_connections(1);
        new.signal(Signal::Terminate);
        old.until("told to close", |state| state.told == Leave::Close).await;
        // It cannot be passed on, and comes back.
        let (moved, fds) = connection(0);
        old.path.depart(moved, fds);
        assert!(new.path.state().served.is_empty());
        old.path.set_connections(0);
        old.end().await.unwrap();
    });
}

#[test]
fn a_guard_is_kept_without_any_connection_and_the_end_comes_with_its_end() {
    in_directory(|directory, executor| async move {
        let guard = Duration::from_millis(200);
        let [old, new] = handed_over(&executor, &directory, |settings| settings.handoff.guard = guard).await;
        let begin = Instant::now();
        old.path.set_connections(0);
        Timer::after(guard / 4).await;
        assert_eq!(old.path.state().listeners.len(), 1, "the guard is over already");
        old.end().await.unwrap();
        assert!(begin.elapsed() < guard + Duration::from_secs(1), "{:?}", begin.elapsed());
        new.signal(Signal::Terminate);
        new.end().await.unwrap();
    });
}

#[test]
fn requests_and_tunnels_have_a_time_of_their_own() {
    in_directory(|directory, executor| async move {
        let [old, _new] = handed_over(&executor, &directory, |settings| {
            settings.drain_timeout = Duration::from_millis(120);
            settings.tunnel_drain_timeout = Duration::from_millis(60);
        })
        .await;
        old.path.set_connections(8);
        let path = old.path.clone();
        old.end().await.unwrap();
        assert_eq!(path.state().closed, [(Ending::Tunnels, 4), (Ending::All, 4)]);
    });
}

#[test]
fn the_time_to_drain_does_not_end_the_guard() {
    in_directory(|directory, executor| async move {
        let [old, _new] = handed_over(&executor, &directory, |settings| {
            settings.handoff.guard = Duration::from_millis(1500);
            settings.drain_timeout = Duration::from_millis(20);
            // Far enough behind that both are not over at once where this thread has to wait.
            settings.tunnel_drain_timeout = Duration::from_millis(700);
        })
        .await;
        old.until("all closed", |state| state.connections == 0).await;
        assert_eq!(old.path.state().closed, [(Ending::Requests, 1), (Ending::All, 2)]);
        assert_eq!(old.path.state().listeners.len(), 1, "the guard is over");
        // One that does not end holds nothing up when it is over.
        old.path.set_connections(1);
        old.end().await.unwrap();
    });
}
