//! The explorations.

use std::collections::{HashSet, VecDeque};
use std::fmt::Write;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model, Path};

use super::Handover;
use super::moves::Move;
use super::outside::INSTANCES;
use super::properties::{ACCEPTED, FILE, HANDS, QUEUED, SERVED};
use super::state::{Budget, State};
use super::tables::Table;

const NOTHING: Budget =
    Budget { starts: 0, quits: 0, stops: 0, delays: 1, crashes: 0, breaks: 0, faults: 0, clients: 0 };

/// The second instance's configuration lacks a listener.
const LACKING: [[bool; 2]; INSTANCES] = [[true, true], [true, false], [true, true]];

fn two(budget: Budget) -> Handover {
    Handover { wants: LACKING, table: Table::Product, budget: Budget { starts: 1, quits: 1, ..budget } }
}

fn three(budget: Budget) -> Handover {
    Handover { wants: LACKING, table: Table::Product, budget: Budget { starts: 2, quits: 2, ..budget } }
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
        if nth == 0 {
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

/// One path of each kind, and all kinds at once, for two instances.
#[test]
fn two_instances() {
    let one = |budget: Budget| two(Budget { clients: 1, ..budget });
    explore("two, a crash", one(Budget { crashes: 1, ..NOTHING }));
    explore("two, a stop", one(Budget { stops: 1, ..NOTHING }));
    explore("two, a break", one(Budget { breaks: 1, ..NOTHING }));
    explore("two, a fault", one(Budget { faults: 1, ..NOTHING }));
    explore(
        "two, all of these",
        two(Budget { stops: 1, crashes: 1, breaks: 1, faults: 1, clients: 1, ..NOTHING }),
    );
}

#[test]
fn three_instances() {
    explore("three, a client", three(Budget { clients: 1, ..NOTHING }));
    explore("three, a crash", three(Budget { crashes: 1, ..NOTHING }));
    explore("three, a stop", three(Budget { stops: 1, ..NOTHING }));
    explore("three, a break", three(Budget { breaks: 1, ..NOTHING }));
}

#[test]
#[ignore = "takes a while: cargo test --lib lifecycle::tests::model -- --ignored --nocapture"]
fn larger_bounds() {
    explore("two, twice", two(Budget { stops: 2, crashes: 1, faults: 1, clients: 2, ..NOTHING }));
    explore("three, a crash and a client", three(Budget { crashes: 1, clients: 1, ..NOTHING }));
    explore("three, a stop and a client", three(Budget { stops: 1, clients: 1, ..NOTHING }));
    explore("three, a crash and a stop", three(Budget { crashes: 1, stops: 1, ..NOTHING }));
    explore("three, two crashes", three(Budget { crashes: 2, ..NOTHING }));
    explore("three, a crash and a fault", three(Budget { crashes: 1, faults: 1, ..NOTHING }));
    explore("three, two delays", three(Budget { delays: 2, clients: 1, ..NOTHING }));
}

/// All paths come to an end, so what holds at all ends comes about: no order of events goes on for ever.
#[test]
fn every_path_ends() {
    let model = two(Budget { stops: 1, crashes: 1, faults: 1, clients: 1, ..NOTHING });
    // Depth first, over states by fingerprint: a state that leads back to one on the way to it makes a circle.
    let (mut done, mut on_the_way) = (HashSet::new(), HashSet::new());
    let mut way: Vec<(u64, VecDeque<State>)> = Vec::new();
    let mut next: Vec<State> = model.init_states();
    loop {
        if let Some(state) = next.pop() {
            let print = BuildHasherDefault::<DefaultHasher>::default().hash_one(&state);
            assert!(!on_the_way.contains(&print), "a circle of {} steps at most", way.len());
            if done.contains(&print) {
                continue;
            }
            on_the_way.insert(print);
            way.push((print, model.next_states(&state).into()));
        }
        let Some((print, left)) = way.last_mut() else { break };
        match left.pop_front() {
            Some(state) => next.push(state),
            None => {
                on_the_way.remove(print);
                done.insert(*print);
                way.pop();
            }
        }
    }
    println!("every path of {} states ends", done.len());
    assert!(done.len() > 1000);
}

/// A table with a mistake makes this property fail.
fn finds(table: Table, budget: Budget, property: &'static str) {
    let model = Handover { table, ..two(budget) };
    let found = HasDiscoveries::AllOf([property].into());
    let done = model.checker().finish_when(found).spawn_bfs().join();
    let path = done.discovery(property).unwrap_or_else(|| panic!("{table:?} is not found"));
    println!("{table:?}: after {} steps it is not true that {property}", path.into_actions().len());
}

#[test]
fn an_incumbent_that_stops_accepting_before_ready_is_found() {
    finds(Table::StopsAtOffer, NOTHING, ACCEPTED);
}

#[test]
fn a_successor_that_takes_the_files_before_the_commit_is_found() {
    finds(Table::TakesFilesEarly, NOTHING, FILE);
}

#[test]
fn an_incumbent_that_restores_nothing_is_found() {
    finds(Table::RestoresNothing, Budget { crashes: 1, ..NOTHING }, SERVED);
}

#[test]
fn an_incumbent_that_closes_its_listeners_at_owned_is_found() {
    finds(Table::ClosesAtOwned, Budget { crashes: 1, ..NOTHING }, HANDS);
}

#[test]
fn a_successor_that_ends_with_the_incumbent_is_found() {
    finds(Table::EndsWithTheIncumbent, Budget { crashes: 1, ..NOTHING }, ACCEPTED);
}

#[test]
fn an_instance_that_never_looks_again_is_found() {
    finds(Table::NeverLooksAgain, Budget { crashes: 1, clients: 1, ..NOTHING }, QUEUED);
}
