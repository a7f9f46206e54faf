//! Everything that can go wrong, each with what to do about it.

use keylatch::ObjectKey;
use std::fmt;
use std::time::Duration;

/// Why a call did not do what it was asked to.
///
/// Nothing is held that was not before.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum EtcdError {
    /// The time given was over before the lock was free.
    Timeout {
        /// The key that was asked for; of a batch, the first.
        key: ObjectKey,
        /// How long the request waited.
        waited: Duration,
    },
    /// The lock is held, and the request was not to wait.
    WouldBlock {
        /// The key that was asked for; of a batch, the first.
        key: ObjectKey,
    },
    /// The hold ended before it was released: its lease ran out, or it was revoked.
    Lost {
        /// The key that was held; of a batch, the first.
        key: ObjectKey,
    },
    /// No member of the cluster answers.
    Unreachable {
        /// Each endpoint, with what it said.
        endpoints: Vec<(String, String)>,
    },
    /// The server's certificate, or the process's own, was refused.
    Certificate {
        /// The endpoint.
        endpoint: String,
        /// What is wrong with it.
        problem: String,
    },
    /// User and password were refused, or the server asks for some.
    Login {
        /// The user; empty if none was given.
        user: String,
    },
    /// The user may not read and write the keys of the namespace.
    NotPermitted {
        /// Where the keys of the namespace begin.
        prefix: String,
    },
    /// The server is of a version with faults that locks cannot live with.
    TooOld {
        /// The version that it says.
        version: String,
    },
    /// Below the prefix of the namespace is a key that keylatch has not written.
    PrefixInUse {
        /// That key.
        key: String,
    },
    /// The server grants no lease as short as the one that was asked for.
    TtlTooShort {
        /// What was asked for.
        asked: Duration,
        /// What the server grants at least.
        floor: Duration,
    },
    /// The server's database is full.
    NoSpace,
    /// The batch has more keys than one transaction takes.
    BatchTooLarge {
        /// Keys in the batch.
        keys: usize,
        /// As many as a batch may have.
        limit: usize,
    },
    /// A request has more bytes than the server takes.
    RequestTooLarge,
    /// A request has more operations than the server takes in a transaction.
    TooManyOperations,
    /// A setting has a value that it cannot have.
    InvalidConfig {
        /// Its name.
        setting: &'static str,
        /// What is wrong with it and what would be right.
        problem: String,
    },
    /// The handle was closed.
    Closed,
    /// The process is a fork of the one that opened the handle.
    Forked,
    /// The server refused a request for another reason.
    Server {
        /// What it said.
        problem: String,
    },
}

impl fmt::Display for EtcdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout { key, waited } => write!(f, "{key:#} was not free within {waited:?}"),
            Self::WouldBlock { key } => write!(f, "{key:#} is held by another"),
            Self::Lost { key } => write!(
                f,
                "the lock of {key:#} is lost: its lease ran out or it was revoked; stop writing, and acquire it again"
            ),
            Self::Unreachable { endpoints } => {
                write!(f, "no member of the etcd cluster answers; check addresses, network and servers")?;
                endpoints.iter().try_for_each(|(endpoint, problem)| write!(f, "; {endpoint}: {problem}"))
            }
            Self::Certificate { endpoint, problem } => write!(
                f,
                "{endpoint}: the certificates do not fit ({problem}); check the authority, the own certificate and its key, and the server's name"
            ),
            Self::Login { user } if user.is_empty() => {
                write!(f, "the cluster has authentication; give a user and a password")
            }
            Self::Login { user } => write!(f, "the password of the user {user:?} is wrong, or there is no such user"),
            Self::NotPermitted { prefix } => {
                write!(
                    f,
                    "the user may not read and write keys below {prefix}; grant it that range, with `etcdctl role`"
                )
            }
            Self::TooOld { version } => {
                write!(f, "etcd {version} is too old; upgrade to 3.4.22, 3.5.6, 3.6.0 or newer")
            }
            Self::PrefixInUse { key } => {
                write!(f, "{key} was not written by keylatch; use another namespace, or remove that key")
            }
            Self::TtlTooShort { asked, floor } => {
                write!(f, "the server grants leases of at least {floor:?}, not of {asked:?}; set a ttl of {floor:?}")
            }
            Self::NoSpace => {
                write!(f, "etcd's database is full; compact and defragment it, then `etcdctl alarm disarm`")
            }
            Self::BatchTooLarge { keys, limit } => {
                write!(f, "a batch of {keys} keys is too large; take at most {limit} keys in one batch")
            }
            Self::RequestTooLarge => write!(
                f,
                "the batch has more bytes than the server takes; take fewer keys, or raise its --max-request-bytes"
            ),
            Self::TooManyOperations => write!(
                f,
                "the batch needs more operations than the server takes in a transaction; take fewer keys, or raise its --max-txn-ops"
            ),
            Self::InvalidConfig { setting, problem } => write!(f, "{setting}: {problem}"),
            Self::Closed => write!(f, "the handle was closed; open another"),
            Self::Forked => write!(f, "the process was forked after the handle was opened; open another in the child"),
            Self::Server { problem } => write!(f, "etcd refused a request: {problem}"),
        }
    }
}

impl std::error::Error for EtcdError {}
