//! The `river` program.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use river::cli::{self, Exit, Request};
use river::{config, listen, observe, system};

fn main() -> ExitCode {
    let signals = system::Signals::install();
    let directory = std::env::current_dir().unwrap_or_default();
    let request = match cli::parse(std::env::args_os().skip(1), |name| std::env::var_os(name), &directory) {
        Ok(request) => request,
        Err(error) => {
            eprintln!("river: {error}");
            return Exit::Usage.into();
        }
    };
    let (path, upgrade, overrides) = match request {
        Request::Print(text) => {
            println!("{text}");
            return Exit::Success.into();
        }
        Request::Validate { config, overrides } => {
            return match cli::validate(&config, &overrides) {
                Ok(line) => {
                    println!("{line}");
                    Exit::Success.into()
                }
                Err(errors) => {
                    cli::report(&errors);
                    Exit::Config.into()
                }
            };
        }
        Request::Run { config, upgrade, overrides } => (config, upgrade, overrides),
    };
    let plan = match config::load(&path, &overrides) {
        Ok(plan) => plan,
        Err(errors) => {
            cli::report(&errors);
            return Exit::Config.into();
        }
    };
    let _log = observe::start();
    let mut signals = signals.unwrap();
    let _ = upgrade;
    let mut fleet = listen::Fleet::new(plan.system.workers, plan.services, &plan.listeners);
    let listeners = plan.listeners.iter().map(|l| system::Bound::bind(l.id.clone(), &l.address, l.mode).unwrap().listen().unwrap()).collect();
    fleet.start(listeners).unwrap();
    tracing::info!(target: "river::lifecycle", from="Booting", to="Serving", "transition");
    let _ = smol::block_on(signals.next());
    Exit::Success.into()
}
