//! Batches: many locks in one request.
//!
//! First all of them are tried in the order given, without waiting. That needs no sorting, because only waiters can
//! deadlock. If one is held, the locks that were taken are given back. Then the batch is sorted and merged, and the
//! request waits for one lock after the other in the order of the keys.

use super::core::Core;
use super::local::Local;
use super::wanted::Wanted;
use crate::hold::{FirstState, Grant, SESSION};
use crate::key::KeyRef;
use crate::memory::NONE;
use crate::mode::Mode;
use crate::request::BatchLockRequest;

/// Larger batches are sorted first: the fast path compares each key with each.
const SMALL_BATCH: usize = 32;

impl Core {
    /// All of a small batch, if all are free and no key is named twice.
    ///
    /// It waits for nothing, so that a task can call it.
    pub(crate) fn batch_fast(&self, local: &Local, batch: &BatchLockRequest<'_>) -> Option<Vec<Grant>> {
        if batch.wanted.len() > SMALL_BATCH {
            return None;
        }
        let owner = self.owner_number(local, batch.owner);
        let pinned = batch.pins_of == Some(self.identity());
        let mut hashes = [0_u64; SMALL_BATCH];
        let mut grants = Vec::with_capacity(batch.wanted.len());
        for (position, (key, mode, entry)) in batch.wanted.iter().enumerate() {
            let state = FirstState::new(*mode, batch.priority, false);
            let by_pin =
                if pinned && *entry != NONE { self.try_pinned_entry(*entry, *mode, state, owner) } else { None };
            let (granted, hash) = match by_pin {
                Some(grant) => (Ok(grant), self.table.entry(*entry).hash()),
                None => {
                    let tried = self.try_fast(*key, *mode, state, owner);
                    (tried.granted(), tried.hash())
                }
            };
            let grant = match granted {
                Ok(grant) => {
                    if owner & SESSION != 0 {
                        self.note_hold_and_look(owner, hash, grant);
                    }
                    Some(grant)
                }
                Err(_) => self.one_slow(local, (key, hash, *mode), owner, batch.priority),
            };
            let Some(grant) = grant else { return self.give_back(grants) };
            grants.push(grant);
            // A key named twice is to be one hold. The lock itself refuses the second only beside an exclusive one.
            if hashes[..position].contains(&hash) {
                return self.give_back(grants);
            }
            hashes[position] = hash;
        }
        Some(grants)
    }

    #[cold]
    #[inline(never)]
    fn one_slow(
        &self,
        local: &Local,
        (key, hash, mode): (&KeyRef<'_>, u64, Mode),
        owner: u32,
        priority: u8,
    ) -> Option<Grant> {
        let wanted = Wanted { key: *key, hash, mode, owner, priority, detached: false, lease: 0 };
        if let Ok(grant) = self.acquire_fast(local, &wanted) {
            self.note_hold_and_look(owner, hash, grant);
            return Some(grant);
        }
        // A tier would be asked for one key after the other, and its answers waited for.
        if self.tiered().is_some() { None } else { self.try_slow(local, wanted).ok() }
    }

    #[cold]
    fn give_back(&self, grants: Vec<Grant>) -> Option<Vec<Grant>> {
        grants.into_iter().rev().for_each(|grant| {
            self.release_unseen(grant);
        });
        None
    }
}

/// Returns the order in which a batch waits for its locks: sorted by key.
///
/// Each key is there once, in the strongest mode asked for.
pub(crate) fn in_order<'k>(batch: &BatchLockRequest<'k>) -> Vec<(KeyRef<'k>, Mode)> {
    let mut wanted: Vec<_> = batch.wanted.iter().map(|(key, mode, _)| (*key, *mode)).collect();
    // The stronger mode of a key first, so that it is the one that stays.
    wanted.sort_unstable_by(|(a, mode_a), (b, mode_b)| a.cmp(b).then(mode_b.cmp(mode_a)));
    wanted.dedup_by(|later, kept| later.0 == kept.0);
    wanted
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::error::LockError;
    use crate::tier::{Answer, Ask, Effort, PermitId, Term, Tier, TierError, TierEvents};
    use crate::{FastObjectLockManager, LockConfig, LockRequest};
    use std::future::Future;
    use std::pin::pin;
    use std::sync::{Arc, OnceLock};
    use std::task::{Context, Waker};
    use std::time::Duration;

    /// Leaves asks without an answer.
    ///
    /// It may refuse those that do not wait.
    #[derive(Debug, Default)]
    struct Silent {
        refuses: bool,
        events: OnceLock<Arc<dyn TierEvents>>,
        asked: OnceLock<(PermitId, Effort)>,
    }

    impl Tier for Silent {
        fn attach(&self, events: Arc<dyn TierEvents>) -> Result<Term, TierError> {
            let _ = self.events.set(events);
            Ok(Term(0))
        }
        fn ask(&self, asks: &[Ask<'_>], effort: Effort, answers: &mut [Answer]) {
            let _ = self.asked.set((asks[0].id, effort));
            if self.refuses && effort == Effort::AllOrNone {
                answers.fill(Answer::Busy);
            }
        }
        fn withdraw(&self, id: PermitId) {
            self.events.get().expect("attached").withdrawn(id);
        }
        fn give_back(&self, _: PermitId) {}
        fn downgrade(&self, _: PermitId) {}
        fn upgrade(&self, _: PermitId, _: Term, _: Effort) -> Answer {
            Answer::Pending
        }
        fn detach(&self) {}
    }

    fn with_silent_tier(refuses: bool) -> (FastObjectLockManager, Arc<Silent>) {
        let tier = Arc::new(Silent { refuses, ..Silent::default() });
        (FastObjectLockManager::with_tier(LockConfig::default(), Arc::clone(&tier) as _).unwrap(), tier)
    }

    #[test]
    fn batch_waits_for_tier_with_its_deadline() {
        let (locks, tier) = with_silent_tier(true);
        let batch = || BatchLockRequest::new("o").add_write_lock("b", "x").add_read_lock("b", "y");
        {
            let mut future = pin!(locks.acquire_locks_batch(batch()));
            assert!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            assert_eq!(tier.asked.get().map(|asked| asked.1), Some(Effort::Queue), "a try would block this thread");
        }
        let late = locks.acquire_locks_batch_blocking(batch().timeout(Duration::from_millis(20))).unwrap_err();
        assert!(matches!(late, LockError::Batch { cause, .. } if matches!(*cause, LockError::Timeout { .. })));
    }

    #[test]
    fn future_without_time_waits_for_tier_alone() {
        let (locks, tier) = with_silent_tier(false);
        let write = LockRequest::write(("b", "x")).timeout(Duration::ZERO);
        let mut future = pin!(locks.lock(write).into_future());
        let mut context = Context::from_waker(Waker::noop());
        assert!(future.as_mut().poll(&mut context).is_pending());
        tier.events.get().unwrap().answered(tier.asked.get().expect("it asked").0, Answer::Busy);
        let std::task::Poll::Ready(answer) = future.as_mut().poll(&mut context) else { panic!("it was refused") };
        assert!(matches!(answer, Err(LockError::Timeout { .. })), "{answer:?}");
        assert_eq!(locks.get_metrics().shard_metrics.timeouts, 1);
    }

    #[test]
    fn in_order_merges_keys_by_strongest_mode() {
        let batch = BatchLockRequest::new("o")
            .add_read_lock("b", "y")
            .add_write_lock("b", "x")
            .add_write_lock("b", "y")
            .add_read_lock("b", "x")
            .add_read_lock("a", "z")
            .add_read_lock("a", "z");
        let expected = vec![
            (KeyRef::new("a", "z"), Mode::Shared),
            (KeyRef::new("b", "x"), Mode::Exclusive),
            (KeyRef::new("b", "y"), Mode::Exclusive),
        ];
        assert_eq!(in_order(&batch), expected);
    }
}
