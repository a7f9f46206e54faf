//! Which idle entries a shard keeps.
//!
//! A released entry stays in the table so that the next take of its key is one compare-and-swap, but only [`WARM`] of a
//! shard may be idle. One rule makes this exact without a sweeper: an idle entry is always in one of the warm slots. An
//! entry outside of them carries EVICT while it is held. The release that makes it idle comes to the shard, and the entry
//! takes over a slot or leaves the table. An insert re-uses an idle entry of a warm slot in place.

use super::shard::{LockedShard, WARM};
use super::state::Word;
use crate::memory::{Cache, NONE};

impl LockedShard<'_> {
    /// Gives an idle entry a warm slot, or evicts it or another.
    ///
    /// Does nothing if the entry is held again.
    pub(crate) fn keep_or_evict(&mut self, cache: &Cache, index: u32) {
        let Some(slot) = self.slots_in_turn().find(|slot| self.may_be_taken(*slot)) else {
            if self.claim(index) {
                self.leave(cache, index);
            }
            return;
        };
        let rival = self.book.warm[slot];
        if rival == NONE || self.make_cold(rival) {
            self.make_warm(slot, index);
        } else if rival < index {
            // Low memory is kept, so that what is left after a flood is packed together and the rest can be given back.
            if self.claim(index) {
                self.leave(cache, index);
            }
        } else if self.claim(rival) {
            self.leave(cache, rival);
            self.make_warm(slot, index);
        } else if self.claim(index) {
            self.leave(cache, index);
        }
    }

    /// Has an entry that is held take over a warm slot, if it is in none.
    ///
    /// Returns whether it carries no EVICT then.
    pub(super) fn warm_up(&mut self, cache: &Cache, index: u32) -> bool {
        if !self.table.entry(index).word().is_to_evict() {
            return true;
        }
        let slots = self.slots_in_turn();
        let is_empty = |slot: &usize| self.book.warm[*slot] == NONE;
        let may_be_taken = |slot: &usize| self.may_be_taken(*slot);
        let Some(slot) = slots.clone().find(is_empty).or_else(|| slots.clone().find(may_be_taken)) else {
            return false;
        };
        let rival = self.book.warm[slot];
        if rival != NONE && !self.make_cold(rival) {
            if !self.claim(rival) {
                return false;
            }
            self.leave(cache, rival);
        }
        self.make_warm(slot, index);
        true
    }

    /// Returns all warm slots, each time another one first.
    fn slots_in_turn(&mut self) -> impl Iterator<Item = usize> + Clone + use<> {
        self.book.inserts = self.book.inserts.wrapping_add(1);
        let first = self.book.inserts as usize;
        (0..WARM).map(move |place| (first + place) % WARM)
    }

    /// Returns whether another entry may have this warm slot.
    ///
    /// Two crowded entries would take turns, and each time all readers would be collected.
    fn may_be_taken(&self, slot: usize) -> bool {
        let rival = self.book.warm[slot];
        rival == NONE || !self.is_hot(rival)
    }

    fn make_warm(&mut self, slot: usize, index: u32) {
        self.book.warm[slot] = index;
        self.set_evict(index, false);
    }

    /// Sets or clears EVICT. Returns the word as it was.
    pub(super) fn set_evict(&mut self, index: u32, evict: bool) -> Word {
        let entry = self.table.entry(index);
        if evict {
            self.unbias(index, entry);
        }
        entry.change(|seen| seen.with_evict(evict))
    }

    pub(super) fn free_slot_of(&mut self, index: u32) {
        if let Some(slot) = self.book.warm.iter().position(|warm| *warm == index) {
            self.book.warm[slot] = NONE;
        }
    }

    /// Makes a *held* entry ask for its release to come here. `false` if it is idle.
    fn make_cold(&mut self, index: u32) -> bool {
        let entry = self.table.entry(index);
        self.unbias(index, entry);
        let mut seen = entry.word();
        while !seen.is_free() {
            match entry.swap(seen, seen.with_evict(true)) {
                Ok(()) => return true,
                Err(now) => seen = now,
            }
        }
        false
    }

    pub(crate) fn evict_idle(&mut self, cache: &Cache) {
        for slot in 0..WARM {
            let index = self.book.warm[slot];
            if index == NONE {
                continue;
            }
            self.unbias(index, self.table.entry(index));
            if self.claim(index) {
                self.leave(cache, index);
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::key::KeyRef;
    use crate::mode::Mode;
    use crate::table::Table;

    #[test]
    fn crowded_entry_displaces_no_crowded_entry() {
        let (table, cache) = (Table::reserve(1, 100).unwrap(), Cache::default());
        let mut shard = table.lock(0);
        // One more than there are warm slots, all shared.
        let shared: Vec<u32> = (0..=WARM as u64)
            .map(|hash| {
                let (index, entry) = shard
                    .insert_idle(&cache, hash, &KeyRef::new("b", &hash.to_string()), Some(Mode::Exclusive))
                    .unwrap();
                entry.swap(entry.word(), entry.word().taken(Mode::Shared, NONE).unwrap()).unwrap();
                index
            })
            .collect();
        let is_biased = |index: &u32| table.entry(*index).word().is_biased();
        let (late, first) = shared.split_last().unwrap();
        for index in first {
            shard.bias(&cache, *index);
        }
        assert!(first.iter().all(is_biased) && table.entry(*late).word().is_to_evict());
        shard.bias(&cache, *late);
        assert!(first.iter().all(is_biased) && !is_biased(late), "it took the slot of a crowded entry");

        // Nor does an idle entry.
        for _ in 0..2 * WARM {
            let (idle, _) = shard.insert_idle(&cache, 100, &KeyRef::new("b", "idle"), Some(Mode::Exclusive)).unwrap();
            assert!(table.entry(idle).word().is_to_evict());
            shard.keep_or_evict(&cache, idle);
            assert!(first.iter().all(is_biased) && !shard.has(100, idle), "it took the slot of a crowded entry");
        }

        // That of one that is not crowded any more it takes.
        shard.unbias(first[1], table.entry(first[1]));
        assert!(shard.warm_up(&cache, *late));
        assert!(table.entry(first[1]).word().is_to_evict() && !table.entry(*late).word().is_to_evict());
        assert_eq!(first.iter().filter(|index| is_biased(index)).count(), WARM - 1);
    }
}
