//! The river under test: the real binary, started as an operator starts it.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::PipeReader;
use std::net::{SocketAddr, TcpListener};
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use super::config::{self, Config};
use super::log::{Line, Listening, entered, field, listening};
use super::proc::{Process, Signal, full_pipe};
use super::wait::PATIENCE;

/// What a service manager says to whoever runs the tests.
const MANAGED: [&str; 6] =
    ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"];

/// A directory that successive instances share; removed with the last of them.
#[derive(Debug)]
pub struct Dir(TempDir);

impl Dir {
    /// A new empty directory with a short path, as those of Unix sockets have to be.
    pub fn new() -> Arc<Self> {
        Arc::new(Self(tempfile::Builder::new().prefix("river-").tempdir().unwrap()))
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// A path in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// The pidfile that [`super::Config`] names.
    pub fn pidfile(&self) -> PathBuf {
        self.join("river.pid")
    }

    /// The upgrade socket that [`super::Config`] names.
    pub fn upgrade_socket(&self) -> PathBuf {
        self.join("upgrade.sock")
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.join("river.ron")
    }

    /// The process id in the pidfile; `None` where it is missing or holds none.
    pub fn pid(&self) -> Option<u32> {
        fs::read_to_string(self.pidfile()).ok()?.trim().parse().ok()
    }

    /// The names of what is in it, sorted.
    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

/// An instance to be started.
#[derive(Clone, Debug)]
#[must_use]
pub struct River {
    dir: Arc<Dir>,
    configured: bool,
    args: Vec<OsString>,
    environment: Vec<(String, String)>,
    working_directory: PathBuf,
    /// What `sh -c` runs before it becomes River.
    prelude: Option<String>,
    program: OsString,
    /// The name it is told that it was started by.
    called: Option<OsString>,
    name: String,
}

impl River {
    /// An instance with this configuration, in a directory of its own.
    pub fn with_config(text: impl Into<String>) -> Self {
        Self::in_dir(Dir::new()).config(text)
    }

    /// An instance in a directory that may hold a configuration already.
    pub fn in_dir(dir: Arc<Dir>) -> Self {
        Self {
            working_directory: dir.path().to_owned(),
            dir,
            configured: true,
            args: Vec::new(),
            environment: Vec::new(),
            prelude: None,
            program: env!("CARGO_BIN_EXE_river").into(),
            called: None,
            name: "river".into(),
        }
    }

    /// Writes the configuration file anew.
    pub fn config(self, text: impl Into<String>) -> Self {
        fs::write(self.dir.config(), text.into()).unwrap();
        self
    }

    /// With `--upgrade`: it waits for the running instance to hand over.
    pub fn upgrade(self) -> Self {
        self.arg("--upgrade")
    }

    /// Without `--config`, which it has otherwise.
    pub fn without_config(mut self) -> Self {
        self.configured = false;
        self
    }

    /// With one more argument.
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// With an environment variable.
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.environment.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Started in this working directory instead of its own.
    pub fn working_in(mut self, path: impl Into<PathBuf>) -> Self {
        self.working_directory = path.into();
        self
    }

    /// Started by a shell that runs `script` first, in the same process (`trap "" QUIT`).
    pub fn after(mut self, script: &str) -> Self {
        self.prelude = Some(script.to_owned());
        self
    }

    /// Started from this path, or by this name where it has no slash.
    pub fn program(mut self, path: impl Into<OsString>) -> Self {
        self.program = path.into();
        self
    }

    /// Told that it was started by this path, which is then what it starts others by.
    pub fn called(mut self, path: impl Into<OsString>) -> Self {
        self.called = Some(path.into());
        self
    }

    /// Under this name in the output of a failing test.
    pub fn named(mut self, name: &str) -> Self {
        self.name = name.to_owned();
        self
    }

    /// Where it runs.
    pub fn dir(&self) -> &Arc<Dir> {
        &self.dir
    }

    /// Starts it, and waits for nothing.
    pub fn start(self) -> Running {
        Running { process: Process::start(&self.name, &mut self.command()), dir: self.dir }
    }

    /// Starts it with a pipe for its standard error that is full, and stays so as long as the reader is kept.
    pub fn start_unread(self) -> (Running, PipeReader) {
        let (reader, writer) = full_pipe();
        let process = Process::start_unheard(&self.name, &mut self.command(), writer.into());
        (Running { process, dir: self.dir }, reader)
    }

    /// Starts it as a service manager does that opened one or two sockets for it (`LISTEN_FDS`), with the names given.
    pub fn start_activated(self, sockets: Vec<OwnedFd>, names: &str) -> Running {
        self.start_activated_as(sockets, names, "")
    }

    /// As [`River::start_activated`], with more variables that beat those (`LISTEN_FDS=9`).
    pub fn start_activated_as(mut self, sockets: Vec<OwnedFd>, names: &str, more: &str) -> Running {
        let count = sockets.len();
        assert!((1..=2).contains(&count), "two can be passed at most");
        let second = if count == 2 { "4>&1" } else { "" };
        self.prelude = Some(format!(
            "exec 3<&0 {second} 0</dev/null 1>/dev/null\n\
             export LISTEN_PID=$$ LISTEN_FDS={count} LISTEN_FDNAMES='{names}' {more}"
        ));
        let mut sockets = sockets.into_iter().map(Stdio::from);
        let streams = [sockets.next(), sockets.next(), Some(Stdio::piped())];
        let streams = streams.map(|stream| stream.unwrap_or_else(Stdio::null));
        Running { process: Process::start_with(&self.name, &mut self.command(), streams), dir: self.dir }
    }

    /// Starts it as another user, who runs a copy of the program, since where it is built may be closed to others.
    pub fn start_as(self, uid: u32, gid: u32) -> Running {
        let program = self.dir.join("river-copy");
        super::tools::put_program(&program, super::tools::river());
        let command = self.command();
        let mut other = Command::new(program);
        other.args(command.get_args()).current_dir(&self.working_directory).uid(uid).gid(gid);
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => other.env(key, value),
                None => other.env_remove(key),
            };
        }
        Running { process: Process::start(&self.name, &mut other), dir: self.dir }
    }

    fn command(&self) -> Command {
        let program = &self.program;
        let mut command = match &self.prelude {
            None => Command::new(program),
            Some(script) => {
                let mut command = Command::new("sh");
                command.arg("-c").arg(format!("{script}\nexec \"$0\" \"$@\"")).arg(program);
                command
            }
        };
        // The environment beats the file, so nothing may leak in from the one who runs the tests.
        for (key, _) in env::vars_os() {
            if key.to_string_lossy().starts_with("RIVER_")
                || key == "RUST_LOG"
                || MANAGED.iter().any(|name| key == *name)
            {
                command.env_remove(key);
            }
        }
        if let Some(name) = &self.called {
            command.arg0(name);
        }
        if self.configured {
            command.arg("--config").arg(self.dir.config());
        }
        command.args(&self.args).current_dir(&self.working_directory);
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        command
    }

    /// Starts it and waits until it serves.
    #[track_caller]
    pub fn serve(self) -> Running {
        let running = self.start();
        running.wait_serving();
        running
    }
}

/// An instance that was started; killed when dropped.
#[derive(Debug)]
pub struct Running {
    // Before the directory, so that the process is gone when its files are removed.
    process: Process,
    dir: Arc<Dir>,
}

impl Running {
    /// Where it runs.
    pub fn dir(&self) -> &Arc<Dir> {
        &self.dir
    }

    /// Waits for a line that contains `pattern`.
    #[track_caller]
    pub fn wait_for_line(&self, pattern: &str, deadline: Duration) -> Line {
        let find = |lines: &[Line]| lines.iter().find(|line| line.text.contains(pattern)).cloned();
        self.log().wait_for(&format!("{pattern:?}"), deadline, find)
    }

    /// Waits for the `nth` line that contains `pattern`, counted from 0.
    #[track_caller]
    pub fn wait_nth_line(&self, pattern: &str, nth: usize) -> Line {
        let find = |lines: &[Line]| lines.iter().filter(|line| line.text.contains(pattern)).nth(nth).cloned();
        self.log().wait_for(&format!("{pattern:?}, line {nth} of them"), PATIENCE, find)
    }

    /// What it says became of its connections: moved, finished, cut.
    #[track_caller]
    pub fn tally(&self) -> [u64; 3] {
        let line = self.wait_for_line("what became of the connections", PATIENCE).text;
        ["moved", "finished", "cut"].map(|name| field(&line, name).unwrap().parse().unwrap())
    }

    /// Waits until it has ended well, and checks what it says became of its connections: moved, finished, cut.
    #[track_caller]
    pub fn expect_exit_with(&self, tally: [u64; 3]) {
        assert!(self.wait_exit(PATIENCE).success());
        assert_eq!(self.tally(), tally);
    }

    /// How many lines it has said, for [`Running::wait_line_after`].
    pub fn mark(&self) -> usize {
        self.log().lines().len()
    }

    /// Waits for a line that contains `pattern`, in any case, after the first `mark` lines.
    #[track_caller]
    pub fn wait_line_after(&self, mark: usize, pattern: &str) -> Line {
        let wanted = pattern.to_lowercase();
        let find = |lines: &[Line]| {
            lines.iter().skip(mark).find(|line| line.text.to_lowercase().contains(&wanted)).cloned()
        };
        self.log().wait_for(&format!("{pattern:?} after line {mark}"), PATIENCE, find)
    }

    /// Waits for the lifecycle line that says it entered `state`.
    #[track_caller]
    pub fn wait_state(&self, state: &str) -> Line {
        self.wait_state_again(state, 1)
    }

    /// Waits until it has entered `state` for the `times`-th time.
    #[track_caller]
    pub fn wait_state_again(&self, state: &str, times: usize) -> Line {
        let find = |lines: &[Line]| {
            let mut found = lines.iter().filter(|line| entered(&line.text).as_deref() == Some(state));
            found.nth(times - 1).cloned()
        };
        self.log().wait_for(&format!("that it entered {state} ({times} times)"), PATIENCE, find)
    }

    /// Waits until it serves.
    #[track_caller]
    pub fn wait_serving(&self) -> Line {
        self.wait_state("Serving")
    }

    /// The states it entered so far, in order.
    pub fn states(&self) -> Vec<String> {
        self.log().lines().iter().filter_map(|line| entered(&line.text)).collect()
    }

    /// The `why` of the last lifecycle line that says it entered `state`.
    pub fn why(&self, state: &str) -> Option<String> {
        let lines = self.log().lines();
        let line = lines.iter().rev().find(|line| entered(&line.text).as_deref() == Some(state))?;
        field(&line.text, "why")
    }

    /// The listeners it said it has.
    pub fn listeners(&self) -> Vec<Listening> {
        self.log().lines().iter().filter_map(|line| listening(&line.text)).collect()
    }

    /// What it says of the listener `id`; waits for the line.
    #[track_caller]
    pub fn listener_named(&self, id: &str) -> Listening {
        let find = |lines: &[Line]| {
            lines.iter().filter_map(|line| listening(&line.text)).find(|found| found.id == id)
        };
        self.log().wait_for(&format!("where {id} is"), PATIENCE, find)
    }

    /// What it says of the `nth` listener of `service`, counted from 0; waits for the line.
    #[track_caller]
    pub fn listener(&self, service: &str, nth: usize) -> Listening {
        let suffix = format!("#{service}.{nth}");
        let find = |lines: &[Line]| {
            let of_service = |line: &Line| listening(&line.text).filter(|found| found.service == service);
            let found: Vec<Listening> = lines.iter().filter_map(of_service).collect();
            let exact = found.iter().find(|found| found.id.ends_with(&suffix));
            exact.or_else(|| found.get(nth).filter(|found| !found.id.contains('#'))).cloned()
        };
        self.log().wait_for(&format!("where listener {nth} of {service} is"), PATIENCE, find)
    }

    /// The address of the `nth` TCP listener of `service`, counted from 0; waits for the line.
    #[track_caller]
    pub fn address(&self, service: &str, nth: usize) -> SocketAddr {
        self.listener(service, nth).address.parse().unwrap()
    }

    /// The address of the first listener of the service `web`.
    #[track_caller]
    pub fn web(&self) -> SocketAddr {
        self.address("web", 0)
    }

    /// Writes a configuration for the next instance with one listener more, on an address that is in use: by the socket
    /// returned, at the address returned.
    pub fn configure_taken_address(&self) -> (TcpListener, String) {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let more = Config::respond("plain").service("more", &[&address], &config::respond("more"));
        fs::write(self.dir.config(), more.text()).unwrap();
        (taken, address)
    }

    /// The instance that is to follow it: same directory, same configuration, `--upgrade`.
    pub fn successor(&self) -> River {
        River::in_dir(self.dir.clone()).upgrade().named("successor")
    }
}

impl Deref for Running {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

/// Replaces `incumbent` by an instance with the same configuration, and returns that one once it serves. The
/// incumbent drains and exits by itself.
#[track_caller]
pub fn upgrade(incumbent: &Running) -> Running {
    upgrade_to(incumbent, incumbent.successor())
}

/// Replaces `incumbent` by `successor`, and returns that one once it serves.
#[track_caller]
pub fn upgrade_to(incumbent: &Running, successor: River) -> Running {
    let successor = successor.start();
    successor.wait_state("AwaitingHandoff");
    incumbent.signal(Signal::QUIT);
    successor.wait_serving();
    successor
}
