//! The tier, as the steps of the machine know it.

use super::space::Space;
use crate::machine::TierNote;
use std::time::Duration;
use tokio::sync::mpsc;

/// The tier, as the steps of the machine know it.
#[derive(Debug)]
pub(super) struct Tier {
    space: Space,
    notes: mpsc::UnboundedSender<TierNote>,
}

impl Tier {
    /// Returns the tier, and what `tier::run` takes.
    pub(super) fn new(space: Space) -> (Self, mpsc::UnboundedReceiver<TierNote>) {
        let (notes, received) = mpsc::unbounded_channel();
        (Self { space, notes }, received)
    }

    pub(super) fn lease(&self) -> Option<(u64, Duration)> {
        self.space.lease()
    }

    /// Passes on what the machine wants.
    ///
    /// Caller holds: the machine's mutex, so the order is the machine's.
    pub(super) fn pass_on(&self, notes: Vec<TierNote>) {
        for note in notes {
            // Without a receiver the server is stopping, and gives everything back.
            let _ = self.notes.send(note);
        }
    }
}
