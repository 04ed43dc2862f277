//! The flags, as argh reads them.

use argh::FromArgs;

/// An HTTP reverse proxy whose binary and configuration can be replaced while it serves.
#[derive(Clone, Debug, Default, FromArgs)]
#[argh(
    help_triggers("-h", "--help"),
    note = "Each flag beats its environment variable, which beats the configuration file.\n\
            River is stopped with SIGTERM (after the connections it has) or SIGINT (at once), and hands over to an\n\
            instance that waits with --upgrade on SIGQUIT. See river(1), river.ron(5) and river-signals(7)."
)]
pub(super) struct Args {
    /// the configuration file [RIVER_CONFIG]
    #[argh(option, arg_name = "path")]
    pub(super) config: Option<String>,

    /// wait for the running instance to hand over its listeners [RIVER_UPGRADE]
    #[argh(switch)]
    pub(super) upgrade: bool,

    /// the socket over which instances hand over [RIVER_UPGRADE_SOCKET]
    #[argh(option, arg_name = "path")]
    pub(super) upgrade_socket: Option<String>,

    /// the file to leave the process id in [RIVER_PIDFILE]
    #[argh(option, arg_name = "path")]
    pub(super) pidfile: Option<String>,

    /// the number of worker threads, 1 to 1024 [RIVER_WORKERS]
    #[argh(option, arg_name = "n")]
    pub(super) workers: Option<String>,

    /// check the configuration, print what is wrong with it, and exit
    #[argh(switch)]
    pub(super) validate_configs: bool,

    /// print the version and exit
    #[argh(switch)]
    pub(super) version: bool,
}

/// One flag, for the manual page's test and for suggestions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flag {
    /// Its name, dashes included.
    pub name: &'static str,
    /// Whether a value follows it.
    pub takes_value: bool,
    /// The environment variable that stands in for it.
    pub env: Option<&'static str>,
}

const fn flag(name: &'static str, takes_value: bool, env: Option<&'static str>) -> Flag {
    Flag { name, takes_value, env }
}

/// Every flag.
pub const FLAGS: &[Flag] = &[
    flag("--config", true, Some("RIVER_CONFIG")),
    flag("--upgrade", false, Some("RIVER_UPGRADE")),
    flag("--upgrade-socket", true, Some("RIVER_UPGRADE_SOCKET")),
    flag("--pidfile", true, Some("RIVER_PIDFILE")),
    flag("--workers", true, Some("RIVER_WORKERS")),
    flag("--validate-configs", false, None),
    flag("--version", false, None),
    flag("--help", false, None),
];
