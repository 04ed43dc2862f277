//! Who boots has nothing to hand over.

use river::lifecycle::*;

fn illegal<W: World>(booting: Instance<W, Booting>) {
    let _ = booting.hand_over();
}

fn main() {}
