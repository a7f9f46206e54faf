//! What an attached stream has yet to send.
//!
//! Each stream has a box of its own, so that an event wakes the one session that it concerns and not all of them.

use crate::machine::{ClaimNote, Event, EventKind};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::Notify;

/// Events that wait for a slow client. What it misses, its next renewal answers.
const CAPACITY: usize = 64;

/// Why a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Last {
    /// The session has ended.
    Gone,
    /// The client attached another stream.
    Replaced,
}

/// What a stream carries.
#[derive(Debug)]
pub(super) enum Mail {
    /// A lock was granted or lost.
    Lock(Arc<Event>),
    /// A claim's answer changed.
    Claim(ClaimNote),
}

/// What comes next.
#[derive(Debug)]
pub(super) enum Next {
    Event(Mail),
    /// Events were missed.
    Missed,
    End(Last),
}

#[derive(Debug, Default)]
pub(super) struct Outbox {
    state: Mutex<State>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct State {
    events: VecDeque<Mail>,
    missed: bool,
    last: Option<Last>,
}

impl Outbox {
    /// Takes in an event, if it is one that streams carry.
    pub(super) fn put(&self, event: &Arc<Event>) {
        if matches!(event.kind, EventKind::Granted { .. } | EventKind::Lost { .. }) {
            self.deliver(Mail::Lock(Arc::clone(event)));
        }
    }

    /// Takes in the answer of a claim.
    pub(super) fn put_claim(&self, note: ClaimNote) {
        self.deliver(Mail::Claim(note));
    }

    fn deliver(&self, mail: Mail) {
        let mut state = self.state.lock();
        if state.events.len() < CAPACITY && !state.missed {
            state.events.push_back(mail);
        } else {
            state.missed = true;
        }
        drop(state);
        self.arrived.notify_one();
    }

    /// Says that nothing follows what lies here.
    pub(super) fn end(&self, last: Last) {
        self.state.lock().last = Some(last);
        self.arrived.notify_one();
    }

    /// Waits for what comes next. One stream calls this.
    pub(super) async fn next(&self) -> Next {
        loop {
            if let Some(next) = self.take() {
                return next;
            }
            // A call in between leaves a permit.
            self.arrived.notified().await;
        }
    }

    fn take(&self) -> Option<Next> {
        let mut state = self.state.lock();
        if let Some(event) = state.events.pop_front() {
            return Some(Next::Event(event));
        }
        if std::mem::take(&mut state.missed) {
            return Some(Next::Missed);
        }
        state.last.map(Next::End)
    }
}
