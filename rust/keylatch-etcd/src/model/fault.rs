//! Deliberate faults; the searches have to notice each.

/// One way to get a step wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(super) enum Fault {
    /// A waiter whose predecessor is gone holds without a look at its own entry.
    NoConfirm,
    /// A waiter whose predecessor is gone does not look for older entries.
    OlderIgnored,
    /// The store takes every fence.
    StoreUnchecked,
    /// All acquisitions of a client use the same key.
    KeyReused,
    /// A release deletes every entry of the client.
    ReleaseByClient,
    /// After a loss, the new lease is asked for while the old one may exist.
    LeaseBeforeRevoke,
    /// The local deadline counts from the answer, not from the moment of sending.
    DeadlineFromAnswer,
    /// A renewal that is answered after the deadline makes the lease valid again.
    LateRenewalRevives,
    /// A holder does not look at its clock when the confirmation arrives.
    NoClockCheck,
    /// Each entry of a batch is created by a transaction of its own.
    BatchSplit,
    /// A downgraded entry is a shared one like any other, behind those that wait.
    NotAhead,
    /// The removal after an unanswered creation does not raise the floor.
    NoFloor,
    /// A removal that comes late lowers the floor.
    FloorLowered,
    /// An exchange that was refused after a copy without an answer counts as not done.
    UnknownIsKept,
    /// An exchange that finds another in the way counts as not done.
    ///
    /// Copies of it may be under way.
    BusyIsFinal,
    /// A reader does not look for upgrades that are done.
    MarkUnseen,
    /// An upgrade is done when it has seen no reader, without a second mark.
    NoSecondMark,
    /// The removal of a second mark takes whichever there is.
    TakenByName,
    /// A reader waits for an upgrade that waits, though it is older.
    PendingSeen,
    /// A creation without an answer counts as failed, and nothing is removed.
    UnknownIsFailure,
    /// What a full database refuses counts as not done.
    FullIsNotDone,
    /// A slot is used again though a copy of its removal may be under way.
    SlotBeforeRemovalEnds,
}
