//! One exchange, from the request's head to its log line.

mod settings;

pub use settings::{Handler, Limits, Respond, Service, Timeouts};
