//! From arguments and environment variables to what the user asks for.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use argh::FromArgs;

use crate::base::units;
use crate::config::{self, Overrides, nearest};

use super::UsageError;
use super::args::{Args, CommandArgs, FLAGS, Flag, SUBCOMMANDS};

/// The most workers that make sense.
const MAX_WORKERS: usize = 1024;

/// How long a command may take where nothing else is said.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What the user asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Print a text (help or version) and exit with success.
    Print(String),
    /// Check the configuration and exit.
    Validate {
        /// The configuration file, as the user wrote it.
        config: PathBuf,
        /// What beats the file.
        overrides: Overrides,
    },
    /// Serve.
    Run {
        /// The configuration file, as the user wrote it.
        config: PathBuf,
        /// Whether to wait for the running instance to hand over.
        upgrade: bool,
        /// What beats the file.
        overrides: Overrides,
    },
    /// Replace the running instance.
    Reload {
        /// The configuration file of the new instance, as the user wrote it.
        config: PathBuf,
        /// What beats the file.
        overrides: Overrides,
        /// How long all of it may take.
        timeout: Duration,
    },
    /// Print the instances there are.
    Status {
        /// Where the running instance is.
        whereabouts: Whereabouts,
        /// Whether to print JSON.
        json: bool,
    },
    /// Stop the running instance.
    Stop {
        /// Where the running instance is.
        whereabouts: Whereabouts,
        /// How long to wait for its end.
        timeout: Duration,
    },
}

/// Where a running instance is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whereabouts {
    /// At this upgrade socket; absolute.
    Socket(PathBuf),
    /// At the upgrade socket that this configuration file names.
    Config(PathBuf),
}

/// Reads the arguments after the program's name, and the environment through `env`.
///
/// `directory` is where relative paths of flags and variables start from; the configuration's own path stays as it
/// was written, since it is shown in messages.
///
/// # Errors
///
/// When the user has to be told that this cannot be followed ([`super::Exit::Usage`]).
pub fn parse(
    arguments: impl IntoIterator<Item = OsString>,
    env: impl Fn(&str) -> Option<OsString>,
    directory: &Path,
) -> Result<Request, UsageError> {
    let args = match read_flags(arguments)? {
        Ok(args) => args,
        Err(help) => return Ok(Request::Print(help)),
    };
    if args.version {
        return Ok(Request::Print(format!("river {}", env!("CARGO_PKG_VERSION"))));
    }
    let given = Given { env, directory };
    let Some(command) = args.command else {
        let overrides = given.overrides(args.workers, args.pidfile, args.upgrade_socket)?;
        let upgrade = args.upgrade || boolean("RIVER_UPGRADE", &given.env)?;
        let config = given.config(args.config)?.ok_or(UsageError::NoConfig)?;
        return Ok(match args.validate_configs {
            true => Request::Validate { config, overrides },
            false => Request::Run { config, upgrade, overrides },
        });
    };
    Ok(match command {
        CommandArgs::Reload(args) => Request::Reload {
            overrides: given.overrides(args.workers, args.pidfile, args.upgrade_socket)?,
            config: given.config(args.config)?.ok_or(UsageError::NoConfig)?,
            timeout: timeout(args.timeout)?,
        },
        CommandArgs::Status(args) => Request::Status {
            whereabouts: given.whereabouts(args.config, args.upgrade_socket)?,
            json: args.json,
        },
        CommandArgs::Stop(args) => Request::Stop {
            whereabouts: given.whereabouts(args.config, args.upgrade_socket)?,
            timeout: timeout(args.timeout)?,
        },
    })
}

/// What stands beside the arguments.
struct Given<'d, E> {
    env: E,
    directory: &'d Path,
}

impl<E: Fn(&str) -> Option<OsString>> Given<'_, E> {
    fn overrides(
        &self,
        workers: Option<String>,
        pidfile: Option<String>,
        upgrade_socket: Option<String>,
    ) -> Result<Overrides, UsageError> {
        Ok(Overrides {
            workers: self::workers(workers, &self.env)?,
            pid_file: self.absolute(pidfile, "--pidfile", "RIVER_PIDFILE")?,
            upgrade_socket: self.socket(upgrade_socket)?,
        })
    }

    /// A socket that is said beats one that a configuration names, whichever of the two a variable says.
    fn whereabouts(
        &self,
        config: Option<String>,
        upgrade_socket: Option<String>,
    ) -> Result<Whereabouts, UsageError> {
        if let Some(socket) = self.socket(upgrade_socket)? {
            return Ok(Whereabouts::Socket(socket));
        }
        self.config(config)?.map(Whereabouts::Config).ok_or(UsageError::NoSocket)
    }

    fn socket(&self, flag: Option<String>) -> Result<Option<PathBuf>, UsageError> {
        self.absolute(flag, "--upgrade-socket", "RIVER_UPGRADE_SOCKET")
    }

    fn config(&self, flag: Option<String>) -> Result<Option<PathBuf>, UsageError> {
        self.path(flag, "--config", "RIVER_CONFIG")
    }

    fn absolute(
        &self,
        flag: Option<String>,
        of: &'static str,
        variable: &'static str,
    ) -> Result<Option<PathBuf>, UsageError> {
        Ok(self.path(flag, of, variable)?.map(|path| config::absolute(self.directory, &path)))
    }

    fn path(
        &self,
        flag: Option<String>,
        of: &'static str,
        variable: &'static str,
    ) -> Result<Option<PathBuf>, UsageError> {
        let (value, of) = match (flag, (self.env)(variable)) {
            (Some(value), _) => (OsString::from(value), of),
            (None, Some(value)) => (value, variable),
            (None, None) => return Ok(None),
        };
        if value.is_empty() {
            return Err(UsageError::Value { of, value: String::new(), expected: "a path" });
        }
        Ok(Some(value.into()))
    }
}

/// Reads the flags, or gives the help text that they ask for.
fn read_flags(arguments: impl IntoIterator<Item = OsString>) -> Result<Result<Args, String>, UsageError> {
    let mut texts = Vec::new();
    for argument in arguments {
        match argument.into_string() {
            Ok(text) => texts.extend(split_value(text)),
            Err(other) => return Err(UsageError::NotText(other.to_string_lossy().into_owned())),
        }
    }
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let read = Args::from_args(&["river"], &texts);
    // A flag that stands before a command would have to be read as the command's, and not all of them are.
    if let Ok(Args { command: Some(_), .. }) = &read
        && let Some(first) = texts.first().filter(|first| first.starts_with('-'))
    {
        let command = texts.iter().find_map(|text| SUBCOMMANDS.iter().find(|one| one.name == *text));
        return Err(UsageError::Misplaced(
            (*first).to_owned(),
            command.map_or("the command", |one| one.name),
        ));
    }
    match read {
        Ok(args) => Ok(Ok(args)),
        Err(exit) if exit.status.is_ok() => Ok(Err(exit.output)),
        Err(exit) => Err(match exit.output.trim().strip_prefix("Unrecognized argument: ") {
            Some(unknown) => unrecognized(unknown, texts.first().copied().unwrap_or_default()),
            None => {
                let message = exit.output.trim().trim_end_matches('.');
                let mut letters = message.chars();
                let first = letters.next().map(|first| first.to_ascii_lowercase());
                UsageError::Flag(first.into_iter().chain(letters).collect())
            }
        }),
    }
}

/// The error for an argument that nobody knows, with what was probably meant where it stands.
fn unrecognized(unknown: &str, first: &str) -> UsageError {
    let name = unknown.split('=').next().unwrap_or(unknown);
    let command = SUBCOMMANDS.iter().find(|command| command.name == first);
    let flags = command.map_or(FLAGS, |command| command.flags).iter().map(|flag| flag.name);
    let commands = SUBCOMMANDS.iter().map(|command| command.name).filter(|_| command.is_none());
    let known: Vec<_> = flags.chain(commands).collect();
    let habit = HABITS.iter().find(|(words, _)| words.contains(&name)).map(|(_, meant)| *meant);
    let habit = habit.filter(|meant| known.contains(meant));
    let is_path = !name.starts_with('-') && name.contains(['.', '/']);
    let meant = match habit.or_else(|| nearest(name, known)) {
        None if is_path => Some(format!("--config {unknown}")),
        meant => meant.map(str::to_owned),
    };
    UsageError::UnknownFlag(unknown.to_owned(), meant)
}

/// What users of other servers are used to, and what it is called here.
const HABITS: &[(&[&str], &str)] = &[
    (&["-c", "-f", "--conf", "--config-file"], "--config"),
    (
        &["-t", "-T", "--test", "test", "--check", "check", "--validate", "validate", "configtest"],
        "--validate-configs",
    ),
    (&["-v", "-V", "version"], "--version"),
    (&["help"], "--help"),
    (&["restart", "upgrade"], "reload"),
    (&["quit", "shutdown"], "stop"),
];

/// Takes `--flag=value` apart, which argh does not know.
fn split_value(argument: String) -> Vec<String> {
    match argument.split_once('=') {
        Some((name, value)) if all_flags().any(|flag| flag.takes_value && flag.name == name) => {
            vec![name.to_owned(), value.to_owned()]
        }
        _ => vec![argument],
    }
}

fn all_flags() -> impl Iterator<Item = &'static Flag> {
    SUBCOMMANDS.iter().flat_map(|command| command.flags).chain(FLAGS)
}

fn timeout(flag: Option<String>) -> Result<Duration, UsageError> {
    let Some(value) = flag else { return Ok(TIMEOUT) };
    match units::parse_duration(&value) {
        Ok(time) if !time.is_zero() => Ok(time),
        _ => Err(UsageError::Value {
            of: "--timeout",
            value,
            expected: "a time above zero, such as 500ms, 90s or 5m",
        }),
    }
}

fn workers(
    flag: Option<String>,
    env: &impl Fn(&str) -> Option<OsString>,
) -> Result<Option<NonZeroUsize>, UsageError> {
    let (value, of) = match (flag, env("RIVER_WORKERS")) {
        (Some(value), _) => (value, "--workers"),
        (None, Some(value)) => (value.to_string_lossy().into_owned(), "RIVER_WORKERS"),
        (None, None) => return Ok(None),
    };
    let number = value.parse().ok().filter(|n: &NonZeroUsize| n.get() <= MAX_WORKERS);
    match number {
        Some(number) => Ok(Some(number)),
        None => Err(UsageError::Value { of, value, expected: "an integer from 1 to 1024" }),
    }
}

fn boolean(of: &'static str, env: &impl Fn(&str) -> Option<OsString>) -> Result<bool, UsageError> {
    match env(of).map(|value| value.to_string_lossy().into_owned()).as_deref() {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(value) => Err(UsageError::Value { of, value: value.to_owned(), expected: "true or false" }),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn ask(arguments: &[&str], env: &[(&str, &str)]) -> Result<Request, UsageError> {
        let env: HashMap<&str, &str> = env.iter().copied().collect();
        let arguments = arguments.iter().map(OsString::from);
        parse(arguments, |name| env.get(name).map(OsString::from), Path::new("/home"))
    }

    fn run(request: Result<Request, UsageError>) -> (PathBuf, bool, Overrides) {
        match request {
            Ok(Request::Run { config, upgrade, overrides }) => (config, upgrade, overrides),
            other => panic!("not a run: {other:?}"),
        }
    }

    const ALL_VARIABLES: [(&str, &str); 5] = [
        ("RIVER_CONFIG", "env.ron"),
        ("RIVER_UPGRADE", "true"),
        ("RIVER_UPGRADE_SOCKET", "env.sock"),
        ("RIVER_PIDFILE", "/run/env.pid"),
        ("RIVER_WORKERS", "3"),
    ];

    #[test]
    fn the_environment_is_read() {
        let (config, upgrade, overrides) = run(ask(&[], &ALL_VARIABLES));
        assert_eq!(config, Path::new("env.ron"));
        assert!(upgrade);
        assert_eq!(overrides.workers, NonZeroUsize::new(3));
        assert_eq!(overrides.pid_file.as_deref(), Some(Path::new("/run/env.pid")));
        assert_eq!(overrides.upgrade_socket.as_deref(), Some(Path::new("/home/env.sock")));
    }

    #[test]
    fn flags_beat_the_environment() {
        let flags = "--config flag.ron --upgrade-socket ../flag.sock --pidfile=flag.pid --workers 5";
        let flags: Vec<&str> = flags.split(' ').collect();
        let (config, _, overrides) = run(ask(&flags, &ALL_VARIABLES));
        assert_eq!(config, Path::new("flag.ron"));
        assert_eq!(overrides.workers, NonZeroUsize::new(5));
        assert_eq!(overrides.pid_file.as_deref(), Some(Path::new("/home/flag.pid")));
        assert_eq!(overrides.upgrade_socket.as_deref(), Some(Path::new("/flag.sock")));
    }

    #[test]
    fn what_a_flag_beats_is_not_read() {
        let request = ask(&["--config", "x", "--workers", "1"], &[("RIVER_WORKERS", "many")]);
        assert_eq!(run(request).2.workers, NonZeroUsize::new(1));
    }

    #[test]
    fn nothing_is_overridden_where_nothing_is_said() {
        let (_, upgrade, overrides) = run(ask(&["--config", "x"], &[]));
        assert!(!upgrade);
        assert_eq!(overrides, Overrides::default());
    }

    #[test]
    fn commands_are_read_with_their_flags_and_the_environment() {
        let reload = |overrides, timeout| Request::Reload { config: "a.ron".into(), overrides, timeout };
        assert_eq!(
            ask(&["reload", "--config", "a.ron"], &[]),
            Ok(reload(Overrides::default(), Duration::from_secs(60)))
        );
        let overrides = Overrides {
            workers: NonZeroUsize::new(2),
            pid_file: Some("/run/env.pid".into()),
            upgrade_socket: Some("/home/u.sock".into()),
        };
        let flags = ["reload", "--config=a.ron", "--timeout=1m30s", "--upgrade-socket=u.sock", "--workers=2"];
        // That this process is no successor goes without saying.
        assert_eq!(ask(&flags, &ALL_VARIABLES), Ok(reload(overrides, Duration::from_secs(90))));
        let socket = |path: &str| Whereabouts::Socket(path.into());
        let config = |path: &str| Whereabouts::Config(path.into());
        let cases = [
            (vec![], vec![("RIVER_CONFIG", "e.ron")], config("e.ron")),
            (vec!["--config", "f.ron"], vec![("RIVER_CONFIG", "e.ron")], config("f.ron")),
            (vec!["--config", "f.ron"], vec![("RIVER_UPGRADE_SOCKET", "e.sock")], socket("/home/e.sock")),
            (vec!["--upgrade-socket", "/f.sock", "--config", "f.ron"], vec![], socket("/f.sock")),
        ];
        for (flags, env, whereabouts) in cases {
            let status: Vec<&str> = ["status"].into_iter().chain(flags.clone()).collect();
            let expected = Request::Status { whereabouts: whereabouts.clone(), json: false };
            assert_eq!(ask(&status, &env), Ok(expected), "{flags:?} {env:?}");
            let stop: Vec<&str> = ["stop"].into_iter().chain(flags).chain(["--timeout", "2s"]).collect();
            let expected = Request::Stop { whereabouts, timeout: Duration::from_secs(2) };
            assert_eq!(ask(&stop, &env), Ok(expected), "{stop:?} {env:?}");
        }
        let json = Request::Status { whereabouts: config("x"), json: true };
        assert_eq!(ask(&["status", "--json", "--config", "x"], &[]), Ok(json));
    }

    #[test]
    fn mistakes_name_what_is_wrong() {
        let value = |of, value: &str, expected| UsageError::Value { of, value: value.to_owned(), expected };
        let unknown = |flag: &str, meant: Option<&str>| {
            UsageError::UnknownFlag(flag.to_owned(), meant.map(str::to_owned))
        };
        let number = "an integer from 1 to 1024";
        let cases = [
            (vec![], vec![], UsageError::NoConfig),
            (vec!["--workers", "0"], vec![], value("--workers", "0", number)),
            (vec!["--workers=1025"], vec![], value("--workers", "1025", number)),
            (vec![], vec![("RIVER_WORKERS", "")], value("RIVER_WORKERS", "", number)),
            (vec![], vec![("RIVER_UPGRADE", "yes")], value("RIVER_UPGRADE", "yes", "true or false")),
            (vec![], vec![("RIVER_PIDFILE", "")], value("RIVER_PIDFILE", "", "a path")),
            (vec!["--upgrade-sock", "x"], vec![], unknown("--upgrade-sock", Some("--upgrade-socket"))),
            (vec!["--pid-file=x"], vec![], unknown("--pid-file=x", Some("--pidfile"))),
            (vec!["river.ron"], vec![], unknown("river.ron", Some("--config river.ron"))),
            (vec!["reload", "/etc/river"], vec![], unknown("/etc/river", Some("--config /etc/river"))),
            (vec!["-c", "x"], vec![], unknown("-c", Some("--config"))),
            (vec!["status", "-c", "x"], vec![], unknown("-c", Some("--config"))),
            (vec!["validate", "x"], vec![], unknown("validate", Some("--validate-configs"))),
            (vec!["status", "-t"], vec![], unknown("-t", None)),
            (vec!["--reload"], vec![], unknown("--reload", Some("reload"))),
            (vec!["--sing-along"], vec![], unknown("--sing-along", None)),
            (vec!["relaod"], vec![], unknown("relaod", Some("reload"))),
            (vec!["status", "--jso"], vec![], unknown("--jso", Some("--json"))),
            (vec!["reload"], vec![], UsageError::NoConfig),
            (vec!["status"], vec![], UsageError::NoSocket),
            (vec!["stop"], vec![("RIVER_PIDFILE", "x")], UsageError::NoSocket),
            (vec!["status", "--upgrade-socket", ""], vec![], value("--upgrade-socket", "", "a path")),
            (vec!["--config", "x", "reload"], vec![], UsageError::Misplaced("--config".to_owned(), "reload")),
            (
                vec!["stop", "--config", "x", "--timeout", "60"],
                vec![],
                value("--timeout", "60", "a time above zero, such as 500ms, 90s or 5m"),
            ),
            (
                vec!["reload", "--config", "x", "--timeout=0s"],
                vec![],
                value("--timeout", "0s", "a time above zero, such as 500ms, 90s or 5m"),
            ),
        ];
        for (arguments, env, error) in cases {
            assert_eq!(ask(&arguments, &env), Err(error), "{arguments:?} {env:?}");
        }
        assert!(matches!(ask(&["--config"], &[]), Err(UsageError::Flag(_))));
        assert!(matches!(ask(&["--config", "a", "--config", "b"], &[]), Err(UsageError::Flag(_))));
    }

    #[test]
    fn help_and_version_are_printed() {
        for flag in ["--help", "-h"] {
            let Ok(Request::Print(help)) = ask(&[flag], &[]) else { panic!("{flag} prints nothing") };
            for flag in FLAGS {
                assert!(help.contains(flag.name), "{} is not in the help", flag.name);
                assert!(flag.env.is_none_or(|env| help.contains(env)), "{:?} is not in the help", flag.env);
            }
        }
        for command in SUBCOMMANDS {
            let Ok(Request::Print(help)) = ask(&[command.name, "--help"], &[]) else {
                panic!("{} --help prints nothing", command.name)
            };
            for flag in command.flags {
                assert!(help.contains(flag.name), "{} is not in the help of {}", flag.name, command.name);
                assert!(flag.env.is_none_or(|env| help.contains(env)), "{:?} is not in the help", flag.env);
            }
            let Ok(Request::Print(help)) = ask(&["--help"], &[]) else { panic!("--help prints nothing") };
            assert!(help.contains(&format!("\n  {} ", command.name)), "{help}");
        }
        let version = format!("river {}", env!("CARGO_PKG_VERSION"));
        assert_eq!(ask(&["--version"], &[]), Ok(Request::Print(version)));
    }
}
