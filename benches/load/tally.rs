//! What was measured.

use std::time::{Duration, Instant};

/// What one run has shown.
pub(crate) struct Tally {
    begin: Instant,
    end: Instant,
    latencies: Vec<Duration>,
    /// How much after it was due each request of an open loop was noticed: what the generator itself adds.
    late: Vec<Duration>,
    failed: u64,
    why: Option<String>,
}

impl Tally {
    pub(crate) fn new(begin: Instant) -> Self {
        Self { begin, end: begin, latencies: Vec::new(), late: Vec::new(), failed: 0, why: None }
    }

    /// A request was answered that was due at that time.
    pub(crate) fn answered(&mut self, due: Instant) {
        self.end = Instant::now();
        self.latencies.push(self.end.saturating_duration_since(due));
    }

    /// A request was noticed that was due at that time.
    pub(crate) fn noticed(&mut self, due: Instant, now: Instant) {
        self.late.push(now.saturating_duration_since(due));
    }

    /// A request got no answer.
    pub(crate) fn failed(&mut self, why: String) {
        self.failed += 1;
        self.why.get_or_insert(why);
    }

    /// One line; times in nanoseconds, `seconds` from the begin to the last answer.
    pub(crate) fn into_json(mut self) -> String {
        self.latencies.sort_unstable();
        self.late.sort_unstable();
        let [p50, p99, p999, max] = [0.5, 0.99, 0.999, 1.0].map(|share| at(&self.latencies, share));
        let late = at(&self.late, 0.99);
        let why = self.why.unwrap_or_default().replace(['"', '\\'], "'");
        format!(
            "{{\"requests\": {}, \"failed\": {}, \"why\": \"{why}\", \"seconds\": {}, \"p50\": {p50}, \
             \"p99\": {p99}, \"p999\": {p999}, \"max\": {max}, \"noticed_p99\": {late}}}",
            self.latencies.len(),
            self.failed,
            self.end.saturating_duration_since(self.begin).as_secs_f64(),
        )
    }
}

/// The value that so large a share of them does not exceed, in nanoseconds.
fn at(ordered: &[Duration], share: f64) -> u128 {
    let place = (ordered.len() as f64 * share) as usize;
    ordered.get(place.min(ordered.len().saturating_sub(1))).map_or(0, Duration::as_nanos)
}
