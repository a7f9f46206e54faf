//! Keys that are pinned: their entries stay in the table, held or idle.
//!
//! A pinned entry keeps its key, so a request with the pin needs neither hash nor look-up nor comparison: see `try_pinned` in
//! [`super::fast`]. Whatever that does not serve is asked for by key, like any other request, and finds that entry.

use super::core::Core;
use crate::error::LockError;
use crate::key::KeyRef;
use crate::table::{Full, PackedKey, Pin};

impl Core {
    /// Pins a key: its entry stays in the table until `unpin`.
    pub(crate) fn pin(&self, key: &KeyRef<'_>) -> Result<Pin, LockError> {
        self.service()?;
        self.check_key(key)?;
        let (hash, local) = (self.hash(key), self.local());
        let mut made_room = false;
        loop {
            let mut shard = self.lock_shard(hash);
            if self.is_closed() {
                return Err(LockError::Closed);
            }
            let pinned = match shard.find(hash, key) {
                Some((entry, _)) => {
                    shard.pin(entry);
                    Ok(entry)
                }
                None => shard.insert_pinned(&local.entries, hash, key, self.opens_to()),
            };
            match pinned {
                Ok(entry) => return Ok(Pin { hash, shard: shard.index(), entry }),
                Err(Full) if made_room => return Err(LockError::TableFull { limit: self.config.max_locks }),
                Err(Full) => {
                    drop(shard);
                    self.reclaim(local);
                    made_room = true;
                }
            }
        }
    }

    /// Hashes a key, and packs it.
    pub(crate) fn prepare(&self, key: &KeyRef<'_>) -> Result<PackedKey, LockError> {
        self.check_key(key)?;
        Ok(PackedKey::new(key, self.hash(key)))
    }

    /// Ends a pin.
    pub(crate) fn unpin(&self, pin: &Pin) {
        // In a forked child the mutex may have been held by a thread that is not here.
        if !self.is_forked() {
            self.lock_shard(pin.hash).unpin(&self.local().entries, pin.entry);
        }
    }
}
