//! Paths: made absolute, and looked at before anything depends on them.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Component, Path, PathBuf};

/// The longest path of a Unix socket, in bytes; the kernel's 108 include a closing zero (unix(7)).
pub(super) const MAX_SOCKET: usize = 107;

/// The longest path of a Unix socket that River makes. It is bound to `.NAME.PID` first and then renamed, so that it
/// is never missing; the dots and a pid of seven digits have to fit as well.
pub(super) const MAX_OWN_SOCKET: usize = MAX_SOCKET - 9;

/// Makes `path` absolute from `directory` and resolves `.` and `..` in its text.
///
/// Symbolic links are not followed: the same text has to name the same listener when a link points elsewhere.
pub(crate) fn absolute(directory: &Path, path: &Path) -> PathBuf {
    let mut absolute = PathBuf::from("/");
    for component in directory.join(path).components() {
        match component {
            Component::ParentDir => {
                absolute.pop();
            }
            Component::Normal(name) => absolute.push(name),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    absolute
}

/// Says why `path` (absolute; `written` is how the user wrote it) is not that of a file, whatever its directory is.
fn check_name(written: &str, path: &Path) -> Result<(), String> {
    if written.is_empty() {
        return Err("the path is empty".to_owned());
    }
    if written.chars().any(char::is_control) {
        return Err("the path has control characters".to_owned());
    }
    if written.ends_with('/') || path.file_name().is_none() || path.is_dir() {
        return Err(format!("{written:?} is a directory; a file's path is needed"));
    }
    Ok(())
}

/// Says what keeps a file from being made at `path` (absolute; `written` is how the user wrote it).
pub(super) fn check_place(written: &str, path: &Path) -> Result<(), String> {
    check_name(written, path)?;
    let parent = path.parent().unwrap_or(path);
    // The parent as written, since the absolute one is not what the user would look for in the file.
    let shown = match Path::new(written).parent().map(|parent| parent.display().to_string()) {
        Some(parent) if !parent.is_empty() => format!("{parent:?}"),
        _ => "of the configuration".to_owned(),
    };
    match fs::metadata(parent) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(format!("{shown} is not a directory")),
        Err(error) => Err(format!("the directory {shown} cannot be used: {error}")),
    }
}

/// Says why `path` can never be that of a Unix socket that River makes; its directory may come later.
pub(super) fn check_socket_name(written: &str, path: &Path) -> Result<(), String> {
    if written.starts_with('@') {
        return Err("abstract sockets are not supported; a path is needed".to_owned());
    }
    check_length(path, MAX_OWN_SOCKET)?;
    check_name(written, path)
}

/// Says what keeps a Unix socket from being bound at `path`, beyond [`check_place`].
pub(super) fn check_socket(written: &str, path: &Path) -> Result<(), String> {
    check_socket_name(written, path)?;
    check_place(written, path)?;
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            Err(format!("{written:?} exists and is not a socket"))
        }
        _ => Ok(()),
    }
}

/// Says what keeps a pid file from being written at `path`, beyond [`check_place`].
pub(super) fn check_pid_file(written: &str, path: &Path) -> Result<(), String> {
    check_place(written, path)?;
    match fs::symlink_metadata(path) {
        // A link is not followed: the file is replaced by renaming, which would replace the link.
        Ok(metadata) if !metadata.is_file() => Err(format!("{written:?} exists and is no regular file")),
        _ => Ok(()),
    }
}

/// Says that a path is too long for a Unix socket.
pub(super) fn check_length(path: &Path, most: usize) -> Result<(), String> {
    match path.as_os_str().as_bytes().len() {
        length if length > most => {
            Err(format!("the socket's absolute path has {length} bytes; at most {most} are possible"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_absolute_and_plain() {
        let cases = [
            ("river.pid", "/etc/river/river.pid"),
            ("../run/./river.pid", "/etc/run/river.pid"),
            ("/run//river.pid", "/run/river.pid"),
            ("../../../../x", "/x"),
            (".", "/etc/river"),
        ];
        for (path, expected) in cases {
            assert_eq!(absolute(Path::new("/etc/river"), Path::new(path)), Path::new(expected), "{path}");
        }
    }

    #[test]
    fn a_socket_path_takes_107_bytes() {
        let path = |length: usize| PathBuf::from(format!("/{}", "x".repeat(length - 1)));
        assert_eq!(check_length(&path(107), MAX_SOCKET), Ok(()));
        assert!(check_length(&path(108), MAX_SOCKET).is_err());
    }
}
