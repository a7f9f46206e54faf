//! Parts of the names of entries, used again one after the other.
//!
//! etcd keeps each name that was ever used until it compacts, and looks at all of them when it reads a queue. With names that
//! are used again there are as many as there were acquisitions under way at a time.

use parking_lot::Mutex;

/// The slots of a lease, each of which one acquisition at a time has.
#[derive(Debug, Default)]
pub(crate) struct Slots(Mutex<List>);

#[derive(Debug, Default)]
struct List {
    /// Those that can be used again; the last one first.
    free: Vec<u64>,
    /// As many were used so far.
    used: u64,
}

impl Slots {
    /// A slot that no entry has, and no request under way that could touch an entry.
    pub(crate) fn take(&self) -> u64 {
        let mut list = self.0.lock();
        list.free.pop().unwrap_or_else(|| {
            list.used += 1;
            list.used
        })
    }

    /// Makes a slot one to take again.
    ///
    /// The entries that had it are gone, and no copy of their removal is under way: it would remove those that have it next.
    /// A copy of their creation may be under way only if the floor is raised to it.
    pub(crate) fn put_back(&self, slot: u64) {
        let mut list = self.0.lock();
        debug_assert!(!list.free.contains(&slot), "two acquisitions had one slot");
        list.free.push(slot);
    }
}

#[cfg(test)]
mod tests {
    use super::Slots;

    #[test]
    fn slots_used_last_come_first() {
        let slots = Slots::default();
        let [one, two, three] = [slots.take(), slots.take(), slots.take()];
        assert!(one != two && two != three && three != one);
        slots.put_back(one);
        slots.put_back(three);
        assert_eq!([slots.take(), slots.take()], [three, one]);
        assert!(![one, two, three].contains(&slots.take()));
    }
}
