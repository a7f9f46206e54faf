//! What listings and errors say about holders.

use keylatch::{Mode, ObjectKey};
use std::fmt;
use std::time::Duration;

/// One hold of one process.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HolderInfo {
    /// The key, cut after 80 bytes.
    pub key: ObjectKey,
    /// How it is held.
    pub mode: Mode,
    /// The process id, as the holder itself sees it.
    pub pid: u32,
    /// The name of the holder's program.
    pub program: String,
    /// The label that the process gave itself when it opened the table.
    pub label: String,
    /// The owner that the request named; the first 31 bytes.
    pub owner: String,
    /// How long it has been held, to about 20 milliseconds.
    pub age: Duration,
    /// Names the hold for [`SharedTable::revoke`](crate::SharedTable::revoke).
    pub hold: HoldId,
}

/// Names one hold of one member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HoldId {
    pub(crate) member: u16,
    pub(crate) record: u32,
    pub(crate) hold: u32,
}

impl HoldId {
    /// As numbers, for languages that have no type for it.
    ///
    /// The member, and what is never 0.
    #[must_use]
    pub fn to_raw(self) -> (u16, u64) {
        (self.member, (u64::from(self.record) + 1) << 32 | u64::from(self.hold))
    }

    /// From the numbers of [`to_raw`](Self::to_raw); `None` for what is none.
    #[must_use]
    pub fn from_raw(member: u16, hold: u64) -> Option<Self> {
        let record = u32::try_from((hold >> 32).checked_sub(1)?).ok()?;
        Some(Self { member, record, hold: hold as u32 })
    }
}

impl fmt::Display for HolderInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {}", self.pid)?;
        if !self.program.is_empty() {
            write!(f, " ({})", self.program)?;
        }
        for (name, value) in [("", &self.label), ("owner ", &self.owner)] {
            if !value.is_empty() {
                write!(f, " {name}{value:?}")?;
            }
        }
        write!(f, " {} for {:?}", self.mode, self.age)
    }
}

/// Figures of one table, as one process sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct TableFigures {
    /// Keys that may be held at the same time.
    pub keys: u32,
    /// Processes that may use the table.
    pub members: u16,
    /// Processes that do.
    pub live_members: u16,
    /// Dead processes that were recovered since the table was made.
    pub recoveries: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Sleeps of this process that ended because the time to look again had come.
    pub rechecks: u64,
    /// Those that found the lock free, or their turn given, without a signal.
    pub late_signals: u64,
}
