//! When each lock was taken, and what its request said that keylatch does not keep.
//!
//! keylatch reads no clock for a free lock. This face promises the time of each acquisition, so that each guard has a
//! stamp beside its hold. Stamps lie in a few slabs, each with a mutex: a thread always uses the same one, so that
//! stamping costs a mutex that is nearly always free and in the thread's cache. Listings look through all slabs.

use super::request::LockPriority;
use crossbeam_utils::CachePadded;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

/// Slabs: more than most machines have processors, for less than 8 KiB a manager.
const SLABS: usize = 32;

/// Stamps for which an empty slab keeps room.
const KEPT: usize = 64;

/// What is known of a hold beside what keylatch knows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stamp {
    /// The number of the hold.
    pub(crate) grant: u64,
    pub(crate) acquired_at: SystemTime,
    pub(crate) lock_timeout: Duration,
    pub(crate) priority: LockPriority,
}

impl Stamp {
    /// Returns when the time of the lock ends.
    pub(crate) fn expires_at(&self) -> SystemTime {
        let end = self.acquired_at.checked_add(self.lock_timeout);
        end.unwrap_or(self.acquired_at + super::limits::DEFAULT_LOCK_TIMEOUT)
    }
}

#[derive(Debug, Default)]
struct Slab {
    stamps: Vec<Option<Stamp>>,
    free: Vec<u32>,
}

/// The stamps of a manager.
#[derive(Debug)]
pub(crate) struct Stamps {
    slabs: [CachePadded<Mutex<Slab>>; SLABS],
}

/// A stamp in its slab; dropping it takes it out.
#[derive(Debug)]
pub(crate) struct Stamped {
    stamps: Arc<Stamps>,
    slab: u32,
    place: u32,
}

fn slab_of_thread() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static SLAB: usize = NEXT.fetch_add(1, Ordering::Relaxed) % SLABS;
    }
    // A thread that ends, and has dropped what is its own, uses the first.
    SLAB.try_with(|slab| *slab).unwrap_or(0)
}

impl Stamps {
    pub(crate) fn new() -> Self {
        Self { slabs: std::array::from_fn(|_| CachePadded::default()) }
    }

    pub(crate) fn add(self: &Arc<Self>, stamp: Stamp) -> Stamped {
        let slab = slab_of_thread();
        let mut stamps = self.slabs[slab].lock();
        let place = match stamps.free.pop() {
            Some(place) => {
                stamps.stamps[place as usize] = Some(stamp);
                place
            }
            None => {
                stamps.stamps.push(Some(stamp));
                (stamps.stamps.len() - 1) as u32
            }
        };
        drop(stamps);
        Stamped { stamps: Arc::clone(self), slab: slab as u32, place }
    }

    /// Returns all stamps by the numbers of their holds.
    pub(crate) fn by_grant(&self) -> HashMap<u64, Stamp> {
        let mut all = HashMap::new();
        for slab in &self.slabs {
            all.extend(slab.lock().stamps.iter().flatten().map(|stamp| (stamp.grant, *stamp)));
        }
        all
    }

    /// Returns the stamp of one hold.
    pub(crate) fn of(&self, grant: u64) -> Option<Stamp> {
        let find = |slab: &Slab| slab.stamps.iter().flatten().find(|stamp| stamp.grant == grant).copied();
        self.slabs.iter().find_map(|slab| find(&slab.lock()))
    }
}

impl Stamped {
    pub(crate) fn stamp(&self) -> Option<Stamp> {
        self.stamps.slabs[self.slab as usize].lock().stamps.get(self.place as usize).copied().flatten()
    }
}

impl Drop for Stamped {
    fn drop(&mut self) {
        let mut slab = self.stamps.slabs[self.slab as usize].lock();
        slab.stamps[self.place as usize] = None;
        slab.free.push(self.place);
        if slab.free.len() == slab.stamps.len() && slab.stamps.len() > KEPT {
            // What a flood of locks took goes back with the last of them.
            *slab = Slab::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(grant: u64) -> Stamp {
        let (acquired_at, lock_timeout) = (SystemTime::UNIX_EPOCH, Duration::from_secs(1));
        Stamp { grant, acquired_at, lock_timeout, priority: LockPriority::High }
    }

    #[test]
    fn stamps_come_and_go_with_their_guards() {
        let stamps = Arc::new(Stamps::new());
        let first = stamps.add(stamp(1));
        let second = stamps.add(stamp(2));
        assert_eq!(second.stamp().map(|found| found.grant), Some(2));
        drop(first);
        assert_eq!(stamps.by_grant().into_keys().collect::<Vec<_>>(), [2]);
        let third = stamps.add(stamp(3));
        assert_eq!((third.place, stamps.of(1).is_some(), stamps.of(3).is_some()), (0, false, true));
    }

    #[test]
    fn flood_of_stamps_gives_back_its_memory() {
        let stamps = Arc::new(Stamps::new());
        let flood: Vec<_> = (0..10_000).map(|grant| stamps.add(stamp(grant))).collect();
        let slab = flood[0].slab as usize;
        assert!(stamps.slabs[slab].lock().stamps.capacity() >= 10_000);
        drop(flood);
        assert_eq!(stamps.slabs[slab].lock().stamps.capacity(), 0);
    }

    #[test]
    fn endless_timeout_expires_at_the_default() {
        let endless = Stamp { lock_timeout: Duration::MAX, ..stamp(1) };
        assert_eq!(endless.expires_at(), SystemTime::UNIX_EPOCH + Duration::from_secs(30));
    }
}
