//! Whole instances over real sockets and files, with fake workers, both in this process.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_io::Timer;
use futures_lite::{FutureExt, future};
use smol::LocalExecutor;
use smol::channel::{Sender, unbounded};

use super::fakes::{FakePath, PathState};
use crate::base::{Address, Label, ListenerId};
use crate::handoff::{Channel, ChannelError, Message, UpgradeSocket, connect};
use crate::lifecycle::{Cause, Exit, HandoffSettings, Herald, Settings, run};
use crate::listen::{Ending, ListenerSpec};
use crate::system::Signal;

pub(super) struct Running {
    pub(super) path: FakePath,
    signals: Sender<std::io::Result<Signal>>,
    task: smol::Task<Result<(), Cause>>,
}

impl Running {
    pub(super) fn signal(&self, signal: Signal) {
        self.signals.try_send(Ok(signal)).unwrap();
    }

    pub(super) async fn until(&self, what: &str, reached: impl Fn(&PathState) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(5);
        while !reached(&self.path.state()) {
            assert!(Instant::now() < deadline, "never: {what}: {:?}", self.path.state());
            Timer::after(Duration::from_millis(1)).await;
        }
    }

    pub(super) async fn end(self) -> Result<(), Cause> {
        let late = async {
            Timer::after(Duration::from_secs(5)).await;
            panic!("the instance does not end");
        };
        self.task.or(late).await
    }
}

pub(super) fn listener(address: &str, nth: usize) -> ListenerSpec {
    let address = Address::Tcp(address.parse().unwrap());
    ListenerSpec {
        id: ListenerId::ephemeral(&address, "web", nth),
        service: Arc::from("web"),
        address,
        mode: None,
        activation: None,
        terms: Arc::default(),
        tls: None,
    }
}

pub(super) fn settings(directory: &Path, upgrade: bool, listeners: Vec<ListenerSpec>) -> Settings {
    Settings {
        upgrade,
        listeners,
        pid_file: Some(directory.join("river.pid")),
        upgrade_socket: Some(directory.join("upgrade.sock")),
        account: None,
        activation: Arc::default(),
        handoff: HandoffSettings {
            ready_timeout: Duration::from_secs(5),
            guard: Duration::ZERO,
            ..HandoffSettings::default()
        },
        tunnel_drain_timeout: Duration::from_secs(600),
        certificate_check: Duration::ZERO,
        drain_timeout: Duration::from_secs(10),
        relaunch: None,
        command: "river --config river.ron".into(),
        build: "river test".into(),
        herald: Herald::default(),
    }
}

pub(super) fn start(executor: &LocalExecutor<'static>, settings: Settings) -> Running {
    let path = FakePath::default();
    let (signals, receiver) = unbounded();
    let task = executor.spawn(run(settings, Box::pin(receiver), path.clone()));
    Running { path, signals, task }
}

pub(super) fn in_directory<F: Future<Output = ()>>(
    test: impl FnOnce(PathBuf, std::rc::Rc<LocalExecutor<'static>>) -> F,
) {
    let directory = tempfile::tempdir().unwrap();
    let executor = std::rc::Rc::new(LocalExecutor::new());
    let body = test(directory.path().to_owned(), executor.clone());
    async_io::block_on(executor.run(body));
}

/// A hand-written successor, to say what a true one would not.
async fn wait_in_line(path: &Path) -> Channel {
    let (mut channel, _) = connect(path).unwrap();
    let hello = Message::Hello { versions: vec![1], pid: 1, build: "test".into() };
    channel.push(&hello, Vec::new()).unwrap();
    assert!(matches!(hear(&mut channel).await, Message::Welcome { .. }));
    while !matches!(hear(&mut channel).await, Message::Inventory { more: false, .. }) {}
    channel
}

async fn hear(channel: &mut Channel) -> Message {
    channel.next_before(Instant::now() + Duration::from_secs(5)).await.unwrap().message
}

#[test]
fn a_hand_over_moves_everything_and_the_incumbent_ends() {
    in_directory(|directory, executor| async move {
        let old = start(
            &executor,
            settings(&directory, false, vec![listener("127.0.0.1:0", 0), listener("[::1]:0", 1)]),
        );
        old.until("accepting", |state| state.accepting).await;
        let address = old.path.state().listeners[0].address.clone();
        old.path.set_connections(2);
        let wanted = vec![listener("127.0.0.1:0", 0), listener("127.0.0.1:0", 7)];
        let new = start(&executor, settings(&directory, true, wanted));
        let gone = old.path.state().listeners[1].id.clone();
        // Nothing says when it waits but the incumbent's desk; SIGQUIT before that serves on.
        let deadline = Instant::now() + Duration::from_secs(5);
        while !new.path.state().accepting {
            assert!(Instant::now() < deadline);
            old.signal(Signal::Quit);
            Timer::after(Duration::from_millis(5)).await;
        }
        old.until("stopped accepting", |state| !state.accepting && state.draining()).await;
        assert_eq!(old.path.state().unwanted, [gone]);
        assert!(old.path.state().listeners.is_empty(), "there is no guard");
        assert_eq!(new.path.state().listeners[0].address, address);
        assert!(directory.join("river.pid").exists() && directory.join("upgrade.sock").exists());
        let before = Instant::now();
        old.path.set_connections(0);
        old.end().await.unwrap();
        assert!(before.elapsed() < Duration::from_millis(100));
        assert!(directory.join("upgrade.sock").exists());
        new.signal(Signal::Terminate);
        new.end().await.unwrap();
        assert!(!directory.join("river.pid").exists() && !directory.join("upgrade.sock").exists());
    });
}

#[test]
fn quit_without_a_waiter_serves_on_and_terminate_drains() {
    in_directory(|directory, executor| async move {
        let one = start(&executor, settings(&directory, false, vec![listener("127.0.0.1:0", 0)]));
        one.until("accepting", |state| state.accepting).await;
        one.path.set_connections(1);
        one.signal(Signal::Quit);
        one.signal(Signal::Hangup);
        one.signal(Signal::Terminate);
        one.until("draining", |state| state.draining() && state.listeners.is_empty()).await;
        one.signal(Signal::Terminate);
        one.path.set_connections(0);
        one.end().await.unwrap();
    });
}

#[test]
fn interrupt_ends_at_once_and_the_drain_time_out_in_time() {
    in_directory(|directory, executor| async move {
        let one = start(&executor, settings(&directory, false, vec![listener("127.0.0.1:0", 0)]));
        one.until("accepting", |state| state.accepting).await;
        one.path.set_connections(3);
        one.signal(Signal::Interrupt);
        let path = one.path.clone();
        one.end().await.unwrap();
        assert_eq!(path.state().closed, [(Ending::All, 3)]);
        // Far enough apart that a late look does not find both over.
        let mut short = settings(&directory, false, vec![listener("127.0.0.1:0", 0)]);
        short.drain_timeout = Duration::from_millis(30);
        short.tunnel_drain_timeout = Duration::from_secs(2);
        let two = start(&executor, short);
        two.until("accepting", |state| state.accepting).await;
        two.path.set_connections(4);
        two.signal(Signal::Terminate);
        let path = two.path.clone();
        two.end().await.unwrap();
        assert_eq!(path.state().closed, [(Ending::Requests, 2), (Ending::All, 2)]);
    });
}

#[test]
fn a_cold_start_beside_an_instance_in_service_is_refused() {
    in_directory(|directory, executor| async move {
        let one = start(&executor, settings(&directory, false, vec![listener("127.0.0.1:0", 0)]));
        one.until("accepting", |state| state.accepting).await;
        let two = start(&executor, settings(&directory, false, vec![listener("127.0.0.1:0", 0)]));
        let cause = two.end().await.unwrap_err();
        assert_eq!(cause.exit, Exit::Unavailable);
        assert!(cause.why.contains("--upgrade"), "{cause}");
        assert!(directory.join("river.pid").exists() && one.path.state().accepting);
    });
}

#[test]
fn a_cold_start_that_cannot_take_its_files_accepts_nobody() {
    in_directory(|directory, executor| async move {
        let unix = Address::Unix(directory.join("web.sock"));
        let mut mine = settings(&directory, false, vec![listener("127.0.0.1:0", 0)]);
        mine.listeners.push(ListenerSpec {
            id: ListenerId::fixed(&unix),
            service: Arc::from("web"),
            address: unix,
            mode: None,
            activation: None,
            terms: Arc::default(),
            tls: None,
        });
        mine.upgrade_socket = Some(directory.join("none/upgrade.sock"));
        let one = start(&executor, mine);
        let path = one.path.clone();
        let cause = one.end().await.unwrap_err();
        assert_eq!(cause.exit, Exit::CannotCreate, "{cause}");
        assert!(path.state().listeners.is_empty(), "the workers were started");
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0, "something was left behind");
    });
}

#[test]
fn an_upgrade_without_an_incumbent_says_what_to_do() {
    in_directory(|directory, executor| async move {
        let one = start(&executor, settings(&directory, true, vec![]));
        let cause = one.end().await.unwrap_err();
        assert_eq!(cause.exit, Exit::Unavailable);
        assert!(cause.why.contains("to start cold: river --config river.ron"), "{cause}");
        let mut without = settings(&directory, true, vec![]);
        without.upgrade_socket = None;
        assert_eq!(start(&executor, without).end().await.unwrap_err().exit, Exit::Config);
    });
}

#[test]
fn a_new_listener_whose_address_is_taken_is_found_before_the_quit() {
    in_directory(|directory, executor| async move {
        let old = start(&executor, settings(&directory, false, vec![listener("127.0.0.1:0", 0)]));
        old.until("accepting", |state| state.accepting).await;
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let new = start(
            &executor,
            settings(&directory, true, vec![listener("127.0.0.1:0", 0), listener(&address, 1)]),
        );
        let cause = new.end().await.unwrap_err();
        assert_eq!(cause.exit, Exit::Unavailable);
        assert!(cause.why.contains(&address) && cause.why.contains("still serving"), "{cause}");
        assert!(old.path.state().accepting);
    });
}

#[test]
fn the_second_waiter_is_refused_and_the_first_waits_on() {
    in_directory(|directory, executor| async move {
        let old = start(&executor, settings(&directory, false, vec![listener("127.0.0.1:0", 0)]));
        old.until("accepting", |state| state.accepting).await;
        let mut first = wait_in_line(&directory.join("upgrade.sock")).await;
        let second = start(&executor, settings(&directory, true, vec![listener("127.0.0.1:0", 0)]));
        let cause = second.end().await.unwrap_err();
        assert_eq!(cause.exit, Exit::TryAgain);
        assert!(cause.why.contains(&format!("pid {} is waiting already", std::process::id())), "{cause}");
        old.signal(Signal::Quit);
        assert!(matches!(hear(&mut first).await, Message::Offer { .. }));
    });
}

#[test]
fn no_common_version_is_refused() {
    in_directory(|directory, executor| async move {
        let old = start(&executor, settings(&directory, false, vec![listener("127.0.0.1:0", 0)]));
        old.until("accepting", |state| state.accepting).await;
        let (mut channel, _) = connect(&directory.join("upgrade.sock")).unwrap();
        let hello = Message::Hello { versions: vec![7, 8], pid: 1, build: "river 9".into() };
        channel.push(&hello, Vec::new()).unwrap();
        let Message::Refuse { why } = hear(&mut channel).await else { panic!("not refused") };
        assert!(why.contains("no common protocol version"), "{why}");
        wait_in_line(&directory.join("upgrade.sock")).await;
    });
}

/// Brings an incumbent to the point where it has offered and the hand-written successor has adopted.
async fn offered(
    executor: &LocalExecutor<'static>,
    directory: &Path,
    timeout: Duration,
) -> (Running, Channel) {
    let mut with = settings(directory, false, vec![listener("127.0.0.1:0", 0)]);
    with.handoff.ready_timeout = timeout;
    let old = start(executor, with);
    old.until("accepting", |state| state.accepting).await;
    let mut successor = wait_in_line(&directory.join("upgrade.sock")).await;
    old.signal(Signal::Quit);
    assert!(matches!(hear(&mut successor).await, Message::Offer { batch: 0, of: 1, .. }));
    successor.push(&Message::Adopted { batch: 0, unwanted: vec![] }, vec![]).unwrap();
    (old, successor)
}

#[test]
fn a_successor_that_never_gets_ready_is_refused_in_time() {
    in_directory(|directory, executor| async move {
        let (old, mut successor) = offered(&executor, &directory, Duration::from_millis(30)).await;
        let Message::Refuse { why } = hear(&mut successor).await else { panic!("not refused") };
        assert!(why.contains("Ready"), "{why}");
        drop(successor);
        assert!(old.path.state().accepting);
        wait_in_line(&directory.join("upgrade.sock")).await;
    });
}

#[test]
fn a_successor_that_hangs_after_commit_gives_everything_back() {
    in_directory(|directory, executor| async move {
        let (old, mut successor) = offered(&executor, &directory, Duration::from_millis(50)).await;
        successor.push(&Message::Ready, vec![]).unwrap();
        assert_eq!(hear(&mut successor).await, Message::Commit);
        // It takes the socket, and hangs before it can say so.
        let path = directory.join("upgrade.sock");
        let stolen = UpgradeSocket::take(&path, &[std::process::id()]).unwrap();
        assert!(matches!(hear(&mut successor).await, Message::Refuse { .. }));
        assert!(old.path.state().accepting && !old.path.state().draining());
        assert!(!stolen.is_ours());
        // It wakes up late and takes the socket again, then reads the refusal and goes.
        let late = UpgradeSocket::take(&path, &[std::process::id()]).unwrap();
        drop(successor);
        let deadline = Instant::now() + Duration::from_secs(5);
        while late.is_ours() {
            assert!(Instant::now() < deadline, "the socket is not taken back");
            Timer::after(Duration::from_millis(1)).await;
        }
        wait_in_line(&path).await;
    });
}

#[test]
fn each_of_several_successors_that_failed_is_watched_until_it_has_gone() {
    in_directory(|directory, executor| async move {
        let (old, mut first) = offered(&executor, &directory, Duration::from_millis(50)).await;
        let path = directory.join("upgrade.sock");
        first.push(&Message::Ready, vec![]).unwrap();
        assert_eq!(hear(&mut first).await, Message::Commit);
        assert!(matches!(hear(&mut first).await, Message::Refuse { .. }));
        let mut second = wait_in_line(&path).await;
        old.signal(Signal::Quit);
        assert!(matches!(hear(&mut second).await, Message::Offer { .. }));
        second.push(&Message::Adopted { batch: 0, unwanted: vec![] }, vec![]).unwrap();
        second.push(&Message::Ready, vec![]).unwrap();
        assert_eq!(hear(&mut second).await, Message::Commit);
        assert!(matches!(hear(&mut second).await, Message::Refuse { .. }));
        for late in [first, second] {
            let stolen = UpgradeSocket::take(&path, &[std::process::id()]).unwrap();
            drop(late);
            let deadline = Instant::now() + Duration::from_secs(5);
            while stolen.is_ours() {
                assert!(Instant::now() < deadline, "the socket is not taken back");
                Timer::after(Duration::from_millis(1)).await;
            }
        }
        wait_in_line(&path).await;
    });
}

#[test]
fn nobody_is_handed_over_to_while_too_many_that_failed_are_there() {
    in_directory(|directory, executor| async move {
        let (old, first) = offered(&executor, &directory, Duration::from_secs(5)).await;
        let path = directory.join("upgrade.sock");
        let mut failed = vec![first];
        loop {
            let last = failed.last_mut().unwrap();
            last.push(&Message::Commit, vec![]).unwrap();
            assert!(matches!(hear(last).await, Message::Refuse { .. }));
            let mut next = wait_in_line(&path).await;
            old.signal(Signal::Quit);
            match hear(&mut next).await {
                Message::Offer { .. } => failed.push(next),
                Message::Refuse { why } => {
                    assert!(why.contains("8 successors that failed"), "{why}");
                    break;
                }
                other => panic!("{other:?}"),
            }
            assert!(failed.len() < 20, "there is no end to it");
        }
        assert_eq!(failed.len(), 8);
        assert!(old.path.state().accepting);
        failed.pop();
        // The end of the one may be heard later than the signal for the next.
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let mut next = wait_in_line(&path).await;
            old.signal(Signal::Quit);
            if matches!(hear(&mut next).await, Message::Offer { .. }) {
                break;
            }
            assert!(Instant::now() < deadline, "nobody is handed over to any more");
        }
    });
}

#[test]
fn a_terminate_while_handing_refuses_before_the_commit_and_completes_after_it() {
    in_directory(|directory, executor| async move {
        let (old, mut successor) = offered(&executor, &directory, Duration::from_secs(5)).await;
        old.signal(Signal::Terminate);
        assert!(matches!(hear(&mut successor).await, Message::Ending { .. }));
        old.end().await.unwrap();
        let (old, mut successor) = offered(&executor, &directory, Duration::from_secs(5)).await;
        successor.push(&Message::Ready, vec![]).unwrap();
        assert_eq!(hear(&mut successor).await, Message::Commit);
        old.signal(Signal::Terminate);
        successor.push(&Message::Owned, vec![]).unwrap();
        assert_eq!(hear(&mut successor).await, Message::Drained);
        old.end().await.unwrap();
    });
}

#[test]
fn a_terminate_after_the_commit_leaves_the_service_to_a_successor_that_is_slow() {
    in_directory(|directory, executor| async move {
        let (old, mut successor) = offered(&executor, &directory, Duration::from_secs(5)).await;
        successor.push(&Message::Ready, vec![]).unwrap();
        assert_eq!(hear(&mut successor).await, Message::Commit);
        let before = Instant::now();
        old.signal(Signal::Terminate);
        old.end().await.unwrap();
        assert!(before.elapsed() < Duration::from_secs(1), "{:?}", before.elapsed());
        // No refusal: whenever it can, it takes over.
        let last = successor.next_before(Instant::now() + Duration::from_secs(5)).await;
        assert!(matches!(last, Err(ChannelError::Closed)), "{last:?}");
        UpgradeSocket::take(&directory.join("upgrade.sock"), &[]).unwrap();
    });
}

#[test]
fn the_listeners_are_held_for_the_guard_period_and_not_longer() {
    in_directory(|directory, executor| async move {
        let mut with = settings(&directory, false, vec![listener("127.0.0.1:0", 0)]);
        with.handoff.guard = Duration::from_millis(50);
        let old = start(&executor, with);
        old.until("accepting", |state| state.accepting).await;
        old.path.set_connections(1);
        let mut successor = wait_in_line(&directory.join("upgrade.sock")).await;
        old.signal(Signal::Quit);
        assert!(matches!(hear(&mut successor).await, Message::Offer { .. }));
        successor.push(&Message::Adopted { batch: 0, unwanted: vec![] }, vec![]).unwrap();
        successor.push(&Message::Ready, vec![]).unwrap();
        assert_eq!(hear(&mut successor).await, Message::Commit);
        successor.push(&Message::Owned, vec![]).unwrap();
        old.until("draining", |state| state.draining()).await;
        assert_eq!(old.path.state().listeners.len(), 1);
        old.until("guard over", |state| state.listeners.is_empty()).await;
        // The end of the connection is not the end of the process: nothing is taken back.
        drop(successor);
        old.path.set_connections(0);
        old.end().await.unwrap();
    });
}

/// A hand-written incumbent that offers whatever it likes.
async fn pretend(path: &Path, offer: impl FnOnce() -> (Message, Vec<Arc<std::os::fd::OwnedFd>>)) -> Channel {
    let socket = UpgradeSocket::take(path, &[]).unwrap();
    let (mut channel, _) = future::poll_fn(|cx| socket.poll_accept(cx)).await.unwrap().unwrap();
    assert!(matches!(hear(&mut channel).await, Message::Hello { .. }));
    let welcome = Message::Welcome { version: 1, pid: 1, build: "test".into(), generation: 4 };
    channel.push(&welcome, vec![]).unwrap();
    let ids = vec![listener("127.0.0.1:0", 0).id];
    channel.push(&Message::Inventory { ids, more: false }, vec![]).unwrap();
    let (message, fds) = offer();
    channel.push(&message, fds).unwrap();
    channel
}

#[test]
fn descriptors_that_are_not_what_they_are_said_to_be_are_refused() {
    in_directory(|directory, executor| async move {
        let fd = |socket: std::net::TcpListener| Arc::new(std::os::fd::OwnedFd::from(socket));
        let bind = || std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let id = listener("127.0.0.1:0", 0).id;
        let label = |address| vec![Label { id: id.clone(), address: Address::Tcp(address), file: None }];
        for (wrong, complaint) in [(0, "is bound to"), (1, "descriptors came for"), (2, "0 of")] {
            let path = directory.join("upgrade.sock");
            let offer = || {
                let (one, other) = (bind(), bind());
                let address = one.local_addr().unwrap();
                match wrong {
                    0 => (
                        Message::Offer { batch: 0, of: 1, labels: label(address), tickets: vec![] },
                        vec![fd(other)],
                    ),
                    1 => (
                        Message::Offer { batch: 0, of: 1, labels: label(address), tickets: vec![] },
                        vec![fd(one), fd(other)],
                    ),
                    _ => (
                        Message::Offer { batch: 3, of: 4, labels: label(address), tickets: vec![] },
                        vec![fd(one)],
                    ),
                }
            };
            let pretended = async {
                let mut channel = pretend(&path, offer).await;
                let Message::Refuse { why } = hear(&mut channel).await else { panic!("not refused") };
                why
            };
            let (why, cause) = future::zip(pretended, async {
                while !path.exists() {
                    future::yield_now().await;
                }
                start(&executor, settings(&directory, true, vec![listener("127.0.0.1:0", 0)])).end().await
            })
            .await;
            let cause = cause.unwrap_err();
            assert_eq!(cause.exit, Exit::Software, "{cause}");
            assert!(why.contains(complaint) || wrong == 2, "{why}");
            std::fs::remove_file(&path).unwrap();
        }
    });
}

#[test]
fn a_successor_told_to_step_down_after_it_owned_the_service_drains() {
    in_directory(|directory, executor| async move {
        let path = directory.join("upgrade.sock");
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let id = listener("127.0.0.1:0", 0).id;
        let label = Label { id, address: Address::Tcp(address), file: None };
        let mut mine = settings(&directory, true, vec![listener("127.0.0.1:0", 0)]);
        mine.handoff.ready_timeout = Duration::from_secs(5);
        let incumbent = async {
            let fds = vec![Arc::new(std::os::fd::OwnedFd::from(socket))];
            let mut channel = pretend(&path, || {
                (Message::Offer { batch: 0, of: 1, labels: vec![label], tickets: vec![] }, fds)
            })
            .await;
            assert!(matches!(hear(&mut channel).await, Message::Adopted { batch: 0, .. }));
            assert_eq!(hear(&mut channel).await, Message::Ready);
            channel.push(&Message::Commit, vec![]).unwrap();
            assert_eq!(hear(&mut channel).await, Message::Owned);
            channel.push(&Message::Refuse { why: "too late".into() }, vec![]).unwrap();
            channel
        };
        let (_channel, ended) = future::zip(incumbent, async {
            while !path.exists() {
                future::yield_now().await;
            }
            start(&executor, mine).end().await
        })
        .await;
        let cause = ended.unwrap_err();
        assert_eq!(cause.exit, Exit::TryAgain);
        assert!(cause.why.contains("too late"), "{cause}");
        // The files are the incumbent's to restore, so it leaves them.
        assert!(directory.join("river.pid").exists());
    });
}

#[test]
fn a_thousand_listeners_pass_in_batches() {
    in_directory(|directory, executor| async move {
        let listeners = || (0..1000).map(|nth| listener("127.0.0.1:0", nth)).collect::<Vec<_>>();
        crate::system::raise_descriptor_limit();
        let old = start(&executor, settings(&directory, false, listeners()));
        old.until("accepting", |state| state.accepting).await;
        let new = start(&executor, settings(&directory, true, listeners()));
        let deadline = Instant::now() + Duration::from_secs(10);
        while !new.path.state().accepting {
            assert!(Instant::now() < deadline);
            old.signal(Signal::Quit);
            Timer::after(Duration::from_millis(5)).await;
        }
        assert_eq!(new.path.state().listeners.len(), 1000);
        old.end().await.unwrap();
    });
}
