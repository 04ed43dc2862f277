//! What holds for any bytes, and for any valid message however it is cut.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::chunked::decode;
use super::generate::{self, Line};
use super::{LIMITS, request, response};
use crate::http::{
    ChunkDecoder, Field, Method, RequestHead, ResponseHead, Unparsed, Version, parse_request, parse_response,
    trailer_fields,
};

fn pieces<'a>(text: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
    cuts.extend([0, text.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|ends| &text[ends[0]..ends[1]]).collect()
}

fn same_fields(fields: &[Field], buf: &[u8], lines: &[Line]) {
    assert_eq!(fields.len(), lines.len());
    for (field, (name, value)) in fields.iter().zip(lines) {
        assert_eq!(field.name.of(buf), name.as_bytes());
        assert_eq!(field.value.of(buf), trimmed(value));
    }
}

fn trimmed(value: &[u8]) -> &[u8] {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let Some(first) = value.iter().position(|byte| !blank(byte)) else { return b"" };
    let last = value.iter().rposition(|byte| !blank(byte)).unwrap();
    &value[first..=last]
}

/// Calls with ever more of `text`, as reads grow a buffer, until there is an answer.
fn grow<T>(
    text: &[u8],
    cuts: &[Index],
    mut parse: impl FnMut(&[u8]) -> Result<T, Unparsed>,
) -> Result<T, Unparsed> {
    let mut len = 0;
    for piece in pieces(text, cuts) {
        len += piece.len();
        match parse(&text[..len]) {
            Err(Unparsed::NeedMore) => {}
            answer => return answer,
        }
    }
    Err(Unparsed::NeedMore)
}

proptest! {
    #[test]
    fn a_valid_request_is_its_parts(made in generate::request(), after in vec(any::<u8>(), 0..20)) {
        let text = [&made.text[..], &after].concat();
        let head = request(&text).unwrap();
        prop_assert_eq!(head.len, made.text.len());
        prop_assert_eq!(head.method_span.of(&text), made.method.as_bytes());
        prop_assert_eq!(head.target.of(&text), made.target.as_bytes());
        prop_assert_eq!(head.host.of(&text), made.host.as_bytes());
        same_fields(&head.fields[1..], &text, &made.lines);
    }

    #[test]
    fn a_valid_response_is_its_parts(made in generate::response(), after in vec(any::<u8>(), 0..20)) {
        let text = [&made.text[..], &after].concat();
        let head = response(&text, Method::Get).unwrap();
        prop_assert_eq!(head.len, made.text.len());
        prop_assert_eq!(head.status, made.status);
        prop_assert_eq!(head.reason.of(&text), &made.reason[..]);
        same_fields(&head.fields, &text, &made.lines);
    }

    #[test]
    fn every_prefix_of_a_valid_head_needs_more(asked in generate::request(), answered in generate::response()) {
        for len in 0..asked.text.len() {
            prop_assert_eq!(request(&asked.text[..len]).err(), Some(Unparsed::NeedMore));
        }
        for len in 0..answered.text.len() {
            prop_assert_eq!(response(&answered.text[..len], Method::Get).err(), Some(Unparsed::NeedMore));
        }
    }

    #[test]
    fn a_head_is_found_however_it_arrives(made in generate::request(), cuts in vec(any::<Index>(), 0..30)) {
        let mut head = RequestHead::default();
        // Twice, since a head is reused.
        for _ in 0..2 {
            let len = grow(&made.text, &cuts, |text| parse_request(text, &LIMITS, &mut head));
            prop_assert_eq!(len, Ok(made.text.len()));
        }
    }

    #[test]
    fn noise_is_answered_the_same_however_it_arrives(text in generate::noise(), cuts in vec(any::<Index>(), 0..20)) {
        let whole = request(&text).map(|head| head.len);
        let mut head = RequestHead::default();
        let cut = grow(&text, &cuts, |text| parse_request(text, &LIMITS, &mut head));
        // What is wrong may be found later or by another rule, but it is never taken for a head.
        prop_assert_eq!(cut.ok(), whole.ok());

        let whole = response(&text, Method::Get).map(|head| head.len);
        let mut head = ResponseHead::default();
        let cut = grow(&text, &cuts, |text| parse_response(text, &LIMITS, &Method::Get, &mut head));
        prop_assert_eq!(cut.ok(), whole.ok());
    }

    #[test]
    fn no_head_holds_a_bare_line_end_or_a_control(text in generate::noise()) {
        if let Ok(head) = request(&text) {
            let lines = std::str::from_utf8(&text[..head.len]).unwrap_or_default().replace("\r\n", "");
            prop_assert!(!lines.contains(['\r', '\n', '\0']));
        }
    }

    #[test]
    fn another_reader_finds_the_same_in_a_head(text in prop_oneof![
        generate::noise(),
        generate::request().prop_map(|made| made.text),
        generate::spoilt(),
    ]) {
        let mut slots = [httparse::EMPTY_HEADER; 200];
        let mut other = httparse::Request::new(&mut slots);
        match (request(&text), other.parse(&text)) {
            (Ok(head), Ok(httparse::Status::Complete(len))) => {
                prop_assert_eq!(head.len, len);
                prop_assert_eq!(head.method_span.of(&text), other.method.unwrap().as_bytes());
                prop_assert_eq!(head.target.of(&text), other.path.unwrap().as_bytes());
                prop_assert_eq!(head.version == Version::Http11, other.version == Some(1));
                prop_assert_eq!(head.fields.len(), other.headers.len());
                for (field, header) in head.fields.iter().zip(other.headers) {
                    prop_assert_eq!(field.name.of(&text), header.name.as_bytes());
                    prop_assert_eq!(field.value.of(&text), header.value);
                }
            }
            (Ok(_), other) => prop_assert!(false, "the other one says {other:?}"),
            // It is not strict, so it may find no fault.
            (Err(Unparsed::NeedMore), Err(error)) => prop_assert!(false, "the other one refuses it: {error}"),
            (Err(_), _) => {}
        }
    }

    #[test]
    fn a_chunked_body_is_its_content_however_it_arrives(
        (text, content) in generate::chunked(),
        cuts in vec(any::<Index>(), 0..30),
    ) {
        let (decoded, outcome) = decode(&mut ChunkDecoder::new(256, 1024), pieces(&text, &cuts));
        prop_assert_eq!(outcome, Ok(()));
        prop_assert_eq!(decoded.content, content);
        prop_assert_eq!(decoded.end.map(|(_, taken)| taken), Some(text.len()));
    }

    #[test]
    fn any_chunks_are_decoded_the_same_however_they_arrive(
        text in prop_oneof![generate::noise(), "[0-9a-f;\r\n a=\"]{0,40}".prop_map(String::into_bytes)],
        cuts in vec(any::<Index>(), 0..30),
    ) {
        let whole = decode(&mut ChunkDecoder::new(16, 32), [&text[..]]);
        let cut = decode(&mut ChunkDecoder::new(16, 32), pieces(&text, &cuts));
        prop_assert_eq!(&cut, &whole);
        let bytes = decode(&mut ChunkDecoder::new(16, 32), text.chunks(1));
        prop_assert_eq!(&bytes, &whole);
    }

    #[test]
    fn nothing_panics(text in vec(any::<u8>(), 0..200)) {
        let _ = request(&text);
        let _ = response(&text, Method::Get);
        let _ = decode(&mut ChunkDecoder::new(16, 32), [&text[..]]);
        let _ = trailer_fields(&text).count();
    }
}
