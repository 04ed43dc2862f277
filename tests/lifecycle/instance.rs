//! An instance in a process of its own, and the directory that instances share.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use river::base::{Address, ListenerId};
use river::lifecycle::{DataPath, HandoffSettings, Settings, run};
use river::listen::ListenerSpec;
use river::system::{Listening, Signals};
use rustix::process::{Pid, Signal, kill_process};

const PATIENCE: Duration = Duration::from_secs(10);

/// Where instances meet.
pub(crate) struct Directory(tempfile::TempDir);

impl Directory {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn web(&self) -> PathBuf {
        self.0.path().join("web.sock")
    }

    pub(crate) fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.web()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// The pid of the instance that answers.
    pub(crate) fn ask(&self) -> u32 {
        let mut stream = self.connect();
        stream.write_all(b"?").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.trim().parse().unwrap()
    }

    pub(crate) fn pid_file(&self) -> Option<u32> {
        std::fs::read_to_string(self.0.path().join("river.pid")).ok().map(|text| text.trim().parse().unwrap())
    }

    pub(crate) fn entries(&self) -> Vec<String> {
        std::fs::read_dir(self.0.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    pub(crate) fn until(&self, what: &str, reached: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !reached() {
            assert!(Instant::now() < deadline, "never: {what}");
            std::thread::yield_now();
        }
    }

    /// Hands over by SIGQUIT once the new instance waits.
    pub(crate) fn hand_over(&self, old: &Instance, new: &Instance) {
        new.until_logged("to start it: kill -QUIT");
        old.kill(Signal::QUIT);
        old.until_logged("to=Draining");
        assert_eq!(self.pid_file(), Some(new.pid()));
    }

    pub(crate) fn watch_pid_file(&self) -> Watch {
        let (path, stop) = (self.0.path().join("river.pid"), Arc::new(AtomicBool::new(false)));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut looks = 0;
            while !stopped.load(Ordering::Relaxed) {
                let named = || -> i32 {
                    let text = std::fs::read_to_string(&path).expect("the pidfile is missing");
                    text.trim().parse().expect("the pidfile is not whole")
                };
                let pid = named();
                // A process that was named when the file was read may have ended since, but not if it still is.
                let lives = rustix::process::test_kill_process(Pid::from_raw(pid).unwrap()).is_ok();
                assert!(lives || named() != pid, "the pidfile names pid {pid}, which has ended");
                looks += 1;
                std::thread::yield_now();
            }
            looks
        });
        Watch { stop, thread }
    }
}

/// Somebody who reads the pidfile all the time.
pub(crate) struct Watch {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<usize>,
}

impl Watch {
    pub(crate) fn stop(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// The lines that were not waited for yet, and whether there will be more.
type Log = (Mutex<(Vec<String>, bool)>, Condvar);

/// A running instance; killed on drop.
pub(crate) struct Instance {
    child: Child,
    log: Arc<Log>,
}

impl Instance {
    pub(crate) fn start(directory: &Directory, how: &[&str]) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "instance::child", "--nocapture", "--include-ignored"]);
        Self::spawn(directory, how, command)
    }

    /// As a shell starts it that ignores these signals.
    pub(crate) fn start_ignoring(directory: &Directory, how: &[&str], signals: &str) -> Self {
        let mut command = Command::new("sh");
        let script =
            format!("trap '' {signals}; exec \"$0\" --exact instance::child --nocapture --include-ignored");
        command.args(["-c", &script]).arg(std::env::current_exe().unwrap());
        Self::spawn(directory, how, command)
    }

    fn spawn(directory: &Directory, how: &[&str], mut command: Command) -> Self {
        command.env("RIVER_TEST_DIRECTORY", directory.0.path()).env("RIVER_TEST_HOW", how.join(" "));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let log = Arc::new((Mutex::new((Vec::new(), false)), Condvar::new()));
        let shared = log.clone();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                shared.0.lock().unwrap().0.push(line);
                shared.1.notify_all();
            }
            shared.0.lock().unwrap().1 = true;
            shared.1.notify_all();
        });
        Self { child, log }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn kill(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub(crate) fn until_serving(&self) {
        self.until_logged("to=Serving");
    }

    /// How many descriptors the process has open.
    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// The same, once no connection of the hand-over is left: what remains are sockets that listen or wait for nobody.
    pub(crate) fn settled_descriptors(&self) -> usize {
        let deadline = Instant::now() + PATIENCE;
        let mut last = (self.descriptors(), Instant::now());
        while last.1.elapsed() < Duration::from_millis(100) {
            assert!(Instant::now() < deadline, "the descriptors never settle");
            let now = self.descriptors();
            if now != last.0 {
                last = (now, Instant::now());
            }
            std::thread::yield_now();
        }
        last.0
    }

    /// Waits for a line in the log that has not been waited for yet.
    pub(crate) fn until_logged(&self, what: &str) {
        let deadline = Instant::now() + PATIENCE;
        let mut lines = self.log.0.lock().unwrap();
        while !lines.0.iter().any(|line| line.contains(what)) {
            assert!(!lines.1, "the instance ended without saying {what:?}: {:#?}", lines.0);
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "the instance never says {what:?}: {:#?}", lines.0);
            lines = self.log.1.wait_timeout(lines, left).unwrap().0;
        }
        lines.0.retain(|line| !line.contains(what));
    }

    /// The exit code; `None` if a signal ended it.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(
                Instant::now() < deadline,
                "pid {} does not end: {:#?}",
                self.pid(),
                self.log.0.lock().unwrap().0
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Not a test: what the processes run.
#[test]
#[ignore = "runs in processes that the other tests start"]
fn child() {
    let Ok(directory) = std::env::var("RIVER_TEST_DIRECTORY") else { return };
    let how = std::env::var("RIVER_TEST_HOW").unwrap();
    let has = |word: &str| how.split(' ').any(|one| one == word);
    let signals = Signals::install().unwrap();
    tracing_subscriber::fmt().with_ansi(false).with_writer(std::io::stderr).init();
    let directory = PathBuf::from(directory);
    let address = Address::Unix(directory.join("web.sock"));
    let settings = Settings {
        upgrade: has("upgrade"),
        listeners: vec![ListenerSpec {
            id: ListenerId::fixed(&address),
            service: Arc::from("web"),
            address,
            mode: None,
        }],
        pid_file: Some(directory.join("river.pid")),
        upgrade_socket: Some(directory.join("upgrade.sock")),
        handoff: HandoffSettings::default(),
        drain_timeout: Duration::from_secs(30),
        command: "river --config test.ron".into(),
        build: "river test".into(),
    };
    let path = Answering { die_at_start: has("die-at-start"), ..Answering::default() };
    let code = match async_io::block_on(run(settings, signals, path)) {
        Ok(()) => 0,
        Err(cause) => {
            eprintln!("river: {cause}");
            cause.exit.code()
        }
    };
    // The harness would make its own exit code of it.
    #[expect(clippy::disallowed_methods, reason = "this is the main of a process")]
    std::process::exit(i32::from(code));
}

/// Workers that answer one byte with this process's pid, and close.
#[derive(Default)]
struct Answering {
    die_at_start: bool,
    listeners: Vec<UnixListener>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    accepting: AtomicBool,
    draining: AtomicBool,
    connections: AtomicUsize,
    waker: Mutex<Option<Waker>>,
}

impl Answering {
    fn accept_loop(&self) {
        for listener in &self.listeners {
            let (listener, shared) = (listener.try_clone().unwrap(), self.shared.clone());
            std::thread::spawn(move || {
                loop {
                    // One sweep after accepting has stopped.
                    let last = !shared.accepting.load(Ordering::SeqCst);
                    while let Ok((stream, _)) = listener.accept() {
                        answer(stream, shared.clone());
                    }
                    if last {
                        return;
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
            });
        }
    }
}

fn answer(mut stream: UnixStream, shared: Arc<Shared>) {
    shared.connections.fetch_add(1, Ordering::SeqCst);
    std::thread::spawn(move || {
        stream.set_nonblocking(false).unwrap();
        if stream.read(&mut [0]).is_ok_and(|count| count > 0) {
            let _ = write!(stream, "{}", std::process::id());
        }
        drop(stream);
        shared.connections.fetch_sub(1, Ordering::SeqCst);
        if let Some(waker) = shared.waker.lock().unwrap().take() {
            waker.wake();
        }
    });
}

impl DataPath for Answering {
    fn start(&mut self, listeners: Vec<Listening>) -> std::io::Result<()> {
        if self.die_at_start {
            kill_process(rustix::process::getpid(), Signal::KILL)?;
        }
        for one in listeners {
            self.listeners.push(UnixListener::from(one.fd.try_clone()?));
        }
        self.resume_accepting();
        Ok(())
    }

    fn stop_accepting(&mut self, _: &[ListenerId]) {
        self.shared.accepting.store(false, Ordering::SeqCst);
    }

    fn resume_accepting(&mut self) {
        self.shared.accepting.store(true, Ordering::SeqCst);
        self.accept_loop();
    }

    fn close_listeners(&mut self) {
        self.listeners.clear();
    }

    fn drain(&mut self) {
        self.shared.draining.store(true, Ordering::SeqCst);
    }

    fn undrain(&mut self) {
        self.shared.draining.store(false, Ordering::SeqCst);
    }

    fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        *self.shared.waker.lock().unwrap() = Some(cx.waker().clone());
        if self.connections() == 0 { Poll::Ready(()) } else { Poll::Pending }
    }

    fn close_all(&mut self) -> usize {
        self.connections()
    }

    fn stop(self) {}
}
