//! Errors of the table in the words of managers.

use crate::error::ShmError;
use keylatch::tier::{TierError, TierErrorKind};

/// The same error, as managers know it.
pub(super) fn explained(error: &ShmError) -> TierError {
    let kind = match error {
        ShmError::TableFull { .. } | ShmError::LogFull { .. } | ShmError::TooManyMembers { .. } => TierErrorKind::Full,
        ShmError::Forked | ShmError::Closed => TierErrorKind::Closed,
        ShmError::Damaged { .. } | ShmError::WrongFile { .. } => TierErrorKind::Damaged,
        ShmError::Unsupported { .. } => TierErrorKind::Unsupported,
        ShmError::File { errno: libc::EACCES | libc::EPERM, .. } => TierErrorKind::NotPermitted,
        _ => TierErrorKind::Other,
    };
    let text = error.to_string();
    let (problem, advice) = text.split_once("; ").unwrap_or((&text, "look at the table's file"));
    TierError::new(kind, problem, advice)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn refused_file_is_not_permitted() {
        let refused = |errno| {
            let problem = "opening the file failed; choose another".to_owned();
            explained(&ShmError::File { path: "/locks".into(), problem, errno }).kind()
        };
        assert_eq!(refused(libc::EACCES), TierErrorKind::NotPermitted);
        assert_eq!(refused(libc::EPERM), TierErrorKind::NotPermitted);
        assert_eq!(refused(libc::ENOSPC), TierErrorKind::Other);
    }
}
