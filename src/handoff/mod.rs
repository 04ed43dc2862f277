//! The hand-over: messages, the pure protocol machine of each side, the channel.
