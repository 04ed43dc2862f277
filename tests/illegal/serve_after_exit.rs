//! Who has exited does nothing any more.

use river::lifecycle::*;

fn illegal<W: World>(exited: Instance<W, Exited>) {
    let _ = exited.cold_start(());
}

fn main() {}
