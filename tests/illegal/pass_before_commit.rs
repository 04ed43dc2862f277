//! The service cannot pass before the incumbent has committed.

use river::lifecycle::*;

fn illegal<W: World>(handing: Instance<W, Handing<W>>) {
    let _ = handing.pass(&[]);
}

fn main() {}
