//! What River does with odd bytes, told by `varnishtest`: each script under `tests/vtc/` is one case, with a client
//! and a server of its own that share nothing with River, and says what either of them gets to see.
//!
//! One River serves all cases of a directory, each by a service that is named after its script and forwards to the
//! Unix socket `${origin}`, where the script's server listens. A script's clients connect to that service by default
//! (`${v1_sock}`). Lines that begin with `#river` are settings of the service (`#river via: "edge"`). To run one case
//! alone: `RIVER_VTC=te-cl cargo test --test vtc`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::BTreeSet;
use std::env;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use support::*;

/// How long a script may take, in which it waits for nothing but River: `varnishtest` ends it then, and says where it
/// was.
const DEADLINE: Duration = Duration::from_secs(20);

/// A script.
#[derive(Debug)]
struct Case {
    name: String,
    path: PathBuf,
    text: String,
}

impl Case {
    /// The cases of a directory under `tests/vtc/`, by name.
    fn all_in(directory: &str) -> Vec<Self> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vtc").join(directory);
        let mut cases: Vec<Self> = fs::read_dir(path)
            .unwrap()
            .map(|entry| {
                let path = entry.unwrap().path();
                assert_eq!(path.extension().unwrap(), "vtc", "{}", path.display());
                let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
                Self { name, text: fs::read_to_string(&path).unwrap(), path }
            })
            .collect();
        cases.sort_by(|one, other| one.name.cmp(&other.name));
        cases
    }

    /// The settings that it wants its service to have.
    fn settings(&self) -> String {
        let lines = self.text.lines().filter_map(|line| line.strip_prefix("#river "));
        lines.fold(String::new(), |mut settings, line| {
            let _ = write!(settings, ", {}", line.trim());
            settings
        })
    }

    /// Runs it; what `varnishtest` said where it failed.
    fn run(&self, river: &Running, nth: usize) -> Result<(), String> {
        let mut command = Command::new("varnishtest");
        command.arg("-t").arg(DEADLINE.as_secs().to_string());
        command.arg("-D").arg(format!("v1_sock={}", river.address(&self.name, 0)));
        command.arg("-D").arg(format!("origin={}", origin(river.dir(), nth).display()));
        command.arg(&self.path).env("TMPDIR", river.dir().path()).current_dir(river.dir().path());
        let process = Process::start(&self.name, &mut command);
        // It has a deadline of its own for the script; this is for one that does not keep it.
        let ended = process.ends_within(DEADLINE + Duration::from_secs(5));
        if ended && process.wait_exit(PATIENCE).success() {
            return Ok(());
        }
        let lines = process.log().lines().into_iter().map(|line| line.text);
        Err(format!("{}\n{}", self.path.display(), lines.collect::<Vec<_>>().join("\n")))
    }
}

/// Where the server of the `nth` case listens.
fn origin(dir: &Dir, nth: usize) -> PathBuf {
    dir.join(&format!("origin{nth}"))
}

/// Runs the cases of a directory against one River, whose listeners have these settings besides their address.
fn run_all(directory: &str, listener: &str) {
    if !tools::require("varnishtest") {
        return;
    }
    let wanted = env::var("RIVER_VTC").unwrap_or_default();
    let mut cases = Case::all_in(directory);
    cases.retain(|case| case.name.contains(&wanted));
    let dir = Dir::new();
    let mut config = Config::new().system("workers: 1");
    for (nth, case) in cases.iter().enumerate() {
        let server = Target::from(origin(&dir, nth).as_path());
        let listeners = format!("listeners: [(bind: \"127.0.0.1:0\"{listener})]");
        let service = format!("{listeners}, {}{}", config::connectors(&[server]), case.settings());
        config = config.service_text(&case.name, &service);
    }
    let river = River::in_dir(dir).config(config).serve();

    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    let workers = thread::available_parallelism().map_or(2, usize::from).min(8);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some((nth, case)) = {
                    let nth = next.fetch_add(1, Ordering::Relaxed);
                    cases.get(nth).map(|case| (nth, case))
                } {
                    if let Err(said) = case.run(&river, nth) {
                        failures.lock().unwrap().push((case.name.clone(), said));
                    }
                }
            });
        }
    });

    let failures = failures.into_inner().unwrap();
    for (name, said) in &failures {
        eprintln!("---- {name}: {said}");
        let service = format!("service={name:?}");
        for line in river.log().lines().iter().filter(|line| line.text.contains(&service)) {
            eprintln!("river: {}", line.text);
        }
    }
    let names: Vec<_> = failures.iter().map(|(name, _)| name).collect();
    if !names.is_empty() {
        // What it said of the cases that failed is printed; the rest would hide it.
        drop(river);
        panic!("{} of {} cases failed: {names:?}", names.len(), cases.len());
    }
    println!("{} cases of {directory} held", cases.len());
    // No case has brought River into disorder: no worker's task panicked, and it ends as it should.
    let panicked: Vec<_> =
        river.log().lines().into_iter().filter(|line| line.text.contains("panic")).collect();
    assert!(panicked.is_empty(), "{panicked:?}");
    river.signal(Signal::TERM);
    assert!(river.wait_exit(PATIENCE).success());
}

#[test]
fn http1_cases() {
    run_all("h1", "");
}

#[test]
fn http2_cases() {
    run_all("h2", ", offer_h2: true");
}

/// Every case has a name, a title that says what is expected and by which rule, and a server: whatever a case is
/// about, it says what reached the server, or that nothing did.
#[test]
fn every_case_says_what_reached_the_server() {
    let mut names = BTreeSet::new();
    for directory in ["h1", "h2"] {
        for case in Case::all_in(directory) {
            let name = &case.name;
            let title = case.text.lines().find_map(|line| line.strip_prefix("vtest "));
            let title = title.unwrap_or_else(|| panic!("{name} has no title"));
            assert!(title.contains("RFC "), "{name} does not name its rule: {title}");
            assert!(case.text.contains(" -listen \"${origin}\""), "{name} has no server");
            // A server that takes any number of connections at once ends only with the script, and fails it at once.
            let heard = case.text.contains("server s1 -wait") || case.text.contains("-dispatch");
            assert!(heard, "{name} does not hear of its server's failure");
            assert!(case.text.contains("expect req."), "{name} does not look at what its server gets");
            assert!(names.insert(name.clone()), "{name} is there twice");
        }
    }
    assert!(names.len() >= 120, "there are {} cases", names.len());
}
