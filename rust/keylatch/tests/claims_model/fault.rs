//! The faults that the models have to notice, one for each row of the protocol's table of traps.

/// What a test of a fault expects: one of these invariants is violated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Fault {
    PublishBeforeHandOver,
    MatchByNode,
    MemoryDroppedAtRelease,
    MemoryTrimmedAndLowNumbersAccepted,
    NewNumberOnRetry,
    CompleteByResource,
    CancelByNode,
    NoTombstone,
    CancelWithoutRelease,
    CancelSentOnce,
    SettledBelowKeepsOlderWork,
    RenewalCancelsFromNextOn,
    GrantToGoneSession,
    LateClaimOfGoneSession,
    PlaceDroppedAtPollTimeout,
    PlaceDroppedAtCut,
    WaitersAnsweredFromRetentionOnly,
    RenewalRevivesAGrant,
    RenewalSaysLostAfterCompletion,
    EventWithItsOwnGrant,
    FenceNotPersisted,
    FenceNotPersistedAndNoEpochInGrant,
    OwnerPersistedMemoryNot,
    OldEpochDoneAccepted,
}

impl Fault {
    /// All of them, with the invariants of which one is violated first.
    pub(crate) const ALL: [(Self, &'static [&'static str]); 24] = [
        (Self::PublishBeforeHandOver, &["3"]),
        (Self::MatchByNode, &["4"]),
        (Self::MemoryDroppedAtRelease, &["5", "6"]),
        (Self::MemoryTrimmedAndLowNumbersAccepted, &["5"]),
        (Self::NewNumberOnRetry, &["8"]),
        (Self::CompleteByResource, &["5"]),
        (Self::CancelByNode, &["5"]),
        (Self::NoTombstone, &["8"]),
        (Self::CancelWithoutRelease, &["8"]),
        (Self::CancelSentOnce, &["8"]),
        (Self::SettledBelowKeepsOlderWork, &["8"]),
        (Self::RenewalCancelsFromNextOn, &["5"]),
        (Self::GrantToGoneSession, &["8"]),
        (Self::LateClaimOfGoneSession, &["8"]),
        (Self::PlaceDroppedAtPollTimeout, &["2"]),
        (Self::PlaceDroppedAtCut, &["2"]),
        (Self::WaitersAnsweredFromRetentionOnly, &["7"]),
        (Self::RenewalRevivesAGrant, &["5"]),
        (Self::RenewalSaysLostAfterCompletion, &["6"]),
        (Self::EventWithItsOwnGrant, &["4"]),
        (Self::FenceNotPersisted, &["1"]),
        (Self::FenceNotPersistedAndNoEpochInGrant, &["1", "5"]),
        (Self::OwnerPersistedMemoryNot, &["2", "5"]),
        (Self::OldEpochDoneAccepted, &["8"]),
    ];
}
