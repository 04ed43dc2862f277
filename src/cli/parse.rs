//! From arguments and environment variables to what the user asks for.

use std::error::Error;
use std::ffi::OsString;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use argh::FromArgs;

use crate::config::{self, Overrides, nearest};

use super::args::{Args, FLAGS};

/// The most workers that make sense.
const MAX_WORKERS: usize = 1024;

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
}

/// Why the command line or the environment cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UsageError {
    /// An argument is no UTF-8 text; as far as it can be shown.
    NotText(String),
    /// No such flag; with the nearest one.
    UnknownFlag(String, Option<&'static str>),
    /// A flag cannot be read, in argh's words.
    Flag(String),
    /// A value of a flag or environment variable is wrong: which, what, and why.
    Value {
        /// The flag or the environment variable.
        of: &'static str,
        /// The value given.
        value: String,
        /// What is expected instead.
        expected: &'static str,
    },
    /// There is neither `--config` nor `RIVER_CONFIG`.
    NoConfig,
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotText(argument) => write!(f, "the argument {argument:?} is not UTF-8 text")?,
            Self::UnknownFlag(flag, None) => write!(f, "unknown argument {flag:?}")?,
            Self::UnknownFlag(flag, Some(meant)) => {
                write!(f, "unknown argument {flag:?}; did you mean {meant}?")?;
            }
            Self::Flag(message) => f.write_str(message)?,
            Self::Value { of, value, expected } => write!(f, "{of} is {value:?}; expected {expected}")?,
            Self::NoConfig => f.write_str("no configuration: give --config PATH or set RIVER_CONFIG")?,
        }
        f.write_str(" (river --help lists all flags)")
    }
}

impl Error for UsageError {}

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
    let path = |flag: Option<String>, of, variable| -> Result<Option<PathBuf>, UsageError> {
        let (value, of) = match (flag, env(variable)) {
            (Some(value), _) => (OsString::from(value), of),
            (None, Some(value)) => (value, variable),
            (None, None) => return Ok(None),
        };
        if value.is_empty() {
            return Err(UsageError::Value { of, value: String::new(), expected: "a path" });
        }
        Ok(Some(value.into()))
    };
    let absolute = |path: PathBuf| config::absolute(directory, &path);
    let overrides = Overrides {
        workers: workers(args.workers, &env)?,
        pid_file: path(args.pidfile, "--pidfile", "RIVER_PIDFILE")?.map(absolute),
        upgrade_socket: path(args.upgrade_socket, "--upgrade-socket", "RIVER_UPGRADE_SOCKET")?.map(absolute),
    };
    let upgrade = args.upgrade || boolean("RIVER_UPGRADE", &env)?;
    let config = path(args.config, "--config", "RIVER_CONFIG")?.ok_or(UsageError::NoConfig)?;
    Ok(match args.validate_configs {
        true => Request::Validate { config, overrides },
        false => Request::Run { config, upgrade, overrides },
    })
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
    match Args::from_args(&["river"], &texts) {
        Ok(args) => Ok(Ok(args)),
        Err(exit) if exit.status.is_ok() => Ok(Err(exit.output)),
        Err(exit) => Err(match exit.output.trim().strip_prefix("Unrecognized argument: ") {
            Some(unknown) => {
                let known = FLAGS.iter().map(|flag| flag.name);
                let name = unknown.split('=').next().unwrap_or(unknown);
                UsageError::UnknownFlag(unknown.to_owned(), nearest(name, known))
            }
            None => {
                let message = exit.output.trim().trim_end_matches('.');
                let mut letters = message.chars();
                let first = letters.next().map(|first| first.to_ascii_lowercase());
                UsageError::Flag(first.into_iter().chain(letters).collect())
            }
        }),
    }
}

/// Takes `--flag=value` apart, which argh does not know.
fn split_value(argument: String) -> Vec<String> {
    match argument.split_once('=') {
        Some((name, value)) if FLAGS.iter().any(|flag| flag.takes_value && flag.name == name) => {
            vec![name.to_owned(), value.to_owned()]
        }
        _ => vec![argument],
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
    fn mistakes_name_what_is_wrong() {
        let value = |of, value: &str, expected| UsageError::Value { of, value: value.to_owned(), expected };
        let number = "an integer from 1 to 1024";
        let cases = [
            (vec![], vec![], UsageError::NoConfig),
            (vec!["--workers", "0"], vec![], value("--workers", "0", number)),
            (vec!["--workers=1025"], vec![], value("--workers", "1025", number)),
            (vec![], vec![("RIVER_WORKERS", "")], value("RIVER_WORKERS", "", number)),
            (vec![], vec![("RIVER_UPGRADE", "yes")], value("RIVER_UPGRADE", "yes", "true or false")),
            (vec![], vec![("RIVER_PIDFILE", "")], value("RIVER_PIDFILE", "", "a path")),
            (
                vec!["--upgrade-sock", "x"],
                vec![],
                UsageError::UnknownFlag("--upgrade-sock".to_owned(), Some("--upgrade-socket")),
            ),
            (
                vec!["--pid-file=x"],
                vec![],
                UsageError::UnknownFlag("--pid-file=x".to_owned(), Some("--pidfile")),
            ),
            (vec!["river.ron"], vec![], UsageError::UnknownFlag("river.ron".to_owned(), None)),
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
        let version = format!("river {}", env!("CARGO_PKG_VERSION"));
        assert_eq!(ask(&["--version"], &[]), Ok(Request::Print(version)));
    }
}
