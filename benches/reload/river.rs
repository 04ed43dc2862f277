//! The River processes of a run, one generation after another.

use std::fs;
use std::io::{BufRead, BufReader};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::Outcome;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::process::{Pid, Signal, kill_process};

/// What every step of the hand-over is given.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long an old instance may drain.
pub(crate) const DRAIN: Duration = Duration::from_secs(10);
/// How long it can take the service back. It stays so long, whatever it has to do.
pub(crate) const GUARD: Duration = Duration::from_millis(100);
/// The state that the waiting instance says it has entered.
const WAITS: &str = "AwaitingHandoff";
const PIDFILE: &str = "river.pid";

/// A directory with River's configuration, and the watch on its pidfile.
pub(crate) struct Site {
    river: PathBuf,
    directory: PathBuf,
    pidfile: Watch,
    leash: Leash,
}

impl Site {
    pub(crate) fn new(
        river: PathBuf,
        directory: &Path,
        address: SocketAddr,
        origin: SocketAddr,
        more_listeners: usize,
    ) -> Outcome<Self> {
        let drain = DRAIN.as_secs();
        let more = "(bind: \"127.0.0.1:0\"), ".repeat(more_listeners);
        let guard = GUARD.as_millis();
        let config = format!(
            r#"(
    system: (
        pid_file: "{PIDFILE}",
        upgrade_socket: "upgrade.sock",
        drain_timeout: "{drain}s",
        handoff: (guard: "{guard}ms"),
    ),
    services: {{
        "bench": (
            listeners: [(bind: "{address}"), {more}],
            connectors: (servers: [(addr: "{origin}")]),
        ),
    }},
)
"#
        );
        fs::write(directory.join("river.ron"), config)?;
        let pidfile = Watch::new(directory)?;
        Ok(Self { river, directory: directory.to_owned(), pidfile, leash: Leash::new()? })
    }

    /// Starts the first instance and waits until it serves.
    pub(crate) fn start(&mut self) -> Outcome<Instance> {
        let instance = self.spawn(&[])?;
        self.wait_for_owner(&instance)?;
        Ok(instance)
    }

    /// Starts a successor and waits until it waits for the hand-over.
    pub(crate) fn start_successor(&mut self) -> Outcome<Instance> {
        let instance = self.spawn(&["--upgrade"])?;
        instance.wait_for_line(WAITS)?;
        Ok(instance)
    }

    /// Makes `old` hand over to `new`. Returns when SIGQUIT was sent and when the pidfile was `new`'s,
    /// which is what an instance does as it becomes the owner.
    pub(crate) fn hand_over(&mut self, old: &Instance, new: &Instance) -> Outcome<(Instant, Instant)> {
        let begin = Instant::now();
        old.signal(Signal::QUIT)?;
        let end = self.wait_for_owner(new).map_err(|error| format!("{error}\n{}", old.last_words()))?;
        Ok((begin, end))
    }

    fn spawn(&self, arguments: &[&str]) -> Outcome<Instance> {
        let mut command = Command::new(&self.river);
        command.args(["--config", "river.ron"]).args(arguments).current_dir(&self.directory);
        Instance::spawn(self.leash.hold(&mut command))
    }

    fn wait_for_owner(&mut self, instance: &Instance) -> Outcome<Instant> {
        let deadline = Instant::now() + PATIENCE;
        let wanted = instance.child.id().to_string();
        loop {
            let at = Instant::now();
            let found = fs::read_to_string(self.directory.join(PIDFILE)).unwrap_or_default();
            if found.trim() == wanted {
                return Ok(at);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || instance.has_ended() {
                return Err(format!("instance {wanted} did not take over\n{}", instance.last_words()).into());
            }
            self.pidfile.wait(left.min(Duration::from_millis(100)))?;
        }
    }
}

/// A running River. Dropped, it is killed.
pub(crate) struct Instance {
    child: Child,
    lines: Receiver<String>,
    /// Ends when the process has closed its standard error, with the moment it did so and how many connections it
    /// said it had moved.
    reader: Option<JoinHandle<(Instant, u64)>>,
}

impl Instance {
    fn spawn(command: &mut Command) -> Outcome<Self> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let stderr = child.stderr.take().ok_or("no standard error")?;
        let (send, lines) = mpsc::sync_channel(256);
        let reader = thread::spawn(move || {
            let moved = read_lines(BufReader::new(stderr), &send);
            (Instant::now(), moved)
        });
        Ok(Self { child, lines, reader: Some(reader) })
    }

    pub(crate) fn signal(&self, signal: Signal) -> Outcome<()> {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.reader.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits for the end of a process that was told to end; returns when it came, and how many connections the process
    /// has moved.
    pub(crate) fn wait(mut self, patience: Duration) -> Outcome<(Instant, u64)> {
        let deadline = Instant::now() + patience;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => return Err("an old instance did not exit".into()),
            }
        }
        let reader = self.reader.take().ok_or("waited for twice")?;
        let end = reader.join().map_err(|_| "the reader of the log panicked")?;
        let status = self.child.wait()?;
        if !status.success() {
            return Err(format!("an instance ended with {status}").into());
        }
        Ok(end)
    }

    fn wait_for_line(&self, part: &str) -> Outcome<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = String::new();
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) if line.contains(part) => return Ok(()),
                Ok(line) => seen = seen + &line + "\n",
                Err(error) => return Err(format!("no line with `{part}` ({error}), but:\n{seen}").into()),
            }
        }
    }

    /// What the process printed and nobody has read yet.
    pub(crate) fn last_words(&self) -> String {
        let lines: Vec<String> = self.lines.try_iter().collect();
        format!("instance {} printed:\n{}", self.child.id(), lines.join("\n"))
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if self.reader.is_some() {
            // Either fails only where the process is gone already.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// A process group that is killed when this program ends, however that ends.
///
/// Its leader waits for the end of a pipe. `setpriv --pdeathsig` would do, but each start of River would be the start of
/// two programs then, while the clients look.
struct Leash(Child);

impl Leash {
    fn new() -> Outcome<Self> {
        let mut command = Command::new("sh");
        command.args(["-c", "read -r _; kill -KILL 0"]).stdin(Stdio::piped()).process_group(0);
        Ok(Self(command.spawn()?))
    }

    /// The command's process will be one of the group.
    fn hold<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.process_group(self.0.id().cast_signed())
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        // It ends with its group.
        let _ = self.0.wait();
    }
}

/// Reads to the end whatever happens to the receiver, so that River never waits for us to read its log. Returns the
/// number of connections that the log says have moved.
fn read_lines(reader: impl BufRead, lines: &SyncSender<String>) -> u64 {
    let mut moved = 0;
    for line in reader.lines().map_while(Result::ok) {
        if let Some((_, number)) = line.split_once("moved=") {
            moved = number.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(moved);
        }
        match lines.try_send(line) {
            Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
        }
    }
    moved
}

/// Wakes when a file is renamed into a directory.
struct Watch(OwnedFd);

impl Watch {
    fn new(directory: &Path) -> Outcome<Self> {
        let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        inotify::add_watch(&watch, directory, WatchFlags::MOVED_TO)?;
        Ok(Self(watch))
    }

    /// Waits for a rename or the time-out, and takes note of all renames until now.
    fn wait(&mut self, timeout: Duration) -> Outcome<()> {
        let timeout = Timespec::try_from(timeout)?;
        if poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&timeout))? > 0 {
            let mut buffer = [MaybeUninit::uninit(); 4096];
            let mut events = inotify::Reader::new(&self.0, &mut buffer);
            while events.next().is_ok() {}
        }
        Ok(())
    }
}
