//! One shard: the chains that look-ups walk, and the book that its mutex guards.
//!
//! Look-ups read `log2_heads`, a head and the entries' `next`, and nothing else; they may miss an entry that is being
//! moved, never find one that is not there. Everything else happens under the mutex.
//!
//! **Idle entries** stay for the next take of their keys, up to a few: see [`super::warm`].
//!
//! **Pinned entries** are in no slot and carry no EVICT: they stay, held or idle. The end of the last pin sets EVICT, and
//! looks whether the entry is idle: if it is not, its last release comes here.
//!
//! **Biased entries** have readers in slots, which leave without a look at the word. So they carry no EVICT: an entry is
//! biased only where it is in a warm slot or pinned, and its readers are collected before it gets EVICT. See [`super::bias`].
//!
//! **Entries with a permit** of a tier, or a wish for one, are in no slot either. EVICT brings their last release here when
//! the permit may end; the engine sets it.

use super::backoff::{Backoff, CommonRest};
use super::entry::Entry;
use super::slots::Slots;
use super::state::Word;
use crate::key::KeyRef;
use crate::memory::{Arena, Cache, NONE, Region, Vacant};
use crate::mode::Mode;
use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::{Clock, Mutex, MutexGuard};

/// Chains that a shard has without further memory.
const INLINE_HEADS: usize = 8;
/// Entries at which a shard moves from its inline heads to the region of heads.
const LEAVE_INLINE_AT: u32 = 2 * INLINE_HEADS as u32;
/// Entries at which it moves back.
const RETURN_INLINE_AT: u32 = WARM as u32;
/// Chains it has just after moving out of its inline ones.
const FIRST_OUTER_LOG2: u32 = 6;
/// Idle entries that a shard keeps.
///
/// More cost twice as much when keys do not repeat. One under the model checker, so that two keys compete for it.
pub(crate) const WARM: usize = if cfg!(loom) { 1 } else { 4 };
/// Inserts after which the next warm slot is preferred.
///
/// So a key that never comes back loses its slot in the end.
const INSERTS_A_SLOT: u32 = 256;
/// Steps after which a look-up gives up, as moving entries could lead it astray.
const MAX_STEPS: u32 = 64;

// One cache line for all that look-ups read and inserts change first, one for the rest of the book's beginning.
const _: () = assert!(cfg!(loom) || std::mem::offset_of!(Shard, book) == 40);
const _: () = assert!(cfg!(loom) || std::mem::offset_of!(Book, counts) == 32);

/// See the module.
#[derive(Debug)]
#[repr(C, align(128))]
pub(crate) struct Shard {
    /// 0 for the inline heads, else the power of two of chains in the region of heads.
    log2_heads: AtomicU32,
    heads: [AtomicU32; INLINE_HEADS],
    book: Mutex<Book>,
}

/// What the shard's mutex guards.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct Book {
    pub(super) warm: [u32; WARM],
    entries: u32,
    pub(super) inserts: u32,
    /// No evicted entry of this shard had a higher fence.
    fence_floor: u64,
    /// Counts of this shard, which change under its mutex.
    pub(crate) counts: ShardCounts,
    /// Behind all that a request without a biased entry changes.
    pub(super) backoff: Backoff,
}

/// Buckets of waits: below 1 µs, powers of two up to 2^26 µs, and the rest.
pub(crate) const WAIT_BUCKETS: usize = 28;

/// What happened in a shard outside of the fast path.
#[derive(Debug, Default, Clone)]
#[repr(C)]
pub(crate) struct ShardCounts {
    /// Grants under the shard's mutex to requests that did not stand in line.
    pub(crate) immediate: u64,
    /// Grants to requests that stood in line.
    pub(crate) waited: u64,
    /// Releases under the shard's mutex.
    pub(crate) releases: u64,
    /// Requests that had to queue.
    pub(crate) waits: u64,
    /// Requests in a queue right now.
    pub(crate) waiting: u32,
    /// Waits that ended by time.
    pub(crate) timeouts: u64,
    /// Waits that ended by the waiter's wish.
    pub(crate) cancelled: u64,
    /// Waits that ended so that others could go on.
    pub(crate) deadlocks: u64,
    /// Attempts without patience that found the key held.
    pub(crate) refused: u64,
    pub(crate) wait_nanos: u64,
    pub(crate) max_wait_nanos: u64,
    pub(crate) wait_histogram: [u64; WAIT_BUCKETS],
}

impl ShardCounts {
    /// Adds those of another shard.
    pub(crate) fn add(&mut self, other: &Self) {
        self.immediate += other.immediate;
        self.waited += other.waited;
        self.releases += other.releases;
        self.waits += other.waits;
        self.waiting += other.waiting;
        self.timeouts += other.timeouts;
        self.cancelled += other.cancelled;
        self.deadlocks += other.deadlocks;
        self.refused += other.refused;
        self.wait_nanos = self.wait_nanos.saturating_add(other.wait_nanos);
        self.max_wait_nanos = self.max_wait_nanos.max(other.max_wait_nanos);
        for (sum, bucket) in self.wait_histogram.iter_mut().zip(&other.wait_histogram) {
            *sum += bucket;
        }
    }
}

#[cfg(not(loom))]
// SAFETY: `parking_lot`'s raw mutex is one byte that is 0 when unlocked (checked by a test below); the rest is integers.
unsafe impl Vacant for Shard {}
#[cfg(loom)]
// SAFETY: built by hand under the model checker.
unsafe impl Vacant for Shard {
    fn vacant() -> Self {
        Self {
            log2_heads: AtomicU32::new(0),
            heads: std::array::from_fn(|_| AtomicU32::new(0)),
            book: Mutex::new(Book::default()),
        }
    }
    fn vacate(&self) {}
}

/// A head in the region of heads.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Head(AtomicU32);

#[cfg(not(loom))]
// SAFETY: one atomic integer.
unsafe impl Vacant for Head {}
#[cfg(loom)]
// SAFETY: built by hand under the model checker.
unsafe impl Vacant for Head {
    fn vacant() -> Self {
        Self(AtomicU32::new(0))
    }
    fn vacate(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// No entry could be had: the arena is exhausted.
#[derive(Debug)]
pub(crate) struct Full;

/// All keys in use, and a few that are not.
#[derive(Debug)]
pub(crate) struct Table {
    shards: Region<Shard>,
    shard_mask: u64,
    heads: Region<Head>,
    max_log2_heads: u32,
    entries: Arena<Entry>,
    /// Entries that are pinned.
    pub(super) pinned: AtomicU32,
    /// Readers that the words of their entries do not count.
    pub(crate) slots: Slots,
    /// Between the biases of all shards.
    pub(super) rest: CommonRest,
    pub(super) began: Clock,
}

impl Table {
    /// Reserves a table of `shards` (a power of two) for at least `capacity` keys.
    pub(crate) fn reserve(shards: u32, capacity: u32) -> std::io::Result<Self> {
        debug_assert!(shards.is_power_of_two());
        // Room for one chain a key even when the keys are spread twice as badly as they can be expected to be.
        let a_shard = (capacity / shards).saturating_mul(2).max(1 << FIRST_OUTER_LOG2);
        let max_log2_heads = if cfg!(loom) { FIRST_OUTER_LOG2 } else { a_shard.ilog2().max(10) };
        let heads = u64::from(shards) << max_log2_heads;
        let heads = u32::try_from(heads).map_err(|_| std::io::ErrorKind::OutOfMemory)?;
        Ok(Self {
            shards: Region::reserve(shards)?,
            shard_mask: u64::from(shards - 1),
            heads: Region::reserve(if cfg!(loom) { 1 } else { heads })?,
            max_log2_heads,
            entries: Arena::reserve(capacity, 0)?,
            pinned: AtomicU32::new(0),
            slots: Slots::reserve()?,
            rest: CommonRest::default(),
            began: Clock::start(),
        })
    }

    pub(crate) fn shard_count(&self) -> u32 {
        self.shards.len()
    }

    /// Returns the shard of a hash: its low bits. The high half chooses the chain.
    #[inline(always)]
    pub(crate) fn shard_of(&self, hash: u64) -> u32 {
        // At most 2^16 shards.
        (hash & self.shard_mask) as u32
    }

    #[inline]
    pub(crate) fn entry(&self, index: u32) -> &Entry {
        self.entries.get(index)
    }

    /// How many keys are pinned.
    pub(crate) fn pinned(&self) -> u32 {
        self.pinned.load(Ordering::Relaxed)
    }

    pub(crate) fn arena(&self) -> &Arena<Entry> {
        &self.entries
    }

    #[inline(always)]
    fn head<'t>(&'t self, shard_index: u32, shard: &'t Shard, hash: u64) -> &'t AtomicU32 {
        let log2 = shard.log2_heads.load(Ordering::Relaxed);
        let high = (hash >> 32) as u32;
        if log2 == 0 {
            return &shard.heads[high as usize % INLINE_HEADS];
        }
        self.outer_head(shard_index, high & ((1 << log2) - 1))
    }

    #[inline]
    fn outer_head(&self, shard_index: u32, position: u32) -> &AtomicU32 {
        &self.heads.get((shard_index << self.max_log2_heads) + position).0
    }

    /// Returns an entry with this hash and its word, without a lock.
    ///
    /// `None` means "not seen", never "not there". The word was read before the hash. Whether the entry has the key,
    /// [`Entry::carries`] and the swap of that word decide.
    #[inline(always)]
    pub(crate) fn look_up(&self, hash: u64) -> Option<(u32, &Entry, Word)> {
        let shard_index = self.shard_of(hash);
        // Acquire. Pairs with: the Release of `link`. The entry's links and hash are there before the head names it.
        let index = self.head(shard_index, self.shards.get(shard_index), hash).load(Ordering::Acquire);
        if index == NONE {
            return None;
        }
        let entry = self.entry(index);
        let word = entry.word();
        if entry.hash() == hash { Some((index, entry, word)) } else { self.look_further(entry, hash) }
    }

    /// As `look_up`, behind the first entry of a chain.
    #[inline(never)]
    fn look_further<'t>(&'t self, mut entry: &'t Entry, hash: u64) -> Option<(u32, &'t Entry, Word)> {
        for _ in 0..MAX_STEPS {
            // As above.
            let index = entry.next.load(Ordering::Acquire);
            if index == NONE {
                return None;
            }
            entry = self.entry(index);
            let word = entry.word();
            if entry.hash() == hash {
                return Some((index, entry, word));
            }
        }
        None
    }

    /// The shard, with its mutex held.
    #[inline]
    pub(crate) fn lock(&self, shard_index: u32) -> LockedShard<'_> {
        let shard = self.shards.get(shard_index);
        LockedShard { table: self, shard, index: shard_index, book: shard.book.lock() }
    }

    /// Evicts every idle entry of all shards, before a full table is reported.
    pub(crate) fn evict_idle(&self, cache: &Cache) {
        for index in 0..self.shard_count() {
            self.lock(index).evict_idle(cache);
        }
    }

    /// Bytes of memory the table uses.
    pub(crate) fn bytes(&self) -> u64 {
        let outer: u64 = (0..self.shard_count())
            .map(|index| match self.shards.get(index).log2_heads.load(Ordering::Relaxed) {
                0 => 0,
                log2 => 4 << log2,
            })
            .sum();
        self.entries.resident_bytes()
            + u64::from(self.shard_count()) * size_of::<Shard>() as u64
            + outer
            + self.slots.bytes()
    }
}

/// A shard whose mutex the caller holds: the only way to change what is in it.
#[derive(Debug)]
pub(crate) struct LockedShard<'t> {
    pub(super) table: &'t Table,
    shard: &'t Shard,
    index: u32,
    pub(super) book: MutexGuard<'t, Book>,
}

impl<'t> LockedShard<'t> {
    /// The entry that carries the key. Exact.
    pub(crate) fn find(&self, hash: u64, key: &KeyRef<'_>) -> Option<(u32, &'t Entry)> {
        let mut index = self.table.head(self.index, self.shard, hash).load(Ordering::Relaxed);
        while index != NONE {
            let entry = self.table.entry(index);
            if entry.hash() == hash && entry.carries(&self.table.entries, key) {
                return Some((index, entry));
            }
            index = entry.next.load(Ordering::Relaxed);
        }
        None
    }

    /// Whether the entry is in this shard, with this hash.
    pub(crate) fn has(&self, hash: u64, wanted: u32) -> bool {
        let mut index = self.table.head(self.index, self.shard, hash).load(Ordering::Relaxed);
        while index != NONE && index != wanted {
            index = self.table.entry(index).next.load(Ordering::Relaxed);
        }
        index == wanted
    }

    /// Inserts a key that is not in the table. Its entry is claimed; publish it.
    pub(crate) fn insert(&mut self, cache: &Cache, hash: u64, key: &KeyRef<'_>) -> Result<(u32, &'t Entry), Full> {
        let table = self.table;
        self.book.inserts = self.book.inserts.wrapping_add(1);
        let preferred = (self.book.inserts / INSERTS_A_SLOT) as usize;
        for turn in 0..WARM {
            let index = self.book.warm[(preferred + turn) % WARM];
            if index == NONE || !self.claim(index) {
                continue;
            }
            let entry = table.entry(index);
            if !entry.word().has_generations_left() {
                self.leave(cache, index);
                continue;
            }
            self.unlink(index, entry);
            self.remember_fence(entry);
            if !entry.write_key(&table.entries, cache, hash, key) {
                self.leave(cache, index);
                return Err(Full);
            }
            entry.set_fence(self.book.fence_floor);
            entry.clear_marks();
            self.link(index, entry, hash);
            return Ok((index, entry));
        }
        self.insert_fresh(cache, hash, key)
    }

    #[cold]
    #[inline(never)]
    fn insert_fresh(&mut self, cache: &Cache, hash: u64, key: &KeyRef<'_>) -> Result<(u32, &'t Entry), Full> {
        let table = self.table;
        let index = table.entries.take(cache);
        if index == NONE {
            return Err(Full);
        }
        let entry = table.entry(index);
        if !entry.write_key(&table.entries, cache, hash, key) {
            table.entries.put(cache, index);
            return Err(Full);
        }
        entry.reader.store(NONE, Ordering::Relaxed);
        entry.clear_marks();
        entry.set_fence(self.book.fence_floor);
        let slot = self.book.warm.iter().position(|index| *index == NONE);
        if let Some(slot) = slot {
            self.book.warm[slot] = index;
        }
        // Of a generation that was never published.
        entry.publish(entry.word().raised().with_evict(slot.is_none()));
        self.book.entries += 1;
        self.link(index, entry, hash);
        self.fit_heads();
        Ok((index, entry))
    }

    /// Brings a key that is not in the table into it, idle.
    ///
    /// The fast path may grant it in modes up to `open`. It may be in no slot: the caller has something keep it, or calls
    /// [`keep_or_evict`](Self::keep_or_evict).
    pub(crate) fn insert_idle(
        &mut self,
        cache: &Cache,
        hash: u64,
        key: &KeyRef<'_>,
        open: Option<Mode>,
    ) -> Result<(u32, &'t Entry), Full> {
        let (index, entry) = self.insert(cache, hash, key)?;
        // Claimed: no other can change the word.
        entry.publish(entry.word().released(Mode::Exclusive).open_to(open));
        Ok((index, entry))
    }

    /// Claims an idle entry for the table: from then on only the caller changes it.
    pub(super) fn claim(&self, index: u32) -> bool {
        let entry = self.table.entry(index);
        let seen = entry.word();
        if entry.queue_head.load(Ordering::Relaxed) != NONE {
            return false;
        }
        seen.claimed_for_another_key().is_some_and(|claimed| entry.swap(seen, claimed).is_ok())
    }

    /// A claimed entry leaves the table, for good if its generations are used up.
    pub(super) fn leave(&mut self, cache: &Cache, index: u32) {
        let entry = self.table.entry(index);
        self.unlink(index, entry);
        self.remember_fence(entry);
        self.free_slot_of(index);
        entry.drop_long_key(&self.table.entries, cache);
        if entry.word().has_generations_left() {
            self.table.entries.put(cache, index);
        }
        self.book.entries -= 1;
        self.fit_heads();
    }

    /// Remembers the fence of an entry, for when its key comes back.
    fn remember_fence(&mut self, entry: &Entry) {
        self.book.fence_floor = self.book.fence_floor.max(entry.fence());
    }

    fn link(&self, index: u32, entry: &Entry, hash: u64) {
        let head = self.table.head(self.index, self.shard, hash);
        entry.next.store(head.load(Ordering::Relaxed), Ordering::Release);
        // Release pairs with the Acquire of `look_up`.
        head.store(index, Ordering::Release);
    }

    /// Takes the entry out of its chain, if it is in it.
    fn unlink(&self, index: u32, entry: &Entry) {
        let mut place = self.table.head(self.index, self.shard, entry.hash());
        loop {
            let here = place.load(Ordering::Relaxed);
            if here == NONE {
                return;
            }
            if here == index {
                place.store(entry.next.load(Ordering::Relaxed), Ordering::Release);
                return;
            }
            place = &self.table.entry(here).next;
        }
    }

    /// Calls `visit` with every entry of the shard.
    pub(crate) fn for_each(&self, mut visit: impl FnMut(u32, &'t Entry)) {
        self.for_each_head(|head| {
            let mut index = head.load(Ordering::Relaxed);
            while index != NONE {
                let entry = self.table.entry(index);
                crate::sync::step();
                // Read first: the visitor may move the entry.
                let next = entry.next.load(Ordering::Relaxed);
                visit(index, entry);
                index = next;
            }
        });
    }

    fn for_each_head(&self, mut visit: impl FnMut(&AtomicU32)) {
        match self.shard.log2_heads.load(Ordering::Relaxed) {
            0 => self.shard.heads.iter().for_each(visit),
            log2 => (0..1 << log2).for_each(|position| visit(self.table.outer_head(self.index, position))),
        }
    }

    /// Adapts the number of chains. Look-ups that miss a moving entry go to the mutex.
    fn fit_heads(&mut self) {
        let now = self.shard.log2_heads.load(Ordering::Relaxed);
        let entries = self.book.entries;
        let wanted = match now {
            _ if cfg!(loom) => return,
            0 if entries > LEAVE_INLINE_AT => FIRST_OUTER_LOG2,
            0 => return,
            _ if entries <= RETURN_INLINE_AT => 0,
            log2 if entries > 1 << log2 && log2 < self.table.max_log2_heads => log2 + 1,
            _ => return,
        };
        let mut all = NONE;
        let mut last: Option<&Entry> = None;
        self.for_each_head(|head| {
            // All chains strung together through `next`; look-ups see longer chains for a moment.
            let first = head.load(Ordering::Relaxed);
            if first == NONE {
                return;
            }
            match last {
                None => all = first,
                Some(entry) => entry.next.store(first, Ordering::Release),
            }
            let mut index = first;
            while index != NONE {
                let entry = self.table.entry(index);
                last = Some(entry);
                index = entry.next.load(Ordering::Relaxed);
            }
            head.store(NONE, Ordering::Release);
        });
        self.shard.log2_heads.store(wanted, Ordering::Relaxed);
        let mut index = all;
        while index != NONE {
            let entry = self.table.entry(index);
            let next = entry.next.load(Ordering::Relaxed);
            self.link(index, entry, entry.hash());
            index = next;
        }
        if wanted == 0 {
            let first = self.index << self.table.max_log2_heads;
            // The heads of a shard begin and end with pages, because it has at least 1024 of four bytes.
            self.table.heads.give_back(first, 1024.max(1 << now));
        }
    }

    pub(crate) fn entries(&self) -> u32 {
        self.book.entries
    }

    /// Returns its number.
    pub(crate) fn index(&self) -> u32 {
        self.index
    }

    pub(crate) fn counts(&mut self) -> &mut ShardCounts {
        &mut self.book.counts
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn release(shard: &mut LockedShard<'_>, cache: &Cache, index: u32) {
        let entry = shard.table.entry(index);
        let word = entry.word();
        entry.swap(word, word.released(Mode::Exclusive)).unwrap();
        if word.is_to_evict() {
            shard.keep_or_evict(cache, index);
        }
    }

    #[test]
    fn zero_bytes_are_an_unlocked_mutex() {
        let region = Region::<Shard>::reserve(1).unwrap();
        let book = region.get(0).book.try_lock().expect("unlocked");
        assert_eq!(book.entries, 0);
        drop(book);
        assert!(region.get(0).book.try_lock().is_some());
    }

    #[test]
    fn idle_entries_are_bounded_and_held_ones_stay() {
        let table = Table::reserve(1, 100_000).unwrap();
        let cache = Cache::default();
        let mut shard = table.lock(0);
        let names: Vec<String> = (0..5000).map(|i| format!("object-{i}")).collect();
        let hash = |i: usize| (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let held: Vec<u32> =
            (0..names.len()).map(|i| shard.insert(&cache, hash(i), &KeyRef::new("b", &names[i])).unwrap().0).collect();
        assert_eq!(shard.entries(), 5000);
        for (i, name) in names.iter().enumerate() {
            assert_eq!(shard.find(hash(i), &KeyRef::new("b", name)).unwrap().0, held[i]);
            assert_eq!(table.look_up(hash(i)).unwrap().0, held[i]);
        }
        for index in &held[..2500] {
            release(&mut shard, &cache, *index);
        }
        assert!(shard.entries() <= 2500 + WARM as u32, "{} entries", shard.entries());
        for index in &held[2500..] {
            release(&mut shard, &cache, *index);
        }
        assert!(shard.entries() <= WARM as u32);
        let mut idle = 0;
        shard.for_each(|_, entry| {
            assert!(entry.word().is_free());
            idle += 1;
        });
        assert_eq!(idle, shard.entries());
    }

    #[test]
    fn insert_reuses_an_idle_entry() {
        let table = Table::reserve(1, 1000).unwrap();
        let cache = Cache::default();
        let mut shard = table.lock(0);
        for i in 0..10_000_u64 {
            let name = i.to_le_bytes();
            let (index, entry) = shard.insert(&cache, i + 1, &KeyRef::new("b", &name)).unwrap();
            entry.raise_fence();
            let fence = entry.fence();
            assert!(fence > i, "fences grow across re-use: {fence} after {i}");
            release(&mut shard, &cache, index);
            assert!(shard.entries() <= WARM as u32);
        }
        assert!(shard.find(1, &KeyRef::new("b", &0_u64.to_le_bytes())).is_none());
        shard.evict_idle(&cache);
        assert_eq!(shard.entries(), 0);
    }

    #[test]
    fn entry_without_generations_is_retired() {
        let table = Table::reserve(1, 1000).unwrap();
        let cache = Cache::default();
        let mut shard = table.lock(0);
        let (worn, entry) = shard.insert(&cache, 1, &KeyRef::new("b", "worn")).unwrap();
        let last = Word::unkeyed(u64::MAX);
        entry.publish(last);
        release(&mut shard, &cache, worn);
        for i in 2..50 {
            let name = format!("object-{i}");
            assert_ne!(shard.insert(&cache, i, &KeyRef::new("b", &name)).unwrap().0, worn);
        }
        assert!(shard.find(1, &KeyRef::new("b", "worn")).is_none());
        assert_eq!(entry.word(), last, "a look-up that slept all the while cannot take it");
    }
}
