//! The objects, and the witness.
//!
//! Every object and version has a *slot*: a count of those inside and two numbers that a writer sets one after the
//! other. All of it is read and written with relaxed atomics, which order nothing by themselves: what makes the next
//! holder see what the last one did is the lock. So a second holder, a reader beside a writer, a half-written pair and
//! a fence that went backwards all mean that the lock failed, and each is counted.

use keylatch::{KeyRef, Mode};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

pub(crate) const BUCKET: &str = "photos";
/// Versions that every object has, besides the latest.
pub(crate) const VERSIONS: [&str; 3] = ["v1", "v2", "v3"];
/// The object everybody wants: the list of what is in the bucket.
const MANIFEST: &str = "manifest";

const WRITER: u32 = 1 << 31;

/// Names and slots of all objects.
#[derive(Debug)]
pub(crate) struct Store {
    names: Vec<String>,
    slots: Vec<Slot>,
    violations: AtomicU64,
}

/// An object, or a version of one, by position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    object: u32,
    /// 0 is the latest.
    version: u32,
}

#[derive(Debug, Default)]
struct Slot {
    /// Readers inside, and WRITER.
    inside: AtomicU32,
    first: AtomicU64,
    second: AtomicU64,
    /// The fence of the last exclusive holder.
    fence: AtomicU64,
}

impl Store {
    pub(crate) fn new(objects: u32) -> Self {
        let mut names: Vec<String> = (0..objects).map(|number| format!("object-{number:06}")).collect();
        names.push(MANIFEST.to_owned());
        let slots = (0..names.len() * (1 + VERSIONS.len())).map(|_| Slot::default()).collect();
        Self { names, slots, violations: AtomicU64::new(0) }
    }

    /// Returns the latest version of an object.
    pub(crate) fn latest(&self, object: u32) -> Place {
        Place { object, version: 0 }
    }

    /// Returns a version of an object other than the latest, from 1 on.
    pub(crate) fn version(&self, object: u32, version: u32) -> Place {
        Place { object, version }
    }

    /// Returns how many objects there are, without the hot one.
    pub(crate) fn objects(&self) -> u32 {
        self.manifest().object
    }

    /// Returns the hot object.
    pub(crate) fn manifest(&self) -> Place {
        // Positions are 32-bit numbers.
        Place { object: self.names.len() as u32 - 1, version: 0 }
    }

    pub(crate) fn name(&self, place: Place) -> &str {
        &self.names[place.object as usize]
    }

    pub(crate) fn key(&self, place: Place) -> KeyRef<'_> {
        let latest = KeyRef::new(BUCKET, self.name(place));
        match place.version {
            0 => latest,
            version => latest.with_version(VERSIONS[version as usize - 1]),
        }
    }

    /// Moments in which the lock did not keep its promise.
    pub(crate) fn violations(&self) -> u64 {
        self.violations.load(Ordering::Relaxed)
    }

    /// Enters as a holder of the lock; leaves when the visit is dropped.
    ///
    /// That is before the lock is released.
    pub(crate) fn enter(&self, place: Place, mode: Mode) -> Visit<'_> {
        let slot = &self.slots[place.object as usize * (1 + VERSIONS.len()) + place.version as usize];
        match mode {
            Mode::Shared => {
                self.expect(slot.inside.fetch_add(1, Ordering::Relaxed) & WRITER == 0);
                self.expect(slot.first.load(Ordering::Relaxed) == slot.second.load(Ordering::Relaxed));
            }
            Mode::Exclusive => {
                self.expect(slot.inside.fetch_add(WRITER, Ordering::Relaxed) == 0);
                slot.first.store(slot.first.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
            }
        }
        Visit { store: self, slot, mode }
    }

    fn expect(&self, kept: bool) {
        if !kept {
            self.violations.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A holder is inside.
#[derive(Debug)]
pub(crate) struct Visit<'s> {
    store: &'s Store,
    slot: &'s Slot,
    mode: Mode,
}

impl Visit<'_> {
    /// Returns how often the object was changed, this visit's change included.
    pub(crate) fn changes(&self) -> u64 {
        self.slot.first.load(Ordering::Relaxed)
    }

    /// Checks that the object is unchanged since `changes`, but for this visit.
    pub(crate) fn nothing_since(self, changes: u64) -> Self {
        let own = u64::from(self.mode == Mode::Exclusive);
        self.store.expect(self.changes() == changes + own);
        self
    }

    /// Checks that the fence of an exclusive holder is greater than every one before.
    pub(crate) fn fenced(self, fence: u64) -> Self {
        let before = self.slot.fence.load(Ordering::Relaxed);
        self.store.expect(fence > before);
        self.slot.fence.store(fence, Ordering::Relaxed);
        self
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        let slot = self.slot;
        match self.mode {
            Mode::Shared => {
                self.store.expect(slot.first.load(Ordering::Relaxed) == slot.second.load(Ordering::Relaxed));
                self.store.expect(slot.inside.fetch_sub(1, Ordering::Relaxed) & WRITER == 0);
            }
            Mode::Exclusive => {
                slot.second.store(slot.first.load(Ordering::Relaxed), Ordering::Relaxed);
                self.store.expect(slot.inside.fetch_sub(WRITER, Ordering::Relaxed) == WRITER);
            }
        }
    }
}
