//! The `river` program.

#![forbid(unsafe_code)]

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use river::cli::{self, Exit, Request};
use river::config::{self, Plan};
use river::lifecycle::{self, HandoffSettings};
use river::listen::Fleet;
use river::observe;
use river::system::{self, Signals};

fn main() -> ExitCode {
    // First of all: from here on no signal kills the process, and each is taken when the lifecycle is there to take it.
    let signals = match Signals::install() {
        Ok(signals) => signals,
        Err(error) => return complain(Exit::Software, &format!("cannot take signals: {error}")),
    };
    // Where the working directory is gone, a relative path fails by itself, with its name.
    let directory = std::env::current_dir().unwrap_or_default();
    match cli::parse(std::env::args_os().skip(1), |name| std::env::var_os(name), &directory) {
        Err(error) => complain(Exit::Usage, &error.to_string()),
        Ok(Request::Print(text)) => print(&text),
        Ok(Request::Validate { config, overrides }) => match cli::validate(&config, &overrides) {
            Ok(line) => print(&line),
            Err(errors) => {
                cli::report(&errors);
                Exit::Config.into()
            }
        },
        Ok(Request::Run { config, upgrade, overrides }) => match config::load(&config, &overrides) {
            Ok(plan) => run(&config, plan, upgrade, signals),
            Err(errors) => {
                cli::report(&errors);
                Exit::Config.into()
            }
        },
    }
}

/// Runs an instance to its end.
fn run(config: &Path, plan: Plan, upgrade: bool, signals: Signals) -> ExitCode {
    let log = match observe::start() {
        Ok(log) => log,
        Err(error) => return complain(Exit::Software, &format!("cannot start the log: {error}")),
    };
    system::raise_descriptor_limit();
    let Plan { system, listeners, services } = plan;
    let fleet = Fleet::new(system.workers, services, &listeners);
    let settings = lifecycle::Settings {
        upgrade,
        listeners,
        pid_file: system.pid_file,
        upgrade_socket: system.upgrade_socket,
        handoff: HandoffSettings { ready_timeout: system.handoff.ready_timeout, guard: system.handoff.guard },
        drain_timeout: system.drain_timeout,
        command: format!("river --config {}", config.display()),
        build: format!("river {}", env!("CARGO_PKG_VERSION")),
    };
    let ended = smol::block_on(lifecycle::run(settings, signals, fleet));
    // What is queued is written before the last word.
    drop(log);
    match ended {
        Ok(()) => Exit::Success.into(),
        Err(cause) => complain(cause.exit, &cause.to_string()),
    }
}

fn print(text: &str) -> ExitCode {
    // A reader that has gone wants no more of it.
    let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
    Exit::Success.into()
}

fn complain(exit: Exit, what: &str) -> ExitCode {
    // Where standard error is closed, the exit code has to do.
    let _ = writeln!(std::io::stderr(), "river: {what}");
    exit.into()
}
