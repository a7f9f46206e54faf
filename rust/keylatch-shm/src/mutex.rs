//! Mutexes of this process.

use std::sync::{Mutex, MutexGuard};

/// Locks a mutex of this crate, none of which is held while code of others runs.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
