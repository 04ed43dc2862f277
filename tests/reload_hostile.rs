//! Hostile and broken processes at the upgrade socket of an instance in service, and at its path: each is refused and
//! logged, the service is as before, and the place of the one that may wait is free again.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::env;
use std::fs::{self, Permissions};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use rustix::io::Errno;
use rustix::process::geteuid;
use support::peer::{Desk, Peer};
use support::*;

/// A user that is neither root nor, as it has no name on most systems, anybody else (`nobody` where it has).
const STRANGER: u32 = 65534;

/// What the process that plays the stranger is told: the upgrade socket, and whether it connects there or listens.
const SOCKET: &str = "STRANGER_UPGRADE_SOCKET";
const LISTENS: &str = "STRANGER_LISTENS";

/// Not a test: another user's process, started by [`stranger`].
#[test]
#[ignore = "played by other tests as a process of another user"]
fn a_stranger() {
    let Some(path) = env::var_os(SOCKET).map(PathBuf::from) else { return };
    if env::var_os(LISTENS).is_some() {
        let desk = Desk::open(&path);
        fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        say("listening");
        let heard = desk.accept().receive();
        say(&format!("heard {:?}", heard.map(|message| message.text)));
        return;
    }
    match Peer::try_connect(&path) {
        Err(error) => say(&format!("cannot connect: {error:?}")),
        Ok(peer) => {
            // The connection may be closed already.
            let _ = peer.try_send_raw(b"river-handoff/1\nHello(versions:[2,1],pid:1,build:\"a thief\")", &[]);
            say(&format!("heard {:?}", peer.receive().map(|message| message.text)));
        }
    }
}

fn say(text: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "{text}").and_then(|()| out.flush()).unwrap();
}

/// Starts this program as another user's process in `dir`, which is opened to that user. `None` where this process
/// may not do that, which the test says.
#[track_caller]
fn stranger(dir: &Dir, listens: bool) -> Option<Process> {
    if !geteuid().is_root() {
        tools::lacks("to be root, to start a process of another user");
        return None;
    }
    fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).unwrap();
    // Where this program lies, the other user may not go. Another process copies it, for a file that this one has open
    // to be written is open in the children of other tests for a moment too, and cannot be run then.
    let program = dir.join("stranger");
    let copied = Command::new("cp").arg(env::current_exe().unwrap()).arg(&program).status().unwrap();
    assert!(copied.success());
    let mut command = Command::new(&program);
    command.args(["--exact", "a_stranger", "--ignored", "--nocapture"]);
    command.env(SOCKET, dir.upgrade_socket()).current_dir(dir.path()).uid(STRANGER).gid(STRANGER);
    if listens {
        command.env(LISTENS, "1");
    }
    Some(Process::start("the stranger", &mut command))
}

/// Waits for what the stranger has to say that begins with one of `words`.
#[track_caller]
fn hear(process: &Process, words: &[&str]) -> String {
    let find = |line: &support::log::Line| words.iter().any(|word| line.text.starts_with(word));
    process.log().wait_for("the stranger's words", PATIENCE, |lines| {
        lines.iter().find(|line| find(line)).map(|line| line.text.clone())
    })
}

/// An instance in service with load on it.
struct Besieged {
    river: Running,
    _origin: Origin,
    loads: [Load; 2],
}

impl Besieged {
    fn start() -> Self {
        Self::start_after("true")
    }

    /// As [`Besieged::start`], by a shell that runs `prelude` before it becomes River.
    fn start_after(prelude: &str) -> Self {
        let origin = Origin::builder().forgetful().start();
        let config = Config::proxy(&origin).handoff("ready_timeout: \"1s\", guard: \"0s\"");
        let river = River::with_config(config).after(prelude).serve();
        let plans = [Load::keep_alive(4, Pacing::Hammer), Load::per_request(2, Pacing::Hammer)];
        let loads = plans.map(|plan| plan.start(river.web()));
        loads.iter().for_each(|load| load.wait_for(20, PATIENCE));
        Self { river, _origin: origin, loads }
    }

    /// A connection to its upgrade socket.
    fn peer(&self) -> Peer {
        Peer::connect(&self.river.dir().upgrade_socket())
    }

    /// It never left the service, lost no request, and hands over as ever.
    #[track_caller]
    fn expect_unharmed(self) {
        let Self { river, loads, _origin } = self;
        loads.iter().for_each(|load| load.wait_for(50, PATIENCE));
        assert_eq!(river.states(), ["Serving"]);
        assert_eq!(river.dir().pid(), Some(river.pid()));
        let _new = upgrade(&river);
        loads.iter().for_each(|load| load.wait_for(50, PATIENCE));
        for load in loads {
            load.stop().expect_none_lost();
        }
        assert!(river.wait_exit(PATIENCE).success());
    }
}

#[test]
fn row_05_another_user_cannot_connect_and_is_refused_where_he_can() {
    let besieged = Besieged::start();
    let river = &besieged.river;
    let Some(shut_out) = stranger(river.dir(), false) else { return };
    assert_eq!(hear(&shut_out, &["cannot connect", "heard"]), format!("cannot connect: {:?}", Errno::ACCESS));
    assert!(shut_out.wait_exit(PATIENCE).success());
    // Somebody opened the socket to all.
    let path = river.dir().upgrade_socket();
    fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
    let let_in = stranger(river.dir(), false).unwrap();
    assert_eq!(hear(&let_in, &["cannot connect", "heard"]), "heard None");
    let line = river.wait_for_line("a connection to the upgrade socket is refused", PATIENCE).text;
    assert!(line.contains(&format!("user {STRANGER}")) && line.contains(&let_in.pid().to_string()), "{line}");
    besieged.expect_unharmed();
}

#[test]
fn row_05_an_incumbent_of_another_user_is_told_nothing() {
    for upgrade in [false, true] {
        let dir = Dir::new();
        let Some(other) = stranger(&dir, true) else { return };
        hear(&other, &["listening"]);
        let inode = dir.upgrade_socket().metadata().unwrap().ino();
        let river = River::in_dir(dir.clone()).config(Config::respond("here"));
        let river = if upgrade { river.upgrade() } else { river }.start();
        assert_eq!(river.wait_exit(PATIENCE).code(), Some(69));
        river.wait_for_line(&format!("pid {} runs as user {STRANGER}", other.pid()), PATIENCE);
        assert_eq!(hear(&other, &["heard"]), "heard None");
        assert_eq!(dir.upgrade_socket().metadata().unwrap().ino(), inode);
        assert!(!dir.pidfile().exists());
    }
}

#[test]
fn row_05_what_is_no_message_is_refused_and_logged() {
    let magic = "river-handoff/1\n";
    let text = |text: &str| format!("{magic}{text}").into_bytes();
    let datagrams = [
        b"\0".to_vec(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        magic.as_bytes().to_vec(),
        text("Hello"),
        text("Hello(versions:[2,1],pid:1,build:\"x\") Ready"),
        text("Ready"),
        text("Owned"),
        text("Commit"),
        text("Steady(as: \"she goes\")"),
        text("Welcome(version:2,pid:1,build:\"x\",generation:18446744073709551615)"),
        text(&"(".repeat(100_000)),
        text(&format!("Hello(versions:[{}2],pid:1,build:\"x\"", "1,".repeat(60_000))),
        text("Hello(versions:[2,1],pid:1,build:\"\\u{110000}\")"),
        vec![0xff; 128 << 10],
        // More than any message has.
        vec![b'x'; 130 << 10],
    ];
    let besieged = Besieged::start();
    for datagram in datagrams {
        let mark = besieged.river.mark();
        let peer = besieged.peer();
        peer.send_raw(&datagram, &[]);
        peer.expect_closed();
        besieged.river.wait_line_after(mark, "a connection to the upgrade socket is refused");
    }
    besieged.expect_unharmed();
}

#[test]
fn row_05_messages_out_of_order_free_the_place_and_are_logged() {
    let besieged = Besieged::start();
    let strays = ["Ready", "Owned", "Released", "Adopted(batch:0,unwanted:[])", "Waiting", "Probe"];
    for (nth, stray) in strays.into_iter().enumerate() {
        let mark = besieged.river.mark();
        let peer = Peer::hello(&besieged.river.dir().upgrade_socket(), "[2,1]");
        peer.wait();
        besieged.river.wait_line_after(mark, "waits to take over");
        peer.send(stray);
        peer.expect("Refuse");
        besieged.river.wait_line_after(mark, "does not wait to take over any more");
        assert_eq!(besieged.river.states().len(), 1, "after the {nth}th stray");
    }
    besieged.expect_unharmed();
}

#[test]
fn row_05_254_descriptors_are_refused_by_the_kernel_and_253_are_closed() {
    let river = River::with_config(Config::respond("here")).serve();
    let socket = river.dir().upgrade_socket();
    let hello = b"river-handoff/1\nHello(versions:[2,1],pid:1,build:\"x\")";
    let file = fs::File::open("/dev/null").unwrap();
    let before = river.fds();
    let peer = Peer::connect(&socket);
    assert_eq!(peer.try_send_raw(hello, &[file.as_fd(); 254]), Err(Errno::INVAL));
    peer.send_raw(hello, &[file.as_fd(); 253]);
    peer.wait();
    river.wait_for_line("waits to take over", PATIENCE);
    assert!(!river.fds().iter().any(|fd| fd == "/dev/null" && !before.contains(fd)), "{:?}", river.fds());
    assert!(river.fds().len() < before.len() + 10, "{} descriptors", river.fds().len());
    drop(peer);
    river.wait_for_line("does not wait to take over any more", PATIENCE);
    until("the table of descriptors is as it was", PATIENCE, || river.fds() == before);
}

#[test]
fn row_05_descriptors_that_do_not_fit_its_table_are_refused() {
    // The kernel gives what fits, and says that the control data was truncated.
    let besieged = Besieged::start_after("ulimit -n 150");
    let file = fs::File::open("/dev/null").unwrap();
    let peer = besieged.peer();
    let hello = b"river-handoff/1\nHello(versions:[2,1],pid:1,build:\"x\")";
    peer.send_raw(hello, &[file.as_fd(); 253]);
    peer.expect_closed();
    besieged.river.wait_for_line("the kernel cut off descriptors of the message", PATIENCE);
    besieged.expect_unharmed();
}

#[test]
fn row_06_silent_connections_are_closed_in_time() {
    let besieged = Besieged::start();
    // One more than may introduce themselves at a time.
    let mut silent: Vec<Peer> = (0..8).map(|_| besieged.peer()).collect();
    besieged.peer().expect_closed();
    // It did not have to wait until the time of the others was over.
    assert!(!besieged.river.log().contains("said nothing in time"), "the ninth was not closed at once");
    besieged.river.wait_for_line("too many connections at the upgrade socket", PATIENCE);
    for peer in silent.drain(..) {
        assert!(peer.expect("Refuse").text.contains("said nothing in time"));
        peer.expect_closed();
    }
    besieged.river.wait_for_line("the other instance said nothing in time", PATIENCE);
    besieged.expect_unharmed();
}

#[test]
fn row_06_who_says_hello_and_nothing_more_loses_the_place() {
    let besieged = Besieged::start();
    let slow = Peer::hello(&besieged.river.dir().upgrade_socket(), "[2,1]");
    slow.expect_welcome();
    // It does not wait yet, so there is nobody to hand over to.
    besieged.river.signal(Signal::QUIT);
    besieged.river.wait_for_line("no instance waits to take over", PATIENCE);
    assert!(!besieged.river.log().contains("waits to take over; to start it"));
    assert!(slow.expect("Refuse").text.contains("timed out waiting for Waiting"));
    besieged.river.wait_for_line("does not wait to take over any more", PATIENCE);
    besieged.expect_unharmed();
}

#[test]
fn row_06_a_waiter_that_hangs_loses_the_place_when_another_comes() {
    let besieged = Besieged::start();
    let river = &besieged.river;
    let hanging = river.successor().named("the hanging successor").start();
    hanging.wait_state("AwaitingHandoff");
    hanging.pause();
    let mark = river.mark();
    let second = river.successor().named("second successor").start();
    assert_eq!(second.wait_exit(PATIENCE).code(), Some(75));
    second.wait_for_line(&format!("pid {} is waiting already", hanging.pid()), PATIENCE);
    let freed = river.wait_line_after(mark, "does not wait to take over any more").text;
    assert!(freed.contains(&hanging.pid().to_string()) && freed.contains("timed out"), "{freed}");
    let third = river.successor().named("third successor").start();
    third.wait_state("AwaitingHandoff");
    hanging.resume();
    assert_eq!(hanging.wait_exit(PATIENCE).code(), Some(75));
    hanging.wait_for_line("timed out waiting for Waiting", PATIENCE);
    assert!(third.alive());
    third.signal(Signal::TERM);
    assert!(third.wait_exit(PATIENCE).success());
    besieged.expect_unharmed();
}

#[test]
fn row_06_a_waiter_that_is_well_keeps_the_place_when_another_comes() {
    let besieged = Besieged::start();
    let river = &besieged.river;
    let first = river.successor().named("first successor").start();
    first.wait_state("AwaitingHandoff");
    for _ in 0..3 {
        let second = river.successor().named("second successor").start();
        assert_eq!(second.wait_exit(PATIENCE).code(), Some(75));
    }
    // Asked three times; one that had not answered would have lost its place by the end of this.
    let begin = std::time::Instant::now();
    until("the time to answer is over", PATIENCE, || begin.elapsed() > SOON * 3 / 2);
    assert!(first.alive() && !river.log().contains("does not wait to take over any more"));
    first.signal(Signal::TERM);
    assert!(first.wait_exit(PATIENCE).success());
    besieged.expect_unharmed();
}

#[test]
fn row_05_what_is_no_socket_at_the_path_is_neither_followed_nor_replaced() {
    let dir = Dir::new();
    let (path, elsewhere) = (dir.upgrade_socket(), dir.join("elsewhere"));
    fs::write(&elsewhere, "here to stay").unwrap();
    let obstacles: [&dyn Fn(); 4] = [
        &|| fs::create_dir(&path).unwrap(),
        &|| fs::write(&path, "a file").unwrap(),
        &|| symlink(&elsewhere, &path).unwrap(),
        &|| symlink(dir.join("nothing"), &path).unwrap(),
    ];
    for (nth, make) in obstacles.into_iter().enumerate() {
        make();
        let before = path.symlink_metadata().unwrap().ino();
        let cold = River::in_dir(dir.clone()).config(Config::respond("here")).start();
        assert_eq!(cold.wait_exit(PATIENCE).code(), Some(78), "obstacle {nth}");
        cold.wait_for_line("upgrade.sock", PATIENCE);
        let waits = River::in_dir(dir.clone()).upgrade().start();
        assert_eq!(waits.wait_exit(PATIENCE).code(), Some(78), "obstacle {nth}");
        assert_eq!(path.symlink_metadata().unwrap().ino(), before, "obstacle {nth}");
        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "here to stay");
        assert!(!dir.join("nothing").exists() && !dir.pidfile().exists());
        if path.symlink_metadata().unwrap().is_dir() {
            fs::remove_dir(&path)
        } else {
            fs::remove_file(&path)
        }
        .unwrap();
    }
}

#[test]
fn row_05_a_hand_over_to_a_path_that_is_blocked_fails_and_changes_nothing() {
    let origin = Origin::builder().forgetful().start();
    let river = River::with_config(Config::proxy(&origin)).serve();
    let path = river.dir().upgrade_socket();
    let load = Load::per_request(4, Pacing::Hammer).start(river.web());
    let aside = river.dir().join("aside");
    for (nth, is_link) in [false, true].into_iter().enumerate() {
        let successor = river.successor().start();
        successor.wait_state("AwaitingHandoff");
        fs::rename(&path, &aside).unwrap();
        if is_link {
            symlink(&aside, &path).unwrap()
        } else {
            fs::create_dir(&path).unwrap()
        }
        river.signal(Signal::QUIT);
        assert_eq!(successor.wait_exit(PATIENCE).code(), Some(73));
        river.wait_state_again("Serving", nth + 2);
        river.wait_for_line("the hand-over failed; this instance serves on", PATIENCE);
        assert_eq!(river.dir().pid(), Some(river.pid()));
        assert_eq!(path.symlink_metadata().unwrap().is_symlink(), is_link);
        // What blocks the path goes, and what stood there is put back.
        if is_link {
            fs::remove_file(&path).unwrap()
        } else {
            fs::remove_dir(&path).unwrap()
        }
        fs::rename(&aside, &path).unwrap();
        load.wait_for(50, PATIENCE);
    }
    let _new = upgrade(&river);
    load.wait_for(50, PATIENCE);
    load.stop().expect_none_lost();
    assert!(river.wait_exit(PATIENCE).success());
}
