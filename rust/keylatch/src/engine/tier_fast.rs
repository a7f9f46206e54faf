//! The fast path of a manager with a tier: as the other one, and what the word cannot say.
//!
//! The word's bars keep it from modes that the process has no permit for. After the swap three things are left to look
//! at: whether the hold took the last fence of the permit, whether permits were lost meanwhile, and whether the tier
//! vouches for them by the clock.

use super::core::Core;
use super::fast::{ABSENT, Missed, OTHER, SHORT, Tried};
use super::local::Local;
use super::tiered::Tiered;
use super::wanted::Wanted;
use crate::hold::{FirstState, Grant};
use crate::key::KeyRef;
use crate::mode::Mode;

impl Core {
    /// As `try_fast`, where there is a tier, or where the fast path is closed.
    #[inline(never)]
    pub(super) fn try_tiered<const EXCLUSIVE: bool>(&self, bucket: &[u8], object: &[u8], state: u64) -> Tried {
        let mode = if EXCLUSIVE { Mode::Exclusive } else { Mode::Shared };
        let key = KeyRef::new(bucket, object);
        let hash = self.hash(&key);
        let raw = match self.local_at_hand() {
            Some(local) if bucket.len().max(object.len()) <= SHORT => {
                self.take_tiered(local, &key, (mode, hash, state))
            }
            _ => OTHER,
        };
        Tried::new(raw, hash)
    }

    /// As `acquire_fast`, where there is a tier, or where the fast path is closed.
    #[inline(never)]
    pub(crate) fn acquire_fast_tiered(&self, local: &Local, wanted: &Wanted<'_>) -> Result<Grant, Missed> {
        let Wanted { key, hash, mode, owner, priority, detached, .. } = *wanted;
        let state = FirstState::new(mode, priority, detached).with_owner(owner);
        let raw = self.take_tiered(local, &key, (mode, hash, state));
        Tried::new(raw, hash).granted().map_err(|(missed, _)| missed)
    }

    /// Returns the grant's number, or why there is none.
    #[inline(always)]
    fn take_tiered(&self, local: &Local, key: &KeyRef<'_>, (mode, hash, state): (Mode, u64, u64)) -> u64 {
        let Some(tiered) = self.tiered().filter(|tiered| tiered.serves_fast()) else { return OTHER };
        let losses = tiered.losses_before();
        let Some(seen) = self.table.look_up(hash) else { return ABSENT };
        let raw = self.take_seen(local, key, (mode, hash, state), seen);
        let Ok(grant) = Tried::new(raw, hash).granted() else { return raw };
        let (index, entry, _) = seen;
        if mode == Mode::Exclusive && tiered.is_last_fence(index, entry.fence()) {
            // Before the lock can be taken after this hold.
            self.end_with(hash, index, grant);
            // The last holder may have been revoked before it came here; then the word was free until it was barred.
            if tiered.is_beyond_fences(index, entry.fence()) {
                self.give_back_taken(grant);
                return OTHER;
            }
        }
        if tiered.losses_after() == losses && tiered.tier().is_current() {
            return raw;
        }
        if self.is_taken(tiered, (hash, index), grant) { raw } else { OTHER }
    }

    /// Has the permit end with this hold, which took its last fence.
    #[cold]
    fn end_with(&self, hash: u64, index: u32, grant: Grant) {
        let shard = self.lock_shard(hash);
        // A hold that was revoked meanwhile is served no more, and its record may be another hold's.
        if self.is_held(grant) {
            self.note_served(shard.index(), (index, self.table.entry(index)), grant.index(), Mode::Exclusive);
        }
    }

    /// Gives a hold of the fast path up if its permit is lost.
    ///
    /// Returns whether it is held still.
    #[cold]
    #[inline(never)]
    fn is_taken(&self, tiered: &Tiered, (hash, index): (u64, u32), grant: Grant) -> bool {
        let shard = self.lock_shard(hash);
        // While the hold is in the word its entry does not ask for another permit.
        let is_lost = self.has_lost_permit(&shard, index);
        drop(shard);
        if !is_lost && tiered.tier().is_current() {
            return true;
        }
        if is_lost {
            self.give_back_taken(grant);
        } else {
            self.give_up_grant(tiered, grant);
        }
        false
    }
}
