//! REVOKING LOCKS
//!
//! For holders that are stuck, or whose leases have run out. The waiters of a revoked lock are served. The old holder's
//! grant is void, and releasing it changes nothing. The old holder may still be at work: the fence number keeps that work
//! from doing harm.

use crate::annotate;
use crate::boundary::call;
use crate::filter::{keylatch_filter, revocation};
use crate::listing::{Answer, answered, keylatch_listing};
use crate::manager::{self, keylatch_manager};
use crate::refusal::Failure;
use keylatch::{Filter, HolderInfo};
use std::ptr::NonNull;

/// Revokes the locks that the filter lets pass.
///
/// Functions of keylatch_on_lost() are called before this one returns, with KEYLATCH_LOST_FORCED.
///
/// count and listing may be NULL. Writes on success *count, how many locks that were, and *listing, their holders; it is the caller's, to be
/// freed with keylatch_listing_free(). Errors: KEYLATCH_EINVALID for a filter without a condition, which has to
/// say KEYLATCH_FILTER_ALL for everything; KEYLATCH_ENULL, KEYLATCH_EFORKED, KEYLATCH_ESTRUCT, KEYLATCH_EHANDLE. Threads: any; also from callbacks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_force_release(
    manager: *mut keylatch_manager,
    filter: *const keylatch_filter,
    count: *mut usize,
    listing: *mut *mut keylatch_listing,
) -> i32 {
    call(|| {
        let manager = manager::enter_here(manager)?;
        // SAFETY: the header says what the caller promises.
        let filter = unsafe { revocation(filter) }?;
        annotate::revoking(manager.number);
        // SAFETY: the header says what the caller promises.
        unsafe { taken(&filter, |filter| manager.locks.force_release(filter), count, listing) }
    })
}

/// Revokes locks whose leases have run out, also without waiters.
///
/// It does so as far as the filter lets pass. Functions of keylatch_on_lost() are called before this one returns, with
/// KEYLATCH_LOST_EXPIRED.
///
/// count and listing may be NULL. Writes on success *count, how many locks that were, and *listing, their holders; it is the caller's, to be
/// freed with keylatch_listing_free(). Errors: KEYLATCH_EINVALID for a filter without a condition, which has to
/// say KEYLATCH_FILTER_ALL for everything; KEYLATCH_ENULL, KEYLATCH_EFORKED, KEYLATCH_ESTRUCT, KEYLATCH_EHANDLE. Threads: any; also from callbacks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_expire(
    manager: *mut keylatch_manager,
    filter: *const keylatch_filter,
    count: *mut usize,
    listing: *mut *mut keylatch_listing,
) -> i32 {
    call(|| {
        let manager = manager::enter_here(manager)?;
        // SAFETY: the header says what the caller promises.
        let filter = unsafe { revocation(filter) }?;
        annotate::revoking(manager.number);
        // SAFETY: the header says what the caller promises.
        unsafe { taken(&filter, |filter| manager.locks.expire(filter), count, listing) }
    })
}

/// # Safety
/// The pointers are NULL or can be written to.
unsafe fn taken(
    filter: &Filter,
    take: impl FnOnce(&Filter) -> Vec<HolderInfo>,
    count: *mut usize,
    listing: *mut *mut keylatch_listing,
) -> Result<(), Failure> {
    let holders = take(filter);
    let how_many = holders.len();
    if let Some(listing) = NonNull::new(listing) {
        // SAFETY: promised.
        unsafe { listing.write_unaligned(answered(Answer::Holders(holders))?) };
    }
    if let Some(count) = NonNull::new(count) {
        // SAFETY: promised.
        unsafe { count.write_unaligned(how_many) };
    }
    Ok(())
}
