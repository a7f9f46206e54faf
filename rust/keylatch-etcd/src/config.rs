//! Which cluster, how to log in, and how long a lease lasts.

use crate::error::EtcdError;
use std::fmt;
use std::time::Duration;

/// How to reach etcd, and what the locks are called there.
///
/// ```
/// use keylatch_etcd::EtcdConfig;
/// use std::time::Duration;
/// let config = EtcdConfig::new(["http://10.0.0.1:2379", "http://10.0.0.2:2379", "http://10.0.0.3:2379"])
///     .namespace("photos")
///     .ttl(Duration::from_secs(15));
/// assert!(format!("{config:?}").contains("photos"));
/// ```
#[derive(Clone)]
pub struct EtcdConfig {
    pub(crate) endpoints: Vec<String>,
    pub(crate) namespace: String,
    pub(crate) ttl: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) ca: Option<Vec<u8>>,
    pub(crate) identity: Option<(Vec<u8>, Vec<u8>)>,
    pub(crate) server_name: Option<String>,
    pub(crate) user: Option<(String, String)>,
    pub(crate) label: String,
}

impl EtcdConfig {
    /// The cluster with these client addresses, such as `http://10.0.0.1:2379`.
    ///
    /// Give all members.
    pub fn new<T: Into<String>>(endpoints: impl IntoIterator<Item = T>) -> Self {
        Self {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            namespace: "default".into(),
            ttl: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(5),
            ca: None,
            identity: None,
            server_name: None,
            user: None,
            label: String::new(),
        }
    }

    /// Names the space of locks; processes with the same name exclude each other.
    ///
    /// The default is `default`.
    #[must_use]
    pub fn namespace(self, namespace: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), ..self }
    }

    /// Sets after how long without contact all locks of the process end.
    ///
    /// Whole seconds, 10 by default.
    ///
    /// The server may have a floor, usually 2 seconds; opening fails below it.
    #[must_use]
    pub fn ttl(self, ttl: Duration) -> Self {
        Self { ttl, ..self }
    }

    /// Sets how long opening tries to reach the cluster: 5 seconds by default.
    #[must_use]
    pub fn connect_timeout(self, connect_timeout: Duration) -> Self {
        Self { connect_timeout, ..self }
    }

    /// Sets the authority, in PEM, that the servers' certificates have to come from.
    ///
    /// It is needed for `https://`.
    #[must_use]
    pub fn ca_pem(self, pem: impl Into<Vec<u8>>) -> Self {
        Self { ca: Some(pem.into()), ..self }
    }

    /// Sets the process's own certificate and key, in PEM.
    #[must_use]
    pub fn identity_pem(self, certificate: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        Self { identity: Some((certificate.into(), key.into())), ..self }
    }

    /// Sets the name that the servers' certificates are for.
    ///
    /// Without it, that is the host of the endpoint.
    #[must_use]
    pub fn server_name(self, name: impl Into<String>) -> Self {
        Self { server_name: Some(name.into()), ..self }
    }

    /// Logs in with a user and a password, for clusters with authentication.
    #[must_use]
    pub fn user(self, name: impl Into<String>, password: impl Into<String>) -> Self {
        Self { user: Some((name.into(), password.into())), ..self }
    }

    /// Names the process in listings, beside its host and number.
    #[must_use]
    pub fn label(self, label: impl Into<String>) -> Self {
        Self { label: label.into(), ..self }
    }

    pub(crate) fn ttl_seconds(&self) -> i64 {
        i64::try_from(self.ttl.as_secs()).unwrap_or(i64::MAX)
    }

    /// Says what is wrong with the settings, before anything is sent.
    pub(crate) fn check(&self) -> Result<(), EtcdError> {
        let invalid = |setting, problem: String| Err(EtcdError::InvalidConfig { setting, problem });
        if self.endpoints.is_empty() {
            return invalid("endpoints", "there is none; give the client address of each member".into());
        }
        for endpoint in &self.endpoints {
            if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
                if endpoint.contains("://") {
                    return invalid("endpoints", format!("{endpoint} begins neither with http:// nor with https://"));
                }
                return invalid("endpoints", format!("{endpoint} has no scheme; write http://{endpoint} or https://"));
            }
            if endpoint.starts_with("https://") && self.ca.is_none() {
                return invalid("ca_pem", format!("{endpoint} needs the authority of its certificate"));
            }
        }
        let has = |pem: &[u8], words: &str| String::from_utf8_lossy(pem).contains(words);
        if self.ca.as_ref().is_some_and(|pem| !has(pem, "-----BEGIN CERTIFICATE-----")) {
            return invalid("ca_pem", "it has no certificate in PEM".into());
        }
        if let Some((certificate, key)) = &self.identity {
            if !has(certificate, "-----BEGIN CERTIFICATE-----") {
                return invalid("identity_pem", "the first part has no certificate in PEM".into());
            }
            if !has(key, " PRIVATE KEY-----") {
                return invalid("identity_pem", "the second part has no private key in PEM".into());
            }
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if self.namespace.is_empty() || self.namespace.len() > 64 || !self.namespace.chars().all(plain) {
            return invalid("namespace", "use 1 to 64 letters, digits, '-', '_' and '.'".into());
        }
        if self.ttl < Duration::from_secs(1) || self.ttl.subsec_nanos() != 0 || self.ttl > Duration::from_secs(86_400) {
            return invalid("ttl", format!("{:?} is not a whole number of seconds from 1 to 86400", self.ttl));
        }
        if self.connect_timeout > Duration::from_secs(86_400) {
            return invalid("connect_timeout", format!("{:?} is more than a day", self.connect_timeout));
        }
        Ok(())
    }
}

impl fmt::Debug for EtcdConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdConfig")
            .field("endpoints", &self.endpoints)
            .field("namespace", &self.namespace)
            .field("ttl", &self.ttl)
            .field("user", &self.user.as_ref().map(|(name, _)| name))
            .finish_non_exhaustive()
    }
}
