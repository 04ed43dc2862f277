//! Replaces River under load, a thousand times over, and counts what the clients noticed; and, beside it in the same
//! run, reloads nginx and HAProxy under the same load.
//!
//! `cargo bench --bench reload -- --upgrades 1000`. Everything runs on loopback and in a temporary directory.
//! It prints the losses of each class of clients, the latency of requests within 50 ms of a reload against all
//! others, the time from SIGQUIT until the successor owns the pidfile, with one, ten and a thousand listeners, and how
//! soon an old process is gone after its last connection. It exits with 1 where River lost a request or a hand-over
//! failed.

mod clients;
mod generations;
mod listeners;
mod origin;
mod peers;
mod plot;
mod record;
mod river;

use std::error::Error;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use argh::FromArgs;

use crate::clients::{Crowd, Pace};
use crate::generations::Generations;
use crate::origin::Origin;
use crate::peers::{Kind, Peer};
use crate::plot::Line;
use crate::record::{Handovers, Histogram, Inbox, Latencies, Sample};

pub(crate) type Outcome<T> = Result<T, Box<dyn Error>>;

/// Replace River under load and count what its clients notice; likewise nginx and HAProxy.
#[derive(FromArgs)]
struct Options {
    /// hand-overs of River (default 1000)
    #[argh(option, default = "1000")]
    upgrades: usize,
    /// reloads of nginx and of HAProxy, where they are installed (default 200)
    #[argh(option, default = "200")]
    reloads: usize,
    /// milliseconds between a reload and the next (default 250)
    #[argh(option, default = "250")]
    interval: u64,
    /// reloads of one proxy before it is the next one's turn (default 50)
    #[argh(option, default = "50")]
    block: usize,
    /// keep-alive clients without a pause (default 64)
    #[argh(option, default = "64")]
    hammer: usize,
    /// keep-alive clients that think for up to half a second (default 32)
    #[argh(option, default = "32")]
    think: usize,
    /// clients that open a connection per request (default 32)
    #[argh(option, default = "32")]
    fresh: usize,
    /// clients that post a body of 4 KiB (default 16)
    #[argh(option, default = "16")]
    post: usize,
    /// clients that send four requests at once (default 16)
    #[argh(option, default = "16")]
    pipeline: usize,
    /// another River binary than the one built with this program
    #[argh(option)]
    river: Option<PathBuf>,
    /// where to leave a plot (SVG)
    #[argh(option)]
    plot: Option<PathBuf>,
    /// passed by cargo; means nothing here
    #[argh(switch, hidden_help)]
    #[expect(dead_code, reason = "taken so that cargo's flag is not refused")]
    bench: bool,
}

impl Options {
    fn clients(&self, pace: Pace) -> usize {
        match pace {
            Pace::Hammer => self.hammer,
            Pace::Think => self.think,
            Pace::Fresh => self.fresh,
            Pace::Post => self.post,
            Pace::Pipeline => self.pipeline,
        }
    }
}

/// The clients of one pace and what they saw.
#[derive(Default)]
struct Class {
    inbox: Arc<Inbox>,
    latencies: Latencies,
}

/// A proxy under test, and what was measured of it.
struct Trial {
    name: &'static str,
    proxy: Proxy,
    address: SocketAddr,
    origin: Origin,
    wanted: usize,
    done: usize,
    classes: [Class; Pace::ALL.len()],
    taken: Histogram,
    most_old: usize,
}

enum Proxy {
    River(Box<Generations>),
    Peer(Peer),
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

/// Returns how many requests River lost.
fn run(options: &Options) -> Outcome<u64> {
    let directory = tempfile::Builder::new().prefix("river-reload-").tempdir()?;
    let river = match &options.river {
        Some(path) => path.canonicalize()?,
        None => PathBuf::from(env!("CARGO_BIN_EXE_river")),
    };
    println!("{} processors; River: {}", thread::available_parallelism()?, river.display());
    let epoch = Instant::now();
    let mut trials = start(options, &river, directory.path())?;
    while trials.iter().any(|trial| trial.done < trial.wanted) {
        for trial in &mut trials {
            let outcome = trial.run_block(options, epoch);
            outcome.map_err(|error| format!("{}, reload {}: {error}", trial.name, trial.done + 1))?;
        }
        let done: Vec<String> = trials.iter().map(|trial| format!("{} {}", trial.name, trial.done)).collect();
        println!("{:.0} s: {}", epoch.elapsed().as_secs_f64(), done.join(", "));
    }
    for trial in &mut trials {
        trial.print(options);
    }
    if let Some(path) = &options.plot {
        let title = "p99 latency of keep-alive requests around a reload";
        fs::write(path, plot::svg(title, &trials.iter().map(Trial::line).collect::<Vec<_>>()))?;
        println!("\nthe plot is in {}", path.display());
    }
    let lost = trials.first().map_or(0, Trial::lost);
    drop(trials);
    listeners::run(&river, directory.path())?;
    Ok(lost)
}

/// River first, then the peers that are installed.
fn start(options: &Options, river: &Path, directory: &Path) -> Outcome<Vec<Trial>> {
    let origin = Origin::start()?;
    let address = free_address()?;
    let generations = Generations::start(river, &subdirectory(directory, "river")?, address, &origin)?;
    let proxy = Proxy::River(Box::new(generations));
    let mut trials = vec![Trial::new("River", proxy, address, origin, options.upgrades)];
    for (name, kind) in [("nginx", Kind::Nginx), ("HAProxy", Kind::Haproxy)] {
        let program = Peer::find(kind).filter(|_| options.reloads > 0);
        let Some(program) = program else {
            println!("{name} is left out");
            continue;
        };
        let origin = Origin::start()?;
        let address = free_address()?;
        let peer = Peer::start(kind, &program, &subdirectory(directory, name)?, address, origin.address)?;
        trials.push(Trial::new(name, Proxy::Peer(peer), address, origin, options.reloads));
    }
    Ok(trials)
}

fn subdirectory(directory: &Path, name: &str) -> Outcome<PathBuf> {
    let path = directory.join(name);
    fs::create_dir(&path)?;
    Ok(path)
}

/// Free now, and nobody else is likely to be given it in the instant until a proxy binds it.
fn free_address() -> Outcome<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

impl Trial {
    fn new(name: &'static str, proxy: Proxy, address: SocketAddr, origin: Origin, wanted: usize) -> Self {
        Self {
            name,
            proxy,
            address,
            origin,
            wanted,
            done: 0,
            classes: Default::default(),
            taken: Histogram::default(),
            most_old: 0,
        }
    }

    /// Some reloads under load.
    fn run_block(&mut self, options: &Options, epoch: Instant) -> Outcome<()> {
        let count = options.block.min(self.wanted - self.done);
        if count == 0 {
            return Ok(());
        }
        let mut crowd = Crowd::new();
        let mut handovers = Handovers::default();
        let pause = Duration::from_millis(options.interval) / 2;
        for (class, pace) in self.classes.iter().zip(Pace::ALL) {
            crowd.add(pace, options.clients(pace), self.address, epoch, &class.inbox)?;
        }
        for _ in 0..count {
            thread::sleep(pause);
            // Far from any reload, for it takes time that the clients would miss.
            if let Proxy::River(generations) = &mut self.proxy {
                generations.bury_the_ended()?;
            }
            thread::sleep(pause);
            let (begin, end) = match &mut self.proxy {
                Proxy::River(generations) => generations.hand_over()?,
                Proxy::Peer(peer) => peer.reload()?,
            };
            self.done += 1;
            self.taken.add(end - begin);
            handovers.add(Sample { begin: begin - epoch, end: end - epoch });
            self.most_old = self.most_old.max(match &self.proxy {
                Proxy::River(generations) => generations.old(),
                Proxy::Peer(peer) => peer.workers(),
            });
        }
        thread::sleep(pause * 2);
        crowd.end();
        // Sorting takes time too.
        for class in &mut self.classes {
            class.latencies.settle(&class.inbox, &handovers);
        }
        if let Proxy::River(generations) = &mut self.proxy {
            generations.wait_for_old()?;
        }
        Ok(())
    }

    fn lost(&self) -> u64 {
        self.classes.iter().map(|class| class.inbox.lost()).sum()
    }

    fn line(&self) -> Line {
        let keep_alive = self.classes.iter().zip(Pace::ALL).find(|(_, pace)| *pace == Pace::Hammer);
        let points = keep_alive.map(|(class, _)| class.latencies.around.line(0.99)).unwrap_or_default();
        let each = self.lost() as f64 / self.done.max(1) as f64;
        Line { label: format!("{}: {each:.2} lost a reload", self.name), points }
    }

    fn print(&mut self, options: &Options) {
        println!(
            "\n{}: {} reloads, at most {} old processes or workers at a time",
            self.name, self.done, self.most_old
        );
        println!("\n{:24} {:>8} {:>12} {:>8} {:>14}", "", "clients", "answered", "lost", "connections");
        for (class, pace) in self.classes.iter().zip(Pace::ALL) {
            let inbox = &class.inbox;
            println!(
                "{:24} {:>8} {:>12} {:>8} {:>14}",
                pace.describe(),
                options.clients(pace),
                class.latencies.requests(),
                inbox.lost(),
                inbox.connections()
            );
            for (cause, count) in inbox.losses() {
                println!("    {count} x {cause}");
            }
        }
        println!("requests that reached the server twice: {}", self.origin.replayed());
        if let Proxy::River(generations) = &self.proxy {
            println!("connections moved to a successor: {}", generations.moved());
        }
        println!("\n{:34} {:>9} {:>9} {:>9} {:>9}", "milliseconds", "p50", "p90", "p99", "max");
        for (class, pace) in self.classes.iter().zip(Pace::ALL) {
            row(&format!("{}, steady", pace.describe()), &class.latencies.steady);
            row(&format!("{}, near", pace.describe()), &class.latencies.near);
        }
        match &self.proxy {
            Proxy::River(generations) => {
                row("SIGQUIT to owned", &self.taken);
                row("owned to old process gone", generations.gone());
            }
            Proxy::Peer(_) => row("signal to new workers", &self.taken),
        }
    }
}

/// One line of a table: the quantiles of some durations, in milliseconds.
pub(crate) fn row(name: &str, values: &Histogram) {
    if values.is_empty() {
        println!("{name:34} {:>9}", "none");
        return;
    }
    let milliseconds = |value: Duration| format!("{:.3}", value.as_secs_f64() * 1000.0);
    let [p50, p90, p99] = [0.5, 0.9, 0.99].map(|share| milliseconds(values.quantile(share)));
    println!("{name:34} {p50:>9} {p90:>9} {p99:>9} {:>9}", milliseconds(values.max()));
}
