//! Nothing is committed to a successor that was not offered anything.

use river::lifecycle::*;

fn illegal<W: World>(serving: Instance<W, Serving<W>>) {
    let _ = serving.commit();
}

fn main() {}
