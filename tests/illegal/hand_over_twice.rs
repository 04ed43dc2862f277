//! A hand-over takes the instance: there is no second one at the same time.

use river::lifecycle::*;

fn illegal<W: World>(serving: Instance<W, Serving<W>>) {
    let _ = serving.hand_over();
    let _ = serving.hand_over();
}

fn main() {}
