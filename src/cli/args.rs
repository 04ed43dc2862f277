//! The flags and subcommands, as argh reads them.

use argh::FromArgs;

/// An HTTP reverse proxy whose binary and configuration can be replaced while it serves.
#[derive(Clone, Debug, Default, FromArgs)]
#[argh(
    help_triggers("-h", "--help"),
    note = "Without a command, River serves.\n\
            Each flag beats its environment variable, which beats the configuration file.\n\
            River is stopped with SIGTERM (after the connections it has) or SIGINT (at once), replaces itself on\n\
            SIGHUP, and hands over to an instance that waits with --upgrade on SIGQUIT. See river(1), river.ron(5) and\n\
            river-signals(7)."
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

    #[argh(subcommand)]
    pub(super) command: Option<CommandArgs>,
}

/// What is to be done to the running instance.
#[derive(Clone, Debug, FromArgs)]
#[argh(subcommand)]
pub(super) enum CommandArgs {
    Reload(ReloadArgs),
    Status(StatusArgs),
    Stop(StopArgs),
}

/// Replace the running instance by one with this binary and this configuration, and follow both to the end.
#[derive(Clone, Debug, Default, FromArgs)]
#[argh(subcommand, name = "reload", help_triggers("-h", "--help"))]
pub(super) struct ReloadArgs {
    /// the configuration file of the new instance [RIVER_CONFIG]
    #[argh(option, arg_name = "path")]
    pub(super) config: Option<String>,

    /// the socket over which instances hand over [RIVER_UPGRADE_SOCKET]
    #[argh(option, arg_name = "path")]
    pub(super) upgrade_socket: Option<String>,

    /// the file to leave the process id in [RIVER_PIDFILE]
    #[argh(option, arg_name = "path")]
    pub(super) pidfile: Option<String>,

    /// the number of worker threads, 1 to 1024 [RIVER_WORKERS]
    #[argh(option, arg_name = "n")]
    pub(super) workers: Option<String>,

    /// how long all of it may take, 60s unless said otherwise
    #[argh(option, arg_name = "time")]
    pub(super) timeout: Option<String>,
}

/// Print the instances there are: the one in service, and those that still drain.
#[derive(Clone, Debug, Default, FromArgs)]
#[argh(subcommand, name = "status", help_triggers("-h", "--help"))]
pub(super) struct StatusArgs {
    /// the configuration file, for its upgrade socket [RIVER_CONFIG]
    #[argh(option, arg_name = "path")]
    pub(super) config: Option<String>,

    /// the socket of the running instance [RIVER_UPGRADE_SOCKET]
    #[argh(option, arg_name = "path")]
    pub(super) upgrade_socket: Option<String>,

    /// print one JSON object
    #[argh(switch)]
    pub(super) json: bool,
}

/// Stop the running instance, after the connections it has, and wait for its end.
#[derive(Clone, Debug, Default, FromArgs)]
#[argh(subcommand, name = "stop", help_triggers("-h", "--help"))]
pub(super) struct StopArgs {
    /// the configuration file, for its upgrade socket [RIVER_CONFIG]
    #[argh(option, arg_name = "path")]
    pub(super) config: Option<String>,

    /// the socket of the running instance [RIVER_UPGRADE_SOCKET]
    #[argh(option, arg_name = "path")]
    pub(super) upgrade_socket: Option<String>,

    /// how long to wait for its end, 60s unless said otherwise
    #[argh(option, arg_name = "time")]
    pub(super) timeout: Option<String>,
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

/// One subcommand with its flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subcommand {
    /// Its name.
    pub name: &'static str,
    /// The flags that may stand behind it.
    pub flags: &'static [Flag],
}

const fn flag(name: &'static str, takes_value: bool, env: Option<&'static str>) -> Flag {
    Flag { name, takes_value, env }
}

const CONFIG: Flag = flag("--config", true, Some("RIVER_CONFIG"));
const UPGRADE_SOCKET: Flag = flag("--upgrade-socket", true, Some("RIVER_UPGRADE_SOCKET"));
const PIDFILE: Flag = flag("--pidfile", true, Some("RIVER_PIDFILE"));
const WORKERS: Flag = flag("--workers", true, Some("RIVER_WORKERS"));
const TIMEOUT: Flag = flag("--timeout", true, None);
const HELP: Flag = flag("--help", false, None);

/// Every flag of River without a subcommand.
pub const FLAGS: &[Flag] = &[
    CONFIG,
    flag("--upgrade", false, Some("RIVER_UPGRADE")),
    UPGRADE_SOCKET,
    PIDFILE,
    WORKERS,
    flag("--validate-configs", false, None),
    flag("--version", false, None),
    HELP,
];

/// Every subcommand.
pub const SUBCOMMANDS: &[Subcommand] = &[
    Subcommand { name: "reload", flags: &[CONFIG, UPGRADE_SOCKET, PIDFILE, WORKERS, TIMEOUT, HELP] },
    Subcommand { name: "status", flags: &[CONFIG, UPGRADE_SOCKET, flag("--json", false, None), HELP] },
    Subcommand { name: "stop", flags: &[CONFIG, UPGRADE_SOCKET, TIMEOUT, HELP] },
];
