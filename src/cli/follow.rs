//! Following an instance that has handed over until it has no connection left.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use async_io::Timer;
use futures_lite::{FutureExt as _, future};

use super::steps::Steps;
use crate::base::{InstanceReport, InstanceState};
use crate::handoff::{Answer, Inquiry, InquiryError};
use crate::system::{End, News, Offspring};

/// The time between two attempts to reach whoever is in service, and how many there are.
const PAUSE: Duration = Duration::from_millis(50);
const ATTEMPTS: u32 = 40;

/// How long the last word of an instance that has ended is waited for.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Where following ends.
#[derive(Debug)]
pub(super) enum Followed {
    /// The former instance has no connection left, or has ended; with the last that it said of itself.
    Done(Option<InstanceReport>),
    /// The new instance has ended, or will.
    NewEnded(End),
}

enum Next {
    Told(Result<Answer, InquiryError>),
    OldEnded,
    LastWordMissed,
    New(News),
}

/// Follows `old`, which has handed over to `new`, over the upgrade socket `path`, and prints how it drains.
///
/// Dropping the future changes nothing for either.
pub(super) async fn follow(steps: &mut Steps, path: &Path, old: &Inquiry, new: &mut Offspring) -> Followed {
    let pid = old.peer().pid();
    let mut end: Pin<Box<dyn Future<Output = ()>>> = match old.end() {
        Ok(end) => Box::pin(end),
        Err(_) => Box::pin(future::pending()),
    };
    let mut watch = Watch { path, inquiry: None, attempts: 0 };
    let mut ended = false;
    let mut last_word = Timer::never();
    let mut last = None;
    loop {
        let told = async { Next::Told(watch.next().await) };
        let over = async {
            if ended {
                (&mut last_word).await;
                return Next::LastWordMissed;
            }
            (&mut end).await;
            Next::OldEnded
        };
        let news = async { Next::New(new.news().await) };
        match told.or(over).or(news).await {
            Next::Told(Ok(answer)) => {
                let Some(report) = answer.instances.into_iter().find(|report| report.pid == pid) else {
                    continue;
                };
                let over = match report.state {
                    InstanceState::Draining => report.connections == 0,
                    InstanceState::Exited => true,
                    _ => false,
                };
                if over {
                    return Followed::Done(Some(report));
                }
                if report.state == InstanceState::Draining {
                    steps.progress(&progress(&report));
                }
                last = Some(report);
            }
            Next::Told(Err(error)) => watch.lose(&error).await,
            Next::OldEnded => {
                ended = true;
                last_word.set_after(LAST_WORD);
            }
            // What it said before is not its last word, but what became of the rest is not known.
            Next::LastWordMissed => return Followed::Done(last.filter(|report| report.connections == 0)),
            Next::New(News::Failed(end) | News::Ended(end)) => return Followed::NewEnded(end),
            Next::New(News::Waiting | News::Serving) => {}
        }
    }
}

/// Whoever is in service, asked for all changes.
struct Watch<'p> {
    path: &'p Path,
    inquiry: Option<Inquiry>,
    attempts: u32,
}

impl Watch<'_> {
    /// The next answer; pending for ever where nobody answers.
    async fn next(&mut self) -> Result<Answer, InquiryError> {
        if self.attempts >= ATTEMPTS {
            return future::pending().await;
        }
        let inquiry = match &mut self.inquiry {
            Some(inquiry) => inquiry,
            none => none.insert(Inquiry::open(self.path, true, false)?),
        };
        let answer = inquiry.next().await?;
        self.attempts = 0;
        Ok(answer)
    }

    /// There is no answer from this one any more. Another may be in service.
    async fn lose(&mut self, error: &InquiryError) {
        self.inquiry = None;
        self.attempts = match error {
            InquiryError::Refused(_) | InquiryError::Unexpected(_) => ATTEMPTS,
            _ => self.attempts.saturating_add(1),
        };
        Timer::after(PAUSE).await;
    }
}

fn progress(report: &InstanceReport) -> String {
    let InstanceReport { pid, connections, tunnels, moved, finished, cut, .. } = report;
    let connections = match connections {
        1 => "1 connection".to_owned(),
        some => format!("{some} connections"),
    };
    let tunnels = match tunnels {
        0 => String::new(),
        1 => ", 1 tunnel".to_owned(),
        some => format!(", {some} tunnels"),
    };
    format!("pid {pid} drains: {connections}{tunnels}; moved {moved}, finished {finished}, cut {cut}")
}
