//! What a tier says, as it reaches the engine: see [`crate::tier::TierEvents`].
//!
//! An event finds its entry by the number of the permit. It is out of date if the entry's permit has another number, or is
//! gone; the state of the permit decides what is left of it.

use super::core::Core;
use super::tiered::Tiered;
use crate::error::LockError;
use crate::mode::Mode;
use crate::tier::permit::Permit;
use crate::tier::{Answer, PermitId, Term, Tier, TierError, TierEvents};
use std::cell::Cell;
use std::sync::{Arc, Weak};

thread_local! {
    /// Events that this thread is within.
    static WITHIN: Cell<u32> = const { Cell::new(0) };
}

/// The manager as its tier knows it.
#[derive(Debug)]
pub(crate) struct TierLink(Weak<Core>);

impl TierLink {
    /// Acts on the manager, if it is still there and not another process's.
    fn with(&self, act: impl FnOnce(&Core, &Tiered)) {
        let Some(core) = self.0.upgrade() else { return };
        WITHIN.with(|within| within.set(within.get() + 1));
        if let Some(tiered) = core.tiered()
            && !core.is_forked()
        {
            act(&core, tiered);
        }
        // Perhaps the last one who knew it.
        drop(core);
        WITHIN.with(|within| within.set(within.get() - 1));
    }

    /// Changes the permit of this number, and does what follows.
    fn change(&self, id: PermitId, change: impl FnOnce(&mut Permit, u64)) {
        self.with(|core, tiered| {
            let index = Tiered::entry_of(id);
            let Some((shard, entry, hash)) = core.lock_permitted(tiered, index, |permit| permit.id() == id) else {
                return;
            };
            let now = core.now();
            if let Some(permit) = tiered.permits(shard.index()).get_mut(&index) {
                change(permit, now);
            }
            core.grant_waiters_and_unlock(core.local(), shard, index, entry, hash, None);
        });
    }
}

impl TierEvents for TierLink {
    fn answered(&self, id: PermitId, answer: Answer) {
        self.with(|core, tiered| {
            let index = Tiered::entry_of(id);
            let Some((mut shard, entry, hash)) = core.lock_permitted(tiered, index, |permit| permit.id() == id) else {
                if let Answer::Granted { previous_died: true, .. } = answer {
                    // Its loss came first, and another permit or none has its place.
                    tiered.tier().death_unreported(id);
                }
                return;
            };
            let ended = core.take_answer(tiered, &mut shard, (index, entry), id, answer);
            core.grant_waiters_and_unlock(core.local(), shard, index, entry, hash, None);
            core.deliver_ended(ended);
        });
    }

    fn withdrawn(&self, id: PermitId) {
        self.change(id, |permit, _| permit.withdrawn(id));
    }

    fn recalled(&self, id: PermitId, wanted: Mode) {
        self.change(id, |permit, now| permit.recall(id, wanted, now));
    }

    fn lost(&self, id: PermitId) {
        self.with(|core, tiered| core.lose_permit(tiered, id));
    }

    fn all_lost(&self, over: Term) {
        self.with(|core, tiered| core.lose_term(tiered, over));
    }

    fn renewed(&self, term: Term) {
        self.with(|core, tiered| core.begin_term(tiered, term));
    }
}

impl Core {
    /// A manager of these settings whose keys are shared through a tier.
    pub(crate) fn shared_through(
        config: crate::config::LockConfig,
        tier: Arc<dyn Tier>,
    ) -> Result<Arc<Self>, LockError> {
        let core = Self::shared_with(config, Some(Arc::clone(&tier)))?;
        let first =
            tier.attach(Arc::new(TierLink(Arc::downgrade(&core)))).map_err(|error| LockError::Tier { error })?;
        core.tiered().into_iter().for_each(|tiered| tiered.begin_term(first));
        Ok(core)
    }

    /// What a request that does not wait is answered while the tier has no term.
    pub(crate) fn without_term() -> LockError {
        LockError::Tier { error: TierError::no_term() }
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        let is_forked = self.is_forked();
        let Some(tier) = self.tiered.as_deref_mut().and_then(Tiered::take_tier) else { return };
        if is_forked {
            // Its threads are the parent's.
            std::mem::forget(tier);
        } else if WITHIN.with(Cell::get) > 0 {
            // On a thread of the tier's own, which it is about to wait for.
            let _ = std::thread::Builder::new().name("keylatch-detach".into()).spawn(move || tier.detach());
        } else {
            tier.detach();
        }
    }
}
