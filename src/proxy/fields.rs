//! The fields of a response as HTTP/2 takes them, made from a head in HTTP/1.1 without writing it again.

use std::cell::RefCell;
use std::time::SystemTime;

use http::header::{DATE, HeaderMap, HeaderName, HeaderValue, InvalidHeaderName, VIA};

use super::rewrite::{self, ResponseContext};
use crate::http::{Field, Known, ResponseHead};

/// How many lines are remembered of each field that River tells apart, one for each remainder of their length.
const EACH: usize = 4;

/// How many places there are for those, and as many for all other fields.
const PLACES: usize = 128;

/// The longest line that is remembered. With the number of them it bounds the memory that a service takes on a worker.
const LONGEST: usize = 128;

/// The bytes by which a line is told from the one before, where that was not remembered.
type Mark = [u8; 8];

/// The fields that servers have sent more than once lately, as they are to be sent on: most responses repeat those of the
/// one before, and a field that is found by its line is neither checked nor copied again.
#[derive(Debug, Default)]
pub(super) struct Recent {
    slots: RefCell<Vec<Slot>>,
}

#[derive(Clone, Debug, Default)]
struct Slot {
    known: Option<(Box<[u8]>, HeaderName, HeaderValue)>,
    /// Of the last line that was not found here: one that comes twice is worth remembering.
    missed: Mark,
}

/// The fields that go on with a response; `None` where one of them cannot be said in HTTP/2, or there are too many.
///
/// They are those that [`rewrite::response`] writes, but for what concerns the connection (RFC 9113 §8.2.2).
pub(super) fn response(
    buf: &[u8],
    head: &ResponseHead,
    context: &ResponseContext<'_>,
    recent: &Recent,
) -> Option<HeaderMap> {
    let mut map = HeaderMap::with_capacity(head.fields.len() + usize::from(context.via.is_some()));
    let mut slots = recent.slots.borrow_mut();
    let mut dated = false;
    for sent in rewrite::kept(head, context) {
        // What switches protocols goes another way.
        if sent.known == Known::Upgrade {
            continue;
        }
        dated |= sent.known == Known::Date;
        let (name, value) = found(&mut slots, buf, sent)?;
        map.try_append(name, value).ok()?;
    }
    if !dated {
        let date = httpdate::fmt_http_date(SystemTime::now());
        map.try_append(DATE, HeaderValue::try_from(date).ok()?).ok()?;
    }
    if let Some(pseudonym) = context.via {
        let mut value = Vec::new();
        rewrite::via_value(&mut value, buf, &head.fields, rewrite::number_of(head.version), pseudonym);
        map.try_append(VIA, HeaderValue::try_from(value).ok()?).ok()?;
    }
    Some(map)
}

/// A field by its types, from among those that are remembered if it is there.
fn found(slots: &mut Vec<Slot>, buf: &[u8], sent: &Field) -> Option<(HeaderName, HeaderValue)> {
    // From the name to the value's end, so that the same line is the same field.
    let line = buf.get(sent.name.range().start..sent.value.range().end).unwrap_or_default();
    let mark = line.last_chunk::<8>().filter(|_| sent.known != Known::SetCookie && line.len() <= LONGEST);
    let Some(mark) = mark else { return made(buf, sent).ok() };
    if slots.is_empty() {
        slots.resize(2 * PLACES, Slot::default());
    }
    let slot = slots.get_mut(place(sent.known, line))?;
    if let Some((known, name, value)) = &slot.known
        && **known == *line
    {
        return Some((name.clone(), value.clone()));
    }
    let (name, value) = made(buf, sent).ok()?;
    if std::mem::replace(&mut slot.missed, *mark) == *mark {
        slot.known = Some((line.into(), name.clone(), value.clone()));
    }
    Some((name, value))
}

/// Where a line is remembered.
fn place(known: Known, line: &[u8]) -> usize {
    if known != Known::Other {
        return (known as usize * EACH + line.len() % EACH) % PLACES;
    }
    let begin = line.first_chunk::<8>().map_or(0, |begin| u64::from_le_bytes(*begin));
    let mixed = (begin ^ line.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    PLACES + (mixed >> 32) as usize % PLACES
}

fn made(buf: &[u8], sent: &Field) -> Result<(HeaderName, HeaderValue), http::Error> {
    let name = HeaderName::from_bytes(sent.name.of(buf)).map_err(|error: InvalidHeaderName| error)?;
    Ok((name, HeaderValue::from_bytes(sent.value.of(buf))?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Framing, HeadLimits, Method, Version, parse_response};

    fn fields(recent: &Recent, text: &str) -> Option<HeaderMap> {
        let mut head = ResponseHead::default();
        let limits = HeadLimits { max_bytes: 100_000, max_fields: 100 };
        parse_response(text.as_bytes(), &limits, &Method::Get, &mut head).unwrap();
        let context = ResponseContext {
            via: Some(b"river"),
            framing: Framing::Length(3),
            keep_alive: true,
            client_version: Version::Http11,
        };
        response(text.as_bytes(), &head, &context, recent)
    }

    fn names(map: &HeaderMap) -> Vec<String> {
        map.iter().map(|(name, value)| format!("{name}={}", value.as_bytes().escape_ascii())).collect()
    }

    #[test]
    fn what_concerns_the_connection_stays_behind_and_the_rest_goes_on() {
        let text = "HTTP/1.1 200 OK\r\nDate: today\r\nConnection: X-Own, keep-alive\r\nX-Own: 1\r\n\
            Keep-Alive: 5\r\nUpgrade: h3\r\nProxy-Authenticate: a\r\nVia: 1.0 other\r\nX-Two:  b \r\n\
            Content-Length: 3\r\nTrailer: c\r\nX-Two: \r\n\r\n";
        let map = fields(&Recent::default(), text).unwrap();
        let expected =
            ["date=today", "x-two=b", "x-two=", "content-length=3", "trailer=c", "via=1.0 other, 1.1 river"];
        assert_eq!(names(&map), expected);
    }

    #[test]
    fn a_date_is_added_where_there_is_none() {
        let map = fields(&Recent::default(), "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n").unwrap();
        assert!(map.get(DATE).is_some_and(|date| date.as_bytes().ends_with(b" GMT")));
    }

    #[test]
    fn a_field_that_comes_again_is_remembered_as_it_was_and_never_taken_for_another() {
        let recent = Recent::default();
        let text = |number: u32, blanks: &str| {
            format!(
                "HTTP/1.1 200 OK\r\nServer:{blanks} here\r\nContent-Length: 3\r\nX-Number-Of: {number:09}\r\n\
                x-numbers-of: {number:08}\r\nSet-Cookie: secret={number}\r\nETag: \"{:09}\"\r\n\r\n",
                number / 5
            )
        };
        for number in 0..1000 {
            let (text, blanks) = (text(number, if number % 3 == 0 { "" } else { "  " }), number / 5);
            let map = fields(&recent, &text).unwrap();
            let expected = [
                "server=here".to_owned(),
                "content-length=3".to_owned(),
                format!("x-number-of={number:09}"),
                format!("x-numbers-of={number:08}"),
                format!("set-cookie=secret={number}"),
                format!("etag=\\\"{blanks:09}\\\""),
            ];
            assert_eq!(names(&map)[..6], expected);
        }
        let slots = recent.slots.borrow();
        let lines: Vec<_> = slots.iter().filter_map(|slot| Some(&*slot.known.as_ref()?.0)).collect();
        assert!(lines.contains(&&b"Content-Length: 3"[..]), "{lines:?}");
        assert!(lines.iter().all(|line| !line.starts_with(b"Set-Cookie")), "{lines:?}");
    }

    #[test]
    fn what_http2_has_no_room_for_is_left_to_be_written() {
        let name = "n".repeat(70_000);
        let text = format!("HTTP/1.1 200 OK\r\n{name}: 1\r\nContent-Length: 3\r\n\r\n");
        assert_eq!(fields(&Recent::default(), &text), None);
    }
}
