//! The fast path of a manager with a tier: as the other one, and what the word cannot say.
//!
//! The word's bars keep it from modes that the process has no permit for. After the swap three things are left to look
//! at: whether the hold took the last fence of the permit, whether permits were lost meanwhile, and whether the tier
//! vouches for them by the clock.

use super::core::Core;
use super::fast::Missed;
use super::local::Local;
use super::tiered::Tiered;
use super::wanted::Wanted;
use crate::hold::Grant;
use crate::mode::Mode;

impl Core {
    /// As `acquire_fast`, where there is a tier, or where the fast path is closed.
    #[inline(never)]
    pub(crate) fn acquire_fast_tiered(&self, local: &Local, wanted: &Wanted<'_>) -> Result<Grant, Missed> {
        let tiered = self.tiered().filter(|tiered| tiered.serves_fast()).ok_or(Missed::Other)?;
        let losses = tiered.losses_before();
        let seen = self.table.look_up(wanted.hash).ok_or(Missed::Absent)?;
        let grant = self.take_as_seen(local, wanted, seen)?;
        let (index, entry, _) = seen;
        if wanted.mode == Mode::Exclusive && tiered.is_last_fence(index, entry.fence()) {
            // Before the lock can be taken after this hold.
            self.end_with(wanted.hash, index, grant);
            // The last holder may have been revoked before it came here; then the word was free until it was barred.
            if tiered.is_beyond_fences(index, entry.fence()) {
                self.give_back_taken(grant);
                return Err(Missed::Other);
            }
        }
        if tiered.losses_after() == losses && tiered.tier().is_current() {
            return Ok(grant);
        }
        self.check_taken(tiered, (wanted.hash, index), grant)
    }

    /// Has the permit end with this hold, which took its last fence.
    #[cold]
    fn end_with(&self, hash: u64, index: u32, grant: Grant) {
        let shard = self.lock_shard(hash);
        self.note_served(shard.index(), (index, self.table.entry(index)), grant.index(), Mode::Exclusive);
    }

    /// Gives a hold of the fast path up if its permit is lost.
    #[cold]
    #[inline(never)]
    fn check_taken(&self, tiered: &Tiered, (hash, index): (u64, u32), grant: Grant) -> Result<Grant, Missed> {
        let shard = self.lock_shard(hash);
        // While the hold is in the word its entry does not ask for another permit.
        let is_lost = self.has_lost_permit(&shard, index);
        drop(shard);
        if !is_lost && tiered.tier().is_current() {
            return Ok(grant);
        }
        if is_lost {
            self.give_back_taken(grant);
        } else {
            self.give_up_grant(tiered, grant);
        }
        Err(Missed::Other)
    }
}
