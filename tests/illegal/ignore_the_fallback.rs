//! Who ignores that a cold start can fail has no instance that serves.

use river::lifecycle::*;

fn illegal<W: World<Sockets = ()>>(booting: Instance<W, Booting>) -> Instance<W, Serving<W>> {
    booting.cold_start(())
}

fn main() {}
