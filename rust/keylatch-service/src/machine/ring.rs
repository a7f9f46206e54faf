//! Numbered events, of which the latest are kept.
//!
//! Events are numbered from 1 without a gap, within the epoch. Subscribers have no queues here: each remembers the last
//! number that it saw and reads on from there, so a slow one costs nothing and loses nothing while the ring lasts.

use super::call::{Item, Reason, RequestKey};
use super::grant::Grant;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// What happened to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// It took its place in line.
    Queued,
    /// It holds its keys. The number is the request's stored answer.
    Granted {
        /// The grant.
        grant: Grant,
    },
    /// Its client released it.
    Released {
        /// The grant that it had.
        grant: Grant,
    },
    /// Its hold ended without its client's doing.
    Lost {
        /// The grant that it had.
        grant: Grant,
        /// Why.
        reason: Reason,
    },
    /// It left the queue.
    Left,
}

/// Something that happened to a request and its keys.
#[derive(Debug, Clone)]
pub struct Event {
    /// When, since the start of the server.
    pub at: Duration,
    /// What.
    pub kind: EventKind,
    /// To which request.
    pub request: RequestKey,
    /// Whose.
    pub owner: Arc<str>,
    /// Its keys.
    pub items: Arc<[Item]>,
}

/// What a subscriber gets next.
#[derive(Debug)]
pub enum Replay {
    /// Events from `first` on, without a gap; none if the subscriber has seen all.
    Events {
        /// The number of the first.
        first: u64,
        /// The events.
        events: Vec<Arc<Event>>,
    },
    /// The ring does not have the next event any more: a snapshot is needed.
    Overrun,
}

#[derive(Debug, Clone)]
pub(super) struct Ring {
    events: VecDeque<Arc<Event>>,
    capacity: usize,
    head: u64,
}

impl Ring {
    pub(super) fn new(capacity: usize) -> Self {
        Self { events: VecDeque::new(), capacity: capacity.max(1), head: 0 }
    }

    pub(super) fn push(&mut self, event: Event) {
        if self.events.len() == self.capacity {
            self.events.pop_front();
        }
        self.events.push_back(Arc::new(event));
        self.head += 1;
    }

    /// Returns the number of the latest event; 0 if there was none.
    pub(super) fn head(&self) -> u64 {
        self.head
    }

    /// Returns what follows the event with a number, `most` of them at most.
    pub(super) fn after(&self, seen: u64, most: usize) -> Replay {
        let oldest = self.head - self.events.len() as u64 + 1;
        if seen > self.head || seen + 1 < oldest {
            return Replay::Overrun;
        }
        let skip = (seen + 1 - oldest) as usize;
        let events = self.events.iter().skip(skip).take(most).cloned().collect();
        Replay::Events { first: seen + 1, events }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring_of(capacity: usize, events: u64) -> Ring {
        let mut ring = Ring::new(capacity);
        for number in 1..=events {
            ring.push(Event {
                at: Duration::ZERO,
                kind: EventKind::Queued,
                request: RequestKey { session: 1, number },
                owner: "o".into(),
                items: [].into(),
            });
        }
        ring
    }

    fn numbers(replay: Replay) -> Option<Vec<u64>> {
        match replay {
            Replay::Events { first, events } => {
                let numbers: Vec<u64> = events.iter().map(|event| event.request.number).collect();
                assert!(numbers.iter().zip(first..).all(|(number, expected)| *number == expected));
                Some(numbers)
            }
            Replay::Overrun => None,
        }
    }

    #[test]
    fn ring_replays_what_it_has() {
        let ring = ring_of(3, 5);
        assert_eq!(ring.head(), 5);
        assert_eq!(numbers(ring.after(2, 10)), Some(vec![3, 4, 5]));
        assert_eq!(numbers(ring.after(3, 1)), Some(vec![4]));
        assert_eq!(numbers(ring.after(5, 10)), Some(vec![]));
    }

    #[test]
    fn ring_overrun_and_foreign_numbers_are_seen() {
        let ring = ring_of(3, 5);
        assert_eq!(numbers(ring.after(1, 10)), None, "event 2 is gone");
        assert_eq!(numbers(ring.after(6, 10)), None, "event 6 never was");
        assert_eq!(numbers(ring_of(3, 0).after(0, 10)), Some(vec![]));
    }
}
