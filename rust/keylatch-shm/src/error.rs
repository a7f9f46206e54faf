//! Everything that can go wrong, each with what to do about it.

use crate::listed::HolderInfo;
use keylatch::ObjectKey;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Why a call did not do what it was asked to.
///
/// Nothing is held or changed that was not before.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ShmError {
    /// The time given was over before the lock was free.
    Timeout {
        /// The key that was asked for.
        key: ObjectKey,
        /// How long the request waited.
        waited: Duration,
        /// The holders at the end, as far as they could be read.
        holders: Vec<HolderInfo>,
    },
    /// The lock is held, and the request was not to wait.
    WouldBlock {
        /// The key that was asked for.
        key: ObjectKey,
        /// The holders, as far as they could be read.
        holders: Vec<HolderInfo>,
    },
    /// The hold was revoked before it was released.
    Revoked {
        /// The key that was held.
        key: ObjectKey,
    },
    /// The table handle was closed.
    Closed,
    /// Both places where the key could stand are full of keys that are held.
    TableFull {
        /// How many keys the table was made for.
        keys: u32,
    },
    /// The table has no room for another hold or waiting request.
    LogFull {
        /// How many holds the table was made for.
        holds: u32,
    },
    /// As many processes use the table as it was made for.
    TooManyMembers {
        /// How many that is.
        members: u16,
    },
    /// The key is longer than keys may be.
    InvalidKey {
        /// Bytes in all parts of the key.
        bytes: usize,
        /// The longest that is accepted.
        limit: usize,
    },
    /// A setting has a value that it cannot have.
    InvalidConfig {
        /// Its name.
        setting: &'static str,
        /// What is wrong with it and what would be right.
        problem: String,
    },
    /// The process is a fork of the one that opened the table.
    Forked,
    /// The file, or its folder, could not be used.
    File {
        /// The file.
        path: PathBuf,
        /// The step that failed, and what to do.
        problem: String,
        /// The system's error number, or 0.
        errno: i32,
    },
    /// The file is no table of this version and machine; the text says what it is.
    WrongFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it and what to do.
        problem: String,
    },
    /// The mapped file was damaged, truncated, removed or replaced while it was in use.
    Damaged {
        /// What was found.
        problem: String,
    },
    /// The system lacks something that the table rests on.
    Unsupported {
        /// What, and what to do.
        problem: String,
    },
    /// Another reader or writer is in the way of an upgrade.
    UpgradeConflict {
        /// The key.
        key: ObjectKey,
    },
    /// One lock of a batch could not be had; none of the batch is held.
    Batch {
        /// Which one.
        key: ObjectKey,
        /// Why.
        cause: Box<ShmError>,
    },
}

impl ShmError {
    /// The error's number: the core's where the core has the error, else -40 and below.
    #[must_use]
    pub fn code(&self) -> i32 {
        match self {
            Self::Timeout { .. } => -1,
            Self::WouldBlock { .. } => -2,
            Self::Closed => -5,
            Self::Revoked { .. } => -6,
            Self::TableFull { .. } => -8,
            Self::InvalidKey { .. } => -9,
            Self::InvalidConfig { .. } => -10,
            Self::Forked => -11,
            Self::UpgradeConflict { .. } => -12,
            Self::LogFull { .. } => -40,
            Self::TooManyMembers { .. } => -41,
            Self::File { .. } => -42,
            Self::WrongFile { .. } => -43,
            Self::Damaged { .. } => -44,
            Self::Unsupported { .. } => -45,
            Self::Batch { cause, .. } => cause.code(),
        }
    }

    /// Whether the same call may succeed when it is made again later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Timeout { .. }
            | Self::WouldBlock { .. }
            | Self::TableFull { .. }
            | Self::LogFull { .. }
            | Self::TooManyMembers { .. }
            | Self::UpgradeConflict { .. } => true,
            Self::Batch { cause, .. } => cause.is_transient(),
            _ => false,
        }
    }

    /// From the system's last error.
    pub(crate) fn last_os(path: &std::path::Path, step: &str) -> Self {
        Self::os(path, step, &std::io::Error::last_os_error())
    }

    pub(crate) fn os(path: &std::path::Path, step: &str, error: &std::io::Error) -> Self {
        let errno = error.raw_os_error().unwrap_or(0);
        let advice = match errno {
            libc::EACCES | libc::EPERM => "; run as the user that made the table, or make it with a wider `mode`",
            libc::ENOSPC | libc::EDQUOT => "; free space there, or make a smaller table (keys, members, holds)",
            libc::EOPNOTSUPP => "; choose a folder in memory or on a local disk, such as /dev/shm",
            libc::EROFS => "; choose a folder that can be written to, such as /dev/shm",
            libc::ENOENT | libc::ENOTDIR => "; create the folder first",
            libc::EMFILE | libc::ENFILE => "; raise the limit of open files",
            libc::ENOMEM => "; free memory, or make a smaller table (keys, members, holds)",
            libc::ENAMETOOLONG => "; choose a shorter name",
            libc::ELOOP => "; name the file itself, not a symbolic link to it",
            _ => "",
        };
        Self::File { path: path.to_owned(), problem: format!("{step}: {error}{advice}"), errno }
    }
}

/// The holders of an error, in words.
struct Named<'h>(&'h [HolderInfo]);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return write!(f, "its holders had changed when they were looked up");
        }
        for (at, holder) in self.0.iter().take(4).enumerate() {
            write!(f, "{}{holder}", if at == 0 { "held by " } else { ", " })?;
        }
        if self.0.len() > 4 { write!(f, " and {} more", self.0.len() - 4) } else { Ok(()) }
    }
}

impl fmt::Display for ShmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout { key, waited, holders } => {
                write!(f, "{key:#} was not free within {waited:?}; {}", Named(holders))
            }
            Self::WouldBlock { key, holders } => write!(f, "{key:#} is not free; {}", Named(holders)),
            Self::Revoked { key } => {
                write!(f, "the hold of {key:#} was revoked; do not rely on it, and acquire it again")
            }
            Self::Closed => write!(f, "the table handle is closed; open the table again to go on"),
            Self::TableFull { keys } => write!(
                f,
                "no room for another key beside the held ones (made for {keys}); release some, or make the table anew \
                 with more `keys`"
            ),
            Self::LogFull { holds } => write!(
                f,
                "the table has as many holds and waiting requests as it may ({holds}); release some, or make the table \
                 anew with more `holds`"
            ),
            Self::TooManyMembers { members } => write!(
                f,
                "{members} processes use the table, as many as it was made for; end one, or make the table anew with \
                 more `members`"
            ),
            Self::InvalidKey { bytes, limit } => {
                write!(f, "the key has {bytes} bytes and may have {limit}; shorten it")
            }
            Self::InvalidConfig { setting, problem } => write!(f, "{setting}: {problem}"),
            Self::Forked => write!(f, "the table was opened before this process was forked; open it again here"),
            Self::File { path, problem, .. } => write!(f, "{}: {problem}", path.display()),
            Self::WrongFile { path, problem } => write!(f, "{}: {problem}", path.display()),
            Self::Damaged { problem } => write!(
                f,
                "the table's file is damaged: {problem}; end all processes that use it, remove the file, and open it again"
            ),
            Self::Unsupported { problem } => write!(f, "{problem}"),
            Self::UpgradeConflict { key } => {
                write!(f, "{key:#} has other readers or a waiting writer; release it and acquire it exclusively")
            }
            Self::Batch { key, cause } => write!(f, "the batch holds nothing, because of {key:#}: {cause}"),
        }
    }
}

impl std::error::Error for ShmError {}
