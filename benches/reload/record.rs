//! What the clients saw: requests, losses by cause, and latency near a hand-over against steady state.

use std::collections::BTreeMap;
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How far around a hand-over a request counts as near it.
pub(crate) const NEAR: Duration = Duration::from_millis(50);

/// A request that got its whole, correct response, in time since the run began.
#[derive(Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) begin: Duration,
    pub(crate) end: Duration,
}

/// What all clients of one class share.
#[derive(Default)]
pub(crate) struct Inbox {
    samples: Mutex<Vec<Vec<Sample>>>,
    losses: Mutex<BTreeMap<String, u64>>,
    connections: AtomicU64,
}

impl Inbox {
    pub(crate) fn add(&self, samples: Vec<Sample>) {
        lock(&self.samples).push(samples);
    }

    pub(crate) fn lose(&self, cause: String) {
        *lock(&self.losses).entry(cause).or_default() += 1;
    }

    /// Counts a connection that a client opens.
    pub(crate) fn connect(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    pub(crate) fn lost(&self) -> u64 {
        lock(&self.losses).values().sum()
    }

    pub(crate) fn losses(&self) -> BTreeMap<String, u64> {
        lock(&self.losses).clone()
    }
}

/// The latencies of one class, sorted into near and steady.
#[derive(Default)]
pub(crate) struct Latencies {
    pub(crate) near: Histogram,
    pub(crate) steady: Histogram,
    /// By the time from the nearest hand-over's begin, for the plot.
    pub(crate) around: Around,
}

impl Latencies {
    /// Takes what arrived and sorts it. No client is to run meanwhile, nor any hand-over to come that is near a sample.
    pub(crate) fn settle(&mut self, inbox: &Inbox, handovers: &Handovers) {
        let samples = mem::take(&mut *lock(&inbox.samples));
        for sample in samples.into_iter().flatten() {
            let class = if handovers.near(sample) { &mut self.near } else { &mut self.steady };
            class.add(sample.end - sample.begin);
            self.around.add(sample, handovers);
        }
    }

    pub(crate) fn requests(&self) -> u64 {
        self.near.count + self.steady.count
    }
}

/// The hand-overs of a block, each from SIGQUIT to `Owned`, in time since the run began, in their order.
#[derive(Default)]
pub(crate) struct Handovers(Vec<Sample>);

impl Handovers {
    pub(crate) fn add(&mut self, handover: Sample) {
        self.0.push(handover);
    }

    /// From the begin of the nearest hand-over until `at`, in milliseconds.
    fn offset(&self, at: Duration) -> Option<f64> {
        let distance = |handover: &Sample| (at.as_secs_f64() - handover.begin.as_secs_f64()) * 1000.0;
        let next = self.0.partition_point(|handover| handover.begin <= at);
        let nearest = self.0.iter().take(next + 1).skip(next.saturating_sub(1));
        nearest.map(distance).min_by(|a, b| a.abs().total_cmp(&b.abs()))
    }

    fn near(&self, sample: Sample) -> bool {
        let passed = self.0.partition_point(|handover| handover.end + NEAR <= sample.begin);
        self.0.get(passed).is_some_and(|handover| handover.begin < sample.end + NEAR)
    }
}

/// Latencies in slices of time around the begin of a hand-over.
#[derive(Default)]
pub(crate) struct Around(BTreeMap<i32, Histogram>);

impl Around {
    /// The width of a slice, in milliseconds.
    pub(crate) const SLICE: f64 = 10.0;
    /// How far a slice may be from the hand-over, in milliseconds.
    pub(crate) const REACH: f64 = 200.0;

    /// A request belongs to the slice in which it ended.
    fn add(&mut self, sample: Sample, handovers: &Handovers) {
        let Some(offset) = handovers.offset(sample.end).filter(|offset| offset.abs() < Self::REACH) else {
            return;
        };
        let slice = (offset / Self::SLICE).floor() as i32;
        self.0.entry(slice).or_default().add(sample.end - sample.begin);
    }

    /// The middle of each slice in milliseconds, and the latency that `share` of its requests do not exceed.
    pub(crate) fn line(&self, share: f64) -> Vec<(f64, Duration)> {
        let middle = |slice: i32| (f64::from(slice) + 0.5) * Self::SLICE;
        self.0.iter().map(|(slice, values)| (middle(*slice), values.quantile(share))).collect()
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
