//! Sockets, descriptor passing, credentials, pidfile, signals.
