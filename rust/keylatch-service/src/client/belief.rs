//! What a client believes: until when its leases are safe, and which of its requests are open.
//!
//! Invariant: `until` is the moment some renewal was *sent* plus the validity that its answer named, never more. So it is
//! over before the server frees anything.

use super::clock::boottime;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// What became of a guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It holds, for as long as the belief lasts.
    Holds,
    /// It is lost, and stays so.
    Lost,
}

#[derive(Debug)]
pub(super) struct Belief {
    /// Until when, by [`boottime`].
    until: watch::Sender<Duration>,
    numbers: Mutex<Numbers>,
    /// Set once the session has ended.
    over: watch::Sender<bool>,
    /// Asks for a renewal now.
    pub(super) nudge: Notify,
}

#[derive(Debug)]
struct Numbers {
    next: u64,
    /// Numbers without an answer, and those that hold.
    open: BTreeMap<u64, Option<watch::Sender<Fate>>>,
}

/// What a renewal says of the client's numbers.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) next: u64,
    pub(super) open: Vec<u64>,
    pub(super) settled_below: u64,
}

impl Belief {
    pub(super) fn new(until: Duration) -> Self {
        Self {
            until: watch::Sender::new(until),
            numbers: Mutex::new(Numbers { next: 1, open: BTreeMap::new() }),
            over: watch::Sender::new(false),
            nudge: Notify::new(),
        }
    }

    /// Returns whether locks are safe at this moment.
    pub(super) fn is_safe(&self) -> bool {
        !*self.over.borrow() && boottime() < *self.until.borrow()
    }

    /// A renewal was answered. What was held when the belief lapsed stays lost.
    pub(super) fn extend(&self, sent: Duration, valid: Duration) {
        let until = sent + valid;
        if boottime() >= *self.until.borrow() {
            self.lose_all();
        }
        self.until.send_if_modified(|before| {
            let is_later = until > *before;
            if is_later {
                *before = until;
            }
            is_later
        });
    }

    pub(super) fn follow(&self) -> watch::Receiver<Duration> {
        self.until.subscribe()
    }

    /// Returns when the session has ended.
    pub(super) async fn ended(&self) {
        // The sender is in `self`, so this does not fail.
        let _ = self.over.subscribe().wait_for(|over| *over).await;
    }

    pub(super) fn is_over(&self) -> bool {
        *self.over.borrow()
    }

    /// The session has ended: every guard is lost.
    pub(super) fn end(&self) {
        self.over.send_replace(true);
        self.lose_all();
    }

    fn lose_all(&self) {
        for guard in self.numbers.lock().open.values().flatten() {
            guard.send_replace(Fate::Lost);
        }
    }

    /// Returns a new number, open from now on.
    pub(super) fn take_number(&self) -> u64 {
        let mut numbers = self.numbers.lock();
        let number = numbers.next;
        numbers.next += 1;
        numbers.open.insert(number, None);
        number
    }

    /// Notes that a number got its lock.
    pub(super) fn hold(&self, number: u64) -> watch::Receiver<Fate> {
        let (sender, receiver) = watch::channel(if self.is_over() { Fate::Lost } else { Fate::Holds });
        self.numbers.lock().open.insert(number, Some(sender));
        receiver
    }

    /// A number has its last answer.
    pub(super) fn settle(&self, number: u64) {
        self.numbers.lock().open.remove(&number);
    }

    /// The server says that a number does not hold.
    pub(super) fn lose(&self, number: u64) {
        if let Some(Some(guard)) = self.numbers.lock().open.get(&number) {
            guard.send_replace(Fate::Lost);
        }
    }

    pub(super) fn standing(&self) -> Standing {
        let numbers = self.numbers.lock();
        let open: Vec<u64> = numbers.open.keys().copied().collect();
        Standing { next: numbers.next, settled_below: open.first().copied().unwrap_or(numbers.next), open }
    }

    /// Numbers that hold, as of now.
    pub(super) fn holding(&self) -> Vec<u64> {
        let numbers = self.numbers.lock();
        numbers.open.iter().filter(|(_, guard)| guard.is_some()).map(|(number, _)| *number).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn belief_never_shrinks_and_ends_for_good() {
        let belief = Belief::new(Duration::ZERO);
        assert!(!belief.is_safe());
        let now = boottime();
        belief.extend(now, Duration::from_secs(100));
        belief.extend(now, Duration::from_secs(50));
        assert_eq!(*belief.follow().borrow(), now + Duration::from_secs(100));
        let number = belief.take_number();
        let fate = belief.hold(number);
        belief.end();
        belief.extend(now, Duration::from_secs(200));
        assert!(!belief.is_safe() && *fate.borrow() == Fate::Lost);
    }

    #[test]
    fn guard_that_lapsed_stays_lost() {
        let belief = Belief::new(Duration::ZERO);
        let number = belief.take_number();
        let fate = belief.hold(number);
        belief.extend(boottime(), Duration::from_secs(100));
        assert!(belief.is_safe() && *fate.borrow() == Fate::Lost);
        assert_eq!(*belief.hold(belief.take_number()).borrow(), Fate::Holds);
    }

    #[test]
    fn settled_below_is_the_lowest_open_number() {
        let belief = Belief::new(Duration::ZERO);
        let numbers = [belief.take_number(), belief.take_number(), belief.take_number()];
        belief.settle(numbers[1]);
        let standing = belief.standing();
        assert_eq!((standing.open, standing.next, standing.settled_below), (vec![1, 3], 4, 1));
        belief.settle(1);
        belief.settle(3);
        assert_eq!(belief.standing().settled_below, 4);
    }
}
