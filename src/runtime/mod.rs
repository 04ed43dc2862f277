//! Worker threads: executor, reactor, timers, streams.
