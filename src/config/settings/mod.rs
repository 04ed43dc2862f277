//! The one table of settings: what the configuration file may say.
//!
//! Unknown fields are explained from it, `river.ron.5` is compared with it, and a test holds it against what is
//! really read and against the defaults that are really used.

mod connectors;
mod listeners;
mod respond;
mod service;
mod system;
mod tcp;

/// One field of the configuration file.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Its path; `*` stands for a name and `[]` for a place in a list.
    pub path: &'static str,
    /// What kind of value it takes, in words.
    pub kind: &'static str,
    /// Its value where it is not given, as it would be written; `required` and `none` say what they mean.
    pub default: &'static str,
    /// The command line's flag that beats it.
    pub flag: Option<&'static str>,
    /// The environment variable that beats it, beaten by the flag.
    pub env: Option<&'static str>,
    /// What it does, in one sentence.
    pub meaning: &'static str,
    /// A value as it would be written.
    pub example: &'static str,
}

impl Setting {
    /// The path of the structure that holds it (empty at the top) and its name there.
    pub fn split(&self) -> (&'static str, &'static str) {
        self.path.rsplit_once('.').unwrap_or(("", self.path))
    }
}

const fn setting(
    path: &'static str,
    kind: &'static str,
    default: &'static str,
    meaning: &'static str,
    example: &'static str,
) -> Setting {
    Setting { path, kind, default, flag: None, env: None, meaning, example }
}

const fn overridden(setting: Setting, flag: &'static str, env: &'static str) -> Setting {
    Setting { flag: Some(flag), env: Some(env), ..setting }
}

/// The settings by subject, in the order of the manual page.
const TABLES: [&[Setting]; 6] = [
    system::SYSTEM,
    listeners::LISTENERS,
    service::SERVICE,
    connectors::CONNECTORS,
    respond::RESPOND,
    tcp::TCP,
];

/// Every setting, in the order of the manual page.
pub const SETTINGS: &[Setting] = &joined();

const fn count() -> usize {
    let (mut count, mut table) = (0, 0);
    while table < TABLES.len() {
        count += TABLES[table].len();
        table += 1;
    }
    count
}

/// All tables in one.
const fn joined() -> [Setting; count()] {
    let mut all = [TABLES[0][0]; count()];
    let (mut next, mut table) = (0, 0);
    while table < TABLES.len() {
        let mut row = 0;
        while row < TABLES[table].len() {
            all[next] = TABLES[table][row];
            next += 1;
            row += 1;
        }
        table += 1;
    }
    all
}

/// Fields that later versions read, so that this one can say so.
const LATER: &[&str] = &[
    "system.log",
    "system.admin",
    "services.*.client_address",
    "services.*.routes",
    "services.*.path_control",
    "services.*.rate_limiting",
    "services.*.access_log",
    "services.*.file_server",
    "services.*.listeners[].proxy_protocol",
    "services.*.connectors.retries",
    "services.*.connectors.load_balance.health_check",
];

/// Ways to choose a server that later versions have.
pub(super) const LATER_SELECTIONS: &[&str] = &["Random", "Fnv", "Ketama", "LeastConn", "P2c"];

/// The setting `name` of a section.
pub(super) fn find(section: &str, name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.split() == (section, name))
}

/// The setting that is the section itself, or the list or map that it is an entry of.
pub(super) fn of_section(section: &str) -> Option<&'static Setting> {
    let path = section.trim_end_matches("[]").trim_end_matches(".*");
    SETTINGS.iter().find(|setting| setting.path == path)
}

/// Whether a section has a setting of that name.
pub(super) fn is_known(section: &str, name: &str) -> bool {
    find(section, name).is_some()
}

/// Whether a section has a setting of that name in a later version.
pub(super) fn is_later(section: &str, name: &str) -> bool {
    LATER.iter().any(|path| path.rsplit_once('.') == Some((section, name)))
}

/// The section that a setting of that name belongs in, in a later version.
pub(super) fn later_home(name: &str) -> Option<&'static str> {
    LATER
        .iter()
        .filter_map(|path| path.rsplit_once('.'))
        .find(|(_, other)| *other == name)
        .map(|(home, _)| home)
}

/// The names of a section's settings.
pub(super) fn names(section: &str) -> impl Iterator<Item = &'static str> {
    SETTINGS.iter().map(Setting::split).filter(move |(parent, _)| *parent == section).map(|(_, name)| name)
}

/// The section that a setting of that name belongs in, if there is exactly one.
pub(super) fn home(name: &str) -> Option<&'static str> {
    let mut homes = SETTINGS.iter().map(Setting::split).filter(|(_, other)| *other == name);
    match (homes.next(), homes.next()) {
        (Some((section, _)), None) if !section.is_empty() => Some(section),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether `parent` (as in `services.*.listeners[]`) is `section` or one of its entries.
    fn parent_is(parent: &str, section: &str) -> bool {
        parent.strip_prefix(section).is_some_and(|rest| matches!(rest, "" | "[]" | ".*"))
    }

    #[test]
    fn paths_are_unique_and_have_their_sections_before_them() {
        for (at, setting) in SETTINGS.iter().enumerate() {
            let (section, _) = setting.split();
            let before = SETTINGS.get(..at).unwrap_or_default();
            assert!(before.iter().all(|other| other.path != setting.path), "{} occurs twice", setting.path);
            let known = section.is_empty() || before.iter().any(|other| parent_is(section, other.path));
            assert!(known, "{} has no section", setting.path);
        }
    }

    #[test]
    fn no_setting_is_both_known_and_later() {
        assert!(LATER.iter().all(|path| SETTINGS.iter().all(|setting| setting.path != *path)));
    }

    #[test]
    fn strays_are_sent_home() {
        assert_eq!(home("max_head"), Some("services.*.limits"));
        assert_eq!(home("services"), None);
        assert_eq!(home("anything"), None);
    }
}
