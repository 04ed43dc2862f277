//! The explorations.

use std::fmt::Write;
use std::time::Instant;

use stateright::{Checker, Model, Path};

use super::Handover;
use super::moves::Move;
use super::outside::INSTANCES;
use super::state::{Budget, State};
use super::tables::Table;

const NOTHING: Budget = Budget { starts: 0, quits: 0, stops: 0, delays: 1, crashes: 0, breaks: 0, faults: 0, clients: 0 };

/// The second instance's configuration lacks a listener.
const LACKING: [[bool; 2]; INSTANCES] = [[true, true], [true, false], [true, true]];

fn two(budget: Budget) -> Handover {
    Handover { wants: LACKING, table: Table::Product, budget: Budget { starts: 1, quits: 1, ..budget } }
}

fn explore(name: &str, model: Handover) {
    let begun = Instant::now();
    let done = model.checker().threads(2).spawn_bfs().join();
    println!(
        "{name}: {} states, depth {}, {} ms",
        done.unique_state_count(),
        done.max_depth(),
        begun.elapsed().as_millis()
    );
    let mut found: Vec<_> = done.discoveries().into_iter().collect();
    found.sort_by_key(|(_, path)| path.clone().into_actions().len());
    for (nth, (property, path)) in found.iter().enumerate() {
        let actions = path.clone().into_actions().len();
        println!("violated after {actions} steps: {property}");
        if nth == 0 || property.starts_with("somebody serves") {
            println!("{}", told(path));
        }
    }
    assert!(found.is_empty(), "{name}: {} properties are violated", found.len());
}

/// A path, as a list of what happened and where everybody is after it.
fn told(path: &Path<State, Move>) -> String {
    let mut lines = String::new();
    for (state, action) in path.clone().into_vec() {
        let phases: Vec<_> = (0..INSTANCES).map(|who| state.phase(who)).collect();
        let _ = writeln!(lines, "  {phases:?} file {:?}", state.outside.pid_file);
        if let Some(action) = action {
            let _ = writeln!(lines, "{action:?}");
        }
    }
    lines
}

#[test]
fn three_instances() {
    let three = |budget: Budget| Handover { wants: LACKING, table: Table::Product, budget: Budget { starts: 2, quits: 2, ..budget } };
    explore("three, plain", three(NOTHING));
    explore("three, a client", three(Budget { clients: 1, ..NOTHING }));
    explore("three, a crash", three(Budget { crashes: 1, ..NOTHING }));
    explore("three, a crash, a client", three(Budget { crashes: 1, clients: 1, ..NOTHING }));
    explore("three, a stop", three(Budget { stops: 1, ..NOTHING }));
    explore("three, a break", three(Budget { breaks: 1, ..NOTHING }));
    explore("three, two delays", three(Budget { delays: 2, clients: 1, ..NOTHING }));
    explore("three, two crashes", three(Budget { crashes: 2, ..NOTHING }));
    explore("three, a crash and two delays", three(Budget { delays: 2, crashes: 1, ..NOTHING }));
}

#[test]
fn two_instances() {
    explore("two, plain", two(NOTHING));
    explore("two, a client", two(Budget { clients: 1, ..NOTHING }));
    explore("two, a crash", two(Budget { crashes: 1, clients: 1, ..NOTHING }));
    explore("two, a stop", two(Budget { stops: 1, clients: 1, ..NOTHING }));
    explore("two, a break", two(Budget { breaks: 1, clients: 1, ..NOTHING }));
    explore("two, a fault", two(Budget { faults: 1, clients: 1, ..NOTHING }));
    explore("two, all", two(Budget { quits: 2, stops: 1, crashes: 1, breaks: 1, faults: 1, clients: 2, ..NOTHING }));
}
