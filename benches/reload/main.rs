//! Replaces River under load, a thousand times over, and counts what the clients noticed.
//!
//! `cargo bench --bench reload -- --upgrades 1000`. Everything runs on loopback and in a temporary directory.
//! It prints the losses of each class of clients, the latency of requests within 50 ms of a hand-over against all
//! others, the time from SIGQUIT until the successor owns the pidfile, and from there until the old process is
//! gone. It exits with 1 where a request was lost or a hand-over failed.

mod clients;
mod instance;
mod origin;
mod record;

use std::mem;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use argh::FromArgs;
use rustix::process::Signal;

use crate::clients::Pace;
use crate::instance::{DRAIN, Instance, Outcome, Site};
use crate::record::{Handovers, Histogram, Inbox, Latencies, Sample};

/// Replace River under load and count what its clients notice.
#[derive(FromArgs)]
struct Options {
    /// hand-overs (default 1000)
    #[argh(option, default = "1000")]
    upgrades: usize,
    /// milliseconds between a hand-over and the start of the next successor (default 250)
    #[argh(option, default = "250")]
    interval: u64,
    /// keep-alive clients without a pause (default 64)
    #[argh(option, default = "64")]
    hammer: usize,
    /// keep-alive clients that think for up to half a second (default 32)
    #[argh(option, default = "32")]
    think: usize,
    /// clients that open a connection per request (default 32)
    #[argh(option, default = "32")]
    fresh: usize,
    /// another River binary than the one built with this program
    #[argh(option)]
    river: Option<PathBuf>,
    /// passed by cargo; means nothing here
    #[argh(switch, hidden_help)]
    #[expect(dead_code, reason = "taken so that cargo's flag is not refused")]
    bench: bool,
}

/// The clients of one pace and what they saw.
struct Class {
    pace: Pace,
    count: usize,
    inbox: Arc<Inbox>,
    latencies: Latencies,
}

/// The instances that run, and what became of the hand-overs among them.
struct Upgrades {
    current: Instance,
    draining: Vec<(Instance, Instant)>,
    handovers: Handovers,
    done: usize,
    owned: Histogram,
    gone: Histogram,
    most_draining: usize,
}

fn main() -> ExitCode {
    match run(&argh::from_env()) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("reload: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns how many requests were lost.
fn run(options: &Options) -> Outcome<u64> {
    let directory = tempfile::Builder::new().prefix("river-reload-").tempdir()?;
    let river = match &options.river {
        Some(path) => path.canonicalize()?,
        None => PathBuf::from(env!("CARGO_BIN_EXE_river")),
    };
    // Free now, and nobody else is likely to be given it in the instant until River binds it.
    let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    let mut site = Site::new(river, directory.path(), address, origin::start()?)?;
    let first = site.start()?;

    let epoch = Instant::now();
    let stop = Arc::new(AtomicBool::new(false));
    let mut classes =
        [(Pace::Hammer, options.hammer), (Pace::Think, options.think), (Pace::Fresh, options.fresh)].map(
            |(pace, count)| Class { pace, count, inbox: Arc::default(), latencies: Latencies::default() },
        );
    let mut threads = Vec::new();
    for class in &classes {
        threads.extend(clients::start(class.pace, class.count, address, epoch, &class.inbox, &stop)?);
    }
    let mut upgrades = Upgrades::new(first);
    let outcome = upgrades.run(options, &mut site, epoch, &mut classes);
    stop.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().map_err(|_| "a client panicked")?;
    }
    for class in &mut classes {
        class.latencies.settle(&class.inbox, &upgrades.handovers, Duration::MAX);
    }
    print(options, &classes, &upgrades, epoch.elapsed());
    outcome.map_err(|error| format!("hand-over {}: {error}", upgrades.done + 1))?;
    upgrades.current.signal(Signal::TERM)?;
    upgrades.current.wait(DRAIN * 2)?;
    Ok(classes.iter().flat_map(|class| class.inbox.losses().into_values()).sum())
}

impl Upgrades {
    fn new(first: Instance) -> Self {
        Self {
            current: first,
            draining: Vec::new(),
            handovers: Handovers::default(),
            done: 0,
            owned: Histogram::default(),
            gone: Histogram::default(),
            most_draining: 0,
        }
    }

    /// Drives the hand-overs one after another, and waits until only the last instance is left.
    fn run(
        &mut self,
        options: &Options,
        site: &mut Site,
        epoch: Instant,
        classes: &mut [Class],
    ) -> Outcome<()> {
        for number in 1..=options.upgrades {
            thread::sleep(Duration::from_millis(options.interval));
            let successor = site.start_successor()?;
            let (begin, end) = site.hand_over(&self.current, &successor)?;
            self.handovers.add(Sample { begin: begin - epoch, end: end - epoch });
            self.owned.add(end - begin);
            self.done = number;
            self.draining.push((mem::replace(&mut self.current, successor), end));
            self.most_draining = self.most_draining.max(self.draining.len());
            for (old, since) in self.draining.extract_if(.., |(old, _)| old.has_ended()) {
                self.gone.add(old.wait(Duration::ZERO)?.saturating_duration_since(since));
            }
            for class in &mut *classes {
                class.latencies.settle(&class.inbox, &self.handovers, end - epoch);
            }
            if number % 100 == 0 {
                println!("{number} hand-overs in {:.0} s", epoch.elapsed().as_secs_f64());
            }
        }
        for (old, since) in self.draining.drain(..) {
            self.gone.add(old.wait(DRAIN * 2)?.saturating_duration_since(since));
        }
        Ok(())
    }
}

fn print(options: &Options, classes: &[Class], upgrades: &Upgrades, elapsed: Duration) {
    println!(
        "\n{} of {} hand-overs in {:.1} s; at most {} old instances draining at a time",
        upgrades.done,
        options.upgrades,
        elapsed.as_secs_f64(),
        upgrades.most_draining
    );
    println!("\n{:24} {:>8} {:>12} {:>8}", "losses", "clients", "answered", "lost");
    for class in classes {
        let losses = class.inbox.losses();
        let lost: u64 = losses.values().sum();
        let requests = class.latencies.requests();
        println!("{:24} {:>8} {:>12} {:>8}", class.pace.describe(), class.count, requests, lost);
        for (cause, count) in losses {
            println!("    {count} x {cause}");
        }
    }
    println!("\n{:34} {:>9} {:>9} {:>9} {:>9}", "milliseconds", "p50", "p90", "p99", "max");
    for class in classes {
        row(&format!("{}, steady", class.pace.describe()), &class.latencies.steady);
        row(&format!("{}, near", class.pace.describe()), &class.latencies.near);
    }
    row("SIGQUIT to owned", &upgrades.owned);
    row("owned to old process gone", &upgrades.gone);
}

fn row(name: &str, values: &Histogram) {
    if values.is_empty() {
        println!("{name:34} {:>9}", "none");
        return;
    }
    let milliseconds = |value: Duration| format!("{:.3}", value.as_secs_f64() * 1000.0);
    let [p50, p90, p99] = [0.5, 0.9, 0.99].map(|share| milliseconds(values.quantile(share)));
    println!("{name:34} {p50:>9} {p90:>9} {p99:>9} {:>9}", milliseconds(values.max()));
}
