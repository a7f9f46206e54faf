//! What the calls of a tier say to the tasks of its permits.

use crate::entry::Replaced;
use keylatch::tier::Effort;
use std::collections::VecDeque;
use tokio::sync::{mpsc, oneshot};

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

/// The commands of a permit, in their order.
pub(super) struct Commands {
    received: mpsc::UnboundedReceiver<Command>,
    /// Those that came while only a give-back was looked for.
    put_off: VecDeque<Command>,
}

impl Commands {
    pub(super) fn new(received: mpsc::UnboundedReceiver<Command>) -> Self {
        Self { received, put_off: VecDeque::new() }
    }

    pub(super) async fn next(&mut self) -> Option<Command> {
        match self.put_off.pop_front() {
            Some(command) => Some(command),
            None => self.received.recv().await,
        }
    }

    /// Returns when the permit is given back, and puts off what comes before.
    pub(super) async fn given_back(&mut self) {
        loop {
            match self.received.recv().await {
                Some(Command::GiveBack) | None => return,
                Some(command) => self.put_off.push_back(command),
            }
        }
    }
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
