//! What a manager with a tier knows beside its table: the permits, shard by shard, and the term.
//!
//! The permits of a shard change under the mutex of the shard, which is taken first. The term is read there too: a thread
//! that changes it goes through all shards afterwards, so that each entry is seen by one of the two.
//!
//! **A loss is counted.** A thread on the fast path may have swapped the word before the bar, and put its hold on record
//! after the loser looked for holds. So the loser counts a loss after it has barred the words, and before it looks. The
//! thread reads the count before its swap, and again when its hold is on record. If it read the later count before the
//! swap, the swap fails at the bar. Otherwise it sees the later count afterwards, or its hold is found.

use crate::memory::{Region, Vacant};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Barrier, Mutex, MutexGuard};
use crate::tier::permit::{Permit, Present};
use crate::tier::{Fences, PermitId, Term, Tier};
use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasherDefault;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// The permits of a shard, by the index of their entries.
#[derive(Debug, Default)]
pub(crate) struct Permits {
    by_entry: HashMap<u32, Permit, BuildHasherDefault<IndexHasher>>,
    /// In the order in which they were granted; some that have ended, too.
    granted: VecDeque<(u32, PermitId)>,
}

impl Permits {
    /// Notes a permit that was granted.
    pub(crate) fn keep(&mut self, index: u32, id: PermitId) {
        self.granted.push_back((index, id));
    }

    /// Permits to look at, because there are more than are kept.
    ///
    /// The caller notes those in use again.
    fn take_oldest(&mut self) -> Vec<(u32, PermitId)> {
        let over = self.granted.len().saturating_sub(KEPT_A_SHARD).min(LOOKS);
        self.granted.drain(..over).collect()
    }
}

impl Deref for Permits {
    type Target = HashMap<u32, Permit, BuildHasherDefault<IndexHasher>>;

    fn deref(&self) -> &Self::Target {
        &self.by_entry
    }
}

impl DerefMut for Permits {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.by_entry
    }
}

/// Spreads indexes, which no one outside chooses.
#[derive(Debug, Default)]
pub(crate) struct IndexHasher(u64);

impl std::hash::Hasher for IndexHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("indexes are hashed")
    }

    fn write_u32(&mut self, index: u32) {
        self.0 = u64::from(index).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    }
}

/// The first number behind the fences of an entry's permit.
#[derive(Debug)]
#[repr(transparent)]
struct FenceEnd(AtomicU64);

#[cfg(not(loom))]
// SAFETY: an integer.
unsafe impl Vacant for FenceEnd {}
#[cfg(loom)]
// SAFETY: built by hand under the model checker.
unsafe impl Vacant for FenceEnd {
    fn vacant() -> Self {
        Self(AtomicU64::new(0))
    }
    fn vacate(&self) {}
}

/// Idle permits that a shard keeps.
const KEPT_A_SHARD: usize = 8;
/// Kept permits that are looked at for each new one.
const LOOKS: usize = 2;
/// Bits of a permit's number that name its entry.
const INDEX_BITS: u32 = 26;
const INDEX: u64 = (1 << INDEX_BITS) - 1;

/// See the module.
#[derive(Debug)]
pub(crate) struct Tiered {
    /// None once the manager is being dropped.
    tier: Option<Arc<dyn Tier>>,
    /// Of each shard.
    ///
    /// A permit changes under the mutex of its shard as well. Off that mutex, threads change only the queue of what was
    /// granted, in `to_look_at` and `trim_permits`.
    permits: Box<[Mutex<Permits>]>,
    /// By the entry's index.
    ///
    /// Set under the mutex of its shard, while no thread holds the lock exclusively.
    fence_ends: Region<FenceEnd>,
    /// Asks that were made.
    asks: AtomicU64,
    /// The present term and one, or 0 before the first.
    term: AtomicU64,
    /// The last term that is over and one, or 0.
    over: AtomicU64,
    renewals: AtomicU64,
    losses: AtomicU64,
    /// Between a loss and a hold that is taken.
    barrier: Barrier,
    /// As the manager's, which is off for good where there is a tier.
    serves_fast: AtomicBool,
}

impl Tiered {
    pub(crate) fn new(tier: Arc<dyn Tier>, shards: u32, entries: u32) -> std::io::Result<Self> {
        Ok(Self {
            tier: Some(tier),
            permits: (0..shards).map(|_| Mutex::new(Permits::default())).collect(),
            fence_ends: Region::reserve(entries)?,
            asks: AtomicU64::new(0),
            term: AtomicU64::new(0),
            over: AtomicU64::new(0),
            renewals: AtomicU64::new(0),
            losses: AtomicU64::new(0),
            barrier: Barrier::best(),
            serves_fast: AtomicBool::new(false),
        })
    }

    pub(crate) fn tier(&self) -> &dyn Tier {
        self.tier.as_deref().expect("a manager that is used has its tier")
    }

    /// Hands the tier out to be detached, or to be forgotten in a forked child.
    pub(crate) fn take_tier(&mut self) -> Option<Arc<dyn Tier>> {
        self.tier.take()
    }

    /// The permits of a shard.
    ///
    /// The caller holds its mutex, except for the queue of what was granted.
    pub(crate) fn permits(&self, shard: u32) -> MutexGuard<'_, Permits> {
        self.permits[shard as usize].lock()
    }

    pub(crate) fn shards(&self) -> u32 {
        // At most 2^16.
        self.permits.len() as u32
    }

    /// A number for an ask about an entry.
    pub(crate) fn fresh(&self, index: u32) -> PermitId {
        let turn = self.asks.fetch_add(1, Ordering::Relaxed) + 1;
        PermitId::from_raw(turn << INDEX_BITS | u64::from(index)).unwrap_or_else(|| self.fresh(index))
    }

    /// The entry that a permit's number names.
    pub(crate) fn entry_of(id: PermitId) -> u32 {
        // 26 bits.
        (id.to_raw() & INDEX) as u32
    }

    /// What is known of the tier. Exact under the mutex of a shard.
    pub(crate) fn present(&self) -> Present {
        // Acquire. Pairs with: the Release of `begin_term`, and of `end_term`.
        let (term, over) = (self.term.load(Ordering::Acquire), self.over.load(Ordering::Acquire));
        Present { term: (term > over).then(|| Term(term - 1)), renewals: self.renewals.load(Ordering::Acquire) }
    }

    /// The present term or the last one, if there was any.
    pub(crate) fn last_term(&self) -> Option<Term> {
        self.term.load(Ordering::Acquire).checked_sub(1).map(Term)
    }

    /// Notes that a term has begun, or that the tier can be reached again.
    pub(crate) fn begin_term(&self, term: Term) {
        self.term.fetch_max(term.0.saturating_add(1), Ordering::AcqRel);
        self.renewals.fetch_add(1, Ordering::AcqRel);
    }

    /// Notes that a term is over.
    pub(crate) fn end_term(&self, term: Term) {
        self.over.fetch_max(term.0.saturating_add(1), Ordering::AcqRel);
    }

    /// Counts a loss, after words were barred for it and before holds are looked for.
    pub(crate) fn count_loss(&self) {
        self.losses.fetch_add(1, Ordering::SeqCst);
        // Pairs with: the half in `losses_after`.
        self.barrier.heavy();
    }

    /// How many losses there were, before a lock is taken.
    #[inline]
    pub(crate) fn losses_before(&self) -> u64 {
        // Acquire. Pairs with: `count_loss`. Who reads the later count finds the word barred.
        self.losses.load(Ordering::Acquire)
    }

    /// How many losses there were, after a hold was put on record.
    #[inline]
    pub(crate) fn losses_after(&self) -> u64 {
        // Pairs with: the half in `count_loss`. Either the loser finds the hold on record, or this finds the loss.
        self.barrier.light();
        self.losses.load(Ordering::Relaxed)
    }

    /// Whether the exclusive hold with this fence has the last one of its permit.
    #[inline]
    pub(crate) fn is_last_fence(&self, index: u32, fence: u64) -> bool {
        fence.saturating_add(1) >= self.fence_ends.get(index).0.load(Ordering::Relaxed)
    }

    /// Whether a fence is none of the entry's permit.
    #[inline]
    pub(crate) fn is_beyond_fences(&self, index: u32, fence: u64) -> bool {
        fence >= self.fence_ends.get(index).0.load(Ordering::Relaxed)
    }

    /// Sets the fences of an entry's permit. The caller owns the shard.
    pub(crate) fn set_fences(&self, index: u32, fences: Fences) {
        self.fence_ends.get(index).0.store(fences.end(), Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn serves_fast(&self) -> bool {
        self.serves_fast.load(Ordering::Relaxed)
    }

    pub(crate) fn set_serves_fast(&self, serves: bool) {
        self.serves_fast.store(serves, Ordering::Relaxed);
    }

    /// Permits of a shard to look at, because it has more than it keeps.
    ///
    /// Off every mutex.
    pub(crate) fn to_look_at(&self, shard: u32) -> Vec<(u32, PermitId)> {
        // Alone: what is in the queue is looked up again under the mutex of the shard.
        self.permits(shard).take_oldest()
    }
}
