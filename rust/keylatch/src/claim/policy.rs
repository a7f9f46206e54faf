//! The settings of a board, and the rules that a request brings along.

use super::error::ClaimError;
use std::time::Duration;

/// What a request does when the work is another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ClaimWhenTaken {
    /// It waits in line.
    #[default]
    Wait,
    /// It is answered `Skipped`.
    Skip,
}

/// Whose places a request takes when it has to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ClaimLine {
    /// None: everyone keeps their place.
    #[default]
    All,
    /// All that wait are answered `Superseded`; only the latest request waits.
    LatestOnly,
}

/// The rules of one request.
///
/// Each concerns that request alone, so two requests with different rules never conflict.
///
/// ```
/// use keylatch::claim::{ClaimPolicy, ClaimWhenTaken};
/// use std::time::Duration;
/// let nightly = ClaimPolicy { when_taken: ClaimWhenTaken::Skip, ..ClaimPolicy::default() };
/// let upload = ClaimPolicy { max_attempts: Some(3), retry_after: Duration::from_secs(1), ..ClaimPolicy::default() };
/// # let _ = (nightly, upload);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct ClaimPolicy {
    /// If this attempt fails, everyone who waits is answered `Done` with the failure.
    ///
    /// That is: if this request's attempt has that number. `None` for no limit.
    pub max_attempts: Option<u32>,
    /// How long the next attempt is held back when this request's attempt fails.
    pub retry_after: Duration,
    /// Whether it waits for work that is another's.
    pub when_taken: ClaimWhenTaken,
    /// Whether those that wait already go on waiting.
    pub line: ClaimLine,
    /// How many may be in line for it to join. `None` for no limit but the board's.
    pub max_waiting: Option<usize>,
    /// How long the grant lasts without being renewed.
    ///
    /// `None` for as long as the session.
    pub lease: Option<Duration>,
}

/// The limits of a board.
///
/// They bound its memory; see the crate's `claim/README.md`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClaimConfig {
    /// How long an outcome is retained for new requests. Default: 10 minutes.
    pub retain_for: Duration,
    /// How many resources without owner and line are remembered.
    ///
    /// They keep their outcome and events. Default: 10,000.
    pub retain_count: usize,
    /// How many events of each resource are kept for subscribers. Default: 256.
    pub ring: usize,
    /// How many sessions may be open. Default: 100,000.
    pub max_sessions: usize,
    /// How many numbers above `settled_below` a session may have. Default: 1,024.
    pub max_open: usize,
    /// How many requests may wait in all. Default: 100,000.
    pub max_waiters: usize,
    /// Bytes in a note, a reason, an address or an owner's name. Default: 4,096.
    pub max_text_bytes: usize,
    /// Bytes in a resource's key. Default: 8,192.
    pub max_key_bytes: usize,
    /// The longest lease of a session, and so the longest promise. Default: 1 hour.
    pub max_ttl: Duration,
    /// How long the places of a session outlive its stream. Default: 5 s.
    pub grace: Duration,
}

impl Default for ClaimConfig {
    fn default() -> Self {
        Self {
            retain_for: Duration::from_secs(600),
            retain_count: 10_000,
            ring: 256,
            max_sessions: 100_000,
            max_open: 1_024,
            max_waiters: 100_000,
            max_text_bytes: 4_096,
            max_key_bytes: 8_192,
            max_ttl: Duration::from_secs(3_600),
            grace: Duration::from_secs(5),
        }
    }
}

impl ClaimConfig {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`ClaimError::InvalidConfig`] names the setting and what it may be.
    pub fn check(&self) -> Result<(), ClaimError> {
        let wrong = |setting, problem| Err(ClaimError::InvalidConfig { setting, problem });
        match self {
            Self { ring: 0, .. } => wrong("ring", "it is 0; keep at least 1 event"),
            Self { max_sessions: 0, .. } => wrong("max_sessions", "it is 0; allow at least 1 session"),
            Self { max_open: 0, .. } => wrong("max_open", "it is 0; allow at least 1 request"),
            Self { max_key_bytes: 0, .. } => wrong("max_key_bytes", "it is 0; allow at least 1 byte"),
            Self { max_ttl: Duration::ZERO, .. } => wrong("max_ttl", "it is 0; allow at least 1 ms"),
            Self { grace: Duration::ZERO, .. } => wrong("grace", "it is 0; allow at least 1 ms"),
            _ => Ok(()),
        }
    }
}
