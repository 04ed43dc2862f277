//! Which servers a client of a tcp service is connected to.

use std::collections::HashMap;

/// Groups of servers, by the name that a client's ClientHello has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes {
    /// For who names no server, or none that is known.
    default: Option<usize>,
    /// Names as they are; in lower case.
    exact: HashMap<String, usize>,
    /// What stands behind `*.`; in lower case.
    below: HashMap<String, usize>,
}

impl Routes {
    /// All clients to one group; nobody's ClientHello is read.
    pub fn to(group: usize) -> Self {
        Self { default: Some(group), ..Self::default() }
    }

    /// Adds a name, or with `*.` before it all names that have exactly one label more, as in certificates
    /// (RFC 9525 §6.3). A pattern that there is already goes to the new group.
    pub fn insert(&mut self, pattern: &str, group: usize) {
        let pattern = pattern.to_ascii_lowercase();
        match pattern.strip_prefix("*.") {
            Some(parent) => self.below.insert(parent.to_owned(), group),
            None => self.exact.insert(pattern, group),
        };
    }

    /// Where those go for whom there is no name.
    pub fn set_default(&mut self, group: Option<usize>) {
        self.default = group;
    }

    /// Whether it depends on the client's ClientHello.
    pub fn by_name(&self) -> bool {
        !self.exact.is_empty() || !self.below.is_empty()
    }

    /// The group for a name in lower case, or for none: exactly that name's before that of a `*.` before the default.
    pub fn find(&self, name: Option<&str>) -> Option<usize> {
        let exact = || name.and_then(|name| self.exact.get(name));
        let below =
            || name.and_then(|name| name.split_once('.')).and_then(|(_, parent)| self.below.get(parent));
        exact().or_else(below).copied().or(self.default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_wins() {
        let mut routes = Routes::default();
        routes.insert("db.example", 1);
        routes.insert("*.DB.example", 2);
        routes.insert("a.db.example", 3);
        assert!(routes.by_name());
        let found = |name| routes.find(Some(name));
        assert_eq!(found("db.example"), Some(1));
        assert_eq!(found("a.db.example"), Some(3));
        assert_eq!(found("b.db.example"), Some(2));
        for name in ["c.b.db.example", "example", "xdb.example", ".db", ""] {
            assert_eq!(found(name), None, "{name}");
        }
        assert_eq!(routes.find(None), None);
        routes.set_default(Some(9));
        assert_eq!(routes.find(None), Some(9));
        assert_eq!(routes.find(Some("elsewhere")), Some(9));
    }

    #[test]
    fn one_group_asks_for_no_name() {
        let routes = Routes::to(4);
        assert!(!routes.by_name());
        assert_eq!(routes.find(None), Some(4));
    }
}
