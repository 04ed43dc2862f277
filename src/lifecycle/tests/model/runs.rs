//! The explorations.

use std::time::Instant;

use stateright::{Checker, Model};

use super::Handover;
use super::outside::INSTANCES;
use super::state::Budget;
use super::tables::Table;

const NOTHING: Budget = Budget { starts: 0, quits: 0, stops: 0, crashes: 0, breaks: 0, faults: 0, clients: 0 };

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
    found.sort_by_key(|(property, _)| *property);
    for (property, path) in &found {
        println!("violated: {property}");
        let last = path.last_state().clone();
        for (_, action) in path.clone().into_vec() {
            println!("   {action:?}");
        }
        println!("{last:#?}");
    }
    assert!(found.is_empty(), "{name}: {} properties are violated", found.len());
}

#[test]
fn two_instances() {
    explore("two, plain", two(NOTHING));
    explore("two, a client", two(Budget { clients: 1, ..NOTHING }));
    explore("two, a crash", two(Budget { crashes: 1, clients: 1, ..NOTHING }));
    explore("two, a stop", two(Budget { stops: 1, clients: 1, ..NOTHING }));
    explore("two, a break", two(Budget { breaks: 1, clients: 1, ..NOTHING }));
    explore("two, a fault", two(Budget { faults: 1, clients: 1, ..NOTHING }));
}
