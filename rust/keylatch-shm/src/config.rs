//! What a table is made for.

use crate::error::ShmError;
use crate::word::MAX_MEMBERS;
use std::time::Duration;

/// Sizes and permissions of a new table, and how requests of this process wait.
///
/// ```
/// use keylatch_shm::TableConfig;
/// let config = TableConfig::default().keys(1_000_000).members(1_024).label("indexer");
/// ```
#[derive(Debug, Clone)]
pub struct TableConfig {
    /// What was asked for; a table that is there already may not be smaller.
    keys: Option<u32>,
    members: Option<u16>,
    pub(crate) holds: Option<u32>,
    pub(crate) mode: u32,
    pub(crate) label: String,
    pub(crate) default_timeout: Option<Duration>,
    pub(crate) recheck: Duration,
}

/// Keys of one table at most.
pub(crate) const MAX_KEYS: u32 = 1 << 27;

impl Default for TableConfig {
    fn default() -> Self {
        Self {
            keys: None,
            members: None,
            holds: None,
            mode: 0o600,
            label: String::new(),
            default_timeout: None,
            recheck: Duration::from_millis(20),
        }
    }
}

impl TableConfig {
    /// Keys that may be held at the same time; more may be used one after the other.
    ///
    /// Without this a new table has room for 65,536, and a table that exists is used as it is. With it, one that is smaller
    /// is refused.
    #[must_use]
    pub fn keys(self, keys: u32) -> Self {
        Self { keys: Some(keys), ..self }
    }

    /// Processes that may use the table at the same time; at most 4,095.
    ///
    /// Without this a new table has room for 256, and a table that exists is used as it is. With it, one that is smaller is
    /// refused.
    #[must_use]
    pub fn members(self, members: u16) -> Self {
        Self { members: Some(members), ..self }
    }

    /// Holds and waiting requests of all processes together.
    ///
    /// By default as many as keys, and 126 a process.
    #[must_use]
    pub fn holds(self, holds: u32) -> Self {
        Self { holds: Some(holds), ..self }
    }

    /// Permissions of a new file; 0600 unless said otherwise. The umask is not applied.
    #[must_use]
    pub fn mode(self, mode: u32) -> Self {
        Self { mode, ..self }
    }

    /// What listings call this process, beside its name; the first 31 bytes are kept.
    #[must_use]
    pub fn label(self, label: impl Into<String>) -> Self {
        Self { label: label.into(), ..self }
    }

    /// How long requests without a time of their own wait.
    ///
    /// Without this, for as long as it takes.
    #[must_use]
    pub fn default_timeout(self, timeout: Duration) -> Self {
        Self { default_timeout: Some(timeout), ..self }
    }

    /// How often a sleeping request looks for stopped and dead processes itself.
    ///
    /// 20 ms unless said otherwise.
    ///
    /// A stopped process that is in the middle of a release, or whose turn it is, delays others by about this long.
    #[must_use]
    pub fn recheck(self, recheck: Duration) -> Self {
        Self { recheck, ..self }
    }

    /// Keys and members of a new table.
    pub(crate) fn sizes(&self) -> (u32, u16) {
        (self.keys.unwrap_or(65_536), self.members.unwrap_or(256))
    }

    /// The fewest keys and members that a table must have that exists.
    pub(crate) fn least(&self) -> (u32, u16) {
        (self.keys.unwrap_or(0), self.members.unwrap_or(0))
    }

    pub(crate) fn check(&self) -> Result<(), ShmError> {
        let invalid = |setting, problem: String| Err(ShmError::InvalidConfig { setting, problem });
        let (keys, members) = self.sizes();
        if keys == 0 || keys > MAX_KEYS {
            return invalid("keys", format!("is {keys}; choose 1 to {MAX_KEYS}"));
        }
        if members == 0 || members > MAX_MEMBERS {
            return invalid("members", format!("is {members}; choose 1 to {MAX_MEMBERS}"));
        }
        if self.holds == Some(0) || self.holds.is_some_and(|holds| holds > 2 * MAX_KEYS) {
            return invalid("holds", format!("choose 1 to {}", 2 * MAX_KEYS));
        }
        if self.mode & !0o777 != 0 || self.mode & 0o600 != 0o600 {
            return invalid("mode", format!("is {:o}; choose permissions that include 0600", self.mode));
        }
        if self.recheck.is_zero() {
            return invalid("recheck", "is zero; choose a millisecond or more".into());
        }
        Ok(())
    }
}
