//! Errors and conflicts in the words of managers.

use crate::error::EtcdError;
use keylatch::Mode;
use keylatch::tier::{TierError, TierErrorKind};

/// The same error, as managers know it.
pub(super) fn explained(error: &EtcdError) -> TierError {
    let kind = match error {
        EtcdError::Unreachable { .. } | EtcdError::Timeout { .. } => TierErrorKind::Unavailable,
        EtcdError::Certificate { .. } | EtcdError::Login { .. } | EtcdError::NotPermitted { .. } => {
            TierErrorKind::NotPermitted
        }
        EtcdError::NoSpace => TierErrorKind::Full,
        EtcdError::Closed | EtcdError::Forked => TierErrorKind::Closed,
        EtcdError::PrefixInUse { .. } => TierErrorKind::Damaged,
        _ => TierErrorKind::Other,
    };
    let text = error.to_string();
    let (problem, advice) = text.split_once("; ").unwrap_or((&text, "look into etcd's log"));
    TierError::new(kind, problem, advice)
}

/// Why an upgrade fails that was granted.
pub(super) fn no_more_fences() -> TierError {
    let problem = "the permit was upgraded so often before the same writer that no fence is left";
    TierError::new(TierErrorKind::Other, problem, "release the shared lock, and acquire it exclusively")
}

/// Whether one who holds in a mode keeps from its wish one who wants another.
pub(super) fn conflict(held: Mode, wanted: Mode) -> bool {
    held == Mode::Exclusive || wanted == Mode::Exclusive
}
