//! The manual pages say what the program does: flags, variables, settings and exit codes, compared both ways.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;

use river::cli::{Exit, FLAGS, SUBCOMMANDS};
use river::config::{SETTINGS, Setting};

fn page(name: &str) -> String {
    fs::read_to_string(format!("man/{name}")).unwrap()
}

/// The text of a section, without its heading.
fn section(page: &str, heading: &str) -> String {
    let start = page.find(&format!(".Sh {heading}\n")).unwrap_or_else(|| panic!("no section {heading}"));
    let body = page[start..].split_once('\n').unwrap().1;
    body.split("\n.Sh ").next().unwrap().to_owned()
}

/// The entries `.It MACRO NAME` of a text, with what stands below each.
fn entries(text: &str, macro_name: &str) -> Vec<(String, String)> {
    let mark = format!(".It {macro_name} ");
    text.split(&mark)
        .skip(1)
        .map(|entry| {
            let (name, body) = entry.split_once('\n').unwrap();
            (name.split(' ').next().unwrap().to_owned(), body.to_owned())
        })
        .collect()
}

fn names(entries: &[(String, String)]) -> BTreeSet<&str> {
    entries.iter().map(|(name, _)| name.as_str()).collect()
}

/// What roff's escapes stand for.
fn unescape(text: &str) -> String {
    text.replace("\\(dq", "\"").replace("\\e", "\\")
}

#[test]
fn flags_are_in_river_1() {
    let text = section(&page("river.1"), "DESCRIPTION");
    let entries = entries(&text, "Fl Fl");
    let documented = names(&entries);
    let known: BTreeSet<&str> = FLAGS.iter().map(|flag| flag.name.trim_start_matches('-')).collect();
    assert_eq!(documented, known);
    let header = page("river.1");
    for flag in FLAGS {
        let name = flag.name.trim_start_matches('-');
        let line = header.lines().find(|line| line.starts_with(&format!(".It Fl Fl {name}"))).unwrap();
        assert_eq!(line.contains(" Ar "), flag.takes_value, "{line}");
    }
}

#[test]
fn commands_and_their_flags_are_in_river_1() {
    let page = page("river.1");
    let text = section(&page, "COMMANDS");
    let documented: Vec<(String, String)> = entries(&text, "Cm");
    let known: Vec<&str> = SUBCOMMANDS.iter().map(|command| command.name).collect();
    assert_eq!(documented.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), known);
    for (command, (name, body)) in SUBCOMMANDS.iter().zip(&documented) {
        let flags = entries(body, "Fl Fl");
        let known: BTreeSet<&str> =
            command.flags.iter().map(|flag| flag.name.trim_start_matches('-')).collect();
        assert_eq!(names(&flags), known, "{name}");
        for flag in command.flags {
            let entry = format!(".It Fl Fl {}", flag.name.trim_start_matches('-'));
            let line = body.lines().find(|line| format!("{line} ").starts_with(&format!("{entry} ")));
            let line = line.unwrap_or_else(|| panic!("{name}: no {entry}"));
            assert_eq!(line.contains(" Ar "), flag.takes_value, "{name}: {line}");
        }
        // The synopsis has a form for it, with each flag that is its own.
        let synopsis = section(&page, "SYNOPSIS");
        let form = synopsis.split(".Nm\n").find(|form| form.starts_with(&format!(".Cm {name}\n")));
        let form = form.unwrap_or_else(|| panic!("no synopsis of {name}"));
        for flag in command.flags.iter().filter(|flag| flag.name != "--help") {
            let option = format!("Fl Fl {}", flag.name.trim_start_matches('-'));
            assert!(form.lines().any(|line| line.contains(&option)), "{name}: {option}");
        }
    }
}

#[test]
fn variables_are_in_river_1() {
    let text = section(&page("river.1"), "ENVIRONMENT");
    let entries = entries(&text, "Ev");
    let flags = FLAGS.iter().filter_map(|flag| flag.env.map(|env| (env, flag.name)));
    for (env, flag) in flags.clone() {
        let (_, body) = entries.iter().find(|(name, _)| name == env).unwrap_or_else(|| panic!("no {env}"));
        assert!(body.contains(&format!("Fl Fl {}", flag.trim_start_matches('-'))), "{env}: {body}");
    }
    let others = ["NO_COLOR", "NOTIFY_SOCKET", "WATCHDOG_USEC", "LISTEN_FDS"];
    let known: BTreeSet<&str> = flags.map(|(env, _)| env).chain(others).collect();
    assert_eq!(names(&entries), known);
}

#[test]
fn exit_codes_are_in_river_1() {
    let text = section(&page("river.1"), "EXIT STATUS");
    let documented: Vec<u8> =
        text.lines().filter_map(|line| line.strip_prefix(".It ")).map(|code| code.parse().unwrap()).collect();
    let known: Vec<u8> = Exit::ALL.iter().map(|exit| exit.code()).collect();
    assert_eq!(documented, known);
}

#[test]
fn settings_are_in_river_ron_5() {
    let text = section(&page("river.ron.5"), "SETTINGS");
    let entries = entries(&text, "Ic");
    let documented: Vec<&str> = entries.iter().map(|(path, _)| path.as_str()).collect();
    let known: Vec<&str> = SETTINGS.iter().map(|setting| setting.path).collect();
    assert_eq!(documented, known);
    for (setting, (_, body)) in SETTINGS.iter().zip(&entries) {
        let body = unescape(body);
        let (_, name) = setting.split();
        let lines = [
            setting.meaning.to_owned(),
            format!("Type: {}", setting.kind),
            format!("Default: {}", setting.default),
            format!("Example: {name}: {}", setting.example),
        ];
        for line in lines {
            let said = unescape(&line.replace("\\n", "\\en"));
            assert!(
                body.lines().any(|other| other == said),
                "{}: no line {said:?} in:\n{body}",
                setting.path
            );
        }
    }
}

#[test]
fn what_beats_a_setting_is_a_flag_and_stands_in_the_page() {
    let text = section(&page("river.ron.5"), "SETTINGS");
    let entries = entries(&text, "Ic");
    let overridden = |setting: &&Setting| setting.flag.is_some() || setting.env.is_some();
    for setting in SETTINGS.iter().filter(overridden) {
        let (flag, env) = (setting.flag.unwrap(), setting.env.unwrap());
        assert!(FLAGS.iter().any(|other| other.name == flag && other.env == Some(env)), "{flag}, {env}");
        let (_, body) = entries.iter().find(|(path, _)| path == setting.path).unwrap();
        let option = format!(".Fl Fl {}\n", flag.trim_start_matches('-'));
        assert!(body.contains(&option) && body.contains(&format!(".Ev {env}\n")), "{}", setting.path);
    }
}

#[test]
fn every_signal_is_described_in_every_state() {
    let page = page("river-signals.7");
    let states: Vec<String> =
        entries(&section(&page, "STATES"), "Sy").into_iter().map(|(name, _)| name).collect();
    assert_eq!(states, ["Booting", "AwaitingHandoff", "Serving", "Handing", "Draining", "Exited"]);
    let signals = entries(&section(&page, "SIGNALS"), "Dv");
    let names: Vec<&str> = signals.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2"]);
    for (signal, body) in &signals {
        for state in states.iter().filter(|state| *state != "Exited") {
            let described = body.contains(&format!(".It {state}\n")) || body.contains("in every state");
            assert!(described, "{signal} in {state}");
        }
    }
}

#[test]
fn settings_that_the_pages_name_exist() {
    for name in ["river.1", "river-signals.7"] {
        for path in page(name).split(".Ic ").skip(1).map(|rest| rest.split_whitespace().next().unwrap()) {
            assert!(SETTINGS.iter().any(|setting| setting.path == path), "{name} speaks of {path}");
        }
    }
}

#[test]
fn configurations_in_the_pages_are_valid() {
    let text = page("river.ron.5");
    let examples =
        text.split(".Bd -literal -offset indent\n").skip(1).map(|rest| rest.split(".Ed").next().unwrap());
    let mut read = 0;
    for example in examples {
        // The directory that they speak of need not be there.
        let example = unescape(example).replace("/run/river/", "/tmp/");
        let source = river::config::Source::from_text("river.ron.5", "/".as_ref(), &example);
        let plan = river::config::Plan::from_source(&source, &Default::default(), &river::config::resolve);
        plan.unwrap_or_else(|errors| panic!("{errors}"));
        read += 1;
    }
    assert_eq!(read, 4);
}
