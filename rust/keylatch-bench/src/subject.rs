//! What can be measured, as traits: a subject implements those verbs that it really has.
//!
//! Every verb takes what runs inside the lock as a closure. The loops are generic over the subject, so that acquire,
//! closure and release are compiled as one piece and no call through a pointer is part of a figure.

use crate::keys::Key;

/// Keys in a batch.
pub(crate) const BATCH: usize = 16;

/// Something that hands out locks.
///
/// An un-keyed lock is a subject with one lock that ignores the key.
pub(crate) trait Subject: Sync + Sized {
    /// The name in tables, in JSON and on the command line.
    const NAME: &'static str;

    fn create() -> Self;

    /// What a thread keeps while it uses the subject, such as a runtime's context.
    fn enter(&self) -> impl Sized {}
}

/// Can lock for one holder alone, and waits by blocking the thread.
pub(crate) trait Exclusive: Subject {
    fn exclusive(&self, key: Key<'_>, inside: impl FnOnce());
}

/// Can lock for several readers together.
pub(crate) trait Shared: Subject {
    fn shared(&self, key: Key<'_>, inside: impl FnOnce());
}

/// Can lock from a future.
pub(crate) trait ExclusiveAsync: Exclusive {
    fn exclusive_async<'a>(&'a self, key: Key<'a>, inside: impl FnOnce() + 'a) -> impl Future<Output = ()> + 'a;
}

/// Has leases and sessions.
pub(crate) trait Leasing: Exclusive {
    /// As [`Exclusive::exclusive`], with a lease of a minute.
    fn leased(&self, key: Key<'_>, inside: impl FnOnce());

    /// Begins a session and ends it.
    fn session(&self);
}

/// Can lock several keys in one call.
pub(crate) trait Batch: Exclusive {
    fn batch(&self, keys: &[Key<'_>; BATCH], inside: impl FnOnce());
}

/// Can hold any number of keys together, each by a value that says which.
pub(crate) trait Holding: Subject {
    type Held<'a>
    where
        Self: 'a;

    fn hold<'a>(&'a self, key: Key<'a>) -> Self::Held<'a>;

    fn give_back<'a>(&'a self, held: Self::Held<'a>);
}

/// Can tell what is held.
pub(crate) trait Listing: Subject {
    /// Lists everything; answers how much it is.
    fn list(&self) -> usize;
}
