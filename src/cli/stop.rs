//! `river stop`.

use std::time::Duration;

use super::find;
use super::patience::{Enough, Patience};
use super::reload::unanswered;
use super::steps::Steps;
use super::{Exit, Failure, Whereabouts};
use crate::base::{InstanceReport, InstanceState};
use crate::handoff::{Answer, Inquiry};
use crate::system::Signals;

/// Tells the instance in service to drain and end, and waits for that.
///
/// # Errors
/// When there is none, it cannot be told, or does not end within `timeout`; or when another instance is in service
/// afterwards, which took over from it or was started meanwhile: then the service has not stopped.
pub async fn stop(whereabouts: Whereabouts, timeout: Duration, signals: &mut Signals) -> Result<(), Failure> {
    let mut steps = Steps::new();
    let mut patience = Patience::new(signals, timeout);
    let undone = |enough: Enough| Failure::new(Exit::TryAgain, &format!("{enough}; nothing was done"));
    let named = whereabouts.clone();
    let path = patience.with_blocking(move || find::socket(&named)).await.map_err(undone)??;
    let mut inquiry = patience.with(find::ask_or_explain(&path, whereabouts)).await.map_err(undone)??;
    let pid = inquiry.peer().pid();
    // It is stopped whether it answers or not.
    let answer =
        patience.with(inquiry.first()).await.map_err(|enough| unanswered(enough, pid, &path, "done"))?;
    let answer = answer.ok();
    let has = connections(answer.as_ref(), pid);
    let cannot =
        |error: std::io::Error| Failure::new(Exit::Unavailable, &format!("cannot stop pid {pid}: {error}"));
    let end = inquiry.end().map_err(cannot)?;
    inquiry.peer().tell_to_end().map_err(cannot)?;
    steps.step(&format!("SIGTERM sent to pid {pid}{has}"));
    for one in answer.iter().flat_map(drain_on) {
        steps.step(&format!("pid {} drains since an earlier reload and ends by itself", one.pid));
    }
    let ended = patience.with(end).await;
    match ended {
        Err(enough) => Err(Failure::new(
            Exit::TryAgain,
            &format!(
                "{enough}; pid {pid} still drains{has}; it ends by itself when it is done, and at once with SIGINT"
            ),
        )),
        Ok(()) => {
            steps.step(&format!("pid {pid} has ended"));
            match Inquiry::open(&path, false, false) {
                Ok(other) => Err(Failure::new(
                    Exit::TryAgain,
                    &format!("the service goes on: pid {} is in service now", other.peer().pid()),
                )),
                Err(_) => Ok(()),
            }
        }
    }
}

/// What it said that it has, for the end of a sentence.
fn connections(answer: Option<&Answer>, pid: u32) -> String {
    let reports = answer.iter().flat_map(|answer| &answer.instances);
    match reports.into_iter().find(|report| report.pid == pid) {
        Some(InstanceReport { connections: 1, .. }) => ", which had 1 connection".to_owned(),
        Some(report) => format!(", which had {} connections", report.connections),
        None => String::new(),
    }
}

/// Those that drain besides.
fn drain_on(answer: &Answer) -> impl Iterator<Item = &InstanceReport> {
    answer.instances.iter().filter(|report| report.state == InstanceState::Draining)
}
