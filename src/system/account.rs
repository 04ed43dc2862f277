//! The user that the process becomes once everything is bound that only root may bind.

use std::ffi::CString;
use std::fmt;
use std::io;

use nix::errno::Errno;
use nix::unistd::{
    Gid, Group, Uid, User, getgrouplist, getgroups, getresgid, getresuid, setgid, setgroups, setresgid,
    setresuid, setuid,
};

/// A user with its groups, as the system's user database gave them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    name: String,
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
}

/// Why there is no such account.
#[derive(Debug)]
pub enum AccountError {
    /// The database has no user of this name.
    NoUser(String),
    /// The database has no group of this name.
    NoGroup(String),
    /// The user is a number that the database does not know, so its group has to be given.
    GroupNeeded(String),
    /// The database cannot be read.
    Database(io::Error),
}

/// Why the process does not run as the account.
#[derive(Debug)]
pub enum BecomeError {
    /// It was not started by root, and is not the account's already.
    NotRoot {
        /// Whom it was to become.
        account: String,
        /// The user it runs as.
        uid: u32,
        /// The group it runs as.
        gid: u32,
    },
    /// The kernel refused a step.
    Refused(&'static str, io::Error),
    /// It did not take, or root is still to be had.
    NotDropped(String),
    /// The process is the account's already, but root is to be had back.
    RootInReach {
        /// Whom it runs as.
        account: String,
        /// What it may do.
        what: &'static str,
    },
}

impl Account {
    /// Looks up `user` and, where one is given, `group`; each is a name or a number. Without a group it is the user's
    /// own. The supplementary groups are those of the user. May ask the network, as the system is set up.
    ///
    /// # Errors
    /// [`AccountError`], when either is unknown.
    pub fn find(user: &str, group: Option<&str>) -> Result<Self, AccountError> {
        let database = |error: Errno| AccountError::Database(error.into());
        let known = match User::from_name(user).map_err(database)? {
            Some(known) => Some(known),
            None => match number(user) {
                Some(uid) => User::from_uid(Uid::from_raw(uid)).map_err(database)?,
                None => return Err(AccountError::NoUser(user.to_owned())),
            },
        };
        let gid = match group {
            Some(group) => match (Group::from_name(group).map_err(database)?, number(group)) {
                (Some(known), _) => known.gid,
                (None, Some(gid)) => Gid::from_raw(gid),
                (None, None) => return Err(AccountError::NoGroup(group.to_owned())),
            },
            None => known.as_ref().ok_or_else(|| AccountError::GroupNeeded(user.to_owned()))?.gid,
        };
        let (name, uid, groups) = match known {
            Some(known) => {
                let groups = match CString::new(known.name.clone()) {
                    Ok(name) => getgrouplist(&name, gid).map_err(database)?,
                    Err(_) => vec![gid],
                };
                (known.name, known.uid, groups)
            }
            // A number without an entry, which has no groups.
            None => (user.to_owned(), Uid::from_raw(number(user).unwrap_or(u32::MAX)), vec![gid]),
        };
        Ok(Self { name, uid, gid, groups })
    }

    /// The user's number.
    pub fn uid(&self) -> u32 {
        self.uid.as_raw()
    }

    /// Whether the process is the account's already: real, effective and saved user and group.
    pub fn is_current(&self) -> bool {
        let user = getresuid().is_ok_and(|ids| [ids.real, ids.effective, ids.saved] == [self.uid; 3]);
        user && getresgid().is_ok_and(|ids| [ids.real, ids.effective, ids.saved] == [self.gid; 3])
    }

    /// Makes the whole process, all its threads, run as the account for good, and makes sure that root cannot be had
    /// back. A process that is the account's already stays as it is, with the supplementary groups that it has, of
    /// which a warning names those that the account does not have.
    ///
    /// # Errors
    /// [`BecomeError`]; the process must then end, for it may be neither the one nor the other.
    pub fn become_it(&self) -> Result<(), BecomeError> {
        if self.is_current() {
            return self.stay();
        }
        let (uid, gid) = (Uid::effective(), Gid::effective());
        if !uid.is_root() {
            return Err(BecomeError::NotRoot {
                account: self.name.clone(),
                uid: uid.as_raw(),
                gid: gid.as_raw(),
            });
        }
        let refused = |step| move |error: Errno| BecomeError::Refused(step, error.into());
        // The user last: without root, the groups could not be changed any more.
        setgroups(&self.groups).map_err(refused("set the supplementary groups"))?;
        setresgid(self.gid, self.gid, self.gid).map_err(refused("set the group"))?;
        setresuid(self.uid, self.uid, self.uid).map_err(refused("set the user"))?;
        self.verify()?;
        tracing::info!(
            target: "river::system", user = self.name, uid = self.uid.as_raw(), gid = self.gid.as_raw(),
            groups = ?self.groups.iter().map(|group| group.as_raw()).collect::<Vec<_>>(),
            "gave root up for good"
        );
        Ok(())
    }

    /// Makes sure that a process that is the account's already cannot become root: whoever started it may have left it
    /// the capabilities for that.
    fn stay(&self) -> Result<(), BecomeError> {
        if let Some(what) = self.way_back() {
            return Err(BecomeError::RootInReach { account: self.name.clone(), what });
        }
        let groups = getgroups().map_err(|error| BecomeError::Refused("read the groups", error.into()))?;
        let more: Vec<_> = groups
            .into_iter()
            .filter(|group| *group != self.gid && !self.groups.contains(group))
            .map(Gid::as_raw)
            .collect();
        if !more.is_empty() {
            tracing::warn!(
                target: "river::system", user = self.name, groups = ?more,
                "the process has supplementary groups that its user does not have, and keeps them; \
                 whoever started it left them to it"
            );
        }
        Ok(())
    }

    /// How root is to be had back, if it is; found out by doing it, so the process must end then. Nothing is looked for
    /// where the account is root's.
    fn way_back(&self) -> Option<&'static str> {
        let (user, group) = (Uid::from_raw(0), Gid::from_raw(0));
        if self.uid == user {
            return None;
        }
        // Those that it has: to be allowed to set them is to be allowed to set root's.
        if getgroups().is_ok_and(|groups| setgroups(&groups).is_ok()) {
            return Some("set its supplementary groups");
        }
        if self.gid != group && setgid(group).is_ok() {
            return Some("enter root's group");
        }
        setuid(user).is_ok().then_some("become root")
    }

    fn verify(&self) -> Result<(), BecomeError> {
        let not = |why: &str| Err(BecomeError::NotDropped(why.to_owned()));
        if !self.is_current() {
            return not("the process does not run as the user and group that were set");
        }
        let sorted = |mut groups: Vec<Gid>| {
            groups.sort_by_key(|group| group.as_raw());
            groups.dedup();
            groups
        };
        let groups = getgroups().map_err(|error| BecomeError::Refused("read the groups", error.into()))?;
        if sorted(groups) != sorted(self.groups.clone()) {
            return not("the process has other supplementary groups than those that were set");
        }
        match self.way_back() {
            Some(what) => not(&format!("the process could still {what}")),
            None => Ok(()),
        }
    }
}

fn number(text: &str) -> Option<u32> {
    // The largest stands for "no change" in system calls.
    text.parse().ok().filter(|id| *id != u32::MAX && text.bytes().all(|byte| byte.is_ascii_digit()))
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl fmt::Display for AccountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoUser(name) => write!(f, "there is no user {name:?} on this system"),
            Self::NoGroup(name) => write!(f, "there is no group {name:?} on this system"),
            Self::GroupNeeded(id) => {
                write!(f, "this system knows no user of the number {id}, so system.group has to be given too")
            }
            Self::Database(_) => f.write_str("the users and groups of this system cannot be read"),
        }
    }
}

impl std::error::Error for AccountError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Database(cause) => Some(cause),
            _ => None,
        }
    }
}

impl fmt::Display for BecomeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRoot { account, uid, gid } => write!(
                f,
                "cannot become the user {account:?}: only root can, and this process runs as user {uid}, group {gid}; \
                 start it as root or as that user with its group"
            ),
            Self::Refused(step, _) => write!(f, "cannot give root up: cannot {step}"),
            Self::NotDropped(why) => write!(f, "cannot give root up: {why}"),
            Self::RootInReach { account, what } => write!(
                f,
                "this process is the user {account:?} already, but may {what}; \
                 start it as root, or without the capabilities CAP_SETUID and CAP_SETGID"
            ),
        }
    }
}

impl std::error::Error for BecomeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Refused(_, cause) => Some(cause),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_name_and_by_number() {
        let root = Account::find("root", None).unwrap();
        assert_eq!((root.uid(), root.gid), (0, Gid::from_raw(0)));
        assert_eq!(Account::find("0", None).unwrap(), root);
        let other = Account::find("root", Some("4242")).unwrap();
        assert!(other.gid == Gid::from_raw(4242) && other.groups.contains(&other.gid), "{other:?}");
    }

    #[test]
    fn a_number_without_an_entry_needs_a_group() {
        let error = Account::find("3999999999", None).unwrap_err();
        assert!(matches!(error, AccountError::GroupNeeded(_)), "{error}");
        let account = Account::find("3999999999", Some("3999999998")).unwrap();
        assert_eq!(
            (account.uid(), &account.groups[..]),
            (3_999_999_999, &[Gid::from_raw(3_999_999_998)][..])
        );
    }

    #[test]
    fn what_does_not_exist_is_said() {
        for name in ["no such user", "", "-1", "+1", "4294967295", "a\0b"] {
            assert!(matches!(Account::find(name, None), Err(AccountError::NoUser(_))), "{name:?}");
            assert!(matches!(Account::find("root", Some(name)), Err(AccountError::NoGroup(_))), "{name:?}");
        }
    }

    #[test]
    fn becoming_what_one_is_changes_nothing() {
        let (uid, gid) = (Uid::effective().to_string(), Gid::effective().to_string());
        let account = Account::find(&uid, Some(&gid)).unwrap();
        assert!(account.is_current());
        account.become_it().unwrap();
    }
}
