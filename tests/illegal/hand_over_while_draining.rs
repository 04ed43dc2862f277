//! Who drains has nothing to hand over.

use river::lifecycle::*;

fn illegal<W: World>(draining: Instance<W, Draining<W>>) {
    let _ = draining.hand_over();
}

fn main() {}
