//! `user` and `group`: bound as root, served as somebody else, for good.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{MetadataExt, chown};
use std::sync::Arc;

use support::config::respond;
use support::*;

/// Somebody who may do nothing, from the user database.
#[derive(Clone, Copy, Debug)]
struct Nobody {
    uid: u32,
    gid: u32,
}

/// Whom to become; `None` where this is not possible, which the test says.
#[track_caller]
fn nobody() -> Option<Nobody> {
    let root = rustix::process::geteuid().is_root();
    let database = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let entry = database.lines().find_map(|line| line.strip_prefix("nobody:"));
    let mut ids =
        entry.into_iter().flat_map(|entry| entry.split(':').skip(1)).filter_map(|id| id.parse().ok());
    match (root, ids.next(), ids.next()) {
        (true, Some(uid), Some(gid)) => Some(Nobody { uid, gid }),
        _ => {
            tools::lacks("to be root and a user nobody");
            None
        }
    }
}

/// A directory of that user's.
fn dir_of(user: Nobody) -> Arc<Dir> {
    let dir = Dir::new();
    chown(dir.path(), Some(user.uid), Some(user.gid)).unwrap();
    dir
}

fn config() -> Config {
    Config::respond("here").system("user: \"nobody\"")
}

fn dropped(user: Nobody) -> Running {
    River::in_dir(dir_of(user)).config(config()).serve()
}

/// What every thread of the process is, as `/proc` has it.
fn identities(pid: u32) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        // One may end meanwhile.
        let Ok(status) = fs::read_to_string(task.unwrap().path().join("status")) else { continue };
        for line in status.lines() {
            if let Some((key @ ("Uid" | "Gid" | "Groups" | "CapEff" | "CapPrm"), value)) =
                line.split_once(':')
            {
                found.push((key.to_owned(), value.split_whitespace().collect::<Vec<_>>().join(" ")));
            }
        }
    }
    found
}

#[track_caller]
fn expect_dropped(river: &Running, user: Nobody) {
    let identities = identities(river.pid());
    assert!(identities.len() >= 10, "{identities:?}");
    for (key, value) in identities {
        let (uid, gid) = (user.uid, user.gid);
        let expected = match &*key {
            "Uid" => format!("{uid} {uid} {uid} {uid}"),
            "Gid" => format!("{gid} {gid} {gid} {gid}"),
            "Groups" => gid.to_string(),
            _ => "0000000000000000".into(),
        };
        assert_eq!(value, expected, "{key}");
    }
}

/// An address that only root may bind, on most systems; each test has a host of its own.
fn privileged(host: u8) -> SocketAddr {
    let free = (600..1024).map(|port| SocketAddr::from(([127, 77, 0, host], port)));
    free.into_iter().find(|address| TcpListener::bind(address).is_ok()).unwrap()
}

#[test]
fn root_binds_and_is_given_up_in_every_thread_for_good() {
    let Some(user) = nobody() else { return };
    let address = privileged(1);
    let config = Config::new().system("user: \"nobody\"").service(
        "web",
        &[&address.to_string(), "unix:web.sock"],
        &respond("here"),
    );
    let river = River::in_dir(dir_of(user)).config(config).serve();
    expect_dropped(&river, user);
    assert_eq!(get(address, "/").text(), "here");
    for name in ["river.pid", "upgrade.sock", "web.sock"] {
        assert_eq!(fs::metadata(river.dir().join(name)).unwrap().uid(), user.uid, "{name}");
    }
    river.signal(Signal::TERM);
    assert!(river.wait_exit(PATIENCE).success());
    assert_eq!(river.dir().names(), ["river.ron"]);
}

#[test]
fn root_upgrades_a_dropped_instance_with_a_new_address_that_is_root_s() {
    let Some(user) = nobody() else { return };
    let river = dropped(user);
    let address = privileged(2);
    let more = config().service("more", &[&address.to_string()], &respond("more"));
    let new = upgrade_to(&river, river.successor().config(more));
    assert!(river.wait_exit(PATIENCE).success());
    expect_dropped(&new, user);
    assert_eq!((get(new.web(), "/").text(), get(address, "/").text()), ("here".into(), "more".into()));
    assert_eq!(new.dir().pid(), Some(new.pid()));
    let third = upgrade(&new);
    assert_eq!(get(third.web(), "/").text(), "here");
}

#[test]
fn a_dropped_instance_is_upgraded_by_its_own_user() {
    let Some(user) = nobody() else { return };
    let river = dropped(user);
    let new = river.successor().start_as(user.uid, user.gid);
    new.wait_state("AwaitingHandoff");
    river.signal(Signal::QUIT);
    new.wait_serving();
    assert_eq!(get(new.web(), "/").text(), "here");
    assert_eq!(new.dir().pid(), Some(new.pid()));
}

#[test]
fn a_dropped_instance_replaces_itself_on_sighup() {
    let Some(user) = nobody() else { return };
    // A copy of the program that the user can reach; root starts it.
    let river = River::in_dir(dir_of(user)).config(config()).start_as(0, 0);
    river.wait_serving();
    let family = Family::of(river.dir());
    river.signal(Signal::HUP);
    river.wait_state_again("Serving", 2);
    let new = family.serving();
    assert_ne!(new.pid(), river.pid());
    assert!(identities(new.pid()).contains(&("Uid".into(), vec![user.uid.to_string(); 4].join(" "))));
    assert_eq!(get(river.web(), "/").text(), "here");
}

#[test]
fn an_instance_that_stays_root_is_upgraded_to_one_that_does_not() {
    let Some(user) = nobody() else { return };
    let dir = dir_of(user);
    let web = Config::new().service("web", &["127.0.0.1:0", "unix:web.sock"], &respond("here"));
    let river = River::in_dir(dir.clone()).config(web.clone()).serve();
    let new = upgrade_to(&river, river.successor().config(web.system("user: \"nobody\"")));
    expect_dropped(&new, user);
    assert!(river.wait_exit(PATIENCE).success());
    assert_eq!(get(new.web(), "/").text(), "here");
    assert_eq!(dir.pid(), Some(new.pid()));
    new.signal(Signal::TERM);
    assert!(new.wait_exit(PATIENCE).success());
    assert_eq!(dir.names(), ["river.ron"]);
}

#[test]
fn root_trusts_nobody_whom_the_configuration_does_not_name() {
    let Some(user) = nobody() else { return };
    let river = dropped(user);
    let other = river.successor().config(Config::respond("here")).start();
    assert_eq!(other.wait_exit(PATIENCE).code(), Some(69));
    other.wait_line_after(0, &format!("runs as user {}", user.uid));
    assert_eq!(get(river.web(), "/").text(), "here");
}

#[test]
fn who_is_not_root_becomes_nobody_else() {
    let Some(user) = nobody() else { return };
    let config = Config::respond("here").system("user: \"root\"");
    let river = River::in_dir(dir_of(user)).config(config).start_as(user.uid, user.gid);
    assert_eq!(river.wait_exit(PATIENCE).code(), Some(78));
    river.wait_line_after(0, "only root can");
}

#[test]
fn who_is_the_user_already_just_serves() {
    let Some(user) = nobody() else { return };
    let river = River::in_dir(dir_of(user)).config(config()).start_as(user.uid, user.gid);
    river.wait_serving();
    assert_eq!(get(river.web(), "/").text(), "here");
}

#[test]
fn a_directory_that_is_not_the_user_s_is_found_before_anything_is_served() {
    let Some(user) = nobody() else { return };
    let river = River::with_config(config()).start();
    assert_eq!(river.wait_exit(PATIENCE).code(), Some(73));
    let whom =
        format!("as the user with uid {}, who has to be able to make files in its directory", user.uid);
    river.wait_line_after(0, &format!("{whom}: permission denied"));
    assert_eq!(river.dir().names(), ["river.ron"]);
    assert!(!river.states().contains(&"Serving".into()));
}

#[test]
fn another_group_is_the_only_one() {
    let Some(user) = nobody() else { return };
    let config = Config::respond("here").system("user: \"nobody\", group: \"4242\"");
    let river = River::in_dir(dir_of(user)).config(config).serve();
    let gids: Vec<_> = identities(river.pid()).into_iter().filter(|(key, _)| key == "Gid").collect();
    assert!(gids.iter().all(|(_, value)| value == "4242 4242 4242 4242"), "{gids:?}");
    let groups: Vec<_> = identities(river.pid()).into_iter().filter(|(key, _)| key == "Groups").collect();
    assert!(!groups.is_empty() && groups.iter().all(|(_, value)| value == "4242"), "{groups:?}");
}

/// An instance that setpriv(1) starts with these options; `None` where there is none.
#[track_caller]
fn with_setpriv(user: Nobody, options: &str) -> Option<Running> {
    if !tools::require("setpriv") {
        return None;
    }
    let dir = dir_of(user);
    let program = dir.join("river-copy");
    tools::put_program(&program, tools::river());
    let line = format!("exec setpriv {options} \"$0\" \"$@\"");
    Some(River::in_dir(dir).config(config()).program(program).after(&line).start())
}

#[test]
fn root_that_can_be_had_back_after_it_was_given_up_is_refused() {
    let Some(user) = nobody() else { return };
    // The kernel then leaves the capabilities as they are where the user changes.
    let Some(river) = with_setpriv(user, "--securebits +no_setuid_fixup") else { return };
    assert_eq!(river.wait_exit(PATIENCE).code(), Some(70));
    river.wait_line_after(0, "cannot give root up: the process could still");
    assert!(!river.states().contains(&"Serving".into()));
}

#[test]
fn who_is_the_user_already_and_can_become_root_is_refused() {
    let Some(user) = nobody() else { return };
    let as_user = format!("--reuid {} --regid {} --clear-groups", user.uid, user.gid);
    for (capability, what) in [("setuid", "become root"), ("setgid", "set its supplementary groups")] {
        let options = format!("{as_user} --inh-caps +{capability} --ambient-caps +{capability}");
        let Some(river) = with_setpriv(user, &options) else { return };
        assert_eq!(river.wait_exit(PATIENCE).code(), Some(78), "{capability}");
        river.wait_line_after(0, &format!("already, but may {what}"));
        assert!(!river.states().contains(&"Serving".into()));
    }
}

#[test]
fn who_is_the_user_already_is_warned_of_groups_that_are_not_the_user_s() {
    let Some(user) = nobody() else { return };
    let options = format!("--reuid {} --regid {} --groups {},0,4242", user.uid, user.gid, user.gid);
    let Some(river) = with_setpriv(user, &options) else { return };
    river.wait_serving();
    let line = river.wait_line_after(0, "supplementary groups that its user does not have").text;
    assert!(line.contains("groups=[0, 4242]"), "{line}");
}

#[test]
fn a_draining_instance_that_is_root_reports_to_a_successor_that_is_not() {
    let Some(user) = nobody() else { return };
    let guarding = |config: Config| config.handoff("guard: \"60s\"");
    let old = River::in_dir(dir_of(user)).config(guarding(Config::respond("here"))).serve();
    let new = upgrade_to(&old, old.successor().config(guarding(config())));
    let line = new.wait_for_line("an earlier instance drains", PATIENCE).text;
    assert!(line.contains(&format!("pid={} ", old.pid())), "{line}");
    assert!(old.alive() && !new.log().contains("is refused"));
}
