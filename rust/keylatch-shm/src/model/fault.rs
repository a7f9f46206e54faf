//! Deliberate faults; the searches have to notice each.

/// One way to get a step wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(super) enum Fault {
    /// The log record is written after the swap that it covers.
    LogAfterSwap,
    /// The log record is cleared before the duties of leaving are done.
    LogClearedFirst,
    /// A recoverer does not announce the slot.
    NoAnnouncement,
    /// A recoverer does not check the death again after announcing.
    NoRecheckOfDeath,
    /// A recoverer clears the record before the entry is recovered.
    RecordClearedBeforeRecovery,
    /// A recoverer signals no waiter.
    RecoveryWithoutWake,
    /// A recoverer looks for waiters only when Q is set.
    RecoveryTrustsQueueBit,
    /// A recoverer does not report that a writer died.
    DeathNotReported,
    /// A recoverer takes a live member for dead.
    FalseDeath,
    /// No member recovers the dead.
    NoRecovery,
    /// A cancelled waiter does not look whether its turn has come.
    CancelWithoutCheck,
    /// A leaver that cleared Q does not look for waiters again.
    NoRescan,
    /// A leaver does not check that the chosen member still waits.
    ChosenNotValidated,
    /// An overflow reader does not read the word after it set its bit.
    OverflowWithoutRecheck,
    /// An overflow reader that backs out does not signal the writer.
    UndoWithoutWake,
    /// A reader whose turn it was does not choose the next.
    NoBaton,
    /// A writer that gives up draining clears OVF.
    CancellerClearsOverflow,
    /// A waiter sleeps without making sure that Q is set.
    SleepWithoutQueueBit,
    /// A waiter does not read the word after it set its bit.
    SleepWithoutRecheck,
    /// A waiter reads the bell after it has looked at the word.
    BellReadLate,
    /// A leaving reader does not signal the draining writer.
    ReaderLeavesSilently,
    /// A writer does not wait for overflow readers.
    DrainIgnoresOverflow,
    /// A writer enters although it is another member's turn.
    TurnIgnored,
    /// A leaver chooses the lowest member instead of the one after it.
    ChoiceWithoutRotation,
    /// No waiter takes the turn away from a member that does not run.
    NoPatience,
    /// A waiter registers without changing the word.
    RegistersWithoutTicket,
    /// A sleeper does not look again when the member that should signal it is stopped.
    NoTimedRecheck,
    /// A member joins while its slot's predecessor is still being recovered.
    JoinIgnoresAnnouncement,
    /// A member joins without recovering its predecessor.
    JoinWithoutRecovery,
    /// A writer that gives no turn signals none.
    LeavesOpenSilently,
    /// It does so without end.
    LeavesOpenForEver,
    /// A waiter that gives up does not look whether an entry is open.
    OpenTurnNotGiven,
    /// Turns go on after the leaver, and not after the last turn.
    TurnAfterLeaver,
    /// A reader becomes the writer while others share.
    UpgradePassesReaders,
    /// It does not look for overflow readers.
    UpgradeIgnoresOverflow,
    /// A reader upgrades although another one does.
    SecondUpgradeWaits,
    /// A writer that waits for readers does not make room for one that upgrades.
    WriterMakesNoRoom,
    /// It does so without a place in line.
    MakesRoomUnseen,
    /// It does not signal the reader.
    MakesRoomSilently,
    /// A leaver does not signal the reader that upgrades.
    LeavesUpgradeSilently,
    /// An overflow reader that backs out does not signal the reader that upgrades.
    UndoForgetsUpgrade,
    /// A recoverer leaves the mark of an upgrade.
    RecoveryKeepsUpgrade,
    /// An inserter does not search again under the gate.
    InsertWithoutSearch,
    /// An inserter changes keys without the gate.
    InsertWithoutGate,
    /// A holder does not compare the key after it acquired.
    NoCompareAfterAcquire,
    /// An inserter evicts an entry that is held.
    EvictsHeld,
    /// An evicted key's fence does not raise the table's floor.
    FloorNotRaised,
    /// The new key is written before its fence.
    FenceWrittenLate,
    /// A new key is complete before its tag, and an old tag goes before its key.
    KeyBeforeTag,
}
