//! Who may do what: bearer tokens with scopes.
//!
//! Tokens are compared by their SHA-256, so the file need not contain them and no comparison depends on their bytes.
//! Nothing here prints a token or the header that carries it.

use super::problem::Problem;
use axum::http::{HeaderMap, StatusCode, header};
use keylatch::ObjectKey;
use serde::Deserialize;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What a scope allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// Open sessions, lock and unlock.
    Lock,
    /// List locks and waiters, follow events.
    List,
    /// Release by force.
    Force,
    /// Read `/metrics`.
    Metrics,
}

/// Verbs for keys.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scope {
    /// What is allowed.
    pub verbs: Vec<Verb>,
    /// For keys of this bucket; any if missing.
    #[serde(default)]
    pub bucket: Option<String>,
    /// For objects that begin with this; any if missing.
    #[serde(default)]
    pub prefix: Option<String>,
}

impl Scope {
    fn covers(&self, key: &ObjectKey) -> bool {
        self.bucket.as_ref().is_none_or(|bucket| key.bucket() == bucket.as_bytes())
            && self.prefix.as_ref().is_none_or(|prefix| key.object().starts_with(prefix.as_bytes()))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokensFile {
    #[serde(default)]
    token: Vec<TokenEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenEntry {
    name: String,
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    sha256: Option<String>,
    #[serde(default)]
    expires: Option<toml::value::Datetime>,
    #[serde(default)]
    scope: Vec<Scope>,
}

/// Why a tokens file is not accepted. Names lines and names, never tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessError(pub String);

impl std::fmt::Display for AccessError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for AccessError {}

#[derive(Debug)]
struct Grantee {
    name: Arc<str>,
    expires: Option<SystemTime>,
    scopes: Arc<[Scope]>,
}

/// Returns what a message of the parser says of the format alone.
///
/// The rest quotes the file, which has secrets in it.
fn without_input(message: &str) -> String {
    match message.rsplit_once("expected ") {
        Some((_, allowed)) => format!("this is not allowed here; expected {allowed}"),
        None if message.starts_with("missing field") => message.to_owned(),
        None => "this is no TOML".to_owned(),
    }
}

/// The tokens that a server accepts.
#[derive(Debug, Default)]
pub struct Tokens {
    by_digest: HashMap<[u8; 32], Grantee>,
}

impl Tokens {
    /// Reads a tokens file.
    ///
    /// # Errors
    /// [`AccessError`] says what is wrong in it.
    pub fn read(path: &Path) -> Result<Self, AccessError> {
        let text =
            std::fs::read_to_string(path).map_err(|error| AccessError(format!("{}: {error}", path.display())))?;
        Self::parse(&text).map_err(|AccessError(problem)| AccessError(format!("{}: {problem}", path.display())))
    }

    /// Reads the text of a tokens file.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn parse(text: &str) -> Result<Self, AccessError> {
        let file: TokensFile = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(0, |span| 1 + text[..span.start].matches('\n').count());
            AccessError(format!("line {line}: {}", without_input(error.message())))
        })?;
        let mut tokens = Self::default();
        for entry in file.token {
            let name = entry.name.clone();
            let problem = |what: &str| AccessError(format!("token {name:?}: {what}"));
            let digest = match (&entry.token, &entry.sha256) {
                (Some(token), None) if token.len() >= 16 => digest(token.as_bytes()),
                (Some(_), None) => return Err(problem("a token has at least 16 characters")),
                (None, Some(hex)) => parse_hex(hex).ok_or_else(|| problem("sha256 has 64 hexadecimal digits"))?,
                _ => return Err(problem("give either token or sha256")),
            };
            if entry.scope.is_empty() {
                return Err(problem("without a scope it may do nothing; add [[token.scope]] with verbs"));
            }
            let expires = match entry.expires {
                None => None,
                Some(at) => Some(
                    parse_time(at)
                        .ok_or_else(|| problem("expires needs date, time and offset: 2030-01-31T12:00:00Z"))?,
                ),
            };
            let grantee = Grantee { name: entry.name.into(), expires, scopes: entry.scope.into() };
            if tokens.by_digest.insert(digest, grantee).is_some() {
                return Err(problem("another entry has the same token"));
            }
        }
        Ok(tokens)
    }

    /// Returns how many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_digest.len()
    }

    /// Returns whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_digest.is_empty()
    }
}

/// What a request has to show.
#[derive(Debug)]
pub(super) enum Access {
    /// Nothing: every connection is from this machine, or has a certificate.
    Open,
    /// A token.
    Tokens(Tokens),
}

/// Who makes a request, and what that allows.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    pub(super) principal: Arc<str>,
    /// `None` for everything.
    scopes: Option<Arc<[Scope]>>,
}

impl Access {
    /// Says who makes a request with these headers.
    pub(super) fn identify(&self, headers: &HeaderMap, peer: &Arc<str>) -> Result<Identity, Problem> {
        let Self::Tokens(tokens) = self else {
            return Ok(Identity { principal: Arc::clone(peer), scopes: None });
        };
        let refused = |detail: &str| Problem::new("unauthorized", StatusCode::UNAUTHORIZED, detail);
        let given = headers
            .get(header::AUTHORIZATION)
            .ok_or_else(|| refused("this server wants a token: send the header Authorization: Bearer TOKEN"))?;
        let token = given
            .as_bytes()
            .strip_prefix(b"Bearer ")
            .ok_or_else(|| refused("the header Authorization has another scheme than Bearer"))?;
        let grantee = tokens.by_digest.get(&digest(token)).ok_or_else(|| refused("this token is not known here"))?;
        if grantee.expires.is_some_and(|at| at <= SystemTime::now()) {
            return Err(refused("this token has expired; ask the operator for another"));
        }
        Ok(Identity { principal: Arc::clone(&grantee.name), scopes: Some(Arc::clone(&grantee.scopes)) })
    }
}

impl Identity {
    /// Returns whether a verb is allowed for some keys.
    pub(super) fn check_verb(&self, verb: Verb) -> Result<(), Problem> {
        match &self.scopes {
            Some(scopes) if !scopes.iter().any(|scope| scope.verbs.contains(&verb)) => Err(self.forbid(verb, "")),
            _ => Ok(()),
        }
    }

    /// Returns whether a verb is allowed for a key.
    pub(super) fn may(&self, verb: Verb, key: &ObjectKey) -> bool {
        self.scopes
            .as_ref()
            .is_none_or(|scopes| scopes.iter().any(|scope| scope.verbs.contains(&verb) && scope.covers(key)))
    }

    pub(super) fn check(&self, verb: Verb, key: &ObjectKey) -> Result<(), Problem> {
        if self.may(verb, key) { Ok(()) } else { Err(self.forbid(verb, &format!(" for {key:#}"))) }
    }

    fn forbid(&self, verb: Verb, which: &str) -> Problem {
        let verb = format!("{verb:?}").to_lowercase();
        let detail = format!("the token {:?} has no scope with the verb {verb}{which}", &*self.principal);
        Problem::new("forbidden", StatusCode::FORBIDDEN, detail)
    }
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    let mut digest = [0; 32];
    digest.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref());
    digest
}

/// Returns a short name for a client certificate.
pub(super) fn fingerprint(certificate: &[u8]) -> Arc<str> {
    let mut name = String::from("cert:");
    for byte in &digest(certificate)[..8] {
        // Writing to a string cannot fail.
        let _ = write!(name, "{byte:02x}");
    }
    name.into()
}

fn parse_hex(hex: &str) -> Option<[u8; 32]> {
    let hex = hex.as_bytes();
    let mut bytes = [0; 32];
    if hex.len() != 64 {
        return None;
    }
    for (byte, digits) in bytes.iter_mut().zip(hex.chunks(2)) {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        *byte = (digit(digits[0])? * 16 + digit(digits[1])?) as u8;
    }
    Some(bytes)
}

fn parse_time(at: toml::value::Datetime) -> Option<SystemTime> {
    let (date, time) = (at.date?, at.time?);
    let offset_minutes = match at.offset? {
        toml::value::Offset::Z => 0,
        toml::value::Offset::Custom { minutes } => i64::from(minutes),
    };
    // Days since 1970 in the proleptic Gregorian calendar; years begin in March, so that leap days end them.
    let (year, month) = (i64::from(date.year), i64::from(date.month));
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let day_of_year = (153 * month + 2) / 5 + i64::from(date.day) - 1;
    let days = 365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year - 719_468;
    let minutes = (days * 24 + i64::from(time.hour)) * 60 + i64::from(time.minute) - offset_minutes;
    let seconds = u64::try_from(minutes * 60).ok()? + u64::from(time.second.unwrap_or(0));
    Some(UNIX_EPOCH + Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_become_seconds_since_1970() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:00:00Z", 951_825_600),
            ("2026-11-28T17:00:00+01:00", 1_795_881_600),
        ] {
            let at = parse_time(text.parse().unwrap()).unwrap();
            assert_eq!(at.duration_since(UNIX_EPOCH).unwrap().as_secs(), seconds, "{text}");
        }
        assert_eq!(parse_time("2000-01-01T00:00:00".parse().unwrap()), None, "without an offset it is no moment");
    }

    #[test]
    fn bad_tokens_files_name_the_entry_and_no_secret() {
        let scope = "[[token.scope]]\nverbs = [\"lock\"]\n";
        for (text, says) in [
            ("[[token]]\nname = \"a\"\n".to_owned() + scope, "either token or sha256"),
            ("[[token]]\nname = \"a\"\ntoken = \"short-SECRET\"\n".to_owned() + scope, "at least 16"),
            ("[[token]]\nname = \"a\"\nsha256 = \"SECRET\"\n".to_owned() + scope, "64 hexadecimal"),
            ("[[token]]\nname = \"a\"\ntoken = \"0123456789-SECRET\"\n".to_owned(), "without a scope"),
            ("[[token]]\nname = \"a\"\ntoken = \"0123456789-SECRET\n".to_owned(), "line 3"),
            ("[[token]]\nname = \"a\"\ntokem = \"0123456789-SECRET\"\n".to_owned(), "line 3"),
            ("[[token]]\nname = \"a\"\n0123456789-SECRET = 1\n".to_owned(), "expected one of `name`, `token`"),
            ("[[token]]\nname = \"a\"\n[[token.scope]]\nverbs = [\"SECRET\"]\n".to_owned(), "one of `lock`, `list`"),
            ("[[token]]\nname = \"a\"\n[[token.scope]]\nprefix = \"SECRET\"\n".to_owned(), "missing field `verbs`"),
            (
                "[[token]]\nname = \"a\"\nexpires = \"SECRET\"\n".to_owned(),
                "line 3: this is not allowed here; expected",
            ),
        ] {
            let AccessError(problem) = Tokens::parse(&text).unwrap_err();
            assert!(problem.contains(says) && !problem.contains("SECRET"), "{text} -> {problem}");
        }
    }
}
