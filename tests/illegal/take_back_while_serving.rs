//! Who serves has nothing to take back.

use river::lifecycle::*;

fn illegal<W: World>(serving: Instance<W, Serving<W>>) {
    let _ = serving.take_back();
}

fn main() {}
