//! A cold start takes the booting instance.

use river::lifecycle::*;

fn illegal<W: World<Sockets = ()>>(booting: Instance<W, Booting>) {
    let _ = booting.cold_start(());
    let _ = booting.cold_start(());
}

fn main() {}
