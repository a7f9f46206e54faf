//! What the calls of a tier say to the tasks of its permits.

use crate::entry::Replaced;
use keylatch::tier::Effort;
use tokio::sync::oneshot;

/// What a call says to the task of a permit.
#[derive(Debug)]
pub(super) enum Command {
    Withdraw,
    GiveBack,
    Downgrade,
    Upgrade(Effort),
    /// Another ask of the process tries to take the permit's place.
    Lend(oneshot::Sender<Lent>),
}

/// A permit that is about to be replaced, or to stay as it is.
#[derive(Debug)]
pub(super) struct Lent {
    pub(super) entry: Replaced,
    /// Gets what became of it; without a word, it is as it was.
    pub(super) fate: oneshot::Sender<Fate>,
}

/// What became of a permit that was lent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Replaced,
    Kept,
    Lost,
}
