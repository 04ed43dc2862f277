//! Durations and sizes as people write them: `"250ms"`, `"1h30m"`, `"16KiB"`.

use std::error::Error;
use std::fmt;
use std::time::Duration;

/// Units of time, the largest first, in milliseconds.
const TIME: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Units of size, the largest first, in bytes.
const SIZE: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Why a text is no quantity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnitError {
    /// There is nothing.
    Empty,
    /// It does not begin with a digit where a number should stand.
    NoNumber,
    /// A number stands without a unit after it.
    NoUnit,
    /// The unit is unknown; with the one that was probably meant.
    UnknownUnit(String, Option<&'static str>),
    /// Units do not go from the largest to the smallest, each at most once.
    Order(&'static str),
    /// More than 64 bits can count.
    TooLarge,
}

impl fmt::Display for UnitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("is empty"),
            Self::NoNumber => f.write_str("has no whole number where one should stand"),
            Self::NoUnit => f.write_str("has no unit"),
            Self::UnknownUnit(unit, None) => write!(f, "has the unknown unit {unit:?}"),
            Self::UnknownUnit(unit, Some(meant)) => {
                write!(f, "has the unknown unit {unit:?}; did you mean {meant:?}?")
            }
            Self::Order(unit) => write!(f, "has the unit {unit:?} out of order"),
            Self::TooLarge => f.write_str("is too large"),
        }
    }
}

impl Error for UnitError {}

/// Reads a duration: whole numbers with the units `h`, `m`, `s` and `ms`, largest first, as in `1h30m`.
///
/// # Errors
///
/// When the text is anything else; a number alone is refused, since it leaves open which unit is meant.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    parse(text, &TIME, guess_time).map(Duration::from_millis)
}

/// Reads a size in bytes: a whole number with one of the units `B`, `KiB`, `MiB` and `GiB`, as in `16KiB`.
///
/// # Errors
///
/// When the text is anything else. Decimal units are refused with the binary one that was probably meant.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    parse(text, &SIZE, guess_size)
}

/// Writes a duration so that [`parse_duration`] reads it back, to the millisecond.
pub fn show_duration(duration: Duration) -> String {
    show(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), &TIME, "0s")
}

/// Writes a size in the largest unit that loses nothing.
pub fn show_size(bytes: u64) -> String {
    let (unit, factor) =
        SIZE.into_iter().find(|(_, factor)| bytes > 0 && bytes.is_multiple_of(*factor)).unwrap_or(("B", 1));
    format!("{}{unit}", bytes / factor)
}

fn parse(
    text: &str,
    units: &[(&'static str, u64)],
    guess: fn(&str) -> Option<&'static str>,
) -> Result<u64, UnitError> {
    if text.is_empty() {
        return Err(UnitError::Empty);
    }
    let mut rest = text;
    let mut total = 0_u64;
    let mut previous = u64::MAX;
    while !rest.is_empty() {
        let (number, tail) = split(rest, |c| c.is_ascii_digit());
        if number.is_empty() {
            return Err(UnitError::NoNumber);
        }
        let (unit, tail) = split(tail, |c| !c.is_ascii_digit());
        if unit.is_empty() {
            return Err(UnitError::NoUnit);
        }
        let Some(&(unit, factor)) = units.iter().find(|(name, _)| *name == unit) else {
            return Err(UnitError::UnknownUnit(unit.to_owned(), guess(unit)));
        };
        if factor >= previous {
            return Err(UnitError::Order(unit));
        }
        let number: u64 = number.parse().map_err(|_| UnitError::TooLarge)?;
        let part = number.checked_mul(factor).ok_or(UnitError::TooLarge)?;
        total = total.checked_add(part).ok_or(UnitError::TooLarge)?;
        previous = factor;
        rest = tail;
    }
    Ok(total)
}

fn split(text: &str, keep: impl Fn(char) -> bool) -> (&str, &str) {
    let end = text.find(|c| !keep(c)).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

fn guess_time(unit: &str) -> Option<&'static str> {
    match unit.trim().to_ascii_lowercase().as_str() {
        "h" | "hr" | "hrs" | "hour" | "hours" => Some("h"),
        "m" | "min" | "mins" | "minute" | "minutes" => Some("m"),
        "s" | "sec" | "secs" | "second" | "seconds" => Some("s"),
        "ms" | "msec" | "millis" | "millisecond" | "milliseconds" => Some("ms"),
        _ => None,
    }
}

fn guess_size(unit: &str) -> Option<&'static str> {
    match unit.trim().to_ascii_lowercase().as_str() {
        "b" | "byte" | "bytes" => Some("B"),
        "k" | "kb" | "kib" | "ki" => Some("KiB"),
        "m" | "mb" | "mib" | "mi" => Some("MiB"),
        "g" | "gb" | "gib" | "gi" => Some("GiB"),
        _ => None,
    }
}

fn show(mut amount: u64, units: &[(&str, u64)], zero: &str) -> String {
    let mut text = String::new();
    for (unit, factor) in units {
        if amount >= *factor {
            text.push_str(&format!("{}{unit}", amount / factor));
            amount %= factor;
        }
    }
    if text.is_empty() { zero.to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_have_units() {
        let cases = [
            ("250ms", 250),
            ("30s", 30_000),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("1h1m1s1ms", 3_661_001),
            ("0s", 0),
        ];
        for (text, millis) in cases {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_says_why() {
        let unknown = |unit: &str, meant| UnitError::UnknownUnit(unit.to_owned(), meant);
        let cases = [
            ("", UnitError::Empty),
            ("30", UnitError::NoUnit),
            ("s", UnitError::NoNumber),
            ("-1s", UnitError::NoNumber),
            ("1.5s", unknown(".", None)),
            ("30 s", unknown(" s", Some("s"))),
            ("30sec", unknown("sec", Some("s"))),
            ("30d", unknown("d", None)),
            ("30m1h", UnitError::Order("h")),
            ("1s1s", UnitError::Order("s")),
            ("99999999999999999999s", UnitError::TooLarge),
            ("18446744073709551615h", UnitError::TooLarge),
        ];
        for (text, error) in cases {
            assert_eq!(parse_duration(text), Err(error), "{text}");
        }
    }

    #[test]
    fn sizes_are_binary() {
        for (text, bytes) in [("512B", 512), ("16KiB", 16 << 10), ("64MiB", 64 << 20), ("1GiB", 1 << 30)] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        assert_eq!(parse_size("16kb"), Err(UnitError::UnknownUnit("kb".to_owned(), Some("KiB"))));
        assert_eq!(parse_size("16"), Err(UnitError::NoUnit));
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(amount: u64) {
            let duration = Duration::from_millis(amount);
            prop_assert_eq!(parse_duration(&show_duration(duration)), Ok(duration));
            prop_assert_eq!(parse_size(&show_size(amount)), Ok(amount));
        }

        #[test]
        fn any_text_is_read_without_a_panic(text: String) {
            let _ = parse_duration(&text);
            let _ = parse_size(&text);
        }
    }
}
