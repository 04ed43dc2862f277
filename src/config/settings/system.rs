//! Settings of the process.

use super::{Setting, overridden, setting};

pub(super) const SYSTEM: &[Setting] = &[
    setting("system", "structure", "()", "Settings of the process.", "(workers: 2)"),
    overridden(
        setting(
            "system.workers",
            "integer from 1 to 1024",
            "one per core this process may use",
            "Worker threads.",
            "2",
        ),
        "--workers",
        "RIVER_WORKERS",
    ),
    overridden(
        setting(
            "system.pid_file",
            "path",
            "none",
            "File that holds the process id of the instance in service.",
            "\"/run/river/river.pid\"",
        ),
        "--pidfile",
        "RIVER_PIDFILE",
    ),
    overridden(
        setting(
            "system.upgrade_socket",
            "path",
            "none",
            "Unix socket over which an instance hands over to the next one.",
            "\"/run/river/upgrade.sock\"",
        ),
        "--upgrade-socket",
        "RIVER_UPGRADE_SOCKET",
    ),
    setting(
        "system.daemonize",
        "boolean",
        "false",
        "Whether River goes on in the background, as a daemon.",
        "true",
    ),
    setting(
        "system.user",
        "user",
        "none",
        "The user, by name or number, that a River started by root becomes once it has bound its addresses.",
        "\"river\"",
    ),
    setting(
        "system.group",
        "group",
        "primary group of the user",
        "The group, by name or number, that it runs as.",
        "\"river\"",
    ),
    setting(
        "system.drain_timeout",
        "duration",
        "\"60s\"",
        "How long an instance that leaves waits for its connections to end.",
        "\"5m\"",
    ),
    setting(
        "system.tunnel_drain_timeout",
        "duration",
        "\"10m\"",
        "How long an instance that leaves waits for its tunnels to end, where they cannot move to its successor.",
        "\"1h\"",
    ),
    setting(
        "system.certificate_check",
        "duration",
        "\"5s\"",
        "How often the files of certificates are looked at; \"0s\" is only at SIGUSR1.",
        "\"1m\"",
    ),
    setting("system.handoff", "structure", "()", "How a hand-over goes.", "(ready_timeout: \"30s\")"),
    setting(
        "system.handoff.ready_timeout",
        "duration",
        "\"30s\"",
        "How long the successor may take from the offer of the listeners until it is ready.",
        "\"1m\"",
    ),
    setting(
        "system.handoff.guard",
        "duration",
        "\"10s\"",
        "How long after the hand-over the listeners can be taken back; \"0s\" is not at all.",
        "\"20s\"",
    ),
    setting(
        "system.handoff.max_draining",
        "integer from 1 to 1000",
        "8",
        "How many earlier instances may drain at a time; the oldest ends first.",
        "2",
    ),
    setting(
        "system.handoff.idle_connections",
        "Move or Close",
        "Move",
        "What becomes of connections without a request: they move to the successor, or close with their next response.",
        "Close",
    ),
];
