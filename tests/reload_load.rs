//! Upgrades under load: every request is counted, and each has to get its whole and correct response.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::mem;

use support::load::Plan;
use support::*;

/// Runs `plans` through `upgrades` successive upgrades, with at least `between` finished requests of each before
/// every one of them, and again after the last.
fn through_upgrades(upgrades: usize, between: u64, plans: Vec<Plan>) {
    let origin = Origin::builder().forgetful().start();
    let mut current = River::with_config(Config::proxy(&origin)).serve();
    let address = current.web();
    let loads: Vec<Load> = plans.into_iter().map(|plan| plan.start(address)).collect();
    let mut left = Vec::new();
    for _ in 0..upgrades {
        loads.iter().for_each(|load| load.wait_for(between, PATIENCE));
        let next = upgrade(&current);
        assert_eq!(next.web(), address);
        left.push(mem::replace(&mut current, next));
    }
    loads.iter().for_each(|load| load.wait_for(between, PATIENCE));
    for old in &left {
        assert!(old.wait_exit(PATIENCE).success());
    }
    for load in loads {
        let report = load.stop().expect_none_lost();
        assert_eq!(report.cut_idle, 0, "idle connections were closed before they could be told");
        println!(
            "{} requests, {} reconnects, median {:?}, 99% {:?}, longest {:?}",
            report.sent,
            report.reconnects,
            report.percentile(0.5),
            report.percentile(0.99),
            report.percentile(1.0)
        );
    }
    current.signal(Signal::TERM);
    assert!(current.wait_exit(PATIENCE).success());
}

#[test]
fn twenty_upgrades_lose_nothing_of_clients_that_hammer() {
    through_upgrades(
        20,
        500,
        vec![Load::keep_alive(64, Pacing::Hammer), Load::per_request(32, Pacing::Hammer)],
    );
}

#[test]
fn twenty_upgrades_lose_nothing_of_clients_that_think() {
    let pacing = Pacing::Think(20..=300);
    through_upgrades(20, 64, vec![Load::keep_alive(64, pacing.clone()), Load::per_request(32, pacing)]);
}

#[test]
fn ten_upgrades_lose_nothing_of_posted_bodies_and_pipelined_requests() {
    through_upgrades(
        10,
        100,
        vec![
            Load::keep_alive(8, Pacing::Hammer).post(100_000),
            Load::keep_alive(8, Pacing::Hammer).pipelined(4),
            Load::keep_alive(8, Pacing::Think(1..=20)).post(1),
        ],
    );
}
