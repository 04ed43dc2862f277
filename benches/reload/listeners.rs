//! How long a hand-over takes by the number of listeners, and how soon an old process is gone after its last
//! connection. No load runs meanwhile.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::time::Instant;

use rustix::process::Signal;

use crate::clients::connect;
use crate::origin::Origin;
use crate::record::Histogram;
use crate::river::{DRAIN, GUARD, Instance, Site};
use crate::{Outcome, row};

const ROUNDS: usize = 20;

/// Measures and prints.
pub(crate) fn run(river: &Path, directory: &Path) -> Outcome<()> {
    println!("\n{:34} {:>9} {:>9} {:>9} {:>9}", "without load, milliseconds", "p50", "p90", "p99", "max");
    let mut exits = Histogram::default();
    for listeners in [1, 10, 1000] {
        let directory = directory.join(format!("listeners-{listeners}"));
        std::fs::create_dir(&directory)?;
        let mut owned = Histogram::default();
        measure(river, &directory, listeners, &mut owned, &mut exits)?;
        row(&format!("SIGQUIT to owned, {listeners} listeners"), &owned);
    }
    row("last connection to exit", &exits);
    Ok(())
}

fn measure(
    river: &Path,
    directory: &Path,
    listeners: usize,
    owned: &mut Histogram,
    exits: &mut Histogram,
) -> Outcome<()> {
    let origin = Origin::start()?;
    let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    let mut site = Site::new(river.to_owned(), directory, address, origin.address, listeners - 1)?;
    let mut current = site.start()?;
    for _ in 0..ROUNDS {
        // A request that is under way, so that the old instance has something to finish.
        origin.open_gate(false);
        let mut client = connect(address)?;
        client.write_all(b"GET /held HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")?;
        let successor = site.start_successor()?;
        let (begin, end) = site.hand_over(&current, &successor)?;
        owned.add(end - begin);
        let old = std::mem::replace(&mut current, successor);
        // The old instance stays for its guard period in any case.
        std::thread::sleep(GUARD * 2);
        origin.open_gate(true);
        client.read_to_end(&mut Vec::new())?;
        let last = Instant::now();
        exits.add(end_of(old)?.saturating_duration_since(last));
    }
    current.signal(Signal::TERM)?;
    end_of(current).map(drop)
}

fn end_of(instance: Instance) -> Outcome<Instant> {
    Ok(instance.wait(DRAIN * 2)?.0)
}
