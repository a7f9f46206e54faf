//! What `serve` is set to: flag before environment before file before default.

use crate::machine::Limits;
use crate::server::{EtcdSettings, Settings, TlsFiles};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};
use std::collections::BTreeMap;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Threads unless more are asked for: all of them share one mutex.
const MOST_THREADS: usize = 8;

/// One setting, under one name everywhere.
///
/// For example `--max-keys`, `KEYLATCH_MAX_KEYS`, and `max_keys` in the file.
#[derive(Debug)]
struct Setting {
    name: &'static str,
    default: &'static str,
    help: &'static str,
}

const fn setting(name: &'static str, default: &'static str, help: &'static str) -> Setting {
    Setting { name, default, help }
}

/// Every setting. An empty default stands for "none".
const SETTINGS: [Setting; 32] = [
    setting("listen", "127.0.0.1:7373", "Address and port"),
    setting("state", "keylatch.state", "File that keeps epoch and fences; \"none\" keeps nothing, for tests only"),
    setting("tokens", "", "Tokens file; without one no token is asked for"),
    setting("tls-certificate", "", "The server's certificate chain, in PEM"),
    setting("tls-key", "", "The certificate's key, in PEM"),
    setting("tls-client-roots", "", "Roots of client certificates, in PEM; each client has to show one"),
    setting("grace-ms", "5000", "For how long locks survive the end of an attached stream"),
    setting("min-ttl-ms", "100", "The shortest lease"),
    setting("max-ttl-ms", "300000", "The longest lease"),
    setting("max-sessions", "20000", "Sessions"),
    setting("max-waiters", "50000", "Waiting requests"),
    setting("max-keys", "200000", "Keys that are held or waited for"),
    setting("max-key-bytes", "1024", "Bytes of one key"),
    setting("max-items", "256", "Keys of one request"),
    setting("max-connections", "25000", "Open connections"),
    setting("threads", "cores", "Threads that serve connections; \"cores\": one for each core, at most 8"),
    setting("events", "16384", "Events that are kept for subscribers"),
    setting("claim-retention-ms", "600000", "For how long the outcome of a claim is retained"),
    setting("claim-outcomes", "10000", "Outcomes that are retained, with their resources' events"),
    setting("claim-events", "64", "Events of each claimed resource that are kept for subscribers"),
    setting("drain-ms", "10000", "For how long a server that stops waits for holders"),
    setting("tier", "none", "Where the locks are: none, in this server; etcd, on a cluster that servers share"),
    setting("etcd-endpoints", "", "Client addresses of the members, such as http://10.0.0.1:2379, with commas between"),
    setting("etcd-namespace", "default", "Servers with the same one share their locks"),
    setting("etcd-ttl-ms", "10000", "After how long without contact the locks go to others; whole seconds"),
    setting("etcd-user", "", "User, for a cluster with authentication"),
    setting("etcd-password-file", "", "File with the user's password"),
    setting("etcd-ca", "", "Authority of the members' certificates, in PEM"),
    setting("etcd-certificate", "", "The server's certificate for the members, in PEM"),
    setting("etcd-key", "", "That certificate's key, in PEM"),
    setting("log", "info", "What is logged: error, warn, info, debug, trace"),
    setting("log-format", "text", "How: text or json"),
];

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    Flag,
    Environment,
    File(PathBuf),
    Default,
}

/// A setting's value, not read yet.
#[derive(Debug, Clone)]
struct Value {
    text: String,
    source: Source,
}

/// What the settings say, with the source of each.
#[derive(Debug)]
pub(super) struct Resolved {
    values: BTreeMap<&'static str, Value>,
}

/// What `serve` runs with.
#[derive(Debug)]
pub(super) struct ServeConfig {
    pub(super) settings: Settings,
    pub(super) log: String,
    pub(super) json_log: bool,
}

/// Adds the settings to a command.
pub(super) fn add_settings(command: Command) -> Command {
    let command = command.arg(
        Arg::new("config").long("config").env("KEYLATCH_CONFIG").value_name("FILE").help("File with settings, in TOML"),
    );
    SETTINGS.iter().fold(command, |command, setting| {
        let help = match setting.default {
            "" => format!("{} [default: none]", setting.help),
            default => format!("{} [default: {default}]", setting.help),
        };
        command
            .arg(Arg::new(setting.name).long(setting.name).env(variable(setting.name)).value_name("VALUE").help(help))
    })
}

/// Returns the name of a setting's environment variable.
///
/// Names are few, so they may live for ever.
fn variable(name: &str) -> &'static str {
    format!("KEYLATCH_{}", name.replace('-', "_").to_uppercase()).leak()
}

/// Variables that are no setting of `serve`.
///
/// Other commands read them, or a library of the project.
const OTHER_VARIABLES: [&str; 14] = [
    "KEYLATCH_ATTEMPT",
    "KEYLATCH_BACKEND",
    "KEYLATCH_CLIENT_CERTIFICATE",
    "KEYLATCH_CLIENT_KEY",
    "KEYLATCH_CONFIG",
    "KEYLATCH_FENCE",
    "KEYLATCH_FIRST_IN_EPOCH",
    "KEYLATCH_GRANT",
    "KEYLATCH_PROGRESS",
    "KEYLATCH_SERVER",
    "KEYLATCH_SHARED_TABLE",
    "KEYLATCH_TLS_ROOTS",
    "KEYLATCH_TOKEN",
    "KEYLATCH_TOKEN_FILE",
];

/// Returns the variables that look like a setting and are none.
///
/// Most likely they are misspelt.
pub(super) fn misspelt(names: impl Iterator<Item = String>) -> Vec<String> {
    let known = |name: &str| {
        OTHER_VARIABLES.contains(&name)
            || SETTINGS.iter().any(|setting| variable(setting.name) == name)
            // Kubernetes sets these where a service is called keylatch.
            || ["KEYLATCH_SERVICE_", "KEYLATCH_PORT", "KEYLATCH_TEST_"].iter().any(|prefix| name.starts_with(prefix))
    };
    let mut found: Vec<_> = names.filter(|name| name.starts_with("KEYLATCH_") && !known(name)).collect();
    found.sort_unstable();
    found
}

fn field(name: &str) -> String {
    name.replace('-', "_")
}

impl Resolved {
    /// Gathers the values of all settings.
    pub(super) fn gather(matches: &ArgMatches) -> Result<Self, String> {
        let file = match matches.get_one::<String>("config") {
            None => BTreeMap::new(),
            Some(path) => read_file(Path::new(path))?,
        };
        let mut values = BTreeMap::new();
        for setting in &SETTINGS {
            let given = matches.get_one::<String>(setting.name).cloned();
            let from_file = || file.get(&field(setting.name)).cloned();
            let value = match (given, matches.value_source(setting.name)) {
                (Some(text), Some(ValueSource::EnvVariable)) => Value { text, source: Source::Environment },
                (Some(text), _) => Value { text, source: Source::Flag },
                (None, _) => {
                    from_file().unwrap_or_else(|| Value { text: setting.default.into(), source: Source::Default })
                }
            };
            values.insert(setting.name, value);
        }
        Ok(Self { values })
    }

    /// Each setting with its value and its source, as a settings file would have it.
    pub(super) fn show(&self) -> String {
        let mut text = String::new();
        for setting in &SETTINGS {
            let value = &self.values[setting.name];
            let line = format!("{} = {}", field(setting.name), toml::Value::String(value.text.clone()));
            text += &format!("{line:<48} # {}\n", self.source(setting));
        }
        text
    }

    /// Returns the same as JSON.
    pub(super) fn show_json(&self) -> serde_json::Value {
        let shown = |setting: &Setting| {
            let value = serde_json::json!({"value": self.values[setting.name].text, "source": self.source(setting)});
            (field(setting.name), value)
        };
        serde_json::Value::Object(SETTINGS.iter().map(shown).collect())
    }

    fn source(&self, setting: &Setting) -> String {
        match &self.values[setting.name].source {
            Source::Flag => format!("--{}", setting.name),
            Source::Environment => variable(setting.name).to_owned(),
            Source::File(path) => path.display().to_string(),
            Source::Default => "default".to_owned(),
        }
    }

    /// Reads the values.
    pub(super) fn read(&self) -> Result<ServeConfig, String> {
        let path = |name| {
            let text = self.text(name);
            (!text.is_empty()).then(|| PathBuf::from(text))
        };
        let tls = match (path("tls-certificate"), path("tls-key"), path("tls-client-roots")) {
            (Some(certificate), Some(key), client_roots) => Some(TlsFiles { certificate, key, client_roots }),
            (None, None, None) => None,
            _ => return Err("tls-certificate and tls-key go together, and tls-client-roots needs both".into()),
        };
        let limits = Limits {
            sessions: self.number("max-sessions")?,
            waiters: self.number("max-waiters")?,
            keys: self.number("max-keys")?,
            items: self.number("max-items")?,
            key_bytes: self.number("max-key-bytes")?,
            events: self.number("events")?,
            claim_retention: self.time("claim-retention-ms")?,
            claim_outcomes: self.number("claim-outcomes")?,
            claim_events: self.number("claim-events")?,
            grace: self.time("grace-ms")?,
            min_ttl: self.time("min-ttl-ms")?,
            max_ttl: self.time("max-ttl-ms")?,
            ..Limits::default()
        };
        if limits.min_ttl > limits.max_ttl {
            return Err(format!("min-ttl-ms ({}) is more than max-ttl-ms", self.text("min-ttl-ms")));
        }
        let settings = Settings {
            listen: self.parsed("listen", "an address and a port, such as 127.0.0.1:7373")?,
            state: path("state").filter(|path| path.as_os_str() != "none"),
            tokens: path("tokens"),
            tls,
            limits,
            connections: self.number("max-connections")?,
            threads: match self.text("threads") {
                "cores" => std::thread::available_parallelism().map_or(1, NonZero::get).min(MOST_THREADS),
                _ => match self.number("threads")? {
                    threads @ 1..=1024 => threads,
                    _ => return Err(self.wrong("threads", "\"cores\", or a whole number from 1 to 1024")),
                },
            },
            drain: self.time("drain-ms")?,
            etcd: self.etcd()?,
        };
        let json_log = match self.text("log-format") {
            "text" => false,
            "json" => true,
            _ => return Err(self.wrong("log-format", "text or json")),
        };
        let log = match self.text("log") {
            level @ ("error" | "warn" | "info" | "debug" | "trace") => level.to_owned(),
            _ => return Err(self.wrong("log", "error, warn, info, debug or trace")),
        };
        Ok(ServeConfig { settings, log, json_log })
    }

    /// Returns the cluster, if there is to be one.
    fn etcd(&self) -> Result<Option<EtcdSettings>, String> {
        let given = |name| Some(self.text(name)).filter(|text| !text.is_empty());
        match self.text("tier") {
            "none" => {
                let names =
                    ["etcd-endpoints", "etcd-user", "etcd-password-file", "etcd-ca", "etcd-certificate", "etcd-key"];
                return match names.into_iter().find(|name| given(name).is_some()) {
                    Some(name) => Err(format!("{name} is given, and tier is \"none\"; give --tier etcd, too")),
                    None => Ok(None),
                };
            }
            "etcd" => {}
            _ => return Err(self.wrong("tier", "none or etcd")),
        }
        let endpoints = given("etcd-endpoints").ok_or("tier is \"etcd\"; give --etcd-endpoints, too")?;
        let password = match given("etcd-password-file") {
            Some(path) => Some(std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?),
            None => None,
        };
        let user = match (given("etcd-user"), password) {
            (Some(user), Some(password)) => Some((user.to_owned(), password.trim_end().to_owned())),
            (None, None) => None,
            _ => return Err("etcd-user and etcd-password-file go together".into()),
        };
        let identity = match (given("etcd-certificate"), given("etcd-key")) {
            (Some(certificate), Some(key)) => Some((certificate.into(), key.into())),
            (None, None) => None,
            _ => return Err("etcd-certificate and etcd-key go together".into()),
        };
        Ok(Some(EtcdSettings {
            endpoints: endpoints.split(',').map(|endpoint| endpoint.trim().to_owned()).collect(),
            namespace: self.text("etcd-namespace").to_owned(),
            ttl: self.time("etcd-ttl-ms")?,
            user,
            ca: given("etcd-ca").map(PathBuf::from),
            identity,
        }))
    }

    fn text(&self, name: &str) -> &str {
        &self.values[name].text
    }

    fn parsed<T: std::str::FromStr>(&self, name: &str, right: &str) -> Result<T, String> {
        self.text(name).parse().map_err(|_| self.wrong(name, right))
    }

    fn number(&self, name: &str) -> Result<usize, String> {
        match self.parsed(name, "a whole number from 1 on")? {
            0 => Err(self.wrong(name, "a whole number from 1 on")),
            number => Ok(number),
        }
    }

    fn time(&self, name: &str) -> Result<Duration, String> {
        let millis: u32 = self.parsed(name, "milliseconds, a whole number")?;
        Ok(Duration::from_millis(u64::from(millis)))
    }

    fn wrong(&self, name: &str, right: &str) -> String {
        let value = &self.values[name];
        let source = match &value.source {
            Source::Flag => "the command line".to_owned(),
            Source::Environment => variable(name).to_owned(),
            Source::File(path) => path.display().to_string(),
            Source::Default => "the default".to_owned(),
        };
        format!("{name} is {:?} ({source}) and has to be {right}", value.text)
    }
}

fn read_file(path: &Path) -> Result<BTreeMap<String, Value>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let table: toml::Table = toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut values = BTreeMap::new();
    for (name, value) in table {
        if !SETTINGS.iter().any(|setting| field(setting.name) == name) {
            return Err(format!("{}: there is no setting {name}; serve --help lists them", path.display()));
        }
        let text = match value {
            toml::Value::String(text) => text,
            toml::Value::Integer(number) => number.to_string(),
            _ => return Err(format!("{}: {name} is text or a number", path.display())),
        };
        values.insert(name, Value { text, source: Source::File(path.to_owned()) });
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_variables_are_found() {
        let names =
            ["KEYLATCH_MAX_KEY", "KEYLATCH_MAX_KEYS", "KEYLATCH_TOKEN", "KEYLATCH_PORT_7373_TCP", "HOME", "KEYLATCH_"];
        assert_eq!(misspelt(names.into_iter().map(Into::into)), ["KEYLATCH_", "KEYLATCH_MAX_KEY"]);
    }

    fn resolved(arguments: &[&str]) -> Result<Resolved, String> {
        let command = add_settings(Command::new("serve"));
        Resolved::gather(&command.get_matches_from([&["serve"], arguments].concat()))
    }

    #[test]
    fn defaults_are_the_limits_of_the_library() {
        let config = resolved(&[]).unwrap().read().unwrap();
        assert_eq!(config.settings.limits, Limits::default());
        assert_eq!(config.settings.listen, Settings::default().listen);
        assert_eq!(config.settings.state, Some("keylatch.state".into()));
    }

    #[test]
    fn flag_goes_before_file_and_the_rest_is_default() {
        let path = std::env::temp_dir().join(format!("keylatch-config-{}.toml", std::process::id()));
        std::fs::write(&path, "max_keys = 7\ngrace_ms = \"9\"\n").unwrap();
        let config = path.to_str().unwrap();
        let resolved = resolved(&["--config", config, "--grace-ms", "11"]).unwrap();
        let limits = resolved.read().unwrap().settings.limits;
        assert_eq!((limits.keys, limits.grace, limits.items), (7, Duration::from_millis(11), 256));
        let shown = resolved.show();
        for (line, source) in
            [("max_keys = \"7\"", config), ("grace_ms = \"11\"", "--grace-ms"), ("log = \"info\"", "default")]
        {
            let found = shown.lines().find(|shown| shown.starts_with(line)).unwrap_or_else(|| panic!("{shown}"));
            assert!(found.ends_with(source), "{found}");
        }
        std::fs::write(&path, "max_locks = 7\n").unwrap();
        assert!(super::read_file(&path).unwrap_err().contains("no setting max_locks"));
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn wrong_values_name_setting_and_source() {
        for (arguments, says) in [
            (vec!["--listen", "here"], "listen is \"here\" (the command line)"),
            (vec!["--max-keys", "0"], "from 1 on"),
            (vec!["--max-keys", "-1"], "from 1 on"),
            (vec!["--grace-ms", "5s"], "milliseconds"),
            (vec!["--threads", "5000"], "from 1 to 1024"),
            (vec!["--tls-key", "k"], "go together"),
            (vec!["--log-format", "xml"], "text or json"),
            (vec!["--tier", "redis"], "none or etcd"),
            (vec!["--tier", "etcd"], "give --etcd-endpoints"),
            (vec!["--etcd-endpoints", "http://a:1"], "give --tier etcd"),
            (vec!["--etcd-key", "key.pem"], "give --tier etcd"),
            (vec!["--tier", "etcd", "--etcd-endpoints", "http://a:1", "--etcd-user", "u"], "go together"),
            (vec!["--tier", "etcd", "--etcd-endpoints", "http://a:1", "--etcd-key", "k"], "go together"),
            (vec!["--min-ttl-ms", "9", "--max-ttl-ms", "8"], "more than"),
        ] {
            let arguments: Vec<String> = arguments.chunks(2).map(|pair| format!("{}={}", pair[0], pair[1])).collect();
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let error = resolved(&arguments).unwrap().read().unwrap_err();
            assert!(error.contains(says), "{arguments:?}: {error}");
        }
    }
}
