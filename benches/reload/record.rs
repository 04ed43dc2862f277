//! What the clients saw: requests, losses by cause, and latency near a hand-over against steady state.

use std::collections::BTreeMap;
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How far around a hand-over a request counts as near it.
pub(crate) const NEAR: Duration = Duration::from_millis(50);

/// How long a hand-over is remembered: longer than any request may take.
const MEMORY: Duration = Duration::from_secs(60);

/// A request that got its whole, correct response, in time since the run began.
#[derive(Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) begin: Duration,
    pub(crate) end: Duration,
}

/// What all clients of one class share.
#[derive(Default)]
pub(crate) struct Inbox {
    samples: Mutex<Vec<Sample>>,
    losses: Mutex<BTreeMap<String, u64>>,
}

impl Inbox {
    pub(crate) fn add(&self, samples: &mut Vec<Sample>) {
        lock(&self.samples).append(samples);
    }

    pub(crate) fn lose(&self, cause: String) {
        *lock(&self.losses).entry(cause).or_default() += 1;
    }

    pub(crate) fn losses(&self) -> BTreeMap<String, u64> {
        lock(&self.losses).clone()
    }
}

/// The latencies of one class, sorted into near and steady once it is certain which they are.
#[derive(Default)]
pub(crate) struct Latencies {
    undecided: Vec<Sample>,
    pub(crate) near: Histogram,
    pub(crate) steady: Histogram,
}

impl Latencies {
    /// Takes what arrived and sorts what ended so long before `now` that no hand-over to come can be near it.
    pub(crate) fn settle(&mut self, inbox: &Inbox, handovers: &Handovers, now: Duration) {
        let mut samples = mem::take(&mut self.undecided);
        samples.append(&mut lock(&inbox.samples));
        for sample in samples {
            if sample.end + NEAR >= now {
                self.undecided.push(sample);
            } else if handovers.near(sample) {
                self.near.add(sample.end - sample.begin);
            } else {
                self.steady.add(sample.end - sample.begin);
            }
        }
    }

    pub(crate) fn requests(&self) -> u64 {
        self.near.count + self.steady.count
    }
}

/// The hand-overs of late, each from SIGQUIT to `Owned`, in time since the run began.
#[derive(Default)]
pub(crate) struct Handovers(Vec<Sample>);

impl Handovers {
    pub(crate) fn add(&mut self, handover: Sample) {
        self.0.retain(|old| old.end + MEMORY > handover.begin);
        self.0.push(handover);
    }

    fn near(&self, sample: Sample) -> bool {
        self.0.iter().any(|handover| sample.begin < handover.end + NEAR && handover.begin < sample.end + NEAR)
    }
}

/// Counts of durations in buckets 1/32 wide of their size, from one microsecond up.
#[derive(Clone)]
pub(crate) struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    max: Duration,
}

const STEPS: u64 = 32;

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: vec![0; 64 * STEPS as usize], count: 0, max: Duration::ZERO }
    }
}

impl Histogram {
    pub(crate) fn add(&mut self, value: Duration) {
        let micros = value.as_micros() as u64;
        if let Some(bucket) = self.buckets.get_mut(bucket(micros)) {
            *bucket += 1;
        }
        self.count += 1;
        self.max = self.max.max(value);
    }

    /// The duration that `share` (0 to 1) of all values do not exceed, to within 1/32 of its size.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let wanted = ((self.count as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, bucket) in self.buckets.iter().enumerate() {
            seen += bucket;
            if seen >= wanted {
                return upper_bound(index).min(self.max);
            }
        }
        self.max
    }

    /// The largest value, exactly.
    pub(crate) fn max(&self) -> Duration {
        self.max
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }
}

fn bucket(micros: u64) -> usize {
    if micros < STEPS {
        return micros as usize;
    }
    let shift = micros.ilog2() - STEPS.ilog2();
    (u64::from(shift) * STEPS + (micros >> shift)) as usize
}

fn upper_bound(index: usize) -> Duration {
    let index = index as u64;
    if index < STEPS {
        return Duration::from_micros(index);
    }
    let shift = index / STEPS - 1;
    Duration::from_micros(((index % STEPS + STEPS + 1) << shift) - 1)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
