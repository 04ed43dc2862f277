//! A successor cannot take the service over before it accepts.

use river::lifecycle::*;

fn illegal<W: World>(waiting: Instance<W, Awaiting<W>>) {
    let _ = waiting.commit();
}

fn main() {}
