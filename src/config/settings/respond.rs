//! Fixed answers.

use super::{Setting, setting};

pub(super) const RESPOND: &[Setting] = &[
    setting(
        "services.*.respond",
        "structure",
        "none",
        "A fixed answer to every request.",
        "(status: 200, body: \"hello\\n\")",
    ),
    setting(
        "services.*.respond.status",
        "integer from 200 to 599",
        "200",
        "The status of the answer.",
        "503",
    ),
    setting(
        "services.*.respond.headers",
        "map of strings to strings",
        "{}",
        "Header fields of the answer.",
        "{\"content-type\": \"text/plain\"}",
    ),
    setting("services.*.respond.body", "string", "\"\"", "The body of the answer.", "\"hello\\n\""),
];
