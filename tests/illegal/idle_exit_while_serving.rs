//! An instance in service does not end because it has no connection.

use river::lifecycle::*;

fn illegal<W: World>(serving: Instance<W, Serving<W>>) {
    let _ = serving.idle();
}

fn main() {}
