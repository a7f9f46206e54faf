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
    /// Gets whether it was replaced; without a word, it was not.
    pub(super) is_replaced: oneshot::Sender<bool>,
}
