//! SIGHUP and `river reload` where more than the configuration is at stake: a service manager, a daemon, another user.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};

use support::manager::Manager;
use support::*;

/// The `nth` number behind the name in the process's stat line: 1 is the parent, 3 the session.
fn stat(pid: u32, nth: usize) -> u32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(") ").unwrap().1.split(' ').nth(nth).unwrap().parse().unwrap()
}

#[test]
fn row_20_the_manager_sees_one_reload_and_then_the_new_main_process() {
    let manager = Manager::new();
    let old = manager.manage(River::with_config(Config::respond("here"))).serve();
    let family = Family::of(old.dir());
    assert!(manager.next().has("READY", "1"));
    for generation in 2..=4 {
        family.serving().signal(Signal::HUP);
        let notice = manager.next();
        assert!(notice.has("RELOADING", "1") && notice.get("MONOTONIC_USEC").is_some(), "{notice:?}");
        let notice = manager.next();
        old.wait_state_again("Serving", generation);
        let new = family.serving().pid();
        assert!(notice.has("READY", "1") && notice.has("MAINPID", &new.to_string()), "{notice:?}");
    }
    // One that fails ends where it began.
    let serving = family.serving().pid();
    let good = fs::read_to_string(old.dir().config()).unwrap();
    fs::write(old.dir().config(), good.replace("respond:", "reply:")).unwrap();
    family.serving().signal(Signal::HUP);
    assert!(manager.next().has("RELOADING", "1"));
    let notice = manager.next();
    assert!(notice.has("READY", "1") && notice.has("MAINPID", &serving.to_string()), "{notice:?}");
    assert!(notice.get("STATUS").is_some_and(|status| status.contains("the reload failed")), "{notice:?}");
    // A command that fails is nothing to the manager, whoever runs it.
    let command = manager.manage(family.command(&["reload"]));
    assert_eq!(Said::of(&command.start()).code, Some(78));
    family.run(&["stop"]).expect(0, &["has ended"]);
    assert!(manager.next().has("STOPPING", "1"));
    assert_eq!(manager.rest(), []);
}

#[test]
fn a_daemon_is_replaced_by_a_daemon() {
    let config = Config::respond("here").system("daemonize: true");
    let start = River::with_config(config).start();
    let family = Family::of(start.dir());
    assert!(start.ends_within(PATIENCE));
    let first = family.serving();
    family.run(&["reload"]).expect(0, &["is in service"]);
    let second = family.serving();
    assert_ne!(first.pid(), second.pid());
    assert_eq!(stat(second.pid(), 3), second.pid(), "it has a session of its own");

    second.signal(Signal::HUP);
    until("the next one serves", PATIENCE, || start.dir().pid() != Some(second.pid()));
    let third = family.serving();
    assert_eq!(stat(third.pid(), 3), third.pid());
    assert!(second.ends_within(PATIENCE));
    // Nobody waits for it but init, or whoever stands in.
    until("it is no child of River", PATIENCE, || stat(third.pid(), 1) != second.pid());

    let text = Config::respond("here").system("daemonise: true").text();
    fs::write(start.dir().config(), text).unwrap();
    family
        .run(&["reload"])
        .expect_error(78, &["daemonise", &format!("pid {} is still serving", third.pid())]);
    family
        .run(&["stop", "--upgrade-socket", start.dir().upgrade_socket().to_str().unwrap()])
        .expect(0, &["has ended"]);
    assert!(third.ends_within(SOON));
}

#[test]
fn root_speaks_to_an_instance_that_became_another_user() {
    let (uid, gid) = (65534, 65534);
    let dir = Dir::new();
    if chown(dir.path(), Some(uid), Some(gid)).is_err() {
        tools::lacks("root");
        return;
    }
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    // Where the program is built may be closed to that user, who starts the successor on SIGHUP.
    let program = dir.join("river");
    tools::put_program(&program, tools::river());
    let config = Config::respond("here").system("user: \"nobody\"");
    let old = River::in_dir(dir.clone()).config(config).program(&program).serve();
    let family = Family::of(&dir);
    let said = family.run(&["status"]).expect(0, &["Serving"]);
    assert!(said.out.contains(&old.pid().to_string()));
    let second =
        Said::of(&family.command(&["reload"]).program(&program).start()).expect(0, &["is in service"]);
    assert!(second.out.contains("has no connection left"), "{second:?}");

    let before = family.serving();
    before.signal(Signal::HUP);
    until("the next one serves", PATIENCE, || dir.pid() != Some(before.pid()));
    assert!(before.ends_within(PATIENCE));
    family.run(&["stop"]).expect(0, &["has ended"]);

    // Another user's socket is not trusted by whoever is not root.
    let old = River::in_dir(dir.clone()).config(Config::respond("here")).arg("--workers=1").serve();
    let stranger =
        River::in_dir(dir.clone()).without_config().arg("status").arg("--config").arg(dir.config());
    let refused = stranger.start_as(uid, gid);
    assert_eq!(Said::of(&refused).code, Some(69));
    assert!(old.alive());
}
