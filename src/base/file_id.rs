//! Which file stands at a path, whatever the path is called by then.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

/// The identity of a file: device, inode, and when it was made.
///
/// An inode's number is given to another file soon after the first is gone; the time tells them apart. It is missing
/// where the file system keeps none, and unlike the time of the last change it stays when an operator sets mode or
/// owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FileId {
    device: u64,
    inode: u64,
    /// Nanoseconds since 1970.
    born: Option<u64>,
}

impl FileId {
    /// The identity of the file that this was read from.
    pub fn of(metadata: &Metadata) -> Self {
        let born = metadata.created().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            born: born.and_then(|since| u64::try_from(since.as_nanos()).ok()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn it_is_the_file_s_for_life_and_no_other_s() {
        let directory = tempfile::tempdir().unwrap();
        let (path, other) = (directory.path().join("a"), directory.path().join("b"));
        fs::write(&path, "").unwrap();
        let before = fs::metadata(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        fs::rename(&path, &other).unwrap();
        let id = FileId::of(&before);
        assert_eq!(FileId::of(&fs::metadata(&other).unwrap()), id);
        // The number may be given to another file, whose birth is later.
        let later = id.born.map(|nanoseconds| nanoseconds.saturating_add(1));
        assert!(later.is_none() || FileId { born: later, ..id } != id);
        assert_ne!(FileId::of(&fs::metadata(directory.path()).unwrap()), id);
    }
}
