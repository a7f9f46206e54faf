//! The fast path: takes a lock that is plainly free.
//!
//! One hash, one look at the shard, one at a chain, the key compared, one compare-and-swap, and the hold on record in the
//! thread's own memory. Whatever else is the case goes to [`super::acquire`].
//!
//! The functions that callers reach are not inlined and take and return what fits into registers: each has the registers
//! to itself, which is worth more than the call costs.

use super::core::{Core, begin_hold_as};
use super::local::Local;
use super::wanted::Wanted;
use crate::hold::{FirstState, Grant, SESSION};
use crate::key::KeyRef;
use crate::memory::NONE;
use crate::mode::Mode;
use crate::table::{Entry, PackedKey, Pin, Word};

/// What the fast path left to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missed {
    /// The lock was seen held.
    Held,
    /// The key was not seen in the table.
    Absent,
    /// Something else needs the shard.
    NeedsShard,
}

/// The longest part of a key that is hashed and compared without a loop.
pub(super) const SHORT: usize = 32;

/// What came of a try, in two registers.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub(crate) struct Tried {
    /// The grant, or one of the numbers below, which are no grants.
    raw: u64,
    /// The key's hash.
    hash: u64,
}

pub(super) const HELD: u64 = 0;
pub(super) const ABSENT: u64 = 1;
pub(super) const OTHER: u64 = 2;

impl Tried {
    /// What a try came to that gives this number.
    #[inline(always)]
    pub(super) fn new(raw: u64, hash: u64) -> Self {
        Self { raw, hash }
    }

    #[inline(always)]
    pub(crate) fn hash(self) -> u64 {
        self.hash
    }

    /// Returns the grant, or what the fast path left to do and the key's hash.
    #[inline(always)]
    pub(crate) fn granted(self) -> Result<Grant, (Missed, u64)> {
        match self.raw {
            HELD => Err((Missed::Held, self.hash)),
            ABSENT => Err((Missed::Absent, self.hash)),
            OTHER => Err((Missed::NeedsShard, self.hash)),
            raw => Grant::from_raw(raw).ok_or((Missed::Held, self.hash)),
        }
    }
}

impl Core {
    /// Takes the lock if it is plainly free.
    #[inline(always)]
    pub(crate) fn try_fast(&self, key: KeyRef<'_>, mode: Mode, state: FirstState, owner: u32) -> Tried {
        let state = state.with_owner(owner);
        match (mode, key.version()) {
            (Mode::Exclusive, None) => self.try_fast_exclusive(key.bucket(), key.object(), state),
            (Mode::Shared, None) => self.try_fast_shared(key.bucket(), key.object(), state),
            (_, Some(version)) => self.try_fast_versioned(key.bucket(), key.object(), version, mode, state),
        }
    }

    #[inline(never)]
    fn try_fast_exclusive(&self, bucket: &[u8], object: &[u8], state: u64) -> Tried {
        // Before all else, with the arguments where they are: a jump leads on.
        if !self.serves_fast() {
            return self.try_tiered::<true>(bucket, object, state);
        }
        if bucket.len().max(object.len()) > SHORT {
            return self.try_fast_long::<true>(bucket, object, state);
        }
        self.try_hashed(KeyRef::new(bucket, object), Mode::Exclusive, state)
    }

    #[inline(never)]
    fn try_fast_shared(&self, bucket: &[u8], object: &[u8], state: u64) -> Tried {
        if !self.serves_fast() {
            return self.try_tiered::<false>(bucket, object, state);
        }
        if bucket.len().max(object.len()) > SHORT {
            return self.try_fast_long::<false>(bucket, object, state);
        }
        self.try_hashed(KeyRef::new(bucket, object), Mode::Shared, state)
    }

    /// For keys of a length that the others know nothing of.
    #[inline(never)]
    fn try_fast_long<const EXCLUSIVE: bool>(&self, bucket: &[u8], object: &[u8], state: u64) -> Tried {
        let mode = if EXCLUSIVE { Mode::Exclusive } else { Mode::Shared };
        self.try_hashed(KeyRef::new(bucket, object), mode, state)
    }

    #[inline(never)]
    fn try_fast_versioned(&self, bucket: &[u8], object: &[u8], version: &[u8], mode: Mode, state: u64) -> Tried {
        let key = KeyRef::new(bucket, object).with_version(version);
        if !self.serves_fast() {
            return Tried { raw: OTHER, hash: self.hash(&key) };
        }
        self.try_hashed(key, mode, state)
    }

    /// Where the fast path is open.
    #[inline(always)]
    fn try_hashed(&self, key: KeyRef<'_>, mode: Mode, state: u64) -> Tried {
        let hash = self.hash(&key);
        let Some(local) = self.local_at_hand() else { return Tried { raw: OTHER, hash } };
        let Some(seen) = self.table.look_up(hash) else { return Tried { raw: ABSENT, hash } };
        // As in `take_seen`.
        if seen.2.taken_uncontended(mode, NONE).is_none() {
            if mode == Mode::Exclusive || !seen.2.is_biased() {
                return Tried { raw: HELD, hash };
            }
            if key.version().is_some() {
                return Tried { raw: OTHER, hash };
            }
            // With the arguments as they came, so that this needs no room for what is known by now.
            local.keep_found(hash, seen.0);
            return self.try_fast_biased(key.bucket(), key.object(), state);
        }
        if !seen.1.carries(self.table.arena(), &key) {
            return Tried { raw: OTHER, hash };
        }
        Tried { raw: self.take_known(local, (mode, hash, state), seen), hash }
    }

    /// Takes the lock of a pin of this manager's, if it is plainly free.
    ///
    /// The entry keeps its key: there is nothing to look up, and nothing to compare.
    #[inline(never)]
    pub(crate) fn try_pinned<const EXCLUSIVE: bool>(&self, pin: &Pin, state: u64) -> Option<Grant> {
        let mode = if EXCLUSIVE { Mode::Exclusive } else { Mode::Shared };
        let local = self.local_at_hand()?;
        if !self.serves_fast() {
            return None;
        }
        let entry = self.table.entry(pin.entry);
        let seen = entry.word();
        if seen.taken_uncontended(mode, NONE).is_none() {
            return if EXCLUSIVE { None } else { self.try_pinned_biased(local, pin, state) };
        }
        // What is not plain goes on in tail calls, so that this needs no room in memory.
        let Some(record) = local.records.take_spare() else {
            return self.try_pinned_slow::<EXCLUSIVE>(local, pin, state, NONE);
        };
        match self.take_with::<EXCLUSIVE>(local, (pin.entry, entry, pin.shard), state, (seen, record)) {
            Some(grant) => Some(grant),
            None => self.try_pinned_slow::<EXCLUSIVE>(local, pin, state, record),
        }
    }

    /// Takes a lock with a record at hand, if its word is as it was seen.
    ///
    /// The entry's key, at the generation seen, is the right one.
    #[inline(always)]
    fn take_with<const EXCLUSIVE: bool>(
        &self,
        local: &Local,
        (index, entry, shard): (u32, &Entry, u32),
        state: u64,
        (seen, record_index): (Word, u32),
    ) -> Option<Grant> {
        let mode = if EXCLUSIVE { Mode::Exclusive } else { Mode::Shared };
        let (state, owner) = FirstState::and_owner(state);
        let record = self.records.get(record_index);
        record.prefill(index, owner, 0);
        let taken = seen.taken_uncontended(mode, record_index)?;
        entry.swap(seen, taken).ok()?;
        let grant = begin_hold_as((record_index, record), entry, (mode, shard, taken), state);
        local.count_grant(shard);
        Some(grant)
    }

    /// As `try_pinned`, without a record at hand, or after other readers came or went.
    #[inline(never)]
    fn try_pinned_slow<const EXCLUSIVE: bool>(
        &self,
        local: &Local,
        pin: &Pin,
        state: u64,
        mut record: u32,
    ) -> Option<Grant> {
        // With a record, the swap has failed once.
        let mut is_again = record != NONE;
        if record == NONE {
            record = self.records.take(&local.records);
        }
        if record == NONE {
            return None;
        }
        let mode = if EXCLUSIVE { Mode::Exclusive } else { Mode::Shared };
        let entry = self.table.entry(pin.entry);
        loop {
            let seen = entry.word();
            if seen.taken_uncontended(mode, NONE).is_none() {
                self.records.put(&local.records, record);
                return None;
            }
            let at = (pin.entry, entry, pin.shard);
            if let Some(grant) = self.take_with::<EXCLUSIVE>(local, at, state, (seen, record)) {
                if !EXCLUSIVE && is_again && state as u32 & SESSION == 0 {
                    self.note_crowd(local, pin.entry, seen);
                }
                return Some(grant);
            }
            is_again = true;
        }
    }

    /// As `try_fast`, for a key that was packed before.
    #[inline(never)]
    pub(crate) fn try_prepared<const EXCLUSIVE: bool>(&self, packed: &PackedKey, state: u64) -> Option<Grant> {
        let mode = if EXCLUSIVE { Mode::Exclusive } else { Mode::Shared };
        let local = self.local_at_hand()?;
        if !self.serves_fast() {
            return None;
        }
        let (index, entry, seen) = self.table.look_up(packed.hash)?;
        // Before the key, as in `take_seen`.
        if seen.taken_uncontended(mode, NONE).is_none() {
            return if EXCLUSIVE { None } else { self.try_prepared_biased(local, packed, state, (index, seen)) };
        }
        if !entry.carries_packed(packed) {
            return None;
        }
        let at = (index, entry, self.table.shard_of(packed.hash));
        let Some(record) = local.records.take_spare() else {
            return self.try_prepared_slow::<EXCLUSIVE>(local, at, state, seen);
        };
        let grant = self.take_with::<EXCLUSIVE>(local, at, state, (seen, record));
        if grant.is_none() { self.try_prepared_again::<EXCLUSIVE>(local, state, seen, record) } else { grant }
    }

    /// As `try_prepared`, without a record at hand.
    ///
    /// The thread holds another lock.
    #[inline(never)]
    fn try_prepared_slow<const EXCLUSIVE: bool>(
        &self,
        local: &Local,
        at: (u32, &Entry, u32),
        state: u64,
        seen: Word,
    ) -> Option<Grant> {
        let record = self.records.take(&local.records);
        if record == NONE {
            return None;
        }
        let grant = self.take_with::<EXCLUSIVE>(local, at, state, (seen, record));
        if grant.is_none() { self.try_prepared_again::<EXCLUSIVE>(local, state, seen, record) } else { grant }
    }

    /// As `try_prepared`, after other readers came or went.
    #[cold]
    #[inline(never)]
    fn try_prepared_again<const EXCLUSIVE: bool>(
        &self,
        local: &Local,
        state: u64,
        seen: Word,
        record_index: u32,
    ) -> Option<Grant> {
        let record = self.records.get(record_index);
        let entry = self.table.entry(record.filled_for());
        // Before the swap, which proves that it was the key's.
        let shard = self.table.shard_of(entry.hash());
        let Some(taken) = self.swap_in_slow::<EXCLUSIVE>(local, seen, record_index) else {
            self.records.put(&local.records, record_index);
            return None;
        };
        let mode = if EXCLUSIVE { Mode::Exclusive } else { Mode::Shared };
        let (state, _) = FirstState::and_owner(state);
        let grant = begin_hold_as((record_index, record), entry, (mode, shard, taken), state);
        local.count_grant(shard);
        Some(grant)
    }

    /// As `try_pinned`, for an entry that a pin of this manager's keeps.
    #[inline(always)]
    pub(crate) fn try_pinned_entry(&self, entry: u32, mode: Mode, state: FirstState, owner: u32) -> Option<Grant> {
        let hash = self.table.entry(entry).hash();
        let pin = Pin { hash, shard: self.table.shard_of(hash), entry };
        let state = state.with_owner(owner);
        match mode {
            Mode::Exclusive => self.try_pinned::<true>(&pin, state),
            Mode::Shared => self.try_pinned::<false>(&pin, state),
        }
    }

    /// As `try_fast`, for a request whose hash is known.
    #[inline(never)]
    pub(crate) fn acquire_fast(&self, local: &Local, wanted: &Wanted<'_>) -> Result<Grant, Missed> {
        if self.is_forked() {
            return Err(Missed::NeedsShard);
        }
        if !self.serves_fast() {
            return self.acquire_fast_tiered(local, wanted);
        }
        let seen = self.table.look_up(wanted.hash).ok_or(Missed::Absent)?;
        self.take_as_seen(local, wanted, seen)
    }

    /// Takes the lock as a look-up saw it.
    pub(super) fn take_as_seen(
        &self,
        local: &Local,
        wanted: &Wanted<'_>,
        seen: (u32, &Entry, Word),
    ) -> Result<Grant, Missed> {
        let Wanted { key, hash, mode, owner, priority, detached, .. } = *wanted;
        let state = FirstState::new(mode, priority, detached).with_owner(owner);
        let raw = match seen {
            (index, _, word) if mode == Mode::Shared && word.is_biased() => {
                self.take_biased(local, &key, (hash, state), (index, word))
            }
            _ => self.take_seen(local, &key, (mode, hash, state), seen),
        };
        Tried { raw, hash }.granted().map_err(|(missed, _)| missed)
    }

    /// Returns the grant's number, or why there is none.
    #[inline(always)]
    pub(super) fn take_seen(
        &self,
        local: &Local,
        key: &KeyRef<'_>,
        (mode, hash, state): (Mode, u64, u64),
        (index, entry, seen): (u32, &Entry, Word),
    ) -> u64 {
        // Before the key: only a word without W proves, by the swap, what is read of the key after it.
        if seen.taken_uncontended(mode, NONE).is_none() {
            // What is left to do for a biased one is done by `take_as_seen`.
            return if mode == Mode::Shared && seen.is_biased() { OTHER } else { HELD };
        }
        if !entry.carries(self.table.arena(), key) {
            return OTHER;
        }
        self.take_known(local, (mode, hash, state), (index, entry, seen))
    }

    /// Takes the lock of an entry whose key, at the generation seen, is the right one.
    #[inline(always)]
    pub(super) fn take_known(
        &self,
        local: &Local,
        (mode, hash, state): (Mode, u64, u64),
        (index, entry, seen): (u32, &Entry, Word),
    ) -> u64 {
        let record_index = self.records.take(&local.records);
        if record_index == NONE {
            return OTHER;
        }
        let (state, owner) = FirstState::and_owner(state);
        let record = self.records.get(record_index);
        record.prefill(index, owner, 0);
        let Some(taken) = self.swap_in(local, (entry, seen), mode, record_index) else {
            return self.missed_slow(local, record_index);
        };
        let shard = self.table.shard_of(hash);
        let grant = begin_hold_as((record_index, record), entry, (mode, shard, taken), state);
        local.count_grant(shard);
        grant.to_raw()
    }

    #[cold]
    #[inline(never)]
    fn missed_slow(&self, local: &Local, record: u32) -> u64 {
        self.records.put(&local.records, record);
        HELD
    }

    /// Takes the lock as long as nothing but other readers come and go.
    ///
    /// Returns the word as it left it.
    #[inline(always)]
    fn swap_in(&self, local: &Local, (entry, seen): (&Entry, Word), mode: Mode, record: u32) -> Option<Word> {
        let taken = seen.taken_uncontended(mode, record)?;
        match entry.swap(seen, taken) {
            Ok(()) => Some(taken),
            Err(_) if mode == Mode::Shared => self.swap_in_slow::<false>(local, seen, record),
            Err(_) => self.swap_in_slow::<true>(local, seen, record),
        }
    }

    #[cold]
    #[inline(never)]
    fn swap_in_slow<const EXCLUSIVE: bool>(&self, local: &Local, seen: Word, record: u32) -> Option<Word> {
        let mode = if EXCLUSIVE { Mode::Exclusive } else { Mode::Shared };
        let index = self.records.get(record).filled_for();
        let entry = self.table.entry(index);
        let mut now = entry.word();
        // Another reader came or went, or the entry is another key's by now, which its generation says.
        while now.has_generation_of(seen) {
            let taken = now.taken_uncontended(mode, record)?;
            match entry.swap(now, taken) {
                Ok(()) => {
                    // A session's readers would not use slots.
                    if !EXCLUSIVE && self.records.get(record).owner() & SESSION == 0 {
                        self.note_crowd(local, index, taken);
                    }
                    return Some(taken);
                }
                Err(later) => now = later,
            }
        }
        None
    }
}
