//! What the calls of a tier say to the tasks of its permits.

/// What a call says to the task of a permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    Withdraw,
    GiveBack,
    Downgrade,
}
