//! The id of a lock, or the place where it was made, in one word.

use crate::id::LockId;
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
    pointer: NonNull<()>,
    owned: PhantomData<(LockId, &'static Location<'static>)>,
}

// SAFETY: both kinds of value may be sent and shared.
unsafe impl Send for Identity {}
// SAFETY: as above.
unsafe impl Sync for Identity {}

impl Identity {
    pub(super) fn new(id: Option<LockId>, made_at: &'static Location<'static>) -> Self {
        let pointer = match id {
            Some(id) => id.into_raw().map_addr(|address| address | NAMED),
            None => NonNull::from(made_at).cast(),
        };
        Self { pointer, owned: PhantomData }
    }

    /// Returns the pointer of an id. `None` if the lock has none.
    fn named(&self) -> Option<NonNull<()>> {
        let address = self.pointer.addr().get();
        let id = NonNull::new(self.pointer.as_ptr().map_addr(|address| address & !NAMED))?;
        (address & NAMED != 0).then_some(id)
    }

    /// Returns the id, or one that says where the lock was made.
    pub(super) fn id(&self) -> LockId {
        match self.named() {
            // SAFETY: from `into_raw`, and owned by this.
            Some(id) => unsafe { LockId::clone_raw(id) },
            // SAFETY: without the mark it is the location, which lives as long as the program.
            None => LockId::at(unsafe { self.pointer.cast::<Location<'_>>().as_ref() }),
        }
    }
}

impl Drop for Identity {
    fn drop(&mut self) {
        if let Some(id) = self.named() {
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
    fn lock_without_an_id_is_named_by_its_place() {
        let place = Location::caller();
        let id = Identity::new(None, place).id();
        assert_eq!((id.file(), id.name()), (place.file(), &*place.line().to_string()));
    }
}
