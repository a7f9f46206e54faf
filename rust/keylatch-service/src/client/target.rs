//! Which server, and how it is reached.

use crate::server::{Problem, TlsError};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// Where a server is and what it wants to see.
#[derive(Clone)]
pub struct Target {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    pub(super) token: Option<String>,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The token stays where it is.
        write!(f, "Target({})", self.url())
    }
}

/// What a client knows of TLS.
#[derive(Debug, Clone, Default)]
pub struct TlsClientFiles {
    /// Roots of the server's certificate, in PEM.
    pub roots: Option<PathBuf>,
    /// The client's own certificate and its key, in PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Why a call has no answer that it can use.
#[derive(Debug)]
#[non_exhaustive]
pub enum ClientError {
    /// The URL is not `http://host:port` or `https://host:port`.
    Url(String),
    /// Certificates.
    Tls(TlsError),
    /// No connection, or it was cut.
    Io(String),
    /// The server answered with an error.
    Problem(Box<Problem>),
    /// The answer is not what this version understands.
    Answer(String),
    /// The lease was over by the client's own clock, or the server says so.
    Lost,
    /// The time given was over.
    Timeout,
    /// The end of claimed work was sent, but not answered: the server may know of it.
    OutcomeUnknown,
}

impl ClientError {
    /// Returns the server's error, if it is one of this name.
    #[must_use]
    pub fn is_problem(&self, name: &str) -> bool {
        matches!(self, Self::Problem(problem) if problem.name() == name)
    }

    /// Returns the error's number in `keylatch.h`, where it has one.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        match self {
            Self::Problem(problem) => problem.code,
            Self::Lost => Some(-7),
            Self::Timeout => Some(-1),
            Self::OutcomeUnknown => Some(-105),
            Self::Io(_) => Some(-105),
            Self::Url(_) | Self::Tls(_) | Self::Answer(_) => None,
        }
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => write!(f, "{url:?} is not a server; give http://host:port or https://host:port"),
            Self::Tls(error) => error.fmt(f),
            Self::Io(error) => write!(f, "the server cannot be reached: {error}"),
            Self::Problem(problem) => write!(f, "{}: {}", problem.title, problem.detail),
            Self::Answer(error) => write!(f, "the answer is not keylatch's: {error}"),
            Self::Lost => write!(f, "the lease is over; do not rely on the lock"),
            Self::Timeout => write!(f, "there was no answer in the time given: it is another's still"),
            Self::OutcomeUnknown => {
                write!(
                    f,
                    "the server was not heard again after the work ended; look at the work before it is done again"
                )
            }
        }
    }
}

impl std::error::Error for ClientError {}

impl Target {
    /// Reads a URL.
    ///
    /// # Errors
    /// [`ClientError::Url`], [`ClientError::Tls`].
    pub fn new(url: &str, token: Option<String>, tls: &TlsClientFiles) -> Result<Self, ClientError> {
        let wrong = || ClientError::Url(url.to_owned());
        let (is_tls, rest) = match (url.strip_prefix("http://"), url.strip_prefix("https://")) {
            (Some(rest), _) => (false, rest),
            (_, Some(rest)) => (true, rest),
            _ => return Err(wrong()),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.is_empty() || authority.contains(['/', '@', '?', '#']) {
            return Err(wrong());
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port.parse().map_err(|_| wrong())?),
            _ => (authority, if is_tls { 443 } else { 80 }),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let tls = if is_tls { Some((client_config(tls)?, server_name(&host).ok_or_else(wrong)?)) } else { None };
        Ok(Self { host, port, tls, token })
    }

    /// Returns the URL.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.authority())
    }

    pub(super) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

fn server_name(host: &str) -> Option<ServerName<'static>> {
    ServerName::try_from(host.to_owned()).ok()
}

fn client_config(files: &TlsClientFiles) -> Result<Arc<ClientConfig>, ClientError> {
    let roots = match &files.roots {
        Some(path) => crate::server::roots(path).map_err(ClientError::Tls)?,
        None => {
            let advice = "name the roots of the server's certificate with --tls-roots";
            return Err(ClientError::Tls(TlsError(advice.into())));
        }
    };
    let failed = |error: rustls::Error| ClientError::Tls(TlsError(error.to_string()));
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .with_root_certificates(roots);
    let config = match &files.identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = crate::server::certificates(certificate).map_err(ClientError::Tls)?;
            let key = crate::server::private_key(key).map_err(ClientError::Tls)?;
            builder.with_client_auth_cert(chain, key).map_err(failed)?
        }
    };
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_or_refused() {
        let tls = TlsClientFiles::default();
        for (url, authority) in [
            ("http://localhost:7373", "localhost:7373"),
            ("http://127.0.0.1:1/", "127.0.0.1:1"),
            ("http://[::1]:7373", "[::1]:7373"),
            ("http://locks", "locks:80"),
        ] {
            assert_eq!(Target::new(url, None, &tls).unwrap().authority(), authority);
        }
        for url in
            ["", "localhost:7373", "ftp://x", "http://", "http://x:y", "http://u@x", "http://x/path", "http://x:99999"]
        {
            assert!(matches!(Target::new(url, None, &tls), Err(ClientError::Url(_))), "{url}");
        }
    }

    #[test]
    fn target_prints_no_token() {
        let target = Target::new("http://x:1", Some("SECRET".into()), &TlsClientFiles::default()).unwrap();
        assert_eq!(format!("{target:?}"), "Target(http://x:1)");
    }
}
