//! Who waits has nothing to hand over.

use river::lifecycle::*;

fn illegal<W: World>(waiting: Instance<W, Awaiting<W>>) {
    let _ = waiting.hand_over();
}

fn main() {}
