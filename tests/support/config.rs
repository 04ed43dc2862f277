//! Configurations for the river under test.

use std::fmt::Write;

use super::origin::Origin;
use super::socket::Target;

/// A configuration to be: relative paths, ports that the kernel chooses.
#[derive(Clone, Debug, Default)]
pub struct Config {
    system: Vec<String>,
    services: Vec<(String, String)>,
}

impl Config {
    /// Only what every instance needs: a pidfile and an upgrade socket.
    pub fn new() -> Self {
        Self {
            system: vec!["pid_file: \"river.pid\"".into(), "upgrade_socket: \"upgrade.sock\"".into()],
            ..Self::default()
        }
    }

    /// One service `web` with one listener in front of `origin`.
    pub fn proxy(origin: &Origin) -> Self {
        Self::new().service("web", &["127.0.0.1:0"], &connectors(&[origin.target().clone()]))
    }

    /// One service `web` with one listener that answers `body`.
    pub fn respond(body: &str) -> Self {
        Self::new().service("web", &["127.0.0.1:0"], &respond(body))
    }

    /// Adds settings to the `system` part, without a comma at the end (`drain_timeout: "3s"`).
    pub fn system(mut self, settings: &str) -> Self {
        self.system.push(settings.to_owned());
        self
    }

    /// Sets the settings of the hand-over (`guard: "5s"`). Where a test sets none, there is no guard: an instance that
    /// has handed over ends with its last connection.
    pub fn handoff(self, settings: &str) -> Self {
        self.system(&format!("handoff: ({settings})"))
    }

    /// Adds a service with a listener for each of `binds` and the given other settings.
    pub fn service(self, name: &str, binds: &[&str], settings: &str) -> Self {
        let binds: Vec<String> = binds.iter().map(|bind| format!("(bind: {bind:?})")).collect();
        let listeners = binds.join(", ");
        self.service_text(name, &format!("listeners: [{listeners}], {settings}"))
    }

    /// Adds a service with its text as it is.
    pub fn service_text(mut self, name: &str, text: &str) -> Self {
        self.services.push((name.to_owned(), text.to_owned()));
        self
    }

    /// Adds settings to the last service (`limits: (max_head: "4KiB")`).
    pub fn with(mut self, settings: &str) -> Self {
        if let Some((_, text)) = self.services.last_mut() {
            let _ = write!(text, ", {settings}");
        }
        self
    }

    /// The configuration's text.
    pub fn text(&self) -> String {
        let mut system = self.system.clone();
        let names = |name: &str| self.system.iter().any(|setting| setting.starts_with(name));
        if names("upgrade_socket:") && !names("handoff:") {
            system.push("handoff: (guard: \"0s\")".into());
        }
        let system = system.join(",\n        ");
        let mut text = format!("(\n    system: (\n        {system},\n    ),\n    services: {{\n");
        for (name, service) in &self.services {
            let _ = writeln!(text, "        {name:?}: (\n            {service},\n        ),");
        }
        text.push_str("    },\n)\n");
        text
    }
}

impl From<Config> for String {
    fn from(config: Config) -> Self {
        config.text()
    }
}

/// The settings of a service that forwards to `servers`.
pub fn connectors(servers: &[Target]) -> String {
    let servers: Vec<String> = servers.iter().map(|server| format!("(addr: \"{server}\")")).collect();
    format!("connectors: (servers: [{}])", servers.join(", "))
}

/// The settings of a service that answers `body`.
pub fn respond(body: &str) -> String {
    format!("respond: (status: 200, body: {body:?})")
}
