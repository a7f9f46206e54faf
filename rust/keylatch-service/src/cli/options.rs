//! Options that several commands have.

use super::exit;
use crate::client::{ClientError, Http, Target, TlsClientFiles};
use crate::server::TlsError;
use crate::server::wire::{ItemBody, ModeWord};
use clap::Args;
use serde_json::{Value, json};
use std::fmt::Arguments;
use std::path::PathBuf;
use std::str::FromStr;

/// How the server is reached.
#[derive(Debug, Clone, Args)]
pub(super) struct ClientOptions {
    /// The server
    #[arg(long, env = "KEYLATCH_SERVER", default_value = "http://127.0.0.1:7373", value_name = "URL")]
    server: String,
    /// File with the token; the environment variable KEYLATCH_TOKEN has it otherwise
    #[arg(long, env = "KEYLATCH_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Roots of the server's certificate, in PEM
    #[arg(long, env = "KEYLATCH_TLS_ROOTS", value_name = "FILE")]
    tls_roots: Option<PathBuf>,
    /// The client's certificate, in PEM
    #[arg(long, env = "KEYLATCH_CLIENT_CERTIFICATE", value_name = "FILE", requires = "client_key")]
    client_certificate: Option<PathBuf>,
    /// The certificate's key, in PEM
    #[arg(long, env = "KEYLATCH_CLIENT_KEY", value_name = "FILE", requires = "client_certificate")]
    client_key: Option<PathBuf>,
    /// Prints JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl ClientOptions {
    /// Calls to the server.
    pub(super) fn http(&self) -> Result<Http, ClientError> {
        let identity = self.client_certificate.clone().zip(self.client_key.clone());
        let tls = TlsClientFiles { roots: self.tls_roots.clone(), identity };
        Ok(Http::new(Target::new(&self.server, self.token()?, &tls)?))
    }

    /// With `--json`, prints what a command that runs another came to.
    ///
    /// It is the last line of standard output.
    pub(super) fn report(&self, state: &str, status: u8, more: &Value) {
        if !self.json {
            return;
        }
        let mut line = json!({"state": state, "status": status});
        if let (Some(line), Some(more)) = (line.as_object_mut(), more.as_object()) {
            line.extend(more.clone());
        }
        exit::print(format!("{line}\n").as_bytes());
    }

    /// Reports and says why another command was not run, and returns the status.
    pub(super) fn give_up(&self, status: u8, why: Arguments<'_>) -> u8 {
        self.report(exit::word(status), status, &json!({"error": why.to_string()}));
        exit::say(status, why)
    }

    /// Returns the same for an error of a call.
    pub(super) fn fail(&self, error: &ClientError) -> u8 {
        let status = exit::of(error);
        self.report(exit::word(status), status, &json!({"error": error.to_string(), "code": error.code()}));
        exit::say(status, format_args!("{error}"))
    }

    /// Returns the token.
    ///
    /// It has no option of its own: arguments are shown to every user of the machine.
    fn token(&self) -> Result<Option<String>, ClientError> {
        match &self.token_file {
            None => Ok(std::env::var("KEYLATCH_TOKEN").ok()),
            Some(path) => match std::fs::read_to_string(path) {
                Ok(text) => Ok(Some(text.trim().to_owned())),
                Err(error) => Err(ClientError::Tls(TlsError(format!("{}: {error}", path.display())))),
            },
        }
    }
}

/// A key on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyArgument(pub(super) ItemBody);

impl FromStr for KeyArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with('[') {
            let wrong =
                |_| "a key as JSON is [\"bucket\",\"object\"] or [\"bucket\",\"object\",\"version\"]".to_owned();
            let parts: Vec<String> = serde_json::from_str(text).map_err(wrong)?;
            let mut parts = parts.into_iter();
            return match (parts.next(), parts.next(), parts.next(), parts.next()) {
                (Some(bucket), Some(object), version, None) => Self::new(bucket, object, version),
                _ => Err("a key has two or three parts".into()),
            };
        }
        let wrong = "a key is bucket/object, bucket/object@version, or a JSON array of its parts";
        let (bucket, object) = text.split_once('/').ok_or(wrong)?;
        match object.rsplit_once('@') {
            Some((object, version)) => Self::new(bucket.into(), object.into(), Some(version.into())),
            None => Self::new(bucket.into(), object.into(), None),
        }
    }
}

impl KeyArgument {
    fn new(bucket: String, object: String, version: Option<String>) -> Result<Self, String> {
        if bucket.is_empty() || object.is_empty() {
            return Err("bucket and object are not empty".into());
        }
        Ok(Self(ItemBody { bucket, object, version, mode: ModeWord::Exclusive }))
    }
}

/// Returns a key as the command line has it.
pub(super) fn shown(item: &ItemBody) -> String {
    let version = item.version.as_ref().map_or(String::new(), |version| format!("@{version}"));
    format!("{}/{}{version}", item.bucket, item.object).chars().flat_map(printable).collect()
}

/// Text of strangers, safe on a terminal.
pub(super) fn safe(text: &str) -> String {
    text.chars().flat_map(printable).collect()
}

fn printable(c: char) -> Vec<char> {
    if c.is_control() { c.escape_default().collect() } else { vec![c] }
}

/// Which locks, on the command line.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct FilterOptions {
    /// Of this bucket only
    #[arg(long)]
    pub(super) bucket: Option<String>,
    /// Whose object begins with this
    #[arg(long)]
    pub(super) prefix: Option<String>,
    /// Whose object is this
    #[arg(long)]
    pub(super) object: Option<String>,
    /// Of this owner only
    #[arg(long)]
    pub(super) owner: Option<String>,
    /// Of this session only
    #[arg(long)]
    pub(super) session: Option<String>,
    /// Held or waiting for at least this long
    #[arg(long, value_name = "SECONDS")]
    pub(super) older_than: Option<f64>,
}

impl FilterOptions {
    /// Returns whether it names nothing, and so lets everything pass.
    pub(super) fn is_empty(&self) -> bool {
        let Self { bucket, prefix, object, owner, session, older_than } = self;
        [bucket, prefix, object, owner, session].into_iter().all(Option::is_none) && older_than.is_none()
    }

    pub(super) fn older_than_ms(&self) -> Option<u64> {
        self.older_than.map(|seconds| (seconds.max(0.0) * 1000.0) as u64)
    }

    /// The query string, with or without the fields common to listings and events.
    pub(super) fn query(&self, more: &[(&str, Option<String>)]) -> String {
        let mut fields =
            vec![("bucket", self.bucket.clone()), ("prefix", self.prefix.clone()), ("object", self.object.clone())];
        fields.extend_from_slice(more);
        let given = fields.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", percent(&value?))));
        given.collect::<Vec<_>>().join("&")
    }
}

fn percent(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            _ => encoded += &format!("%{byte:02X}"),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_or_refused() {
        let key = |bucket: &str, object: &str, version: Option<&str>| {
            KeyArgument::new(bucket.into(), object.into(), version.map(Into::into))
        };
        assert_eq!("photos/2024/cat.jpg".parse(), key("photos", "2024/cat.jpg", None));
        assert_eq!("photos/cat.jpg@v1".parse(), key("photos", "cat.jpg", Some("v1")));
        assert_eq!("[\"a/b\",\"c@d\"]".parse(), key("a/b", "c@d", None));
        assert_eq!("[\"a\",\"b\",\"c\"]".parse(), key("a", "b", Some("c")));
        for wrong in ["", "photos", "/x", "x/", "[\"a\"]", "[1,2]", "[\"a\",\"b\",\"c\",\"d\"]", "["] {
            assert!(wrong.parse::<KeyArgument>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn strangers_text_is_escaped() {
        assert_eq!(safe("a\x1b[2J\nb"), "a\\u{1b}[2J\\nb");
        assert_eq!(percent("a b/ü&="), "a%20b%2F%C3%BC%26%3D");
    }
}
