//! Listeners, accept loops and the connections they made.

mod settings;

pub use settings::ListenerSpec;
