//! The queue of one lock: a list linked through the waiters, in the order in which they are served.
//!
//! A waiter may overtake others only here, when it joins the queue. Every waiter counts how often it was overtaken, and
//! once that count is at its limit, no waiter passes it any more. So priorities and preferred modes starve no request.

use super::waiter::{Waiter, Waiters};
use crate::sync::atomic::{AtomicU32, Ordering};

/// The ends of a queue, which are fields of the entry. Caller holds: shard mutex.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Queue<'a> {
    pub(crate) head: &'a AtomicU32,
    pub(crate) tail: &'a AtomicU32,
    pub(crate) waiters: &'a Waiters,
}

impl<'a> Queue<'a> {
    pub(crate) fn first(&self) -> Option<(u32, &'a Waiter)> {
        self.at(self.head.load(Ordering::Relaxed))
    }

    pub(crate) fn after(&self, waiter: &Waiter) -> Option<(u32, &'a Waiter)> {
        self.at(waiter.next.load(Ordering::Relaxed))
    }

    /// Iterates over the waiters, from the front.
    pub(crate) fn iter(self) -> impl Iterator<Item = (u32, &'a Waiter)> {
        std::iter::successors(self.first(), move |(_, waiter)| self.after(waiter))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.head.load(Ordering::Relaxed) == 0
    }

    fn at(&self, index: u32) -> Option<(u32, &'a Waiter)> {
        (index != 0).then(|| (index, self.waiters.get(index)))
    }

    /// Adds a waiter behind the last one that it may not overtake.
    pub(crate) fn join(&self, index: u32, may_overtake: impl Fn(&Waiter) -> bool) {
        let mut behind = self.at(self.tail.load(Ordering::Relaxed));
        while let Some((_, waiter)) = behind.filter(|(_, waiter)| may_overtake(waiter)) {
            waiter.overtaken.store(waiter.overtaken.load(Ordering::Relaxed).saturating_add(1), Ordering::Relaxed);
            behind = self.at(waiter.previous.load(Ordering::Relaxed));
        }
        self.put_behind(index, behind.map(|(behind, _)| behind));
    }

    /// Returns the waiter in front of another one.
    pub(crate) fn before(&self, waiter: &Waiter) -> Option<u32> {
        self.at(waiter.previous.load(Ordering::Relaxed)).map(|(index, _)| index)
    }

    /// Adds a waiter behind another one, or in front of all.
    pub(crate) fn put_behind(&self, index: u32, behind: Option<u32>) {
        let (previous, next_of_previous) = match behind.and_then(|behind| self.at(behind)) {
            Some((previous, waiter)) => (previous, &waiter.next),
            None => (0, self.head),
        };
        let next = next_of_previous.load(Ordering::Relaxed);
        let joined = self.waiters.get(index);
        joined.previous.store(previous, Ordering::Relaxed);
        joined.next.store(next, Ordering::Relaxed);
        next_of_previous.store(index, Ordering::Relaxed);
        self.previous_of(next).store(index, Ordering::Relaxed);
    }

    /// Removes a waiter, wherever it is.
    pub(crate) fn leave(&self, waiter: &Waiter) {
        let previous = waiter.previous.load(Ordering::Relaxed);
        let next = waiter.next.load(Ordering::Relaxed);
        match self.at(previous) {
            Some((_, before)) => before.next.store(next, Ordering::Relaxed),
            None => self.head.store(next, Ordering::Relaxed),
        }
        self.previous_of(next).store(previous, Ordering::Relaxed);
        waiter.previous.store(0, Ordering::Relaxed);
        waiter.next.store(0, Ordering::Relaxed);
    }

    fn previous_of(&self, index: u32) -> &'a AtomicU32 {
        match self.at(index) {
            Some((_, waiter)) => &waiter.previous,
            None => self.tail,
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn order(queue: &Queue<'_>) -> Vec<u32> {
        let forward: Vec<u32> = queue.iter().map(|(index, _)| index).collect();
        let mut place = queue.at(queue.tail.load(Ordering::Relaxed));
        let mut backward: Vec<u32> = std::iter::from_fn(|| {
            let (index, waiter) = place?;
            place = queue.at(waiter.previous.load(Ordering::Relaxed));
            Some(index)
        })
        .collect();
        backward.reverse();
        assert_eq!(forward, backward);
        forward
    }

    #[test]
    fn overtaking_is_counted_and_ends() {
        let waiters = Waiters::reserve(100, 1).unwrap();
        let (head, tail) = (AtomicU32::new(0), AtomicU32::new(0));
        let queue = Queue { head: &head, tail: &tail, waiters: &waiters };
        let slow = waiters.take().unwrap();
        queue.join(slow, |_| true);
        let may = |waiter: &Waiter| waiter.overtaken.load(Ordering::Relaxed) < 3;
        let others: Vec<u32> = (0..5).map(|_| waiters.take().unwrap()).collect();
        for index in &others {
            queue.join(*index, may);
        }
        let place = order(&queue).iter().position(|index| *index == slow).unwrap();
        assert_eq!(place, 3, "three overtook it, and then no other may");
    }

    #[test]
    fn leave_anywhere_keeps_the_links() {
        let waiters = Waiters::reserve(100, 1).unwrap();
        let (head, tail) = (AtomicU32::new(0), AtomicU32::new(0));
        let queue = Queue { head: &head, tail: &tail, waiters: &waiters };
        let all: Vec<u32> = (0..5).map(|_| waiters.take().unwrap()).collect();
        for index in &all {
            queue.join(*index, |_| false);
        }
        for (gone, left) in [(3, vec![1, 2, 4, 5]), (1, vec![2, 4, 5]), (5, vec![2, 4]), (2, vec![4]), (4, vec![])] {
            queue.leave(waiters.get(gone));
            assert_eq!(order(&queue), left);
        }
        assert!(queue.is_empty());
    }
}
