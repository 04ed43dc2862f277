//! Configuration files, good and bad, and what is said about them.
//!
//! Every `fixtures/config/bad/*.ron` has the errors it must bring beside it. `RIVER_BLESS=1 cargo test --test config`
//! writes them anew; read the difference before it is committed.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use river::config::{self, Errors, MAX_SIZE, Overrides, Plan, SETTINGS, Source};

/// Knows only `localhost`, so that no test asks the network.
fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    match host {
        "localhost" => {
            Ok(vec![format!("[::1]:{port}").parse().unwrap(), format!("127.0.0.1:{port}").parse().unwrap()])
        }
        "six" => Ok(vec![format!("[::1]:{port}").parse().unwrap()]),
        _ => Err(io::Error::other("the name is unknown")),
    }
}

fn plan(source: &Source) -> Result<Plan, Errors> {
    Plan::from_source(source, &Overrides::default(), &resolve)
}

fn plan_text(text: &str) -> Result<Plan, Errors> {
    plan(&Source::from_text("river.ron", Path::new("/"), text))
}

fn files(directory: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "ron"))
        .collect();
    files.sort();
    files
}

#[test]
fn bad_files_bring_their_errors() {
    let files = files("fixtures/config/bad");
    assert!(files.len() >= 40, "only {} bad files", files.len());
    let bless = std::env::var_os("RIVER_BLESS").is_some();
    let mut wrong = Vec::new();
    for file in &files {
        let errors = match plan(&Source::read(file).unwrap()) {
            Ok(plan) => panic!("{} is accepted: {plan:#?}", file.display()),
            Err(errors) => format!("{errors}\n"),
        };
        let golden = file.with_extension("stderr");
        if bless {
            fs::write(&golden, &errors).unwrap();
        }
        if fs::read_to_string(&golden).unwrap_or_default() != errors {
            wrong.push(errors);
        }
    }
    assert!(wrong.is_empty(), "these differ from their .stderr file:\n\n{}", wrong.join("\n"));
}
