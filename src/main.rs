//! The `river` program.

#![forbid(unsafe_code)]

use std::env;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Arc;

use river::cli::{self, Exit, Failure, Request};
use river::config::{self, Plan};
use river::lifecycle::{self, HandoffSettings, Herald, Relaunch};
use river::listen::Fleet;
use river::observe;
use river::system::{self, Activation, Manager, Reporter, Signals};

fn main() -> ExitCode {
    // Before anything is opened, so that nothing of this process's own is taken for what was passed.
    let activation = Arc::new(Activation::take());
    // Before anything else: from here on no signal kills the process, and each is obeyed by whatever the process does then.
    let signals = Signals::install();
    let log = match observe::start() {
        Ok(log) => log,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "river: cannot start the log: {error}");
            return Exit::Software.into();
        }
    };
    let herald = Herald::new(Reporter::take(), Manager::from_environment());
    let ended = signals
        .map_err(|error| Failure::new(Exit::Software, &format!("cannot take signals: {error}")))
        .and_then(|signals| {
            let lived =
                catch_unwind(AssertUnwindSafe(|| smol::block_on(live(signals, herald.clone(), activation))));
            // The panic has been logged, with its place.
            lived.unwrap_or_else(|_| Err(Failure::new(Exit::Software, "ended by a mistake in River")))
        });
    let Failure { exit, text } = ended.err().unwrap_or(Failure { exit: Exit::Success, text: String::new() });
    let spoken_for = exit != Exit::Success && herald.failed(exit, &text);
    // What is queued is written before the last words.
    log.end(if spoken_for { "" } else { &text });
    exit.into()
}

/// Does what the command line asks for.
async fn live(mut signals: Signals, herald: Herald, activation: Arc<Activation>) -> Result<(), Failure> {
    // Where the working directory is gone, a relative path fails by itself, with its name.
    let directory = env::current_dir().unwrap_or_default();
    let mut arguments = env::args_os();
    let program = arguments.next();
    match cli::parse(arguments, |name| env::var_os(name), &directory)? {
        Request::Print(text) => signals.or_end(move || print(&text)).await?,
        Request::Validate { config, overrides } => {
            signals.or_end(move || cli::validate(&config, &overrides).map(|line| print(&line))).await??;
        }
        Request::Reload { config, overrides, timeout } => {
            let env = |name: &str| env::var_os(name);
            let cold = cli::command(program.clone(), env, &directory, &config, &overrides);
            let program = cli::program(program, env::var_os("PATH"), &directory);
            let order = cli::Reload { config, overrides, timeout, program, directory, cold };
            cli::reload(order, &mut signals).await?;
        }
        Request::Status { whereabouts, json } => {
            let status = cli::status(whereabouts, json, &mut signals).await?;
            signals.or_end(move || print(&status.text)).await?;
            status.failure.map_or(Ok(()), Err)?;
        }
        Request::Stop { whereabouts, timeout } => cli::stop(whereabouts, timeout, &mut signals).await?,
        Request::Run { config, upgrade, overrides } => {
            let path = cli::program(program.clone(), env::var_os("PATH"), &directory);
            let relaunch = Relaunch::new(path, env::args_os().skip(1), directory.clone());
            let command =
                cli::command(program.clone(), |name| env::var_os(name), &directory, &config, &overrides);
            match signals.or_end(move || config::load(&config, &overrides)).await {
                Ok(plan) => {
                    let plan = plan?;
                    if plan.system.daemonize && !herald.detach() {
                        if !activation.is_empty() {
                            tracing::warn!(
                                "a daemon does not get the sockets that the service manager passed; leave system.daemonize out"
                            );
                        }
                        let patience = plan.system.handoff.ready_timeout;
                        let arguments = env::args_os().skip(1);
                        return cli::daemonize(program, arguments, patience, &mut signals).await;
                    }
                    run(plan, upgrade, (command, relaunch), signals, herald, activation).await?;
                }
                Err(signal) => tracing::info!("{signal} came before the configuration was read"),
            }
        }
    }
    Ok(())
}

/// Runs an instance to its end.
async fn run(
    plan: Plan,
    upgrade: bool,
    (command, relaunch): (String, Relaunch),
    signals: Signals,
    herald: Herald,
    activation: Arc<Activation>,
) -> Result<(), lifecycle::Cause> {
    system::raise_descriptor_limit();
    let (file, sha256) = (&*plan.file, &*plan.sha256);
    tracing::info!(target: "river::config", file, sha256, "configuration read");
    for warning in plan.warnings() {
        tracing::warn!(target: "river::config", "{warning}");
    }
    let Plan { system, listeners, services, .. } = plan;
    let fleet = Fleet::new(system.workers, services, &listeners);
    let settings = lifecycle::Settings {
        upgrade,
        listeners,
        pid_file: system.pid_file,
        upgrade_socket: system.upgrade_socket,
        account: system.account,
        activation,
        handoff: HandoffSettings {
            ready_timeout: system.handoff.ready_timeout,
            guard: system.handoff.guard,
            max_draining: system.handoff.max_draining,
            move_connections: system.handoff.move_connections,
        },
        drain_timeout: system.drain_timeout,
        tunnel_drain_timeout: system.tunnel_drain_timeout,
        certificate_check: system.certificate_check,
        command,
        relaunch: Some(relaunch),
        build: format!("river {}", env!("CARGO_PKG_VERSION")),
        herald,
    };
    lifecycle::run(settings, signals, fleet).await
}

fn print(text: &str) {
    // A reader that has gone wants no more of it.
    let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
}
