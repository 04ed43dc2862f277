//! A state cannot be entered but by a transition.

use river::lifecycle::*;

fn illegal<W: World>(successor: W::Successor) -> Draining<W> {
    Draining { successor: Some(successor), formers: Vec::new(), exit: Exit::Success }
}

fn main() {}
