//! What a process said, line by line, and the one place that knows what River's lines look like.

use std::fmt::Write;
use std::io::{BufRead, BufReader, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// One line of output.
#[derive(Clone, Debug)]
pub struct Line {
    /// When it was read.
    pub at: Instant,
    /// Whether it came on standard output (else on standard error).
    pub stdout: bool,
    /// The text, without colours and without its line feed.
    pub text: String,
}

impl Line {
    /// How long ago the process wrote it, by the time that the line itself gives.
    #[track_caller]
    pub fn age(&self) -> Duration {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        since(stamp(&self.text), Duration::new(now.as_secs() % DAY, now.subsec_nanos()))
    }
}

/// The time from one line to another, by the times that they give; they may be of two processes.
#[track_caller]
pub fn between(first: &Line, second: &Line) -> Duration {
    since(stamp(&first.text), stamp(&second.text))
}

const DAY: u64 = 86_400;

/// From one time of day to a later one, midnight or not.
fn since(from: Duration, to: Duration) -> Duration {
    if to >= from { to - from } else { to + Duration::from_secs(DAY) - from }
}

/// The time of day at which a line begins (`2026-01-01T00:00:00.000000Z`).
#[track_caller]
fn stamp(line: &str) -> Duration {
    let time = line.split_once('T').and_then(|(_, rest)| rest.split_once('Z'));
    let parts: Option<Vec<f64>> =
        time.and_then(|(time, _)| time.split(':').map(|part| part.parse().ok()).collect());
    match parts.as_deref() {
        Some([hours, minutes, seconds]) => Duration::from_secs_f64(hours * 3600.0 + minutes * 60.0 + seconds),
        _ => panic!("no time in {line:?}"),
    }
}

/// The output of a process, which threads collect while it runs.
#[derive(Debug)]
pub struct Log {
    name: String,
    begin: Instant,
    state: Mutex<State>,
    changed: Condvar,
    printed: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<Line>,
    ended: usize,
}

impl Log {
    /// Starts collecting what comes on the two streams.
    pub fn collect(
        name: &str,
        stdout: impl Read + Send + 'static,
        stderr: impl Read + Send + 'static,
    ) -> Arc<Self> {
        let log = Arc::new(Self {
            name: name.to_owned(),
            begin: Instant::now(),
            state: Mutex::default(),
            changed: Condvar::new(),
            printed: AtomicBool::new(false),
        });
        log.clone().follow(stdout, true);
        log.clone().follow(stderr, false);
        log
    }

    /// The lines so far.
    pub fn lines(&self) -> Vec<Line> {
        self.state.lock().unwrap().lines.clone()
    }

    /// The output so far as one text, each line with its time since the start.
    pub fn text(&self) -> String {
        let mut text = format!("--- {} said:\n", self.name);
        for line in self.lines() {
            let stream = if line.stdout { "out" } else { "err" };
            let _ = writeln!(text, "{:9.3}s {stream} {}", (line.at - self.begin).as_secs_f64(), line.text);
        }
        text.push_str("---");
        text
    }

    /// Whether some line so far contains `pattern`.
    pub fn contains(&self, pattern: &str) -> bool {
        self.state.lock().unwrap().lines.iter().any(|line| line.text.contains(pattern))
    }

    /// Waits for `find` to find something in the lines, and panics with `what` and the whole output when `deadline`
    /// passes first or the output ends.
    #[track_caller]
    pub fn wait_for<T>(&self, what: &str, deadline: Duration, find: impl Fn(&[Line]) -> Option<T>) -> T {
        let end = Instant::now() + deadline;
        let mut state = self.state.lock().unwrap();
        let why = loop {
            if let Some(found) = find(&state.lines) {
                return found;
            }
            let left = end.saturating_duration_since(Instant::now());
            if state.ended == 2 {
                break "its output ended".to_owned();
            } else if left.is_zero() {
                break format!("waited for {deadline:?}");
            }
            state = self.changed.wait_timeout(state, left).unwrap().0;
        };
        drop(state);
        self.printed.store(true, Ordering::SeqCst);
        panic!("{} did not say {what}: {why}\n{}", self.name, self.text());
    }

    /// Waits for both streams to end, as they do when the process did; not longer than `deadline`.
    pub fn wait_end(&self, deadline: Duration) {
        let state = self.state.lock().unwrap();
        drop(self.changed.wait_timeout_while(state, deadline, |state| state.ended < 2));
    }

    /// Prints the output, once in its life.
    pub fn print(&self) {
        if !self.printed.swap(true, Ordering::SeqCst) {
            eprintln!("{}", self.text());
        }
    }

    fn follow(self: Arc<Self>, stream: impl Read + Send + 'static, stdout: bool) {
        let run = move || {
            let mut stream = BufReader::new(stream);
            let mut bytes = Vec::new();
            while matches!(stream.read_until(b'\n', &mut bytes), Ok(1..)) {
                let text = plain(String::from_utf8_lossy(&bytes).trim_end());
                self.state.lock().unwrap().lines.push(Line { at: Instant::now(), stdout, text });
                self.changed.notify_all();
                bytes.clear();
            }
            self.state.lock().unwrap().ended += 1;
            self.changed.notify_all();
        };
        thread::Builder::new().name("log".into()).spawn(run).unwrap();
    }
}

/// The state that a lifecycle line says was entered (`INFO river::lifecycle: transition from=… to=Serving …`).
pub fn entered(line: &str) -> Option<String> {
    line.contains("river::lifecycle").then(|| field(line, "to")).flatten()
}

/// What a listener's line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listening {
    /// The service it feeds.
    pub service: String,
    /// Its identity (`127.0.0.1:0#web.0`).
    pub id: String,
    /// The address it is bound to.
    pub address: String,
    /// `fresh` or `inherited`.
    pub origin: String,
}

/// Parses `INFO river::listen: listening service=web id=127.0.0.1:0#web.0 address=127.0.0.1:43211 origin=fresh`.
pub fn listening(line: &str) -> Option<Listening> {
    if !line.contains("river::listen") || !line.contains(": listening ") {
        return None;
    }
    Some(Listening {
        service: field(line, "service")?,
        id: field(line, "id")?,
        address: field(line, "address")?,
        origin: field(line, "origin")?,
    })
}

/// The value of the field `key` of a structured log line; a value in quotes may hold spaces and `key=` of its own.
pub fn field(line: &str, key: &str) -> Option<String> {
    let mut rest = line;
    loop {
        rest = rest.trim_start();
        let end = rest.find([' ', '=']).filter(|end| rest[*end..].starts_with('='));
        let Some(end) = end else {
            // A word of the message, not a field.
            rest = rest.split_once(' ')?.1;
            continue;
        };
        let (name, after) = (&rest[..end], &rest[end + 1..]);
        let (value, left) = value(after);
        if name == key {
            return Some(value);
        }
        rest = left;
    }
}

fn value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(' ').unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

/// The text without terminal escape sequences.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character == '\x1b' {
            characters.by_ref().find(char::is_ascii_alphabetic);
        } else {
            plain.push(character);
        }
    }
    plain
}
