//! The id of a lock, or the place where it was made, in one word.

use crate::id::LockId;
use crate::sync::atomic::{AtomicPtr, Ordering};
use std::fmt;
use std::marker::PhantomData;
use std::panic::Location;
use std::ptr::NonNull;

/// Set in the address of an id; both kinds of value lie at even addresses.
const NAMED: usize = 1;

const _: () = assert!(align_of::<Location<'_>>() > NAMED && LockId::ALIGN > NAMED);

/// See the module.
pub(super) struct Identity {
    /// From `LockId::into_raw` with `NAMED` set, or a `Location` without it.
    ///
    /// An id may replace the location once.
    pointer: AtomicPtr<()>,
    owned: PhantomData<(LockId, &'static Location<'static>)>,
}

// SAFETY: both kinds of value may be sent and shared.
unsafe impl Send for Identity {}
// SAFETY: as above.
unsafe impl Sync for Identity {}

impl Identity {
    pub(super) fn new(id: Option<LockId>, made_at: &'static Location<'static>) -> Self {
        let pointer = match id {
            Some(id) => named(id),
            None => NonNull::from(made_at).cast(),
        };
        Self { pointer: AtomicPtr::new(pointer.as_ptr()), owned: PhantomData }
    }

    /// Gives a lock an id that has none. The first one stays.
    pub(super) fn name(&self, id: &LockId) {
        let place = self.pointer.load(Ordering::Relaxed);
        if id_of(place).is_some() {
            return;
        }
        let new = named(id.clone());
        // Pairs with: the load in `id`, which reads the names behind the pointer.
        if self.pointer.compare_exchange(place, new.as_ptr(), Ordering::Release, Ordering::Relaxed).is_err()
            && let Some(unused) = id_of(new.as_ptr())
        {
            // SAFETY: made above, and shown to no other thread.
            drop(unsafe { LockId::from_raw(unused) });
        }
    }

    /// Returns the id, or one that says where the lock was made.
    pub(super) fn id(&self) -> LockId {
        // Pairs with: the exchange in `name`.
        let pointer = self.pointer.load(Ordering::Acquire);
        match id_of(pointer) {
            // SAFETY: from `into_raw`, and owned by this for as long as it lives.
            Some(id) => unsafe { LockId::clone_raw(id) },
            // SAFETY: without the mark it is the location, which lives as long as the program.
            None => LockId::at(unsafe { &*pointer.cast::<Location<'_>>() }),
        }
    }
}

fn named(id: LockId) -> NonNull<()> {
    id.into_raw().map_addr(|address| address | NAMED)
}

/// Returns the pointer of an id. `None` if it is that of a location.
fn id_of(pointer: *mut ()) -> Option<NonNull<()>> {
    let id = NonNull::new(pointer.map_addr(|address| address & !NAMED))?;
    (pointer.addr() & NAMED != 0).then_some(id)
}

impl Drop for Identity {
    fn drop(&mut self) {
        if let Some(id) = id_of(self.pointer.load(Ordering::Acquire)) {
            // SAFETY: from `into_raw`, and dropped once.
            drop(unsafe { LockId::from_raw(id) });
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id().fmt(f)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::panic::Location;

    #[test]
    fn id_is_dropped_with_the_lock() {
        let id = LockId::new("cache.rs", "lru");
        let identity = Identity::new(Some(id.clone()), Location::caller());
        let again = identity.id();
        assert_eq!((&again, id.handles()), (&id, 3));
        drop((identity, again));
        assert_eq!(id.handles(), 1);
    }

    #[test]
    fn first_name_stays() {
        let (first, second) = (LockId::new("cache.rs", "lru"), LockId::new("cache.rs", "fifo"));
        let identity = Identity::new(None, Location::caller());
        identity.name(&first);
        identity.name(&second);
        assert_eq!((identity.id(), second.handles()), (first.clone(), 1));
        drop(identity);
        assert_eq!(first.handles(), 1);
    }

    #[test]
    fn lock_without_an_id_is_named_by_its_place() {
        let place = Location::caller();
        let id = Identity::new(None, place).id();
        assert_eq!((id.file(), id.name()), (place.file(), &*place.line().to_string()));
    }
}
