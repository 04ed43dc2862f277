//! The command line that starts the same configuration again, for an operator to copy.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::program::anywhere;
use crate::config::Overrides;

/// The command that starts `config` cold, in a POSIX shell with any working directory and environment; with
/// ` --upgrade` behind it, it starts a successor.
///
/// `program` is the name that this process was started by and `env` its environment; relative paths start from
/// `directory`.
pub fn command(
    program: Option<OsString>,
    env: impl Fn(&str) -> Option<OsString>,
    directory: &Path,
    config: &Path,
    overrides: &Overrides,
) -> String {
    let program = match program.filter(|name| !name.is_empty()) {
        // Not found through PATH, so from the working directory.
        Some(name) if name.as_bytes().contains(&b'/') => anywhere(directory, Path::new(&name)).into(),
        Some(name) => name,
        None => OsString::from("river"),
    };
    let mut variables = String::new();
    let mut flags = quoted(&program);
    // It would make a cold start wait for an incumbent; the flag beats it.
    if env("RIVER_UPGRADE").is_some() {
        variables.push_str("RIVER_UPGRADE=false ");
    }
    let config = anywhere(directory, config);
    let paths = [
        ("--config", "RIVER_CONFIG", Some(&config)),
        ("--upgrade-socket", "RIVER_UPGRADE_SOCKET", overrides.upgrade_socket.as_ref()),
        ("--pidfile", "RIVER_PIDFILE", overrides.pid_file.as_ref()),
    ];
    for (flag, variable, path) in paths {
        let Some(path) = path else { continue };
        let value = quoted(path.as_os_str());
        // A flag has to be UTF-8 text, a variable has not. Writing to a string cannot fail.
        let _ = match path.to_str() {
            Some(_) => write!(flags, " {flag} {value}"),
            None => write!(variables, "{variable}={value} "),
        };
    }
    if let Some(workers) = overrides.workers {
        let _ = write!(flags, " --workers {workers}");
    }
    variables + &flags
}

/// The word as a shell has to read it; what cannot be printed is written as in C (POSIX.1-2024, `$'…'`).
fn quoted(word: &OsStr) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+,:@%".contains(byte);
    match word.to_str() {
        Some(text) if !text.is_empty() && text.bytes().all(|byte| plain(&byte)) => text.to_owned(),
        Some(text) if !text.chars().any(char::is_control) => format!("'{}'", text.replace('\'', "'\\''")),
        _ => {
            let mut quoted = String::from("$'");
            for byte in word.as_bytes() {
                let _ = match byte {
                    byte if plain(byte) => write!(quoted, "{}", char::from(*byte)),
                    byte => write!(quoted, "\\{byte:03o}"),
                };
            }
            quoted + "'"
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::os::unix::ffi::OsStringExt as _;
    use std::path::PathBuf;

    use super::*;

    fn given(program: &str, config: &Path, overrides: &Overrides, upgrade: Option<&str>) -> String {
        let env = |name: &str| upgrade.filter(|_| name == "RIVER_UPGRADE").map(OsString::from);
        command(Some(program.into()), env, Path::new("/home"), config, overrides)
    }

    #[test]
    fn everything_that_beats_the_file_is_in_it() {
        let none = Overrides::default();
        assert_eq!(given("river", Path::new("a.ron"), &none, None), "river --config /home/a.ron");
        let all = Overrides {
            workers: NonZeroUsize::new(3),
            pid_file: Some("/run/it's.pid".into()),
            upgrade_socket: Some("/run/a b.sock".into()),
        };
        assert_eq!(
            given("./bin/river", Path::new("/etc/./a.ron"), &all, Some("true")),
            "RIVER_UPGRADE=false /home/bin/river --config /etc/a.ron --upgrade-socket '/run/a b.sock' \
             --pidfile '/run/it'\\''s.pid' --workers 3"
        );
    }

    #[test]
    fn what_is_no_text_is_given_in_the_environment() {
        let config = PathBuf::from(OsString::from_vec(b"/etc/\xff\n.ron".to_vec()));
        let command = given("river", &config, &Overrides::default(), None);
        assert_eq!(command, "RIVER_CONFIG=$'/etc/\\377\\012.ron' river");
    }

    #[test]
    fn words_are_quoted_where_a_shell_would_read_them_otherwise() {
        let cases = [
            ("", "''"),
            ("a-b_c.d", "a-b_c.d"),
            ("~", "'~'"),
            ("$x", "'$x'"),
            ("é", "'é'"),
            ("\t", "$'\\011'"),
        ];
        for (word, shell) in cases {
            assert_eq!(quoted(OsStr::new(word)), shell);
        }
    }
}
