//! The waiters of a lock in the order of their arrival: plain data behind the lock's mutex.
//!
//! Waiters live in a slab and are linked by index, so a waiter leaves from anywhere in one step. A slot belongs to its
//! waiter from `push` to `remove`. In between it is `Waiting` and linked, or `Granted` or `Cancelled` and not linked.
//! No waker is cloned, woken or dropped in here, because that runs foreign code and the caller holds the mutex.

use super::words::Mode;
use std::task::Waker;

const NONE: u32 = u32::MAX;
/// Slots that an empty line keeps for the next waiters.
const KEPT_SLOTS: usize = 32;
/// The furthest place that is counted.
///
/// The steps to count it are taken under the lock's mutex.
pub(crate) const FURTHEST_PLACE: u32 = 1000;

#[derive(Debug)]
pub(super) struct Line {
    slots: Vec<Slot>,
    free: u32,
    head: u32,
    tail: u32,
    waiting: u32,
    granted: u32,
    /// Slots that belong to a waiter, in whatever state.
    used: u32,
}

#[derive(Debug)]
struct Slot {
    previous: u32,
    /// The next in line, or the next free slot.
    next: u32,
    mode: Mode,
    /// When its waiter joined, in ticks.
    began: u64,
    state: SlotState,
}

#[derive(Debug)]
enum SlotState {
    Free,
    Waiting(Waker),
    Granted { count: u64 },
    Cancelled,
}

/// The slot of one waiter.
#[derive(Debug)]
pub(super) struct Place(u32);

/// What a waiter finds in its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum Status {
    Waiting,
    /// With the count of the lock's acquisitions.
    Granted {
        count: u64,
    },
    Cancelled,
}

impl Default for Line {
    fn default() -> Self {
        Self::new()
    }
}

impl Line {
    const fn new() -> Self {
        Self { slots: Vec::new(), free: NONE, head: NONE, tail: NONE, waiting: 0, granted: 0, used: 0 }
    }

    /// Returns the number of waiters.
    pub(super) const fn waiting(&self) -> u32 {
        self.waiting
    }

    /// Returns the number of grants that were not collected yet.
    pub(super) const fn granted(&self) -> u32 {
        self.granted
    }

    /// Returns the mode of the first in line.
    pub(super) fn first(&self) -> Option<Mode> {
        self.slots.get(self.head as usize).map(|slot| slot.mode)
    }

    /// Returns when the first in line joined, in ticks: it waits for the longest.
    pub(super) fn first_began(&self) -> Option<u64> {
        self.slots.get(self.head as usize).map(|slot| slot.began)
    }

    /// Returns when a waiter joined, in ticks.
    pub(super) fn began(&self, place: &Place) -> u64 {
        self.slots[place.0 as usize].began
    }

    /// Returns the mode of a waiter.
    pub(super) fn mode(&self, place: &Place) -> Mode {
        self.slots[place.0 as usize].mode
    }

    /// Appends a waiter that joins at this time, in ticks.
    pub(super) fn push(&mut self, mode: Mode, began: u64, waker: Waker) -> Place {
        let slot = Slot { previous: self.tail, next: NONE, mode, began, state: SlotState::Waiting(waker) };
        let index = self.free;
        let index = if let Some(free) = self.slots.get_mut(index as usize) {
            self.free = free.next;
            *free = slot;
            index
        } else {
            let index = u32::try_from(self.slots.len()).ok().filter(|index| *index != NONE);
            self.slots.push(slot);
            index.expect("four billion waiters of one lock")
        };
        match self.tail {
            NONE => self.head = index,
            tail => self.slot_mut(tail).next = index,
        }
        self.tail = index;
        (self.waiting, self.used) = (self.waiting + 1, self.used + 1);
        Place(index)
    }

    /// Marks the first in line as granted with this count, and returns its waker.
    pub(super) fn grant_first(&mut self, count: u64) -> Option<Waker> {
        let waker = self.unlink_first(SlotState::Granted { count })?;
        self.granted += 1;
        Some(waker)
    }

    /// Marks the first in line as cancelled and returns its waker.
    pub(super) fn cancel_first(&mut self) -> Option<Waker> {
        self.unlink_first(SlotState::Cancelled)
    }

    /// Says what became of a waiter.
    pub(super) fn status(&self, place: &Place) -> Status {
        match self.slots[place.0 as usize].state {
            SlotState::Waiting(_) => Status::Waiting,
            SlotState::Granted { count } => Status::Granted { count },
            SlotState::Cancelled => Status::Cancelled,
            SlotState::Free => unreachable!("a place is removed once"),
        }
    }

    /// Replaces the waker of a waiter, and returns the one to drop without the mutex.
    pub(super) fn set_waker(&mut self, place: &Place, waker: Waker) -> Waker {
        match &mut self.slot_mut(place.0).state {
            SlotState::Waiting(old) => std::mem::replace(old, waker),
            _ => waker,
        }
    }

    /// Counts the waiters up to this one: 1 for the first in line.
    ///
    /// One more than [`FURTHEST_PLACE`] for all beyond.
    pub(super) fn position(&self, place: &Place) -> u32 {
        let (mut position, mut index) = (1, self.slots[place.0 as usize].previous);
        while index != NONE && position <= FURTHEST_PLACE {
            (position, index) = (position + 1, self.slots[index as usize].previous);
        }
        position
    }

    /// Frees the slot of a waiter, granted or not.
    ///
    /// Returns the waker to drop without the mutex.
    pub(super) fn remove(&mut self, place: Place) -> Option<Waker> {
        let index = place.0;
        let waker = match std::mem::replace(&mut self.slot_mut(index).state, SlotState::Free) {
            SlotState::Waiting(waker) => {
                self.unlink(index);
                Some(waker)
            }
            SlotState::Granted { .. } => {
                self.granted -= 1;
                None
            }
            SlotState::Cancelled | SlotState::Free => None,
        };
        let free = self.free;
        self.slot_mut(index).next = free;
        self.free = index;
        self.used -= 1;
        if self.used == 0 && self.slots.len() > KEPT_SLOTS {
            *self = Self::new();
        }
        waker
    }

    fn unlink_first(&mut self, state: SlotState) -> Option<Waker> {
        let first = self.head;
        let old = std::mem::replace(&mut self.slots.get_mut(first as usize)?.state, state);
        self.unlink(first);
        match old {
            SlotState::Waiting(waker) => Some(waker),
            _ => unreachable!("only waiting slots are linked"),
        }
    }

    fn unlink(&mut self, index: u32) {
        let Slot { previous, next, .. } = self.slots[index as usize];
        match previous {
            NONE => self.head = next,
            previous => self.slot_mut(previous).next = next,
        }
        match next {
            NONE => self.tail = previous,
            next => self.slot_mut(next).previous = previous,
        }
        self.waiting -= 1;
    }

    fn slot_mut(&mut self, index: u32) -> &mut Slot {
        &mut self.slots[index as usize]
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    #[test]
    fn position_is_counted_so_far() {
        let mut line = Line::new();
        let mut push = || line.push(Mode::Shared, 0, Waker::noop().clone());
        let (first, rest): (Place, Vec<_>) = (push(), (0..10_000).map(|_| push()).collect());
        let position = |index: usize| line.position(&rest[index]);
        assert_eq!((line.position(&first), position(0), position(998)), (1, 2, 1000));
        assert_eq!((position(999), position(9999)), (1001, 1001), "in as many steps as the thousandth takes");
    }

    /// Compares with a deque over pseudo-random operations.
    #[test]
    fn line_matches_a_deque() {
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = |below: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random as usize % below
        };
        let (mut line, mut oracle) = (Line::new(), VecDeque::new());
        let mut places: Vec<(usize, Place)> = Vec::new();
        for number in 0..200_000 {
            // Phases of growth and of shrinking, so that the slab is given back now and then.
            let growing = number / 500 % 2 == 0;
            match next(if growing { 4 } else { 9 }) {
                0 | 1 => {
                    let mode = if next(2) == 0 { Mode::Shared } else { Mode::Exclusive };
                    places.push((number, line.push(mode, 0, Waker::noop().clone())));
                    oracle.push_back((number, mode));
                }
                2 => assert_eq!(line.grant_first(1).is_some(), oracle.pop_front().is_some()),
                3 => assert_eq!(line.cancel_first().is_some(), oracle.pop_front().is_some()),
                _ if !places.is_empty() => {
                    let (number, place) = places.swap_remove(next(places.len()));
                    let position = oracle.iter().position(|(waiting, _)| *waiting == number);
                    assert_eq!(line.status(&place) == Status::Waiting, position.is_some());
                    if let Some(position) = position {
                        assert_eq!(line.position(&place) as usize, position + 1);
                        oracle.remove(position);
                    }
                    assert_eq!(line.remove(place).is_some(), position.is_some());
                }
                _ => {}
            }
            assert_eq!(line.waiting() as usize, oracle.len());
            assert_eq!(line.first(), oracle.front().map(|(_, mode)| *mode));
        }
        places.drain(..).for_each(|(_, place)| drop(line.remove(place)));
        assert_eq!((line.waiting(), line.granted(), line.used, line.first()), (0, 0, 0, None));
        assert!(line.slots.len() <= KEPT_SLOTS);
    }
}
