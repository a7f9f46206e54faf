//! What callers ask of a grant or of a key, and what they do with a detached grant.

use super::core::Core;
use super::release::no_longer_held;
use crate::error::LockError;
use crate::hold::{Grant, Standing};
use crate::key::ObjectKey;
use crate::mode::Mode;
use crate::request::LockRequest;

impl Core {
    /// What a grant stands for.
    pub(crate) fn key_and_mode(&self, grant: Grant) -> Result<(ObjectKey, Mode), LockError> {
        if self.is_forked() {
            return Err(LockError::Forked);
        }
        let (_shard, held) = self.lock_shard_of_hold(grant)?;
        Ok((self.table.entry(held.entry).key(self.table.arena()), held.mode))
    }

    /// The number of a grant's hold; see `LockGuard::fence`.
    pub(crate) fn fence(&self, grant: Grant) -> Result<u64, LockError> {
        if self.is_forked() {
            return Err(LockError::Forked);
        }
        let (_shard, held) = self.lock_shard_of_hold(grant)?;
        Ok(self.table.entry(held.entry).fence())
    }

    /// Returns whether the key is held now, or in its lock delay.
    pub(crate) fn is_locked(&self, request: &LockRequest<'_>) -> Result<bool, LockError> {
        if self.is_forked() {
            return Err(LockError::Forked);
        }
        let hash = self.hash(&request.key);
        let mut shard = self.lock_shard(hash);
        let Some((index, entry)) = shard.find(hash, &request.key) else { return Ok(false) };
        shard.unbias(index, entry);
        let word = entry.word();
        Ok(word.is_exclusive() || word.readers() > 0)
    }

    /// Whether the exclusive hold with this number has the key now.
    pub(crate) fn is_current(&self, request: &LockRequest<'_>, fence: u64) -> Result<bool, LockError> {
        if self.is_forked() {
            return Err(LockError::Forked);
        }
        let hash = self.hash(&request.key);
        let shard = self.lock_shard(hash);
        let Some((index, entry)) = shard.find(hash, &request.key) else { return Ok(false) };
        // Only what is on record has its number; a holder that is not yet does not know its own.
        let on_record = self.exclusive_holder(index, entry).is_some();
        Ok(on_record && entry.fence() == fence)
    }

    /// Acts on a detached hold as its guard would. Meanwhile the grant is adopted.
    pub(crate) fn as_guard<T>(&self, grant: Grant, act: impl FnOnce() -> Result<T, LockError>) -> Result<T, LockError> {
        self.adopt(grant)?;
        let done = act();
        self.detach(grant);
        done
    }

    /// Has `listener` called once when the hold is lost, or now if it was.
    ///
    /// An error if it is not held.
    pub(crate) fn on_lost(&self, grant: Grant, listener: super::loss::Listener) -> Result<(), LockError> {
        if self.is_forked() {
            return Err(LockError::Forked);
        }
        if !self.records.could_be(grant.index()) {
            return Err(no_longer_held(grant, Standing::Unknown));
        }
        let record = self.records.get(grant.index());
        let added = self.losses.add(grant, listener, || record.mark_watched(grant), |grant| self.is_void(grant));
        match (added, record.lost(grant)) {
            (Ok(()), _) => Ok(()),
            (Err(late), Some(why)) => {
                late.notify(why);
                Ok(())
            }
            (Err(_), None) => Err(no_longer_held(grant, Standing::Unknown)),
        }
    }

    /// Whether a grant is held no more, and was not lost.
    pub(super) fn is_void(&self, grant: Grant) -> bool {
        !self.records.could_be(grant.index()) || self.records.get(grant.index()).standing(grant) == Standing::Unknown
    }
}
