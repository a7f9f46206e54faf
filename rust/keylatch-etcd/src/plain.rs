//! Settings as programs in other languages give them: texts, and names of files.

use crate::config::EtcdConfig;
use crate::error::EtcdError;
use crate::tier::{EtcdTier, refused};
use keylatch::{FastObjectLockManager, LockConfig, LockError};
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Settings in texts and names of files, as C, Python and Go have them.
///
/// What is empty, or zero, is the default.
#[doc(hidden)]
#[derive(Clone, Copy, Default)]
pub struct PlainSettings<'a> {
    /// The client address of each member, with commas between.
    ///
    /// `host:port` alone is one with TLS if `ca_file` is given, and one without otherwise.
    pub endpoints: &'a str,
    /// As [`EtcdConfig::namespace`].
    pub namespace: &'a str,
    /// As [`EtcdConfig::ttl`].
    pub ttl: Duration,
    /// As [`EtcdConfig::connect_timeout`].
    pub connect_timeout: Duration,
    /// File with the authority, as [`EtcdConfig::ca_pem`].
    pub ca_file: Option<&'a Path>,
    /// File with the certificate, as [`EtcdConfig::identity_pem`].
    pub certificate_file: Option<&'a Path>,
    /// File with the certificate's key.
    pub key_file: Option<&'a Path>,
    /// As [`EtcdConfig::server_name`].
    pub server_name: &'a str,
    /// As [`EtcdConfig::user`].
    pub user: &'a str,
    /// The user's password.
    pub password: &'a str,
    /// As [`EtcdConfig::label`].
    pub label: &'a str,
}

/// Bytes of an address, a name or a password, at most.
const LONGEST: usize = 1024;
/// Addresses, at most. Clusters have up to nine members.
const MOST_ENDPOINTS: usize = 64;
/// Bytes of a file with certificates, at most.
const LARGEST_FILE: u64 = 1 << 20;

impl PlainSettings<'_> {
    /// Makes a manager whose keys are those of the namespace; blocks.
    ///
    /// The tier is to be closed before the manager is dropped.
    ///
    /// # Errors
    /// As [`Etcd::etcd`](crate::tier::Etcd::etcd); settings have the names of the fields here, but the endpoints are `etcd`.
    pub fn manager(&self, config: LockConfig) -> Result<(FastObjectLockManager, EtcdTier), LockError> {
        config.validate()?;
        let opened = self.config().and_then(EtcdTier::open);
        let tier = opened.map_err(|error| renamed(refused(error)))?;
        let locks = FastObjectLockManager::with_tier(config, Arc::new(tier.clone()))?;
        Ok((locks, tier))
    }

    /// Reads the files, and checks everything that can be checked without a server.
    fn config(&self) -> Result<EtcdConfig, EtcdError> {
        for (setting, text) in [
            ("namespace", self.namespace),
            ("server_name", self.server_name),
            ("user", self.user),
            ("password", self.password),
            ("label", self.label),
        ] {
            if text.len() > LONGEST {
                return invalid(setting, format!("it has {} bytes; at most {LONGEST} will do", text.len()));
            }
        }
        let mut config = EtcdConfig::new(self.addresses()?).label(self.label);
        if !self.namespace.is_empty() {
            config = config.namespace(self.namespace);
        }
        if !self.ttl.is_zero() {
            config = config.ttl(self.ttl);
        }
        if !self.connect_timeout.is_zero() {
            config = config.connect_timeout(self.connect_timeout);
        }
        if !self.server_name.is_empty() {
            config = config.server_name(self.server_name);
        }
        match (self.user, self.password) {
            ("", "") => {}
            ("", _) => return invalid("user", "a password is given without a user; give both".into()),
            (_, "") => return invalid("password", "a user is given without a password; give both".into()),
            (user, password) => config = config.user(user, password),
        }
        if let Some(file) = self.ca_file {
            config = config.ca_pem(read("ca_file", file)?);
        }
        match (self.certificate_file, self.key_file) {
            (None, None) => {}
            (Some(certificate), Some(key)) => {
                config = config.identity_pem(read("certificate_file", certificate)?, read("key_file", key)?);
            }
            (None, _) => {
                return invalid("certificate_file", "a key is given without its certificate; give both".into());
            }
            (_, None) => return invalid("key_file", "a certificate is given without its key; give both".into()),
        }
        Ok(config)
    }

    fn addresses(&self) -> Result<Vec<String>, EtcdError> {
        let scheme = if self.ca_file.is_some() { "https" } else { "http" };
        let parts: Vec<_> = self.endpoints.split(',').map(str::trim).collect();
        if parts.len() > MOST_ENDPOINTS {
            return invalid("etcd", format!("it has {} addresses; at most {MOST_ENDPOINTS} will do", parts.len()));
        }
        let address = |part: &&str| match *part {
            "" => invalid("etcd", "an address is empty; write host:port of each member, with commas between".into()),
            part if part.len() > LONGEST => {
                invalid("etcd", format!("an address has {} bytes; at most {LONGEST} will do", part.len()))
            }
            part if part.contains("://") => Ok(part.to_owned()),
            part if !has_port(part) => {
                invalid("etcd", format!("{part:?} has no port; write host:port, usually {part}:2379"))
            }
            part => Ok(format!("{scheme}://{part}")),
        };
        parts.iter().map(address).collect()
    }
}

fn has_port(address: &str) -> bool {
    address.rsplit_once(':').is_some_and(|(host, port)| {
        let is_whole = !host.contains(':') || host.starts_with('[') && host.ends_with(']');
        !host.is_empty() && is_whole && port.parse::<u16>().is_ok_and(|port| port != 0)
    })
}

/// The whole of a small file.
fn read(setting: &'static str, path: &Path) -> Result<Vec<u8>, EtcdError> {
    let mut content = Vec::new();
    let done = File::open(path).and_then(|file| file.take(LARGEST_FILE + 1).read_to_end(&mut content));
    match done {
        Err(error) => invalid(setting, format!("{}: {error}", path.display())),
        Ok(_) if content.len() as u64 > LARGEST_FILE => {
            invalid(setting, format!("{} has more than {LARGEST_FILE} bytes; give a file in PEM", path.display()))
        }
        Ok(_) => Ok(content),
    }
}

fn invalid<T>(setting: &'static str, problem: String) -> Result<T, EtcdError> {
    Err(EtcdError::InvalidConfig { setting, problem })
}

/// The same error, with the names that the settings have in other languages.
fn renamed(error: LockError) -> LockError {
    match error {
        LockError::InvalidConfig { setting: "endpoints", problem } => {
            LockError::InvalidConfig { setting: "etcd", problem }
        }
        LockError::InvalidConfig { setting: "ca_pem", problem } => {
            LockError::InvalidConfig { setting: "ca_file", problem }
        }
        LockError::InvalidConfig { setting: "identity_pem", problem } => {
            LockError::InvalidConfig { setting: "certificate_file or key_file", problem }
        }
        LockError::InvalidConfig { setting: "ca_pem or identity_pem", problem } => {
            LockError::InvalidConfig { setting: "ca_file, certificate_file or key_file", problem }
        }
        other => other,
    }
}

impl fmt::Debug for PlainSettings<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the password.
        f.debug_struct("PlainSettings")
            .field("endpoints", &self.endpoints)
            .field("namespace", &self.namespace)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(settings: PlainSettings<'_>) -> (&'static str, String) {
        match settings.manager(LockConfig::default()) {
            Err(LockError::InvalidConfig { setting, problem }) => (setting, problem),
            other => panic!("{other:?}"),
        }
    }

    fn with(endpoints: &str) -> PlainSettings<'_> {
        PlainSettings { endpoints, ..PlainSettings::default() }
    }

    #[test]
    fn addresses_get_a_scheme() {
        let of = |text| with(text).config().expect("fine").endpoints;
        assert_eq!(of("a:2379, http://b:1 ,[::1]:2379"), ["http://a:2379", "http://b:1", "http://[::1]:2379"]);
        let file = std::env::temp_dir().join(format!("keylatch-plain-{}", std::process::id()));
        std::fs::write(&file, "-----BEGIN CERTIFICATE-----").expect("written");
        let safe = PlainSettings { ca_file: Some(&file), ..with("a:2379,http://b:1") };
        assert_eq!(safe.config().expect("fine").endpoints, ["https://a:2379", "http://b:1"]);
        std::fs::remove_file(&file).expect("removed");
    }

    #[test]
    fn zeros_are_defaults() {
        let (config, default) = (with("a:1").config().expect("fine"), EtcdConfig::new(["http://a:1"]));
        assert_eq!(format!("{config:?}"), format!("{default:?}"));
        assert_eq!(config.connect_timeout, default.connect_timeout);
        assert!(config.user.is_none() && config.ca.is_none() && config.identity.is_none());
    }

    #[test]
    fn settings_wrong_named() {
        let nowhere = Path::new("/no/such/file");
        let long = "x".repeat(LONGEST + 1);
        let many = vec!["a:1"; MOST_ENDPOINTS + 1].join(",");
        let safe = || with("a:1");
        for (settings, setting, word) in [
            (with(""), "etcd", "host:port"),
            (with("a:1,"), "etcd", "empty"),
            (with("a"), "etcd", "usually a:2379"),
            (with("a:b"), "etcd", "no port"),
            (with("::1"), "etcd", "no port"),
            (with("a:0"), "etcd", "no port"),
            (with("a:70000"), "etcd", "no port"),
            (with("ftp://a:1"), "etcd", "http://"),
            (with("https://a:1"), "ca_file", "authority"),
            (with(&long), "etcd", "1025 bytes"),
            (with(&many), "etcd", "65 addresses"),
            (PlainSettings { namespace: "a/b", ..safe() }, "namespace", "letters"),
            (PlainSettings { namespace: "a\0b", ..safe() }, "namespace", "letters"),
            (PlainSettings { label: &long, ..safe() }, "label", "1025 bytes"),
            (PlainSettings { password: &long, ..safe() }, "password", "1025 bytes"),
            (PlainSettings { ttl: Duration::from_millis(1500), ..safe() }, "ttl", "whole number"),
            (PlainSettings { ttl: Duration::MAX, ..safe() }, "ttl", "whole number"),
            (PlainSettings { connect_timeout: Duration::MAX, ..safe() }, "connect_timeout", "a day"),
            (PlainSettings { user: "u", ..safe() }, "password", "both"),
            (PlainSettings { password: "p", ..safe() }, "user", "both"),
            (PlainSettings { ca_file: Some(nowhere), ..safe() }, "ca_file", "/no/such/file"),
            (PlainSettings { ca_file: Some(Path::new("/dev/zero")), ..safe() }, "ca_file", "PEM"),
            (PlainSettings { ca_file: Some(Path::new("/")), ..safe() }, "ca_file", "directory"),
            (PlainSettings { key_file: Some(nowhere), ..safe() }, "certificate_file", "both"),
            (PlainSettings { ca_file: Some(Path::new("/etc/hostname")), ..with("a:1") }, "ca_file", "PEM"),
            (PlainSettings { certificate_file: Some(nowhere), ..safe() }, "key_file", "both"),
        ] {
            let (named, said) = problem(settings);
            assert!(named == setting && said.contains(word), "{settings:?}: {named}: {said}");
        }
    }
}
