//! What most programs write by hand: a `DashMap` from key to a shared lock.
//!
//! Never cleaned, it is quick and keeps every key for ever. Cleaned on release, a key is removed under its shard's
//! lock, and only if the map holds the last reference: a thread that waits or is about to wait holds another, and
//! none can get a new one without the shard's lock.

use std::sync::Arc;

use dashmap::DashMap;
use parking_lot::lock_api::{ArcRwLockReadGuard, ArcRwLockWriteGuard};
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard};

use crate::keys::Key;
use crate::polling::block_on;
use crate::subject::{Exclusive, ExclusiveAsync, Holding, Shared, Subject};

/// A key's shared lock, copied out of the map so that no shard stays locked.
///
/// It would for as long as a thread waits.
#[inline(always)]
fn lock_of<L: Default>(map: &DashMap<String, Arc<L>>, key: Key<'_>) -> Arc<L> {
    if let Some(known) = map.get(key.joined) {
        return Arc::clone(&known);
    }
    Arc::clone(&map.entry(key.joined.to_owned()).or_default())
}

#[inline(always)]
fn clean<L>(map: &DashMap<String, Arc<L>>, key: &str) {
    map.remove_if(key, |_, lock| Arc::strong_count(lock) == 1);
}

type ParkingLotLock = parking_lot::RwLock<()>;
type ParkingLotWrite = ArcRwLockWriteGuard<parking_lot::RawRwLock, ()>;
type ParkingLotRead = ArcRwLockReadGuard<parking_lot::RawRwLock, ()>;

/// `DashMap<String, Arc<parking_lot::RwLock>>`.
pub(crate) struct DashParkingLot<const CLEANED: bool>(DashMap<String, Arc<ParkingLotLock>>);

impl<const CLEANED: bool> Subject for DashParkingLot<CLEANED> {
    const NAME: &'static str = if CLEANED { "dashmap_parking_lot_cleaned" } else { "dashmap_parking_lot" };

    fn create() -> Self {
        Self(DashMap::new())
    }
}

impl<const CLEANED: bool> DashParkingLot<CLEANED> {
    #[inline(always)]
    fn after_release(&self, key: &str) {
        if CLEANED {
            clean(&self.0, key);
        }
    }
}

impl<const CLEANED: bool> Exclusive for DashParkingLot<CLEANED> {
    #[inline(always)]
    fn exclusive(&self, key: Key<'_>, inside: impl FnOnce()) {
        let guard: ParkingLotWrite = lock_of(&self.0, key).write_arc();
        inside();
        drop(guard);
        self.after_release(key.joined);
    }
}

impl<const CLEANED: bool> Shared for DashParkingLot<CLEANED> {
    #[inline(always)]
    fn shared(&self, key: Key<'_>, inside: impl FnOnce()) {
        let guard: ParkingLotRead = lock_of(&self.0, key).read_arc();
        inside();
        drop(guard);
        self.after_release(key.joined);
    }
}

impl<const CLEANED: bool> Holding for DashParkingLot<CLEANED> {
    type Held<'a> = (ParkingLotWrite, &'a str);

    fn hold<'a>(&'a self, key: Key<'a>) -> Self::Held<'a> {
        (lock_of(&self.0, key).write_arc(), key.joined)
    }

    fn give_back<'a>(&'a self, (guard, key): Self::Held<'a>) {
        drop(guard);
        self.after_release(key);
    }
}

type TokioLock = tokio::sync::RwLock<()>;

/// `DashMap<String, Arc<tokio::sync::RwLock>>`, polled without a runtime.
pub(crate) struct DashTokio<const CLEANED: bool>(DashMap<String, Arc<TokioLock>>);

impl<const CLEANED: bool> Subject for DashTokio<CLEANED> {
    const NAME: &'static str = if CLEANED { "dashmap_tokio_cleaned" } else { "dashmap_tokio" };

    fn create() -> Self {
        Self(DashMap::new())
    }
}

impl<const CLEANED: bool> DashTokio<CLEANED> {
    #[inline(always)]
    fn after_release(&self, key: &str) {
        if CLEANED {
            clean(&self.0, key);
        }
    }

    #[inline(always)]
    async fn write(&self, key: Key<'_>) -> OwnedRwLockWriteGuard<()> {
        lock_of(&self.0, key).write_owned().await
    }

    #[inline(always)]
    async fn read(&self, key: Key<'_>) -> OwnedRwLockReadGuard<()> {
        lock_of(&self.0, key).read_owned().await
    }
}

impl<const CLEANED: bool> Exclusive for DashTokio<CLEANED> {
    #[inline(always)]
    fn exclusive(&self, key: Key<'_>, inside: impl FnOnce()) {
        let guard = block_on(self.write(key));
        inside();
        drop(guard);
        self.after_release(key.joined);
    }
}

impl<const CLEANED: bool> Shared for DashTokio<CLEANED> {
    #[inline(always)]
    fn shared(&self, key: Key<'_>, inside: impl FnOnce()) {
        let guard = block_on(self.read(key));
        inside();
        drop(guard);
        self.after_release(key.joined);
    }
}

impl<const CLEANED: bool> ExclusiveAsync for DashTokio<CLEANED> {
    #[inline(always)]
    async fn exclusive_async<'a>(&'a self, key: Key<'a>, inside: impl FnOnce() + 'a) {
        let guard = self.write(key).await;
        inside();
        drop(guard);
        self.after_release(key.joined);
    }
}

impl<const CLEANED: bool> Holding for DashTokio<CLEANED> {
    type Held<'a> = (OwnedRwLockWriteGuard<()>, &'a str);

    fn hold<'a>(&'a self, key: Key<'a>) -> Self::Held<'a> {
        (block_on(self.write(key)), key.joined)
    }

    fn give_back<'a>(&'a self, (guard, key): Self::Held<'a>) {
        drop(guard);
        self.after_release(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::KeySet;

    #[test]
    fn cleaning_keeps_a_key_with_a_waiter() {
        let keys = KeySet::common(1);
        let subject = DashParkingLot::<true>::create();
        let waiter = lock_of(&subject.0, keys.get(0));
        subject.exclusive(keys.get(0), || ());
        assert_eq!(subject.0.len(), 1, "removing it would let two holders in");
        drop(waiter);
        subject.exclusive(keys.get(0), || ());
        assert_eq!(subject.0.len(), 0);
    }
}
