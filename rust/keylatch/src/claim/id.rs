//! The numbers of claims: sessions, requests, grants and events.
//!
//! Each of them carries the epoch of the board that made it, so a number of an earlier start is recognised as such.

use std::fmt;

/// A session of one board: never reused, and of one epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClaimSessionId {
    /// The start of the board that opened it.
    pub epoch: u64,
    /// Counts from 1 within the epoch.
    pub number: u64,
}

/// A request of a session.
///
/// The client counts the numbers and repeats a request under the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClaimRequestId {
    /// Who asks.
    pub session: ClaimSessionId,
    /// The client's number for it.
    pub number: u64,
}

/// The right to do the work of one resource, until it is completed or lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClaimGrant {
    /// The start of the board that granted it.
    pub epoch: u64,
    /// Greater than every fence before it.
    ///
    /// Across restarts too when the host persists the mark.
    pub fence: u64,
}

/// The place of an event in the sequence of its resource: `<epoch>-<sequence>`.
///
/// ```
/// use keylatch::claim::ClaimEventId;
/// let id: ClaimEventId = "7-42".parse()?;
/// assert_eq!((id.epoch, id.sequence), (7, 42));
/// assert_eq!(id.to_string(), "7-42");
/// # Ok::<(), keylatch::claim::ClaimError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClaimEventId {
    /// The start of the board that published it.
    pub epoch: u64,
    /// Counts without gaps within the resource.
    pub sequence: u64,
}

macro_rules! as_pair {
    ($type:ident, $second:ident) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}-{}", self.epoch, self.$second)
            }
        }
    };
}

as_pair!(ClaimSessionId, number);
as_pair!(ClaimGrant, fence);
as_pair!(ClaimEventId, sequence);

impl fmt::Display for ClaimRequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "request {} of session {}", self.number, self.session)
    }
}
