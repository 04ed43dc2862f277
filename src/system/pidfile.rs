//! The pidfile: replaced by rename, so a reader never finds it missing, empty or half-written.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, accessat};

/// The pidfile of this process.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

/// Why the pidfile cannot be written.
#[derive(Debug)]
pub enum PidFileError {
    /// Something that is no regular file stands at the path; River does not replace it.
    NotAFile(PathBuf),
    /// The path has no file name or no directory.
    BadPath(PathBuf),
    /// The file system refused.
    Write(PathBuf, io::Error),
}

impl PidFile {
    /// Writes this process's pid to a temporary file beside `path` and renames it into place (mode 0644).
    ///
    /// # Errors
    /// [`PidFileError`]; what stood at the path is then still there.
    pub fn write(path: &Path) -> Result<Self, PidFileError> {
        check(path)?;
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(PidFileError::BadPath(path.to_owned()));
        };
        let pid = std::process::id();
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{pid}"));
        let temporary = directory.join(hidden);
        let written = write_new(&temporary, pid).and_then(|written| {
            fs::rename(&temporary, path)?;
            Ok(Self { path: path.to_owned(), device: written.dev(), inode: written.ino() })
        });
        written.map_err(|error| {
            let _ = fs::remove_file(&temporary);
            PidFileError::Write(path.to_owned(), error)
        })
    }

    /// Whether `path` could be written now: its directory exists, this process may make files there, and nothing but
    /// a regular file stands there.
    ///
    /// # Errors
    /// [`PidFileError`] with what is in the way.
    pub fn check(path: &Path) -> Result<(), PidFileError> {
        check(path)?;
        let directory = path.parent().ok_or_else(|| PidFileError::BadPath(path.to_owned()))?;
        match fs::metadata(directory) {
            Ok(found) if found.is_dir() => {
                may_make_files(directory).map_err(|error| PidFileError::Write(path.to_owned(), error))
            }
            Ok(_) => Err(PidFileError::BadPath(path.to_owned())),
            Err(error) => Err(PidFileError::Write(path.to_owned(), error)),
        }
    }

    /// The living process of this program that the file at `path` names, if it names one and not this process.
    pub fn other_holder(path: &Path) -> Option<u32> {
        let pid: u32 = fs::read_to_string(path).ok()?.trim().parse().ok()?;
        // A pid may be another program's by now.
        let program = |pid: &str| fs::read_to_string(format!("/proc/{pid}/comm")).ok();
        let same = program(&pid.to_string())? == program("self")?;
        (same && pid != std::process::id() && !has_ended(pid)).then_some(pid)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is still the file that was written, with this process's pid in it.
    pub fn is_ours(&self) -> bool {
        let same = fs::symlink_metadata(&self.path)
            .is_ok_and(|found| found.dev() == self.device && found.ino() == self.inode);
        same && fs::read_to_string(&self.path).is_ok_and(|text| text.trim().parse() == Ok(std::process::id()))
    }

    /// Removes the file if it still holds this process's pid, and says whether it did.
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

/// Whether the process has ended and only waits to be reaped (proc_pid_stat(5)).
fn has_ended(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    // The name before the state may have brackets in it.
    let state = stat.ok().and_then(|stat| stat.rsplit_once(") ")?.1.chars().next());
    state.is_none_or(|state| matches!(state, 'Z' | 'X'))
}

/// Whether this process, as the user it runs as now, may make and remove files in the directory.
pub(super) fn may_make_files(directory: &Path) -> io::Result<()> {
    let needed = Access::WRITE_OK | Access::EXEC_OK;
    Ok(accessat(CWD, directory, needed, AtFlags::EACCESS)?)
}

fn check(path: &Path) -> Result<(), PidFileError> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.is_file() => Err(PidFileError::NotAFile(path.to_owned())),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(PidFileError::Write(path.to_owned(), error)),
    }
}

/// The name carries our pid, so a leftover of that name is an ended process's and may go.
fn write_new(temporary: &Path, pid: u32) -> io::Result<fs::Metadata> {
    match fs::remove_file(temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(temporary)?;
    file.write_all(format!("{pid}\n").as_bytes())?;
    file.metadata()
}

/// Who was not permitted to make a file, where that is the cause: `system.user` makes it another one than who started
/// River.
pub(super) fn as_whom(cause: &io::Error) -> String {
    if cause.kind() != io::ErrorKind::PermissionDenied {
        return String::new();
    }
    let uid = rustix::process::geteuid().as_raw();
    format!(" as the user with uid {uid}, who has to be able to make files in its directory")
}

impl fmt::Display for PidFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAFile(path) => write!(
                f,
                "pidfile {} exists and is no regular file; remove it or choose another path",
                path.display()
            ),
            Self::BadPath(path) => write!(f, "pidfile {} is not a file in a directory", path.display()),
            Self::Write(path, cause) => {
                write!(f, "cannot write pidfile {}{}", path.display(), as_whom(cause))
            }
        }
    }
}

impl std::error::Error for PidFileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NotAFile(_) | Self::BadPath(_) => None,
            Self::Write(_, cause) => Some(cause),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_written_whole_and_removed_by_its_owner() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("river.pid");
        let file = PidFile::write(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        assert!(file.is_ours());
        assert!(file.remove_if_ours().unwrap());
        assert!(!path.exists());
        assert!(!file.remove_if_ours().unwrap());
    }

    #[test]
    fn another_process_s_pid_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("river.pid");
        let file = PidFile::write(&path).unwrap();
        fs::write(&path, "1\n").unwrap();
        assert!(!file.remove_if_ours().unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\n");
    }

    #[test]
    fn a_process_that_has_ended_holds_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("river.pid");
        // The same program, which says at once that it knows no such option.
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .arg("--no-such-option")
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        fs::write(&path, format!("{}\n", child.id())).unwrap();
        let begin = std::time::Instant::now();
        // Not reaped yet.
        while !has_ended(child.id()) {
            assert!(begin.elapsed() < std::time::Duration::from_secs(10));
            std::thread::yield_now();
        }
        assert_eq!(PidFile::other_holder(&path), None);
        child.wait().unwrap();
        assert_eq!(PidFile::other_holder(&path), None);
    }

    #[test]
    fn a_file_written_later_is_not_ours() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("river.pid");
        let first = PidFile::write(&path).unwrap();
        let second = PidFile::write(&path).unwrap();
        assert!(!first.remove_if_ours().unwrap());
        assert!(second.remove_if_ours().unwrap());
    }

    #[test]
    fn a_directory_and_a_symbolic_link_are_refused_and_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("river.pid");
        fs::create_dir(&path).unwrap();
        assert!(matches!(PidFile::write(&path), Err(PidFileError::NotAFile(_))));
        let link = directory.path().join("link.pid");
        std::os::unix::fs::symlink("elsewhere", &link).unwrap();
        assert!(matches!(PidFile::write(&link), Err(PidFileError::NotAFile(_))));
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }

    #[test]
    fn a_missing_directory_is_said_with_the_path() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("none/river.pid");
        let error = PidFile::write(&path).unwrap_err();
        assert!(error.to_string().contains("none/river.pid"), "{error}");
        assert!(std::error::Error::source(&error).is_some());
    }
}
