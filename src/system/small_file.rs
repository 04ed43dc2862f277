//! Small files that are read whole, and told from what stands at their path later.

use std::error::Error;
use std::fmt;
use std::fs::{self, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::OFlags;
use zeroize::Zeroizing;

/// What was in a file when it was read.
#[derive(Debug)]
pub struct SmallFile {
    /// Its bytes, overwritten when they are dropped: they may be secret.
    pub bytes: Zeroizing<Vec<u8>>,
    /// Which file it was, as it was before the first byte was read.
    pub stamp: FileStamp,
    /// Whether every user of the machine may read it.
    pub is_public: bool,
}

/// Tells a file and its content from another one at the same path.
///
/// It changes with every write, also where size and time of the write stay the same, and when owner or mode do; but not
/// where two writes fall into one tick of the kernel's clock (some milliseconds), see
/// [`is_settled_at`](Self::is_settled_at).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// Why a small file was not read.
#[derive(Debug)]
pub enum SmallFileError {
    /// It cannot be opened or read.
    Io(io::Error),
    /// It is a directory, a FIFO, a device or a socket.
    NotRegular,
    /// It has more bytes than the number given.
    TooLarge(usize),
}

impl SmallFile {
    /// Reads the file at `path`, of at most `most` bytes. Symbolic links are followed. Nothing that is no regular file is
    /// waited for.
    ///
    /// # Errors
    ///
    /// [`SmallFileError`].
    pub fn read(path: &Path, most: usize) -> Result<Self, SmallFileError> {
        // A FIFO without a writer would be waited for otherwise.
        let nonblocking = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
        let file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(SmallFileError::NotRegular);
        }
        // All at once, so that no buffer that was too small is left behind with a part of a secret.
        let size = usize::try_from(metadata.len()).unwrap_or(usize::MAX).min(most);
        let mut bytes = Zeroizing::new(Vec::with_capacity(size.saturating_add(1)));
        let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
        file.take(limit).read_to_end(&mut bytes)?;
        if bytes.len() > most {
            return Err(SmallFileError::TooLarge(most));
        }
        Ok(Self { bytes, stamp: FileStamp::of(&metadata), is_public: metadata.mode() & 0o004 != 0 })
    }
}

impl FileStamp {
    /// That of the file at `path`.
    ///
    /// # Errors
    ///
    /// When there is none, or a directory on the way is closed to this user.
    pub fn at(path: &Path) -> io::Result<Self> {
        fs::metadata(path).map(|metadata| Self::of(&metadata))
    }

    /// Whether the file was left alone for a second before `time`, so that whatever is done to it later changes the stamp.
    pub fn is_settled_at(&self, time: SystemTime) -> bool {
        let Ok(now) = time.duration_since(UNIX_EPOCH) else { return false };
        i64::try_from(now.as_secs()).is_ok_and(|now| self.changed.0 < now.saturating_sub(1))
    }

    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl From<io::Error> for SmallFileError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl fmt::Display for SmallFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(_) => f.write_str("the file cannot be read"),
            Self::NotRegular => f.write_str("it is no regular file"),
            Self::TooLarge(most) => write!(f, "the file has more than {most} bytes"),
        }
    }
}

impl Error for SmallFileError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Io(cause) => Some(cause),
            Self::NotRegular | Self::TooLarge(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    #[test]
    fn only_regular_files_within_the_limit_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        fs::write(&path, "12345").unwrap();
        assert_eq!(**SmallFile::read(&path, 5).unwrap().bytes, *b"12345");
        assert!(matches!(SmallFile::read(&path, 4), Err(SmallFileError::TooLarge(4))));
        assert!(matches!(SmallFile::read(directory.path(), 5), Err(SmallFileError::NotRegular)));
        assert!(matches!(SmallFile::read(&directory.path().join("b"), 5), Err(SmallFileError::Io(_))));
        assert!(matches!(SmallFile::read("/dev/zero".as_ref(), 5), Err(SmallFileError::NotRegular)));
    }

    #[test]
    fn a_file_that_is_replaced_or_changed_has_another_stamp() {
        let directory = tempfile::tempdir().unwrap();
        let (path, other) = (directory.path().join("a"), directory.path().join("b"));
        fs::write(&path, "1").unwrap();
        let first = SmallFile::read(&path, 5).unwrap();
        assert_eq!(FileStamp::at(&path).unwrap(), first.stamp);
        fs::write(&other, "1").unwrap();
        fs::rename(&other, &path).unwrap();
        let second = FileStamp::at(&path).unwrap();
        assert_ne!(second, first.stamp);
        fs::write(&path, "12").unwrap();
        assert_ne!(FileStamp::at(&path).unwrap(), second);
    }

    #[test]
    fn a_file_is_settled_when_it_was_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        fs::write(&path, "1").unwrap();
        let stamp = FileStamp::at(&path).unwrap();
        assert!(!stamp.is_settled_at(SystemTime::now()));
        assert!(stamp.is_settled_at(SystemTime::now() + Duration::from_secs(3)));
    }

    #[test]
    fn who_may_read_it_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        fs::write(&path, "1").unwrap();
        for (mode, public) in [(0o644, true), (0o640, false), (0o600, false)] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert_eq!(SmallFile::read(&path, 5).unwrap().is_public, public, "{mode:o}");
        }
    }
}
