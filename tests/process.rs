//! The process as its parent sees it: what it inherits, its last words, its exit codes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs::OpenOptions;
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{env, fs, io, thread};

use nix::sys::signal::{SigSet, Signal as Number};
use rustix::fs::{CWD, Mode, OFlags, mkfifoat};
use support::log::Line;
use support::*;

/// For `open`: an error instead of waiting for the other end.
const NONBLOCK: i32 = OFlags::NONBLOCK.bits().cast_signed();

/// Starts `river` from a thread that has these signals blocked; a child inherits that.
fn start_blocking(signals: &[Number], river: River) -> Running {
    let blocked: SigSet = signals.iter().copied().collect();
    let start = move || {
        blocked.thread_block().unwrap();
        river.start()
    };
    thread::spawn(start).join().unwrap()
}

#[test]
fn signals_that_were_blocked_when_it_was_started_are_taken() {
    let all = [Number::SIGTERM, Number::SIGINT, Number::SIGQUIT, Number::SIGHUP, Number::SIGUSR1];
    for (signal, said) in
        [(Signal::HUP, "SIGHUP"), (Signal::USR1, "SIGUSR1"), (Signal::QUIT, "no instance waits")]
    {
        let river = start_blocking(&all, River::with_config(Config::respond("here")));
        // SIGHUP starts a successor.
        let _family = Family::of(river.dir());
        river.wait_serving();
        river.signal(signal);
        river.wait_for_line(said, PATIENCE);
        river.signal(Signal::TERM);
        assert!(river.wait_exit(SOON).success());
    }
    let river = start_blocking(&all, River::with_config(Config::respond("here")));
    river.wait_serving();
    river.signal(Signal::INT);
    assert!(river.wait_exit(SOON).success());
}

/// The median of how long seven runs take; one alone may have to wait for a busy machine.
fn median(mut run: impl FnMut() -> Duration) -> Duration {
    let mut times: Vec<Duration> = (0..7).map(|_| run()).collect();
    times.sort();
    times[3]
}

/// A configuration whose names nobody ever resolves: the resolver opens the file that `HOSTALIASES` names (hostname(7))
/// to look for a name without a dot, and here that is a FIFO without a writer. `None` where it does not do so.
fn unresolvable() -> Option<River> {
    let dir = Dir::new();
    let river = unresolved(&dir);
    let probe = river.clone().arg("--validate-configs").start();
    let reads = || OpenOptions::new().write(true).custom_flags(NONBLOCK).open(dir.join("aliases")).is_ok();
    while !reads() {
        if !probe.alive() {
            tools::lacks("a resolver that reads HOSTALIASES");
            return None;
        }
        thread::yield_now();
    }
    Some(river)
}

fn unresolved(dir: &Arc<Dir>) -> River {
    let fifo = dir.join("aliases");
    mkfifoat(CWD, &fifo, Mode::RUSR | Mode::WUSR).unwrap();
    let servers = "connectors: (servers: [(addr: \"one:80\"), (addr: \"two:80\"), (addr: \"three:80\")])";
    let config = Config::new().service("web", &["127.0.0.1:0"], servers);
    River::in_dir(dir.clone()).config(config).env("HOSTALIASES", fifo.to_str().unwrap())
}

#[test]
fn names_have_one_deadline_for_all_of_them() {
    let Some(river) = unresolvable() else { return };
    let begin = Instant::now();
    let river = river.arg("--validate-configs").start();
    assert_eq!(river.wait_exit(PATIENCE).code(), Some(78));
    let took = begin.elapsed();
    assert!(took > Duration::from_secs(4), "they were not slow: {took:?}");
    assert!(took < Duration::from_secs(9), "one after another: {took:?}");
    for name in ["one", "two", "three"] {
        let error = format!("cannot resolve \"{name}\": the name was not resolved within 5 seconds");
        river.wait_for_line(&error, PATIENCE);
    }
}

#[test]
fn signals_are_obeyed_while_names_are_resolved() {
    let Some(river) = unresolvable() else { return };
    for (signal, name) in [(Signal::TERM, "SIGTERM"), (Signal::INT, "SIGINT")] {
        for (args, code) in [(&["--upgrade"][..], 0), (&[], 0), (&["--validate-configs"], 75)] {
            let took = median(|| {
                let river = args.iter().fold(river.clone(), |river, arg| river.arg(arg)).start();
                // The handlers are there before anything that can last.
                river.wait_catches(&[Signal::TERM, Signal::INT, Signal::QUIT, Signal::HUP], SOON);
                river.signal(Signal::HUP);
                river.signal(Signal::QUIT);
                let begin = Instant::now();
                river.signal(signal);
                assert_eq!(river.wait_exit(SOON).code(), Some(code));
                river.wait_for_line(&format!("{name} came before"), PATIENCE);
                begin.elapsed()
            });
            assert!(took < Duration::from_millis(100), "{name} took {took:?} with {args:?}");
        }
    }
}

#[test]
fn signals_of_the_first_milliseconds_that_do_not_end_it_are_kept() {
    for _ in 0..10 {
        let river = River::with_config(Config::respond("here")).start();
        let _family = Family::of(river.dir());
        river.wait_catches(&[Signal::QUIT, Signal::HUP], PATIENCE);
        river.signal(Signal::QUIT);
        river.signal(Signal::HUP);
        river.wait_for_line("no instance waits", PATIENCE);
        river.wait_for_line("SIGHUP", PATIENCE);
        river.wait_serving();
    }
}

#[test]
fn a_configuration_that_is_no_regular_file_is_refused_at_once() {
    let dir = Dir::new();
    let fifo = dir.join("fifo");
    mkfifoat(CWD, &fifo, Mode::RUSR | Mode::WUSR).unwrap();
    let socket = dir.join("socket");
    let _bound = UnixListener::bind(&socket).unwrap();
    let cases = [
        (fifo.as_path(), "a pipe (FIFO)"),
        (socket.as_path(), "a socket"),
        (dir.path(), "a directory"),
        (Path::new("/dev/zero"), "a device"),
    ];
    for (path, what) in cases {
        for validate in [false, true] {
            let river = River::in_dir(dir.clone()).without_config().arg("--config").arg(path);
            let river = if validate { river.arg("--validate-configs") } else { river }.start();
            assert_eq!(river.wait_exit(SOON).code(), Some(78), "{what}");
            let error = format!("{}: this is {what}; a configuration is a regular file", path.display());
            river.wait_for_line(&error, PATIENCE);
        }
    }
}

#[test]
fn the_exit_code_says_how_it_ended() {
    let serving = || River::with_config(Config::respond("here"));
    let code = |river: River| {
        let river = river.start();
        let code = river.wait_exit(PATIENCE).code();
        // The last line on standard error says why, but where it did what it was asked to do.
        (code, river.log().lines().iter().rfind(|line| !line.stdout).map(|line| line.text.clone()))
    };
    let expect = |river: River, expected: i32, last: &str| {
        let (code, said) = code(river);
        assert_eq!(code, Some(expected), "{said:?}");
        assert!(said.as_ref().is_some_and(|said| said.contains(last)), "{expected}: {said:?}");
    };
    for signal in [Signal::TERM, Signal::INT] {
        let river = serving().serve();
        river.signal(signal);
        assert_eq!(river.wait_exit(PATIENCE).code(), Some(0));
    }
    for flag in ["--help", "--version", "--validate-configs"] {
        assert_eq!(code(serving().arg(flag)), (Some(0), None), "{flag}");
    }
    let old = serving().serve();
    let new = upgrade(&old);
    assert_eq!(old.wait_exit(PATIENCE).code(), Some(0));

    expect(serving().arg("--no-such-flag"), 64, "river: unknown argument");
    expect(serving().env("RIVER_WORKERS", "many"), 64, "river: RIVER_WORKERS is \"many\"");
    expect(serving().without_config(), 64, "river: no configuration");

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let bind = taken.local_addr().unwrap().to_string();
    let config = Config::new().service("web", &[&bind], &support::config::respond("here"));
    expect(River::with_config(config), 69, &bind);
    expect(serving().upgrade(), 69, "river: no instance is in service");
    let another = format!("river: another instance (pid {}) is in service", new.pid());
    expect(River::in_dir(new.dir().clone()), 69, &another);

    // A directory in which nobody can make a file, not even root.
    expect(serving().arg("--pidfile").arg("/proc/river.pid"), 73, "/proc/river.pid");

    let waiting = new.successor().start();
    waiting.wait_state("AwaitingHandoff");
    let already = format!("pid {} is waiting already", waiting.pid());
    expect(new.successor(), 75, &already);

    expect(River::with_config("(services: {})"), 78, "1 error");
    expect(River::with_config("(services: {})").arg("--validate-configs"), 78, "1 error");
    expect(serving().arg("--pidfile").arg("/no/such/directory/pid"), 78, "1 error");
}

#[test]
fn that_a_pidfile_is_replaced_is_said_where_it_is() {
    const SAID: &str = "the pidfile held the pid of another living instance";
    let (origin, gate) = Origin::gated(|_| true, |_, reply| reply.respond(200, &[], b"plain"));
    let old = River::with_config(Config::proxy(&origin)).serve();
    let beside = River::in_dir(old.dir().clone()).start();
    assert_eq!(beside.wait_exit(PATIENCE).code(), Some(69));
    beside.log().wait_end(PATIENCE);
    assert!(beside.log().contains("to take over from it, use --upgrade"), "{}", beside.log().text());
    assert!(!beside.log().contains("pidfile"), "{}", beside.log().text());

    let mut conn = Conn::open(old.web());
    conn.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    origin.wait_requests(1, PATIENCE);
    old.signal(Signal::TERM);
    old.wait_state("Draining");
    let next = River::in_dir(old.dir().clone()).serve();
    let line = next.wait_for_line(SAID, PATIENCE).text;
    assert!(line.contains(&format!("pid={}", old.pid())), "{line}");
    assert_eq!(old.dir().pid(), Some(next.pid()));
    gate.open();
    conn.read_response("GET").expect_status(200);
}

#[test]
fn a_waiter_does_not_say_that_nobody_serves_where_the_service_is_taken_back() {
    let old = River::with_config(Config::respond("plain").handoff("guard: \"10s\"")).serve();
    let new = upgrade(&old);
    let waiting = new.successor().start();
    waiting.wait_state("AwaitingHandoff");
    new.signal(Signal::KILL);
    old.wait_state_again("Serving", 2);
    let line = old.wait_for_line("the successor died; this instance serves again", PATIENCE).text;
    assert!(line.contains(&format!(" successor={}", new.pid())), "{line}");
    assert_eq!(waiting.wait_exit(PATIENCE).code(), Some(69));
    let why = format!(
        "pid {} ended before it handed over; unless the instance before it takes the service back, nobody serves now",
        new.pid()
    );
    waiting.wait_for_line(&why, PATIENCE);
}

#[test]
fn the_commands_that_are_said_can_be_copied() {
    let dir = Dir::new();
    let odd = dir.join("it's odd");
    fs::create_dir(&odd).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_river"), odd.join("the river")).unwrap();
    let services = "services: {\"web\": (listeners: [(bind: \"127.0.0.1:0\")], respond: ())}";
    fs::write(odd.join("$a.ron"), format!("({services})")).unwrap();
    // Whatever is not in the file is given by a flag or a variable, and all paths are relative.
    let start = "cd \"it's odd\" && exec env RIVER_UPGRADE=false RIVER_PIDFILE=the.pid './the river' \
                 --config '$a.ron' --upgrade-socket 'up sock' --workers 1";
    let shell = |script: &str| {
        let mut command = Command::new("sh");
        Process::start("shell", command.arg("-c").arg(script).current_dir(dir.path()))
    };
    let says = |process: &Process, before: &str, after: &str| {
        let find = |lines: &[Line]| {
            lines
                .iter()
                .find_map(|line| Some(line.text.split_once(before)?.1.split_once(after)?.0.to_owned()))
        };
        process.log().wait_for(before, PATIENCE, find)
    };
    let serves = |process: &Process| {
        says(process, "to=Serving", "");
        until("the pidfile names it", PATIENCE, || {
            fs::read_to_string(odd.join("the.pid")).is_ok_and(|pid| pid.trim() == process.pid().to_string())
        });
    };
    let old = shell(start);
    serves(&old);
    old.signal(Signal::QUIT);
    let upgrade = says(&old, "to start one: ", "; then: ");

    // As in a shell in which the variable is still set.
    let new = shell(&format!("export RIVER_UPGRADE=true; exec env {upgrade}"));
    says(&new, "to=AwaitingHandoff", "");
    let cold = upgrade.trim_end_matches(" --upgrade");
    let third = shell(&format!("export RIVER_UPGRADE=true; exec env {cold}"));
    assert_eq!(third.wait_exit(PATIENCE).code(), Some(69), "it starts cold");
    old.signal(Signal::QUIT);
    serves(&new);
    assert!(old.wait_exit(PATIENCE).success());
    // The one worker of `--workers` is there, too.
    let threads = fs::read_dir(format!("/proc/{}/task", new.pid())).unwrap();
    let names = threads.map(|task| fs::read_to_string(task.unwrap().path().join("comm")).unwrap());
    assert_eq!(names.filter(|name| name.contains("worker")).count(), 1);
}

#[test]
fn an_unread_standard_error_does_not_delay_the_end_of_an_instance_that_serves() {
    for signal in [Signal::TERM, Signal::INT] {
        let took = median(|| {
            let (river, _unread) = River::with_config(Config::respond("here")).start_unread();
            until("the pidfile is there", PATIENCE, || river.dir().pid() == Some(river.pid()));
            let begin = Instant::now();
            river.signal(signal);
            assert!(river.wait_exit(SOON).success());
            begin.elapsed()
        });
        assert!(took < Duration::from_millis(100), "{signal:?} took {took:?}");
    }
}

#[test]
fn an_unread_standard_error_does_not_keep_a_process_with_last_words_alive() {
    let old = River::with_config(Config::respond("here")).serve();
    let first = old.successor().start();
    first.wait_state("AwaitingHandoff");
    // In the order: refused since one waits already; another is in service; an unknown flag; no configuration.
    let ends: [(River, i32); 4] = [
        (old.successor(), 75),
        (River::in_dir(old.dir().clone()), 69),
        (old.successor().arg("--no-such-flag"), 64),
        (River::with_config("(services: {})"), 78),
    ];
    for (river, code) in ends {
        let took = median(|| {
            let begin = Instant::now();
            let (refused, _unread) = river.clone().start_unread();
            assert_eq!(refused.wait_exit(PATIENCE).code(), Some(code));
            begin.elapsed()
        });
        assert!(took < Duration::from_millis(200), "{code}: it took {took:?} from start to end");
    }
}

#[test]
fn last_words_that_are_read_a_little_late_are_whole() {
    let last_words = || {
        let (river, mut unread) = River::with_config("(services: {})").arg("--bad").start_unread();
        let mut said = Vec::new();
        io::Read::read_to_end(&mut unread, &mut said).unwrap();
        assert_eq!(river.wait_exit(PATIENCE).code(), Some(64));
        String::from_utf8(said).unwrap()
    };
    // On a busy machine this test may itself be later than the end waits for.
    let whole = (0..20).any(|_| {
        let said = last_words();
        said.ends_with("river: unknown argument \"--bad\" (river --help lists all flags)\n")
    });
    assert!(whole);
}

#[test]
fn a_panic_does_not_block_where_standard_error_is_not_read() {
    let (unread, stderr) = support::proc::full_pipe();
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "--nocapture", "a_thread_panics_and_the_process_goes_on"]);
    let child = Process::start_unheard("panics", &mut command, stderr.into());
    assert!(child.wait_exit(PATIENCE).success());
    drop(unread);

    // Where it is read, the log has what was said and where.
    let child = Process::start("panics", &mut command);
    let said = |lines: &[Line]| lines.iter().find(|line| line.text.contains("panicked: on purpose")).cloned();
    let line = child.log().wait_for("the panic", PATIENCE, said).text;
    assert!(line.contains("ERROR") && line.contains("tests/process.rs:"), "{line}");
    assert!(child.wait_exit(PATIENCE).success());
}

#[test]
#[ignore = "started by a_panic_does_not_block_where_standard_error_is_not_read"]
fn a_thread_panics_and_the_process_goes_on() {
    let log = ::river::observe::start().unwrap();
    assert!(thread::spawn(|| panic!("on purpose")).join().is_err());
    log.end("");
}
