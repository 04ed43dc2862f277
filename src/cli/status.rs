//! `river status`.

use std::fmt::Write as _;
use std::time::Duration;

use super::find::{self, shown};
use super::patience::Patience;
use super::{Exit, Failure, Whereabouts};
use crate::base::InstanceReport;
use crate::base::units::show_duration;
use crate::handoff::{ChannelError, GREETING_TIMEOUT, InquiryError, with_cause};
use crate::system::Signals;

/// The instances there are, and whether one of them is in service.
#[derive(Debug)]
pub struct Status {
    /// What is to be printed.
    pub text: String,
    /// Why it is a failure all the same, if it is.
    pub failure: Option<Failure>,
}

/// Asks the instance in service what instances there are, and writes it as a table or as one JSON object.
///
/// # Errors
/// When the running instance cannot be found or asked.
pub async fn status(whereabouts: Whereabouts, json: bool, signals: &mut Signals) -> Result<Status, Failure> {
    let mut patience = Patience::new(signals, 2 * GREETING_TIMEOUT);
    let given_up = |enough| Failure::new(Exit::TryAgain, &format!("{enough} before this was done"));
    let asked = patience
        .with(async {
            let named = whereabouts.clone();
            let path = smol::unblock(move || find::socket(&named)).await?;
            let mut inquiry = match find::ask_or_explain(&path, whereabouts).await {
                Ok(inquiry) => inquiry,
                Err(failure) if json => return Ok((Vec::new(), Some(failure))),
                Err(failure) => return Err(failure),
            };
            let pid = inquiry.peer().pid();
            match inquiry.first().await {
                Ok(answer) => Ok((answer.instances, None)),
                Err(InquiryError::Refused(why)) => Err(Failure::new(
                    Exit::Software,
                    &format!("pid {pid} is in service, but does not say more: {}", shown(&why)),
                )),
                Err(InquiryError::Channel(ChannelError::TimedOut)) => {
                    let (path, time) = (path.display(), show_duration(GREETING_TIMEOUT));
                    let why = format!(
                        "pid {pid}, which has the upgrade socket {path}, did not answer within {time}"
                    );
                    Err(Failure::new(Exit::TryAgain, &why))
                }
                Err(error) => {
                    let exit = match error {
                        InquiryError::Channel(ChannelError::Closed | ChannelError::Io(_)) => Exit::TryAgain,
                        _ => Exit::Software,
                    };
                    Err(Failure::new(exit, &format!("pid {pid}: {}", with_cause(&error))))
                }
            }
        })
        .await;
    let (instances, failure) = asked.map_err(given_up)??;
    let nobody = || Failure::new(Exit::Unavailable, "no instance is in service");
    let failure = failure.or_else(|| (!instances.iter().any(find::in_service)).then(nobody));
    let text = if json { object(&instances) } else { table(&instances) };
    Ok(Status { text, failure })
}

/// One JSON object (RFC 8259), on one line. The names are those of [`InstanceReport`] and stay as they are.
fn object(instances: &[InstanceReport]) -> String {
    let number = |value: Option<u64>| value.map_or("null".to_owned(), |value| value.to_string());
    let one = |report: &InstanceReport| {
        let fields = [
            ("pid", report.pid.to_string()),
            ("generation", report.generation.to_string()),
            ("build", string(&report.build)),
            ("state", string(&report.state.to_string())),
            ("age_ms", report.age_ms.to_string()),
            ("connections", report.connections.to_string()),
            ("tunnels", report.tunnels.to_string()),
            ("moved", report.moved.to_string()),
            ("finished", report.finished.to_string()),
            ("cut", report.cut.to_string()),
            ("deadline_ms", number(report.deadline_ms)),
            ("guard_ms", number(report.guard_ms)),
        ];
        format!("{{{}}}", fields.map(|(name, value)| format!("\"{name}\": {value}")).join(", "))
    };
    format!("{{\"instances\": [{}]}}", instances.iter().map(one).collect::<Vec<_>>().join(", "))
}

/// A JSON string (RFC 8259 §7).
fn string(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        // Writing to a string cannot fail.
        let _ = match character {
            '"' | '\\' => write!(quoted, "\\{character}"),
            control if control.is_control() => write!(quoted, "\\u{:04x}", u32::from(control)),
            other => write!(quoted, "{other}"),
        };
    }
    quoted + "\""
}

const HEADING: [&str; 10] =
    ["PID", "STATE", "GENERATION", "AGE", "CONNECTIONS", "TUNNELS", "MOVED", "ENDS WITHIN", "GUARD", "BUILD"];

/// A line for each instance, under a heading. What does not apply is a dash.
fn table(instances: &[InstanceReport]) -> String {
    let mut rows = vec![HEADING.map(str::to_owned)];
    let time = |millis: Option<u64>| millis.map_or("-".to_owned(), about);
    rows.extend(instances.iter().map(|report| {
        [
            report.pid.to_string(),
            report.state.to_string(),
            report.generation.to_string(),
            about(report.age_ms),
            report.connections.to_string(),
            report.tunnels.to_string(),
            report.moved.to_string(),
            time(report.deadline_ms),
            time(report.guard_ms),
            shown(&report.build),
        ]
    }));
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..HEADING.len()).map(width).collect();
    let lines = rows.iter().map(|row| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// A time as a person reads it: its two largest units, of days, hours, minutes and seconds.
pub(super) fn about(millis: u64) -> String {
    let seconds = Duration::from_millis(millis).as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) if millis < 10_000 => format!("{}.{}s", seconds, millis % 1_000 / 100),
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m{}s", seconds % 60),
        (0, hours, minutes) => format!("{hours}h{minutes}m"),
        (days, hours, _) => format!("{days}d{hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::InstanceState;

    fn report(pid: u32, state: InstanceState, build: &str) -> InstanceReport {
        InstanceReport {
            pid,
            generation: 3,
            build: build.to_owned(),
            state,
            age_ms: 3_725_000,
            connections: 12,
            tunnels: 2,
            moved: 0,
            finished: 1,
            cut: 0,
            deadline_ms: None,
            guard_ms: None,
        }
    }

    #[test]
    fn the_object_names_everything() {
        let mut draining = report(7, InstanceState::Draining, "a \"b\"\\\n\u{7f}é");
        (draining.deadline_ms, draining.guard_ms) = (Some(59_000), Some(0));
        assert_eq!(
            object(&[draining]),
            "{\"instances\": [{\"pid\": 7, \"generation\": 3, \"build\": \"a \\\"b\\\"\\\\\\u000a\\u007fé\", \
             \"state\": \"Draining\", \"age_ms\": 3725000, \"connections\": 12, \"tunnels\": 2, \"moved\": 0, \
             \"finished\": 1, \"cut\": 0, \"deadline_ms\": 59000, \"guard_ms\": 0}]}"
        );
        assert_eq!(object(&[]), "{\"instances\": []}");
    }

    #[test]
    fn the_table_has_a_line_for_each() {
        let mut draining = report(123_456, InstanceState::Draining, "river\u{1b}[31m 1");
        (draining.deadline_ms, draining.guard_ms) = (Some(59_900), Some(9_400));
        let text = table(&[report(7, InstanceState::Serving, "river 2"), draining]);
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
            .collect();
        assert_eq!(lines[0], HEADING);
        assert_eq!(lines[1], ["7", "Serving", "3", "1h2m", "12", "2", "0", "-", "-", "river 2"]);
        let second = ["123456", "Draining", "3", "1h2m", "12", "2", "0", "59s", "9.4s", "river\\u{1b}[31m 1"];
        assert_eq!(lines[2], second);
    }

    #[test]
    fn times_are_rounded_down_to_two_units() {
        let cases = [
            (0, "0.0s"),
            (9_999, "9.9s"),
            (10_000, "10s"),
            (61_000, "1m1s"),
            (3_599_999, "59m59s"),
            (86_399_999, "23h59m"),
            (90_000_000, "1d1h"),
        ];
        for (millis, text) in cases {
            assert_eq!(about(millis), text);
        }
    }
}
