//! The same odd requests through River, nginx and HAProxy, and what each of them makes of it: what the client is
//! answered, and every byte that the server gets. `docs/differences.md` is the record; this test holds River to it, and
//! the others as long as they are of the versions that it names. With `RIVER_BLESS=1` it writes the record anew.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod classes;
mod exchange;
mod peers;
mod record;
#[path = "../support/mod.rs"]
mod support;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs, thread};

use classes::{CLASSES, Sent};
use exchange::Outcome;
use peers::Proxy;
use support::{Dir, tools};

/// How many exchanges are under way at a time; most of the time of each is a wait for a proxy's time-out.
const AT_ONCE: usize = 16;

#[test]
fn three_proxies_differ_as_the_record_says() {
    let proxies = [peers::river, peers::nginx, peers::haproxy];
    if !["nginx", "haproxy"].iter().all(|tool| tools::require(tool)) {
        return;
    }
    let requests: Vec<Sent> = CLASSES.iter().flat_map(|class| class.requests).copied().collect();
    let dir = Dir::new();
    let proxies: Vec<Proxy> = proxies.iter().map(|start| start(&dir, requests.len())).collect();
    let outcomes = exchange_all(&proxies, &requests);

    let versions = proxies.iter().map(|proxy| proxy.version.clone()).collect::<Vec<_>>();
    let text = record::write(CLASSES, &versions, &outcomes);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/differences.md");
    if env::var_os("RIVER_BLESS").is_some_and(|value| value == "1") {
        fs::write(path, &text).unwrap();
    }
    let recorded = fs::read_to_string(path).unwrap();
    // Another version of a peer may differ in what is its own affair; River may not.
    let comparable: Vec<bool> =
        versions.iter().map(|version| version.starts_with("River") || recorded.contains(version)).collect();
    let keep = |text: &str| record::columns(text, &comparable);
    let (wanted, found) = (keep(&recorded), keep(&text));
    let wrong: Vec<_> = found.iter().filter(|line| !wanted.contains(line)).collect();
    let lost: Vec<_> = wanted.iter().filter(|line| !found.contains(line)).collect();
    assert!(
        wrong.is_empty() && lost.is_empty(),
        "docs/differences.md is not what happens:\nfound {wrong:#?}\nwritten {lost:#?}"
    );
    // The words around it, which are in the sources, and the sums.
    let all = comparable.iter().all(|same| *same);
    assert!(
        !all || recorded == text,
        "docs/differences.md is not what the sources say; RIVER_BLESS=1 writes it"
    );
}

/// The outcome of each request with each proxy: `[request][proxy]`.
fn exchange_all(proxies: &[Proxy], requests: &[Sent]) -> Vec<Vec<Outcome>> {
    let jobs = proxies.len() * requests.len();
    let next = AtomicUsize::new(0);
    let outcomes: Vec<Mutex<Option<Outcome>>> = (0..jobs).map(|_| Mutex::default()).collect();
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(slot) = {
                    let job = next.fetch_add(1, Ordering::Relaxed);
                    outcomes.get(job).map(|slot| (job, slot))
                } {
                    let (job, slot) = slot;
                    let (nth, proxy) = (job / proxies.len(), &proxies[job % proxies.len()]);
                    *slot.lock().unwrap() =
                        Some(exchange::run(&proxy.front(nth), &proxy.origin(nth), requests[nth]));
                }
            });
        }
    });
    let mut outcomes = outcomes.into_iter().map(|slot| slot.into_inner().unwrap().unwrap());
    requests.iter().map(|_| outcomes.by_ref().take(proxies.len()).collect()).collect()
}
