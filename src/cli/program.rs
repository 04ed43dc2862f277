//! The program that is run when an instance is started from this one.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// The path that this process was started by: `name` from `directory`, or found through `search` (`PATH`) where it has
/// no slash. It is absolute, and symbolic links in it stay as they are.
///
/// It is not the file that runs: that one may have been replaced since, and the path leads to the new one.
pub fn program(name: Option<OsString>, search: Option<OsString>, directory: &Path) -> PathBuf {
    // A name that leads nowhere, as a program may give another one, fails with it when it is run.
    let name = PathBuf::from(name.filter(|name| !name.is_empty()).unwrap_or_else(|| OsString::from("river")));
    if name.as_os_str().as_bytes().contains(&b'/') {
        return anywhere(directory, &name);
    }
    let search = search.unwrap_or_default();
    let mut places = std::env::split_paths(&search).map(|place| anywhere(directory, &place.join(&name)));
    places.find(|place| is_program(place)).or_else(|| std::env::current_exe().ok()).unwrap_or(name)
}

/// The path as it is reached from any directory. `..` stays: what it leads to is for the file system to say.
pub(super) fn anywhere(directory: &Path, path: &Path) -> PathBuf {
    directory.join(path).components().collect()
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_a_slash_starts_from_the_directory() {
        let found = |name: &str| program(Some(name.into()), Some("/bin".into()), Path::new("/home"));
        assert_eq!(found("./target/river"), Path::new("/home/target/river"));
        assert_eq!(found("/opt/../river"), Path::new("/opt/../river"));
    }

    #[test]
    fn a_name_without_one_is_looked_for() {
        let directory = tempfile::tempdir().unwrap();
        for (place, mode) in [("a", 0o644), ("b", 0o755), ("c", 0o755)] {
            fs::create_dir(directory.path().join(place)).unwrap();
            let file = directory.path().join(place).join("river-of-test");
            fs::write(&file, "").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        }
        let found = program(Some("river-of-test".into()), Some("none:a:b:c".into()), directory.path());
        assert_eq!(found, directory.path().join("b/river-of-test"));
        let own = std::env::current_exe().unwrap();
        assert_eq!(program(Some("river-of-test".into()), None, directory.path()), own);
    }
}
