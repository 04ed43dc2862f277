//! A Unix socket's path that appears by rename and is removed only by its owner.
//!
//! A socket is bound to `.NAME.PID` beside its path and renamed into place when it is ready, so a client finds either
//! the socket that was there before or the new one, and never a gap. The socket's own name (getsockname(2)) stays the
//! temporary one for as long as it lives, in every process that inherits it; [`is_name_of`] knows that form.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use rustix::net::sockopt::{socket_peercred, socket_type};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, socket_with};

use super::pidfile::{as_whom, may_make_files};
use crate::base::FileId;

/// A socket's path in the file system, and the file that stands there while the path is this socket's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedPath {
    path: PathBuf,
    file: FileId,
}

/// A socket bound to its temporary name, which is removed on drop unless it was published.
#[derive(Debug)]
pub struct StagedPath {
    temporary: PathBuf,
    path: PathBuf,
    /// What stood at the path and may be replaced.
    replaces: Option<FileId>,
}

/// Why a Unix socket cannot take its path.
#[derive(Debug)]
pub enum PathError {
    /// Something that is no socket stands at the path; River does not replace it.
    NotASocket(PathBuf),
    /// A process accepts connections at the path.
    InUse(PathBuf),
    /// The path and the suffix of its temporary name exceed what a socket address holds (107 bytes).
    TooLong(PathBuf),
    /// The path has no file name or no directory.
    BadPath(PathBuf),
    /// The socket that stood at the path does not stand there any more.
    Lost(PathBuf),
    /// The file system refused.
    Io(PathBuf, io::Error),
}

impl StagedPath {
    /// Binds `socket` to the temporary name of `path` and sets its mode.
    ///
    /// What stands at `path` must be nothing, a socket that nobody accepts on, or one on which a process of
    /// `may_replace` listens: the pids of those whose place the caller takes.
    ///
    /// # Errors
    /// [`PathError`]; nothing is left behind.
    pub fn bind(socket: &OwnedFd, path: &Path, mode: u32, may_replace: &[u32]) -> Result<Self, PathError> {
        let io_error = |error: io::Error| PathError::Io(path.to_owned(), error);
        let replaces = match fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(PathError::NotASocket(path.to_owned()));
            }
            Ok(found) => match tenant(socket, path).map_err(io_error)? {
                Tenant::Process(pid) if !may_replace.contains(&pid) => {
                    return Err(PathError::InUse(path.to_owned()));
                }
                // Whose place is taken may run as root, and this process may have given that up.
                Tenant::Hidden if may_replace.is_empty() => return Err(io_error(Errno::ACCESS.into())),
                Tenant::Unknown => return Err(PathError::InUse(path.to_owned())),
                Tenant::Nobody | Tenant::Hidden | Tenant::Process(_) => Some(FileId::of(&found)),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(io_error(error)),
        };
        let temporary = temporary_name(path).ok_or_else(|| PathError::BadPath(path.to_owned()))?;
        let address = SocketAddrUnix::new(&temporary).map_err(|_| PathError::TooLong(path.to_owned()))?;
        // The name carries our pid, so a leftover of that name is an ended process's and may go.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_error(error)),
            _ => {}
        }
        bind(socket, &address).map_err(|error| io_error(error.into()))?;
        let staged = Self { temporary, path: path.to_owned(), replaces };
        fs::set_permissions(&staged.temporary, Permissions::from_mode(mode)).map_err(io_error)?;
        Ok(staged)
    }

    /// Renames the socket into place. It should be listening by now.
    ///
    /// # Errors
    /// [`PathError::InUse`] when something else has come to the path since [`bind`](Self::bind) looked, as when two
    /// processes take the place of a third that died; [`PathError::Io`]. What stands at the path is then still there.
    pub fn publish(self) -> Result<OwnedPath, PathError> {
        let io_error = |error: io::Error| PathError::Io(self.path.clone(), error);
        let identity = fs::symlink_metadata(&self.temporary).map_err(io_error)?;
        let flags = if self.replaces.is_some() { RenameFlags::EXCHANGE } else { RenameFlags::NOREPLACE };
        match self.rename(flags) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Err(PathError::InUse(self.path.clone())),
            // The stale one was removed since.
            Err(Errno::NOENT) => match self.rename(RenameFlags::NOREPLACE) {
                Err(Errno::EXIST) => return Err(PathError::InUse(self.path.clone())),
                other => other.map_err(|error| io_error(error.into()))?,
            },
            // This file system cannot; so much for two at the same moment.
            Err(Errno::INVAL | Errno::NOSYS) => fs::rename(&self.temporary, &self.path).map_err(io_error)?,
            Err(error) => return Err(io_error(error.into())),
        }
        // What stood there bears the temporary name now, and goes with `self`. If it is not what was looked at, it is
        // somebody's who came first.
        let replaced = fs::symlink_metadata(&self.temporary).ok().map(|found| FileId::of(&found));
        if replaced.is_some() && replaced != self.replaces && self.rename(RenameFlags::EXCHANGE).is_ok() {
            return Err(PathError::InUse(self.path.clone()));
        }
        Ok(OwnedPath { path: self.path.clone(), file: FileId::of(&identity) })
    }

    fn rename(&self, flags: RenameFlags) -> Result<(), Errno> {
        renameat_with(CWD, &self.temporary, CWD, &self.path, flags)
    }
}

impl Drop for StagedPath {
    fn drop(&mut self) {
        // After a publish what it replaced has the temporary name, or nothing.
        let _ = fs::remove_file(&self.temporary);
    }
}

impl OwnedPath {
    /// Takes over the socket at `path`, which its former owner knew as `file`.
    ///
    /// # Errors
    /// When something else stands there now, or nothing.
    pub fn claim(path: &Path, file: FileId) -> Result<Self, PathError> {
        let claimed = Self { path: path.to_owned(), file };
        if claimed.is_ours() { Ok(claimed) } else { Err(PathError::Lost(path.to_owned())) }
    }

    /// Whether a socket could be made at `path` now: this process may make files in its directory.
    ///
    /// # Errors
    /// [`PathError`] with what is in the way.
    pub fn check(path: &Path) -> Result<(), PathError> {
        let directory = path.parent().ok_or_else(|| PathError::BadPath(path.to_owned()))?;
        may_make_files(directory).map_err(|error| PathError::Io(path.to_owned(), error))
    }

    /// The file that stands at the path while it is this socket's.
    pub fn file(&self) -> FileId {
        self.file
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The permissions of what stands there; 0 where nothing does.
    pub fn mode(&self) -> u32 {
        fs::symlink_metadata(&self.path).map_or(0, |found| found.permissions().mode() & 0o777)
    }

    /// Whether the path still leads to this socket.
    pub fn is_ours(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|found| FileId::of(&found) == self.file)
    }

    /// Removes the path if it still leads to this socket, and says whether it did.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn remove_if_ours(&self) -> io::Result<bool> {
        if !self.is_ours() {
            return Ok(false);
        }
        fs::remove_file(&self.path).map(|()| true)
    }
}

/// Whether a socket that calls itself `bound` was made by River for `path`: it is the path, or its temporary name.
pub(super) fn is_name_of(bound: &Path, path: &Path) -> bool {
    if bound == path {
        return true;
    }
    let (Some(bound_name), Some(name)) = (bound.file_name(), path.file_name()) else { return false };
    let pid = bound_name
        .as_bytes()
        .strip_prefix(b".")
        .and_then(|rest| rest.strip_prefix(name.as_bytes()))
        .and_then(|rest| rest.strip_prefix(b"."));
    bound.parent() == path.parent()
        && pid.is_some_and(|pid| !pid.is_empty() && pid.iter().all(u8::is_ascii_digit))
}

fn temporary_name(path: &Path) -> Option<PathBuf> {
    let name: &OsStr = path.file_name()?;
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}", std::process::id()));
    Some(path.parent()?.join(hidden))
}

/// Who accepts on a socket.
enum Tenant {
    Nobody,
    /// The process that called listen(2).
    Process(u32),
    Unknown,
    /// It is for another user alone.
    Hidden,
}

/// Who accepts on the socket at `path`, found by connecting to it.
fn tenant(like: &OwnedFd, path: &Path) -> io::Result<Tenant> {
    let kind: SocketType = socket_type(like)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let probe = socket_with(AddressFamily::UNIX, kind, flags, None)?;
    match connect(probe.as_fd(), &SocketAddrUnix::new(path)?) {
        Ok(()) => Ok(socket_peercred(&probe)
            .map_or(Tenant::Unknown, |peer| Tenant::Process(peer.pid.as_raw_nonzero().get().unsigned_abs()))),
        // A full queue or a socket of another type is somebody's all the same.
        Err(Errno::AGAIN | Errno::INPROGRESS | Errno::PROTOTYPE) => Ok(Tenant::Unknown),
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(Tenant::Nobody),
        Err(Errno::ACCESS) => Ok(Tenant::Hidden),
        Err(error) => Err(error.into()),
    }
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotASocket(path) => {
                write!(f, "{} exists and is no socket; remove it or choose another path", path.display())
            }
            Self::InUse(path) => write!(f, "another process accepts connections at {}", path.display()),
            Self::TooLong(path) => write!(
                f,
                "{} is too long: with the suffix of its temporary name a socket's path has 107 bytes at most",
                path.display()
            ),
            Self::BadPath(path) => write!(f, "{} is not a file in a directory", path.display()),
            Self::Lost(path) => {
                write!(f, "{} does not lead to this instance's socket any more", path.display())
            }
            Self::Io(path, cause) => {
                write!(f, "cannot make a socket at {}{}", path.display(), as_whom(cause))
            }
        }
    }
}

impl std::error::Error for PathError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(_, cause) => Some(cause),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::listen;
    use std::os::unix::fs::MetadataExt;

    fn socket() -> OwnedFd {
        socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap()
    }

    fn publish(path: &Path, may_replace: &[u32]) -> Result<(OwnedFd, OwnedPath), PathError> {
        let socket = socket();
        let staged = StagedPath::bind(&socket, path, 0o600, may_replace)?;
        listen(&socket, 16).unwrap();
        let owned = staged.publish()?;
        Ok((socket, owned))
    }

    #[test]
    fn it_has_its_mode_and_leaves_nothing_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let (_socket, owned) = publish(&path, &[]).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        std::os::unix::net::UnixStream::connect(&path).unwrap();
        assert!(owned.remove_if_ours().unwrap());
        assert!(!path.exists());
    }

    #[test]
    fn a_live_socket_is_refused_and_a_stale_one_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let (live, first) = publish(&path, &[]).unwrap();
        assert!(matches!(publish(&path, &[]), Err(PathError::InUse(_))));
        assert!(matches!(publish(&path, &[1]), Err(PathError::InUse(_))));
        let (_second_fd, second) = publish(&path, &[std::process::id()]).unwrap();
        assert!(!first.is_ours() && second.is_ours());
        assert!(!first.remove_if_ours().unwrap());
        assert!(path.exists());
        drop(live);
        drop(_second_fd);
        publish(&path, &[]).unwrap();
    }

    #[test]
    fn of_two_that_replace_a_stale_socket_the_first_has_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        for stale in [true, false] {
            if stale {
                drop(publish(&path, &[]).unwrap());
            }
            let (early, late) = (socket(), socket());
            let staged = StagedPath::bind(&late, &path, 0o600, &[]).unwrap();
            // The other would be another process, whose temporary name is another.
            let aside = directory.path().join("aside");
            fs::rename(&staged.temporary, &aside).unwrap();
            let staged_early = StagedPath::bind(&early, &path, 0o600, &[]).unwrap();
            listen(&early, 16).unwrap();
            let owned = staged_early.publish().unwrap();
            fs::rename(&aside, &staged.temporary).unwrap();
            assert!(matches!(staged.publish(), Err(PathError::InUse(_))));
            assert!(owned.is_ours());
            assert!(owned.remove_if_ours().unwrap());
            assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        }
    }

    #[test]
    fn a_path_is_claimed_only_with_the_file_that_was_known() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let (_first, owned) = publish(&path, &[]).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o660)).unwrap();
        assert_eq!(OwnedPath::claim(&path, owned.file()).unwrap(), owned);
        let (_second, _) = publish(&path, &[std::process::id()]).unwrap();
        assert!(matches!(OwnedPath::claim(&path, owned.file()), Err(PathError::Lost(_))));
        fs::remove_file(&path).unwrap();
        assert!(matches!(OwnedPath::claim(&path, owned.file()), Err(PathError::Lost(_))));
    }

    #[test]
    fn anything_but_a_socket_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        fs::write(&path, "precious").unwrap();
        assert!(matches!(publish(&path, &[std::process::id()]), Err(PathError::NotASocket(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn a_long_path_is_said_to_be_long() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s".repeat(100));
        assert!(matches!(publish(&path, &[]), Err(PathError::TooLong(_))));
    }

    #[test]
    fn a_staged_path_that_is_dropped_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let socket = socket();
        drop(StagedPath::bind(&socket, &directory.path().join("s"), 0o600, &[]).unwrap());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn only_the_temporary_name_of_the_same_path_is_its_name() {
        let name = |bound: &str| is_name_of(Path::new(bound), Path::new("/run/web.sock"));
        assert!(name("/run/web.sock") && name("/run/.web.sock.4242"));
        assert!(!name("/run/.web.sock.") && !name("/run/.web.sock.x") && !name("/tmp/.web.sock.1"));
        assert!(!name("/run/.other.sock.1") && !name("/run/web.sock.1"));
    }
}
