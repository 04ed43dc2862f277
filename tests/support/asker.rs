//! One who asks the instance in service what instances there are, as `river status` does, in text of its own.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Instant;

use super::peer::Peer;
use super::wait::PATIENCE;

/// A question at an upgrade socket.
#[derive(Debug)]
pub struct Asker(Peer);

/// What was answered of one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Its process id.
    pub pid: u32,
    /// Its generation.
    pub generation: u64,
    /// Its state, by name.
    pub state: String,
    /// Its text as it came.
    pub text: String,
}

impl Instance {
    /// A field that is a number; `None` where it is `None`.
    #[track_caller]
    pub fn number(&self, field: &str) -> Option<u64> {
        let value = value(&self.text, field);
        let value = value.strip_prefix("Some(").map_or(value, |inner| inner.trim_end_matches(')'));
        (value != "None").then(|| value.parse().unwrap_or_else(|_| panic!("{field} in {}", self.text)))
    }
}

impl Asker {
    /// Asks.
    #[track_caller]
    pub fn ask(path: &Path, watch: bool, streams: bool) -> Self {
        let peer = Peer::connect(path);
        peer.send(&format!("Ask(watch:{watch},streams:{streams})"));
        Self(peer)
    }

    /// Asks to be told at every change.
    #[track_caller]
    pub fn watch(path: &Path) -> Self {
        Self::ask(path, true, false)
    }

    /// The next answer, and the descriptors that came with it; `None` at the end.
    #[track_caller]
    pub fn next(&self) -> Option<(Vec<Instance>, Vec<OwnedFd>)> {
        let message = self.0.receive()?;
        let list = message.text.strip_prefix("Instances([").and_then(|rest| rest.strip_suffix("])"));
        let list = list.unwrap_or_else(|| panic!("no answer: {}", message.text));
        let reports = list.split("),(").filter(|report| !report.is_empty()).map(|report| Instance {
            pid: value(report, "pid").parse().unwrap(),
            generation: value(report, "generation").parse().unwrap(),
            state: value(report, "state").to_owned(),
            text: report.to_owned(),
        });
        Some((reports.collect(), message.fds))
    }

    /// Waits for an answer of which `holds`.
    #[track_caller]
    pub fn wait(&self, what: &str, holds: impl Fn(&[Instance]) -> bool) -> Vec<Instance> {
        let end = Instant::now() + PATIENCE;
        let mut last = Vec::new();
        while Instant::now() < end {
            match self.next() {
                Some((instances, _)) if holds(&instances) => return instances,
                Some((instances, _)) => last = instances,
                None => panic!("the end instead of: {what}; the last answer was {last:#?}"),
            }
        }
        panic!("after {PATIENCE:?} still not: {what}; the last answer was {last:#?}");
    }

    /// The connection below.
    pub fn peer(&self) -> &Peer {
        &self.0
    }
}

/// What the instance at the upgrade socket `path` answers.
#[track_caller]
pub fn instances(path: &Path) -> Vec<Instance> {
    Asker::ask(path, false, false).next().expect("no answer").0
}

/// The pids and states of `instances`, in their order.
pub fn states(instances: &[Instance]) -> Vec<(u32, &str)> {
    instances.iter().map(|instance| (instance.pid, instance.state.as_str())).collect()
}

/// The value of a field in the text of a report, of which none holds a comma.
#[track_caller]
fn value<'a>(report: &'a str, field: &str) -> &'a str {
    let report = report.trim_start_matches('(').trim_end_matches(')');
    let key = format!("{field}:");
    let found = report.split(',').find_map(|part| part.strip_prefix(key.as_str()));
    found.unwrap_or_else(|| panic!("no {field} in {report}"))
}
